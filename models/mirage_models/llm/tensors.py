"""A checkpoint's tensors, read one at a time: a model larger than the memory can be gone through.

Safetensors are mapped by numpy; a `pytorch_model.bin` by torch (`mmap=True, weights_only=True`: no code in it is run).
Both may be in shards with an index, as transformers writes them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from mirage_models.llm.blocks import Stored

    Floats = npt.NDArray[np.float32]

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_HEADER_BYTES = 100 * 2**20  # as the safetensors library bounds it
_FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Entry:
    """Dtype (as safetensors name it) and shape of a tensor, known before it is read."""

    dtype: str
    shape: tuple[int, ...]


class Checkpoint(Protocol):
    """The tensors of a checkpoint by name, under the names that transformers gives them."""

    def __contains__(self, name: str) -> bool:
        """True if there is such a tensor."""
        ...

    def entry(self, name: str) -> Entry:
        """Dtype and shape; raises CheckpointError for a tensor that is not there."""
        ...

    def read(self, name: str, *shape: int) -> Floats:
        """A tensor as a float32 copy, checked to have this shape and finite values; raises CheckpointError."""
        ...

    def finer(self, name: str) -> bool:
        """True for a matrix that the checkpoint itself stores in more bits than most, because it is sensitive."""
        ...

    def stored(self, name: str, *shape: int) -> Stored | None:
        """A matrix as the checkpoint stores it in 4 bits, None if it stores it otherwise; raises CheckpointError."""
        ...


class _File(Protocol):
    entries: dict[str, Entry]

    def read(self, name: str) -> Floats: ...


class _SafetensorsFile:
    """One .safetensors file (format: huggingface/safetensors, README): an 8-byte length, a JSON header, the data."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(_HEADER_BYTES, size - 8):
                raise CheckpointError(f"{path.name} is cut short or no safetensors file")
            try:
                header = json.loads(stream.read(length))
                self.entries = {}
                self._places: dict[str, tuple[int, int]] = {}
                for name, entry in header.items():
                    if name == "__metadata__":
                        continue
                    begin, end = entry["data_offsets"]
                    self.entries[name] = Entry(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]))
                    self._places[name] = (8 + length + int(begin), 8 + length + int(end))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{path.name} has no header that can be read") from error
        if any(not 0 <= begin <= end <= size for begin, end in self._places.values()):
            raise CheckpointError(f"{path.name} is cut short: it names tensors beyond its end")

    def read(self, name: str) -> Floats:
        entry, (begin, end) = self.entries[name], self._places[name]
        dtype = _FLOATS.get(entry.dtype)
        if dtype is None:
            raise CheckpointError(f"{name} is of dtype {entry.dtype}; float32, float16 and bfloat16 are known")
        if end - begin != math.prod(entry.shape) * dtype.itemsize:
            raise CheckpointError(f"{name} has another length in {self.path.name} than its shape says")
        raw = np.memmap(self.path, dtype=dtype, mode="r", offset=begin, shape=(math.prod(entry.shape),))
        if entry.dtype == "BF16":
            wide = raw.astype(np.uint32)
            wide <<= 16
            values: Floats = wide.view(np.float32)
        else:
            values = raw.astype(np.float32)
        return values.reshape(entry.shape)


class _PickledFile:
    """One .bin file, as torch.save writes it."""

    def __init__(self, path: Path) -> None:
        # Imported here: reading safetensors does not need torch.
        import torch

        known: dict[Any, str] = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
        try:
            state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            self._tensors = {str(name): tensor for name, tensor in state.items()}
            self.entries = {
                name: Entry(known.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
                for name, tensor in self._tensors.items()
            }
        except Exception as error:  # unpickling raises whatever it likes
            raise CheckpointError(f"{path.name} is cut short or no checkpoint of tensors alone") from error

    def read(self, name: str) -> Floats:
        if self.entries[name].dtype not in _FLOATS:
            raise CheckpointError(f"{name} is of {self.entries[name].dtype}; float32, float16 and bfloat16 are known")
        values: Floats = self._tensors[name].float().contiguous().numpy()
        return values


class Tensors:
    """The tensors of a checkpoint folder by name.

    Raises CheckpointError for a folder without weights, a shard that is absent, and a file that cannot be read.
    """

    def __init__(self, source: Path) -> None:
        for single, index, open_file in (
            (SAFETENSORS, SAFETENSORS_INDEX, _SafetensorsFile),
            (PICKLED, PICKLED_INDEX, _PickledFile),
        ):
            if paths := _shards(source, single, index):
                self.files = paths
                opened = [_open(path, open_file) for path in paths]
                self._where = {name: file for file in opened for name in file.entries}
                return
        raise CheckpointError(f"no weights: neither {SAFETENSORS} nor {PICKLED} (nor an index of shards) is there")

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def entry(self, name: str) -> Entry:
        """Dtype and shape; raises CheckpointError for a tensor that is not there."""
        if name not in self._where:
            raise CheckpointError(f"the tensor {name} is missing")
        return self._where[name].entries[name]

    def read(self, name: str, *shape: int) -> Floats:
        """A tensor as a float32 copy, checked to have this shape and finite values; raises CheckpointError."""
        entry = self.entry(name)
        if entry.shape != shape:
            raise CheckpointError(f"{name} has shape {list(entry.shape)}; the configuration asks for {list(shape)}")
        return finite(name, self._where[name].read(name))

    def finer(self, name: str) -> bool:
        """See Checkpoint.finer: these formats store all matrices alike."""
        return False

    def stored(self, name: str, *shape: int) -> Stored | None:
        """See Checkpoint.stored: these formats store no matrix in 4 bits."""
        return None


def finite(name: str, values: Floats) -> Floats:
    """Returns the values; raises CheckpointError if one is not finite."""
    # A sum is not finite if a value is not, and does not need a second array; a sum that overflows is checked value
    # by value.
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(values.sum(dtype=np.float64)) and not np.isfinite(values).all():
            raise CheckpointError(f"{name} holds values that are not numbers (NaN or infinite)")
    return values


def _open(path: Path, open_file: Callable[[Path], _File]) -> _File:
    if not path.is_file():
        raise CheckpointError(f"the shard {path.name} is missing")
    return open_file(path)


def _shards(source: Path, single: str, index: str) -> list[Path]:
    if (source / single).is_file():
        return [source / single]
    if not (source / index).is_file():
        return []
    try:
        names = sorted(set(json.loads((source / index).read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} cannot be read") from error
    if not names or any(not isinstance(name, str) or "/" in name or name.startswith(".") for name in names):
        raise CheckpointError(f"{index} names no shards, or files outside of the checkpoint")
    return [source / name for name in names]
