"""A few inputs with the original's outputs: what `verify` compares a bundle with, without torch."""

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

Vectors: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]

_ITEMS = 32


@dataclass(frozen=True)
class References:
    """`texts` and RGB `images` (uint8, height x width x 3) with the unit vectors that PyTorch in fp32 gave for them."""

    texts: tuple[str, ...]
    images: tuple[Pixels, ...]
    text_vectors: Vectors
    image_vectors: Vectors


def save_references(path: Path, references: References) -> None:
    """Write an .npz, the same bytes for the same content."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "texts": np.array(references.texts, dtype=np.str_),
        "text_vectors": references.text_vectors.astype(np.float32),
        "image_vectors": references.image_vectors.astype(np.float32),
    }
    arrays |= {f"image_{number:02d}": image for number, image in enumerate(references.images)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # A date of its own would make every build another file.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )


def load_references(path: Path) -> References:
    """Reads the file that `save_references` wrote; raises BUNDLE_INVALID if it is another file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = sorted(name for name in archive.files if name.startswith("image_") and name != "image_vectors")
            if len(names) > _ITEMS:
                raise ValueError(len(names))
            references = References(
                texts=tuple(str(text) for text in archive["texts"]),
                images=tuple(np.asarray(archive[name], dtype=np.uint8) for name in names),
                text_vectors=np.asarray(archive["text_vectors"], dtype=np.float32),
                image_vectors=np.asarray(archive["image_vectors"], dtype=np.float32),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the reference file cannot be read") from error
    if len(references.texts) != len(references.text_vectors) or len(references.images) != len(references.image_vectors):
        raise MirageError(Code.BUNDLE_INVALID, reason="the reference file is not complete")
    return references
