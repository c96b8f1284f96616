"""Prompts to calibrate and to compare on: the operator's captions, or sentences of our own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mirage_models.tasks import BuildError

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS_FILE = "captions.jsonl"
_LONGEST = 2_000

BUILT_IN = (
    "Chest radiograph, frontal view, with enlargement of the heart.",
    "Axial T2-weighted MRI of the brain at the level of the lateral ventricles.",
    "CT of the abdomen with contrast: a cyst in the left kidney.",
    "Histology of the skin, haematoxylin and eosin.",
    "Ultrasound of the liver with a bright, round lesion.",
    "Sagittal MRI of the lumbar spine showing a herniated disc.",
    "Fundus photograph of the right eye with small haemorrhages.",
    "Radiograph of the wrist with a fracture of the distal radius.",
)


def read_prompts(calibration: Path | None, *, count: int) -> tuple[str, ...]:
    """Returns `count` captions, evenly spaced, of a folder with captions.jsonl; without a folder, sentences of our own.

    Returns fewer if the folder has fewer. Raises BuildError for an empty one.
    """
    found = BUILT_IN if calibration is None else _captions(calibration)
    step = max(1, len(found) // count)
    return found[::step][:count]


def _captions(folder: Path) -> tuple[str, ...]:
    captions = []
    try:
        for line in (folder / CAPTIONS_FILE).read_text("utf-8").splitlines():
            row = json.loads(line) if line.strip() else {}
            caption = row.get("caption") if isinstance(row, dict) else None
            if isinstance(caption, str) and 0 < len(caption.strip()) <= _LONGEST:
                captions.append(caption)
    except (OSError, ValueError) as error:
        raise BuildError(f"{CAPTIONS_FILE} of the calibration folder is missing or cannot be read") from error
    if not captions:
        raise BuildError(f"{CAPTIONS_FILE} of the calibration folder has no captions")
    return tuple(captions)
