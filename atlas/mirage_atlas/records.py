"""What every reader yields: one captioned, licensed image, or the reason why a row gave none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

Labels = dict[str, tuple[str, ...]]

FACETS = ("modality", "plane", "body_part", "sequence", "finding", "side", "licence", "synthetic")
"""The one vocabulary of facet names; what does not fit into it stays in `original_labels`."""


@dataclass(frozen=True)
class AtlasRecord:
    """An image with what is known about it.

    `labels` are facets (names of `FACETS`, lower-case values), `original_labels` the source's own words. Exactly one of
    `image_path` and `image_bytes` is set; `sha256` is the hex digest of the image file's bytes, empty where the source has none.
    """

    id: str
    caption: str
    labels: Labels
    original_labels: dict[str, str]
    licence: str
    source: str
    attribution: str
    sha256: str
    image_path: Path | None = None
    image_bytes: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.image_path is None) == (self.image_bytes is None):
            raise ValueError("a record has either an image path or image bytes")

    def read_image(self) -> bytes:
        """The image file's bytes; raises OSError when the file cannot be read."""
        if self.image_bytes is not None:
            return self.image_bytes
        assert self.image_path is not None  # noqa: S101 - the constructor checked it
        return self.image_path.read_bytes()


@dataclass(frozen=True)
class BadRow:
    """A row that gave no record: where it stands and a reason that quotes nothing of the row's content."""

    line: int
    reason: str
