"""Classification of pictures by the mini encoder, zero-shot: plane, contrast, lesion or not, and the lesion's side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import SIGNALS
from mirage_training.mini_clip.queries import PLANE_QUERIES, SEQUENCE_QUERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_training.mini_clip.encoders import Encoder, Vectors

    Flags = NDArray[np.bool_]

SIDES = ("left", "right")
_SICK = tuple(f"{{plane}} {{sequence}} with a {signal} lesion" for signal in SIGNALS)
_PLAIN = ("{plane} {sequence}, no lesion", "normal {plane} {sequence}", "{plane} {sequence} without a simulated lesion")


@dataclass(frozen=True)
class Judged:
    """True for each picture [N] that was right; `side` is of those with a lesion only, `vectors` is float32 [N, dim].

    `lesion_margin`, float32 [N], is how much nearer the picture is to a text with a lesion than to texts without one.
    """

    plane: Flags
    contrast: Flags
    lesion_margin: Vectors
    side: Flags
    vectors: Vectors

    @property
    def lesion(self) -> Flags:
        """True if a lesion is seen, right or not: the text with one is nearer."""
        return self.lesion_margin > 0


def even_limit(margins: Vectors, sick: Flags) -> float:
    """Returns the margin at which the share of missed lesions equals the share of invented ones.

    The two kinds of text are not equally near to pictures, so this limit can be far from 0. Raises ValueError if the pictures are
    not of both kinds.
    """
    if sick.all() or not sick.any():
        raise ValueError("pictures with and without a lesion are needed")
    ordered = np.sort(margins)
    limits = (ordered[1:] + ordered[:-1]) / 2
    missed = (margins[sick][None] <= limits[:, None]).mean(axis=1)
    wrong = (margins[~sick][None] > limits[:, None]).mean(axis=1)
    return float(limits[np.abs(missed - wrong).argmin()])


class Judge:
    """Names a picture by the nearest text: the mean of several wordings of each value.

    A lesion's side is asked with the other words of the prompt, left against right, because "left" alone is also true
    of sagittal sections without a lesion.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._planes = np.stack([self._mean(PLANE_QUERIES[plane]) for plane in PLANES])
        self._contrasts = np.stack([self._mean(SEQUENCE_QUERIES[sequence]) for sequence in SEQUENCES])

    def _mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        mean = self._encoder.texts(list(texts)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

    def texts(self, texts: list[str]) -> Vectors:
        """Unit vectors of texts."""
        return self._encoder.texts(texts)

    def look(self, pictures: list[Image.Image], specs: Sequence[SectionSpec]) -> Judged:
        """Compare pictures with what they should show."""
        vectors = self._encoder.images(pictures)
        planes = (vectors @ self._planes.T).argmax(axis=1)
        contrasts = (vectors @ self._contrasts.T).argmax(axis=1)
        sides, seen = [], []
        for vector, spec in zip(vectors, specs, strict=True):
            words = {"plane": spec.plane, "sequence": spec.sequence}
            plain = self._encoder.texts([form.format(**words) for form in _PLAIN]).mean(axis=0)
            sick = self._encoder.texts([form.format(**words) for form in _SICK])
            seen.append(float((sick @ vector).max()) - float(plain @ vector))
            if spec.lesion is None:
                continue
            asked = self._encoder.texts(
                [f"{spec.plane} {spec.sequence} lesion in the {side} {spec.lesion.lobe}" for side in SIDES]
            )
            sides.append(SIDES[int((asked @ vector).argmax())] == spec.lesion.side)
        return Judged(
            plane=planes == np.array([PLANES.index(spec.plane) for spec in specs]),
            contrast=contrasts == np.array([SEQUENCES.index(spec.sequence) for spec in specs]),
            lesion_margin=np.array(seen, dtype=np.float32),
            side=np.array(sides, dtype=np.bool_),
            vectors=vectors,
        )
