"""Compares what the atlas holds with what a dataset has."""

import hashlib
from collections.abc import Mapping, Sequence

from mirage.uploads import Upload
from mirage_api.records import Record, RegionsUpload


def is_same(stored: Record, upload: Upload, *, sha256: str) -> bool:
    """True if the atlas holds exactly this record, made from this file, whose SHA-256 is given."""
    return (
        image_of(stored) == sha256
        and upload.pixels in (None, stored.pixels)
        and _has_regions(stored, upload.regions)
        and stored.caption == upload.caption
        and _labels(stored.labels, upload) == _labels(upload.labels, upload)
        and dict(stored.original_labels) == dict(upload.original_labels)
        and (stored.licence, stored.source, stored.attribution) == (upload.licence, upload.source, upload.attribution)
    )


def _labels(labels: Mapping[str, Sequence[str]], upload: Upload) -> dict[str, list[str]]:
    """Sorted labels, without the structures that the atlas takes from a label map alone."""
    derived = {"structure"} if upload.regions is not None and "structure" not in upload.labels else set()
    return {facet: sorted(values) for facet, values in labels.items() if facet not in derived}


def _has_regions(stored: Record, regions: RegionsUpload | None) -> bool:
    if regions is None:
        return True
    legend = {(each.id, each.name, each.group, each.colour) for each in regions.legend}
    sha256 = hashlib.sha256(regions.png).hexdigest() if regions.png else ""
    return stored.original_regions_sha256 == sha256 and legend.issuperset(
        (each.id, each.name, each.group, each.colour) for each in stored.regions
    )


def is_version(stored: Record, upload: Upload, sha256: str) -> bool:
    """True if the record may be an earlier or later version of the upload: with its image or with its caption."""
    return image_of(stored) == sha256 or stored.caption == upload.caption


def image_of(stored: Record) -> str:
    """SHA-256 of the file that a record's image was made from."""
    return stored.original_sha256 or stored.image_sha256
