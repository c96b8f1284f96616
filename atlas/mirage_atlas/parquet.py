"""Parquet shards in the Hugging Face layout of ROCO and ROCOv2: `image` (bytes and path), `image_id`, `caption`, `cui`.

Needs pyarrow, which is not among what MIRAGE installs: the extra `parquet` of mirage-atlas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirage_atlas.concepts import facets_of
from mirage_atlas.folder import IMAGE_BYTES, Ids, RowError, caption_text, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow

_ROWS = 16


def parquet_files(path: Path) -> list[Path]:
    """The shards at a path: the file itself, or those in a folder or its `data/`; links are left out."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    found = (*path.glob("*.parquet"), *(path / "data").glob("*.parquet"))
    return sorted(each for each in found if each.is_file() and not each.is_symlink())


class ParquetReader:
    """Reads shards a few rows at a time; a shard that is broken is one bad row."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet  # noqa: F401 -- told now, not amid a run

        self._path = path

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records shard after shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        ids = Ids()
        number = 0
        for shard in parquet_files(self._path):
            split = shard.name.partition("-")[0]
            try:
                file = pq.ParquetFile(shard)
                wanted = [name for name in file.schema_arrow.names if name in _COLUMNS]
                if missing := {"image", "caption"} - set(wanted):
                    yield BadRow(number, f"a shard lacks the column {sorted(missing)[0]}")
                    continue
                for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                    for row in batch.to_pylist():
                        number += 1
                        try:
                            yield _record(row, split, ids)
                        except RowError as error:
                            yield BadRow(number, str(error))
            except (pa.ArrowException, OSError):
                yield BadRow(number, "a shard cannot be read to its end")


_COLUMNS = ("image", "image_id", "id", "caption", "cui", "cuis", "licence", "license", "pmcid", "source", "attribution")


def _record(row: dict[str, Any], split: str, ids: Ids) -> AtlasRecord:
    image = row.get("image")
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes) or not data:
        raise RowError("the image is missing")
    if len(data) > IMAGE_BYTES:
        raise RowError("the file is too large")
    name = image.get("path") if isinstance(image, dict) else None
    caption = caption_text(row.get("caption"))
    identity, own_id = ids.take(row.get("image_id") or row.get("id") or name)
    cuis = row.get("cui") or row.get("cuis") or []
    listed = [str(cui) for cui in cuis] if isinstance(cuis, list) else str(cuis).split(";")
    licence = licence_name(row.get("licence") or row.get("license"))
    pmcid = line_text(row.get("pmcid"))
    labels = facets_of(caption, listed)
    labels["licence"] = (licence.lower(),)
    original = {**own_id, "cuis": " ".join(listed)[:1000], "split": split, "pmcid": pmcid}
    return AtlasRecord(
        id=identity,
        caption=caption,
        labels=labels,
        original_labels={key: value for key, value in original.items() if value},
        licence=licence,
        source=line_text(row.get("source")) or (f"PubMed Central {pmcid}" if pmcid else "ROCO on the Hugging Face hub"),
        attribution=line_text(row.get("attribution")),
        sha256=hashlib.sha256(data).hexdigest(),
        image_bytes=data,
    )
