"""A dataset's records, and what is sent of them."""

from typing import Any, Protocol, TypeGuard

from mirage.tally import Complaint
from mirage.uploads import TEXTS, Upload
from mirage_api.records import Pixels, PixelWindow, RegionsUpload, RegionUpload


class SourceRecord(Protocol):
    """A dataset's record, as `mirage_atlas` reads it."""

    @property
    def id(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def labels(self) -> dict[str, tuple[str, ...]]: ...
    @property
    def original_labels(self) -> dict[str, str]: ...
    @property
    def licence(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def attribution(self) -> str: ...
    @property
    def sha256(self) -> str: ...

    def read_image(self) -> bytes:
        """The image file's bytes; raises OSError."""


def is_record(row: object) -> TypeGuard[SourceRecord]:
    """False for a row that gave no record."""
    return hasattr(row, "read_image")


def is_made(record: SourceRecord) -> bool:
    """True if the record's id was made from names, so that another dataset may have it too."""
    return bool(getattr(record, "made_id", False))


def former_ids(record: SourceRecord) -> tuple[str, ...]:
    """The ids that earlier versions gave the record."""
    return tuple(getattr(record, "former_ids", ()))


def complaint_about(row: object, code: str, reason: str, *, id: str = "") -> Complaint:
    """A complaint about a record or a bad row, with as much of its place as it knows."""
    file, line = str(getattr(row, "file", "")), int(getattr(row, "line", 0) or 0)
    record_id = id or str(getattr(row, "id", ""))
    place = f"{file} line {line}" if file and line else file or (f"line {line}" if line else record_id or "line ?")
    return Complaint(place, code, reason, file=file, line=line, id=record_id)


def upload_of(record: SourceRecord, image: bytes) -> Upload:
    """Returns the upload of a record with this image file."""
    return Upload(
        id=record.id,
        caption=record.caption,
        image=image,
        labels=record.labels,
        original_labels=record.original_labels,
        licence=record.licence,
        source=record.source,
        attribution=record.attribution,
        pixels=_pixels(getattr(record, "pixels", None)),
        regions=_regions(getattr(record, "regions", None)),
        **{name: value for name in TEXTS if (value := getattr(record, name, None))},
    )


def _pixels(given: Any) -> Pixels | None:
    """A reader's account of its pixels as the client has it."""
    if given is None:
        return None
    windows = tuple(
        PixelWindow(name=each.name, center=float(each.center), width=float(each.width)) for each in given.windows
    )
    return Pixels(
        bits=given.bits,
        slope=float(given.slope),
        intercept=float(given.intercept),
        unit=given.unit,
        windows=windows,
    )


def _regions(given: Any) -> RegionsUpload | None:
    """A reader's label map as the client has it; the server checks it."""
    if given is None:
        return None
    names = ("id", "name", "group", "colour")
    legend = tuple(
        RegionUpload.model_construct(**{name: getattr(each, name) for name in names}) for each in given.legend
    )
    return RegionsUpload.model_construct(png=given.png, legend=legend)
