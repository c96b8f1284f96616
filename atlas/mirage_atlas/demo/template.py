"""The MNI152 template maps that every rendered section comes from (build environment only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPE = (197, 233, 189)
ORIGIN_MM = (-98, -134, -72)
"""MNI coordinate of voxel (0, 0, 0); voxels are 1 mm, axes run to the right, to the front and up."""


@dataclass(frozen=True)
class Template:
    """T1 intensity and grey and white matter probability of the averaged brain.

    Each array is float32 in 0..1, of `SHAPE`, 1 mm voxels, indexed [x, y, z] from `ORIGIN_MM`; zero outside the brain.
    """

    t1: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Returns the brain mask: True where the skull-stripped T1 map is not zero."""
        mask: NDArray[np.bool_] = self.t1 > 0.05
        return mask

    @property
    def fluid(self) -> NDArray[np.float32]:
        """Cerebrospinal fluid as the rest inside the brain mask; float32 in 0..1."""
        rest: NDArray[np.float32] = np.clip(1.0 - self.grey - self.white, 0.0, 1.0) * self.brain.astype(np.float32)
        return rest


def voxel(x_mm: float, y_mm: float, z_mm: float) -> tuple[int, int, int]:
    """Returns the index of the voxel nearest to an MNI coordinate in mm; it may be outside the volume."""
    return (round(x_mm - ORIGIN_MM[0]), round(y_mm - ORIGIN_MM[1]), round(z_mm - ORIGIN_MM[2]))


def load_template() -> Template:
    """The ICBM 2009a nonlinear symmetric maps that ship inside the nilearn wheel, resampled to 1 mm; no download.

    Raises ImportError without nilearn and ValueError when the wheel's maps have another shape or origin.
    """
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    volumes = []
    for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template):
        image = load(resolution=1)
        volume = np.asarray(image.get_fdata(), dtype=np.float32)
        origin = tuple(round(float(v)) for v in image.affine[:3, 3])
        if volume.shape != SHAPE or origin != ORIGIN_MM:
            raise ValueError("the installed MNI152 maps are not the ones that the landmarks were written for")
        volumes.append(volume)
    return Template(*volumes)
