"""Contrasts of a section: T1 as the template has it, T2-like and FLAIR-like computed from the tissue maps."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.template import Template

Sequence = Literal["t1", "t2", "flair"]
SEQUENCES: tuple[Sequence, ...] = ("t1", "t2", "flair")

T1_WINDOW = (0.22, 1.02)
"""Template T1 values shown as black and as white: white matter stays below white, which is kept for bright lesions."""

TISSUE_LEVELS: dict[Sequence, tuple[float, float, float]] = {"t2": (0.98, 0.60, 0.34), "flair": (0.06, 0.66, 0.48)}
"""Display brightness of fluid, grey and white matter; the order of the three is that of the real sequences."""

DETAIL_SHARE = 0.22
"""Share of inverted T1 in the computed contrasts: the tissue maps alone have no texture in the deep nuclei."""


def contrast_volume(template: Template, sequence: Sequence) -> NDArray[np.float32]:
    """The whole brain in one contrast: float32 0..1 of the template's shape, zero outside the brain."""
    brain = template.brain
    if sequence == "t1":
        low, high = T1_WINDOW
        shown = (template.t1 - low) / (high - low)
    else:
        fluid, grey, white = TISSUE_LEVELS[sequence]
        tissue = fluid * template.fluid + grey * template.grey + white * template.white
        local = (0.62 - template.t1) * (template.grey + template.white)
        shown = tissue + DETAIL_SHARE * local
    return np.where(brain, np.clip(shown, 0.0, 1.0), 0.0).astype(np.float32)
