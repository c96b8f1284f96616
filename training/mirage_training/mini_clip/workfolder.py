"""The files that training and evaluation keep in their work folder: the resampled template and the clinical samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo.samples import read_samples as read_sample_records
from mirage_atlas.demo.sections import FIELD_MM
from mirage_atlas.demo.template import Template, load_template
from mirage_atlas.records import AtlasRecord


def cached_template(folder: Path) -> Template:
    """The template, kept as one file in the work folder because resampling takes seconds."""
    path = folder / "template.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        template = load_template()
        np.savez(path, t1=template.t1, grey=template.grey, white=template.white)
    with np.load(path) as stored:
        return Template(stored["t1"], stored["grey"], stored["white"])


def write_samples(folder: Path) -> int:
    """Write the clinical samples as PNG, named like their DICOM files; gives how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [record for record in read_sample_records() if isinstance(record, AtlasRecord)]
    for record in records:
        (folder / f"{record.original_labels['file']}.png").write_bytes(record.read_image())
    return len(records)


def read_samples(folder: Path | None) -> dict[str, NDArray[np.float32]]:
    """Clinical samples as grey pictures [FIELD_MM, FIELD_MM] 0..1 by file name, cut as the encoder's preprocessing
    cuts.
    """
    pictures: dict[str, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("*.png")) if folder else []:
        image = Image.open(path).convert("L")
        scale = FIELD_MM / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - FIELD_MM) // 2, (image.height - FIELD_MM) // 2
        image = image.crop((left, top, left + FIELD_MM, top + FIELD_MM))
        pictures[path.stem] = np.asarray(image, dtype=np.float32) / 255.0
    return pictures
