"""Records: read, stored, looked up, walked over and flagged."""

import base64
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from mirage_api import limits
from mirage_api.base import (
    Base64,
    Base64File,
    CollectionName,
    Components,
    Id,
    Int32,
    Labels,
    Long,
    Omitted,
    Packed,
    Reply,
    Request,
    Short,
    Token,
    Where,
)


class PixelWindow(Reply):
    """A range of values that is shown from black to white, in the unit of the values."""

    name: Short = Field("", description=f"At most {limits.NAME_CHARS} characters, such as lung.")
    center: float = Field(description="Middle of the range.")
    width: float = Field(description="Width of the range, above 0.")


class Pixels(Reply):
    """Meaning of the values of a 16-bit greyscale image: value = stored * slope + intercept."""

    bits: Int32 = Field(description="Bits that the stored values use, 9 to 16.")
    slope: float = Field(1.0, description="Any but 0.")
    intercept: float = 0.0
    unit: Short = Field("", description=f"Unit of the values, such as HU; at most {limits.UNIT_CHARS} characters.")
    windows: tuple[PixelWindow, ...] = Field(
        (), max_length=limits.WINDOWS_MAX, description="How the values are shown; the 8-bit image is in the first."
    )


class PixelWindowUpload(PixelWindow):
    """A range of values that is shown from black to white, in the unit of the values."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=None)


class PixelsUpload(Pixels):
    """Meaning of the values of a 16-bit greyscale PNG: value = stored * slope + intercept."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=None)

    windows: tuple[PixelWindowUpload, ...] = Field((), max_length=limits.WINDOWS_MAX)


class Region(Reply):
    """A structure that the image shows: its number in the label map, name, kind, and the colour to draw it in."""

    id: int
    name: str
    group: str = ""
    colour: str = ""
    box: tuple[int, ...] = Field((), description="Left, top, width and height in pixels of the image.")
    area: int = Field(0, description="Pixels of the image.")


class RegionUpload(Request):
    """A structure of a label map."""

    id: Int32 = Field(description=f"Its number in the label map, 1 to {limits.REGIONS_MAX}.")
    name: Short = Field(description=f"1 to {limits.REGION_NAME_CHARS} characters.")
    group: Short = Field("", description="The kind of structure, such as vessels.")
    colour: Short = Field(description="As #rrggbb, lower case.")


class RegionsUpload(Request):
    """A label map: which structures an image shows where. An empty one removes a stored one."""

    png: Base64File = Field(
        b"",
        description=f"A PNG of the image's size, with a palette or 8 bits of greyscale, at most {limits.REGIONS_BYTES} bytes; "
        "a pixel is a number of the legend, or 0.",
    )
    legend: tuple[RegionUpload, ...] = Field(
        (), max_length=limits.IDS_MAX, description=f"At most {limits.REGIONS_MAX} structures."
    )


class Shown(Reply):
    """The common fields of a record and of a search result."""

    id: str
    caption: str = ""
    labels: Labels = {}
    licence: str = ""
    source: str = ""
    attribution: str = ""
    image_url: str = ""
    thumbnail_url: str = ""
    image_type: str = ""
    width: int = 0
    height: int = 0
    flags: int = Field(0, description="Open flags that readers raised.")
    title: Annotated[str, Omitted()] = ""
    findings: Annotated[str, Omitted()] = ""
    history: Annotated[str, Omitted()] = ""
    impression: Annotated[str, Omitted()] = ""
    keywords: Annotated[tuple[str, ...], Omitted()] = ()
    case_id: Annotated[str, Omitted()] = ""
    position: Annotated[int, Omitted(), Field(description="The image's place in its case, from 1.")] = 0
    regions: Annotated[
        tuple[Region, ...],
        Omitted(),
        Field(description="Structures of its label map; in the reply to a search those that the query names."),
    ] = ()
    collection: Annotated[str, Omitted(), Field(description="The collection that the request named.")] = ""


class Record(Shown):
    """One atlas record, without its image."""

    original_labels: dict[str, str] = {}
    image_sha256: str = Field("", description="Of the image that is served.")
    original_sha256: str = Field("", description="Of the file that came in, which is not kept.")
    original_regions_sha256: Annotated[
        str, Omitted(), Field(description="Of the label map that came in, which is not kept.")
    ] = ""
    pixels: Pixels | None = Field(None, description="null if the image came with at most 8 bits.")


class Case(Reply):
    """A case: its records in the order of their positions; `images` counts also those that are left out of a large case."""

    id: str
    title: str = ""
    history: str = ""
    images: int = 0
    records: tuple[Record, ...]


class RecordUpload(Request):
    """A record to store; its image file follows in the next part."""

    id: Short = Field(description="Unique: 1 to 128 characters of A-Z a-z 0-9 . _ : -, the first a letter or digit.")
    caption: str = Field(
        max_length=2 * limits.CAPTION_CHARS,
        description=f"A description of the image, 1 to {limits.CAPTION_CHARS} characters.",
    )
    labels: Where = Field({}, description="Facet to a value or several.")
    original_labels: dict[Short, Long] = Field({}, max_length=1_000, description="The dataset's own labels.")
    licence: Long = Field("", description="SPDX identifier or a plain name.")
    source: Long = Field("", description="The origin of the image, shown to users.")
    attribution: Long = Field("", description="The names that the licence asks for.")
    title: Short = Field("", description="What the image or its case is, such as a diagnosis; at most 500 characters.")
    findings: Long = Field("", description="What was seen.")
    history: Long = Field("", description="Why the person was examined; never about who it is.")
    impression: Long = Field("", description="The conclusion.")
    keywords: tuple[Short, ...] = Field((), max_length=limits.IDS_MAX, description="At most 64 of 200 characters.")
    case_id: Short = Field("", description="The case that the image belongs to, at most 128 characters.")
    position: Int32 = Field(0, description="The image's place in its case, from 1; 0 if not known.")
    image_vector: Components | Packed | None = Field(None, description="Encoded from the image if omitted.")
    caption_vector: Components | Packed | None = Field(None, description="Encoded from the caption if omitted.")
    fingerprint: Short = Field("", description="Of the bundle that the given vectors come from.")
    pixels: PixelsUpload | None = Field(
        None, description="Meaning of the values of a 16-bit greyscale PNG; DICOM files state it themselves."
    )
    regions: RegionsUpload | None = Field(None, description="As stored for the same image file if omitted.")


class UpsertError(Reply):
    """The reason why a record was not stored: `code` is one of docs/errors.md."""

    code: str
    message: str = ""
    metadata: dict[str, str] = {}


class UpsertOutcome(Reply):
    """The outcome of one record. `left_out` names original labels about a person, which were not stored."""

    id: str
    state: Literal["created", "updated", "unchanged", "rejected"]
    error: Annotated[UpsertError | None, Omitted()] = None
    left_out: Annotated[tuple[str, ...], Omitted()] = ()


class UpsertReply(Reply):
    """One outcome for each record, in the order sent."""

    outcomes: tuple[UpsertOutcome, ...]


class DeleteReply(Reply):
    """The number of records that existed and are deleted."""

    deleted: int


FlagReason = Literal["wrong-caption", "wrong-image", "licence", "privacy", "description", "other"]


class FlagRequest(Request):
    """A reader's report that something is wrong with a record."""

    reason: Short = Field(description=f"One of {', '.join(get_args(FlagReason))}.")
    comment: str = Field(
        "", max_length=10 * limits.COMMENT_CHARS, description=f"Free text, at most {limits.COMMENT_CHARS} characters."
    )


class Flag(Reply):
    """A reader's report on a record; create_time is RFC 3339 in UTC."""

    id: str
    record_id: str
    reason: FlagReason
    comment: str = ""
    create_time: str = ""


class FlagsReply(Reply):
    """Flags, newest first."""

    flags: tuple[Flag, ...]
    next_page_token: Token = ""


class RecordKey(Request):
    """A record to look up."""

    id: Id
    image_sha256: Short = Field(
        "", description="Lower-case hex SHA-256 of an image file, as it would come in or as it is stored."
    )


class LookupRequest(Request):
    """Records to look up."""

    keys: tuple[RecordKey, ...] = Field(description="1 to 1,000 of them.", max_length=limits.IDS_MAX)
    collection: CollectionName = ""


class RecordPresence(Reply):
    """The stored record of a key, null if there is none, and ids of others with the same image."""

    id: str
    record: Record | None
    same_image_ids: tuple[str, ...] = ()


class LookupReply(Reply):
    """In the order of the keys."""

    records: tuple[RecordPresence, ...]


class StoredRecord(Record):
    """A record, with its vectors (little-endian float32 in base64) if they were asked for."""

    image_vector: Annotated[Base64 | None, Omitted()] = None
    caption_vector: Annotated[Base64 | None, Omitted()] = None

    def vectors(self) -> tuple[bytes | None, bytes | None]:
        """Returns the vectors of image and caption as bytes (little-endian float32), None for one that was not sent."""
        image, caption = (
            None if each is None else base64.b64decode(each) for each in (self.image_vector, self.caption_vector)
        )
        return image, caption


class RecordsReply(Reply):
    """A page of the records that pass a filter; `total` counts those of all pages."""

    records: tuple[StoredRecord, ...]
    fingerprint: str = ""
    total: int = 0
    next_page_token: Token = ""
