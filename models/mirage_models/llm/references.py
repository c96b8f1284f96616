"""A few texts with what the original predicts in them: what `verify` compares a bundle with, without torch."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirage_core.errors import Code, MirageError
from mirage_models.llm.parity import Predictions
from mirage_models.llm.texts import ParityText

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_TEXTS = 999


@dataclass(frozen=True)
class References:
    """`texts`, and for each what PyTorch in fp32 predicts."""

    texts: tuple[ParityText, ...]
    original: tuple[Predictions, ...]

    def first(self, tokens: int) -> References:
        """The first texts, whole, that have this many compared tokens together (or all)."""
        count = total = 0
        while count < len(self.texts) and total < tokens:
            total += self.texts[count].predicted
            count += 1
        return References(self.texts[:count], self.original[:count])


def save_references(path: Path, references: References) -> None:
    """Write an .npz, the same bytes for the same content."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for number, (text, found) in enumerate(zip(references.texts, references.original, strict=True)):
        arrays[f"{number:03d}.ids"] = np.array(text.ids, np.int32)
        arrays[f"{number:03d}.start"] = np.array(text.start, np.int32)
        arrays[f"{number:03d}.likeliest"] = found.likeliest.astype(np.int32)
        arrays[f"{number:03d}.surprise"] = found.surprise.astype(np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # A date of its own would make every build another file.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )


def load_references(path: Path, *, vocabulary: int, context: int) -> References:
    """Reads the file that `save_references` wrote.

    Raises BUNDLE_INVALID if it is another file or does not suit the decoder.
    """
    texts, original = [], []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            count = len(archive.files) // 4
            if not 1 <= count <= _TEXTS:
                raise ValueError(count)
            for number in range(count):
                ids = np.asarray(archive[f"{number:03d}.ids"], np.int64)
                start = int(archive[f"{number:03d}.start"])
                likeliest = np.asarray(archive[f"{number:03d}.likeliest"], np.int32)
                surprise = np.asarray(archive[f"{number:03d}.surprise"], np.float32)
                if not 1 <= start < len(ids) <= context or ids.min() < 0 or ids.max() >= vocabulary:
                    raise ValueError(number)
                if likeliest.shape != (len(ids) - start,) or surprise.shape != likeliest.shape:
                    raise ValueError(number)
                texts.append(ParityText(tuple(ids.tolist()), start))
                original.append(Predictions(likeliest, surprise))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the reference file cannot be read") from error
    return References(tuple(texts), tuple(original))
