"""Records on their way into the atlas."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirage.errors import InputError
from mirage_api.limits import UPLOAD_RECORDS_MAX as BATCH_RECORDS
from mirage_api.records import Pixels, RegionsUpload

# The gateway takes so many bytes at once, and BATCH_RECORDS records.
BATCH_BYTES = 24 * 2**20
# Fields that a record may leave out.
TEXTS = ("title", "findings", "history", "impression", "keywords", "case_id", "position")


@dataclass(frozen=True)
class Upload:
    """A record to store and its image file (PNG, JPEG, WebP or DICOM, at most 20 MB).

    `pixels` says what the values of a 16-bit greyscale PNG mean; DICOM files say it themselves. `regions` is a label map of
    the image's size; one without a PNG removes what is stored.

    Vectors that the caller has (little-endian float32) need the fingerprint of the model that made them.
    """

    id: str
    caption: str
    image: bytes = field(repr=False)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    original_labels: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    attribution: str = ""
    image_vector: bytes | None = field(default=None, repr=False)
    caption_vector: bytes | None = field(default=None, repr=False)
    fingerprint: str = ""
    pixels: Pixels | None = None
    regions: RegionsUpload | None = None
    title: str = ""
    findings: str = ""
    history: str = ""
    impression: str = ""
    keywords: Sequence[str] = ()
    case_id: str = ""
    position: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record's own fields, as the gateway reads them."""
        vectors = {
            name: base64.b64encode(vector).decode("ascii")
            for name, vector in (("image_vector", self.image_vector), ("caption_vector", self.caption_vector))
            if vector is not None
        }
        texts = {name: value for name in TEXTS if (value := getattr(self, name))}
        return {
            **vectors,
            **texts,
            **({"fingerprint": self.fingerprint} if vectors else {}),
            **({"pixels": self.pixels.raw} if self.pixels is not None else {}),
            **({"regions": _regions(self.regions)} if self.regions is not None else {}),
            "id": self.id,
            "caption": self.caption,
            "labels": {facet: list(values) for facet, values in self.labels.items()},
            "original_labels": dict(self.original_labels),
            "licence": self.licence,
            "source": self.source,
            "attribution": self.attribution,
        }


def _regions(regions: RegionsUpload) -> dict[str, Any]:
    png = base64.b64encode(regions.png).decode("ascii")
    return {"png": png, "legend": [each.model_dump() for each in regions.legend]}


def multipart(uploads: Iterable[Upload]) -> list[Any]:
    """The `files` argument of a request: a `record` part (JSON), then an `image` part, for each upload in turn."""
    parts: list[tuple[str, tuple[str | None, bytes, str]]] = []
    for upload in uploads:
        # Unpaired surrogates cannot be encoded: they are sent as question marks.
        document = json.dumps(upload.to_json(), ensure_ascii=False).encode(errors="replace")
        parts.append(("record", (None, document, "application/json")))
        # The format requires a name: the gateway uses the order.
        parts.append(("image", ("image", upload.image, "application/octet-stream")))
    if not 0 < len(parts) <= 2 * BATCH_RECORDS:
        raise InputError(f"an upsert takes 1 to {BATCH_RECORDS} records")
    return parts
