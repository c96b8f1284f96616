"""The inputs that towers are measured on, the original's vectors for them, and the vectors of each exported tower."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mirage_inference.bundles import Parity
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.encoder.tokenizer import TextTokenizer, pad_batch
from mirage_inference.engines import make_engine
from mirage_inference.engines.base import EngineOptions
from mirage_models.encoder.calibration import CalibrationSet, make_calibration, read_calibration
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mirage_inference.bundles import ImageInput, TextInput
    from mirage_inference.engines import EngineKind
    from mirage_models.encoder.original import Original
    from mirage_models.tasks import BuildRequest
    from mirage_models.workspace import Workspace

    Vectors = npt.NDArray[np.float32]

Role = Literal["text", "image"]
ROLES: tuple[Role, Role] = ("text", "image")
OUTPUT = "unit_vector"

_log = logging.getLogger("mirage_models.build")
# A large image tower takes seconds an image: a build that was killed loses this many at the most.
_BLOCK = 64

NEIGHBOURS = 10


class Comparison:
    """One build's calibration set, and the vectors of the original and of each tower, kept in the scratch folder."""

    def __init__(self, request: BuildRequest, workspace: Workspace, text: TextInput, image: ImageInput) -> None:
        self._request, self._workspace = request, workspace
        self._inputs = text, image
        self._options = EngineOptions(threads=request.threads)

    @cached_property
    def calibration(self) -> CalibrationSet:
        """Returns the operator's captioned images, else generated ones.

        Raises CheckpointError if the operator's folder is empty.
        """
        folder = self._request.calibration
        if folder is None:
            return make_calibration()
        try:
            return read_calibration(folder, items=self._request.calibration_items)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"no calibration: {error}") from error

    def batches(self, role: Role, chosen: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """Yields the tower's inputs for some items: int64[1, length] or float32[1, 3, S, S].

        One item at a time: a dynamic range must not be that of a batch that no query will ever be in.
        """
        text, image = self._inputs
        if role == "image":
            for index in chosen:
                yield preprocess(self.calibration.images[index], image)[None]
            return
        tokenizer = TextTokenizer(self._workspace.folder / text.tokenizer, text)
        for index in chosen:
            yield pad_batch([tokenizer.tokenize(self.calibration.captions[index]).ids], text.pad_id)

    def run_original(self, original: Callable[[], Original]) -> None:
        """Returns the original's vectors, stage by stage; calls `original` only if some are missing."""
        calibration = self.calibration
        for role in ROLES:

            def encode(chosen: Sequence[int], role: Role = role) -> Vectors:
                if role == "text":
                    return original().encode_texts([calibration.captions[index] for index in chosen])
                return original().encode_images([calibration.images[index] for index in chosen])

            self._in_blocks(f"{role} by the original", f"{role}.original", encode)

    def run_tower(self, role: Role, path: Path, name: str, *, engine: EngineKind = "onnxruntime") -> Parity:
        """Stage by stage, the vectors of an ONNX file as the service runs it; how close they come to the original's."""
        tower_input = self._inputs[ROLES.index(role)].input_name

        def encode(chosen: Sequence[int]) -> Vectors:
            session = make_engine(engine, self._options).load(path, inputs=(tower_input,), output=OUTPUT)
            rows = [session.run({tower_input: batch}) for batch in self.batches(role, chosen)]
            session.close()
            return np.concatenate(rows)

        self._in_blocks(f"{role} by {name}", f"{role}.{name}", encode)
        vectors = self.vectors(role, name)
        parity = measure(vectors, self.vectors(role, "original"), overlap_at_10=self.overlap(**{role: name}))
        _log.info("  %s %s: %s", role, name, parity)
        return parity

    def vectors(self, role: Role, name: str) -> Vectors:
        """float32[items, dimension] of "original" or of a tower that was run under that name."""
        folder = self._workspace.scratch
        blocks = range(0, len(self.calibration), _BLOCK)
        return np.concatenate([np.load(folder / f"{role}.{name}.{start:06d}.npy") for start in blocks])

    def overlap(self, *, text: str = "original", image: str = "original") -> float | None:
        """Share of each caption's ten nearest images that stays the same with these towers.

        None without captioned images.
        """
        if not self.calibration.paired:
            return None
        original = self.vectors("text", "original"), self.vectors("image", "original")
        return overlap(self.vectors("text", text), self.vectors("image", image), against=original)

    def _in_blocks(self, title: str, stem: str, encode: Callable[[Sequence[int]], Vectors]) -> None:
        count = len(self.calibration)
        for start in range(0, count, _BLOCK):
            chosen = range(start, min(start + _BLOCK, count))
            path = self._workspace.scratch / f"{stem}.{start:06d}.npy"

            def make(chosen: Sequence[int] = chosen, path: Path = path) -> dict[str, int]:
                np.save(path, encode(chosen).astype(np.float32))
                return {"items": len(chosen)}

            self._workspace.stage(f"{title}: {chosen[0] + 1} to {chosen[-1] + 1} of {count}", make)


def overlap(queries: Vectors, images: Vectors, *, against: tuple[Vectors, Vectors]) -> float:
    """Mean share of each query's ten nearest images that stays the same as for the (queries, images) in `against`."""
    here, there = _nearest(queries, images), _nearest(*against)
    shared = [len(np.intersect1d(first, second)) for first, second in zip(here, there, strict=True)]
    return float(np.mean(shared) / here.shape[1])


def _nearest(queries: Vectors, images: Vectors) -> npt.NDArray[np.intp]:
    # A stable sort: equal scores keep the order of the images on both sides.
    return np.argsort(-(queries @ images.T), axis=1, kind="stable")[:, :NEIGHBOURS]


def measure(vectors: Vectors, original: Vectors, *, overlap_at_10: float | None) -> Parity:
    """Cosines of unit vectors, row by row, as a Parity."""
    cosines = (vectors.astype(np.float64) * original.astype(np.float64)).sum(axis=1)
    return Parity(
        items=len(vectors),
        cosine_min=round(float(cosines.min()), 6),
        cosine_mean=round(float(cosines.mean()), 6),
        overlap_at_10=None if overlap_at_10 is None else round(overlap_at_10, 4),
    )
