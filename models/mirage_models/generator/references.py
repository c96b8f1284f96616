"""A few prompts with the noise that the original started from and what it made of it: what `verify` compares with."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError

if TYPE_CHECKING:
    from pathlib import Path

Floats: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]

REFERENCE_FILE = "reference.npz"
_ITEMS = 32


@dataclass(frozen=True)
class References:
    """`prompts`, and for each what PyTorch in float32 gave at `guidance`, in as many steps as `latents` has.

    `noise` float32[prompts, n, channels, h, w]: what was started from, then what each step but the last added; n is 1 if
    the sampler adds none, else the number of steps. `latents` float32[prompts, steps, channels, h, w]: after each step;
    `images` uint8[prompts, height, width, 3].
    """

    prompts: tuple[str, ...]
    guidance: float
    noise: Floats
    latents: Floats
    images: Pixels

    @property
    def steps(self) -> int:
        """Steps of each image."""
        return int(self.latents.shape[1])


def save_references(path: Path, references: References) -> None:
    """Write an .npz, the same bytes for the same content."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "prompts": np.array(references.prompts, dtype=np.str_),
        "guidance": np.array(references.guidance, dtype=np.float64),
        "noise": references.noise.astype(np.float32),
        "latents": references.latents.astype(np.float32),
        "images": references.images.astype(np.uint8),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # A date of its own would make every build another file.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)


def load_references(path: Path) -> References:
    """Reads the file that `save_references` wrote; raises BUNDLE_INVALID if it is another file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            references = References(
                prompts=tuple(str(prompt) for prompt in archive["prompts"]),
                guidance=float(archive["guidance"]),
                noise=np.asarray(archive["noise"], dtype=np.float32),
                latents=np.asarray(archive["latents"], dtype=np.float32),
                images=np.asarray(archive["images"], dtype=np.uint8),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the reference file cannot be read") from error
    count = len(references.prompts)
    noise, latents = references.noise.shape, references.latents.shape
    whole = len(noise) == len(latents) == 5 and noise[2:] == latents[2:] and noise[1] in (1, latents[1])
    whole = whole and len(references.latents) == count
    if not 1 <= count <= _ITEMS or not whole or len(references.noise) != count or len(references.images) != count:
        raise MirageError(Code.BUNDLE_INVALID, reason="the reference file is not complete")
    return references
