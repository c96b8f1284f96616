"""Parquet shards in the Hugging Face layout of ROCO and ROCOv2: `image` (bytes and path), `image_id`, `caption`, `cui`.

Needs pyarrow, which is not among what MIRAGE installs: the extra `parquet` of mirage-atlas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mirage_atlas.case_texts import case_texts, choose_caption
from mirage_atlas.concepts import facets_of
from mirage_atlas.facets import facet_values
from mirage_atlas.folder import IMAGE_BYTES, Folder, Ids, RowError, is_hidden, label_text, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow, LeftOut
from mirage_atlas.tables import COLUMNS, column_key
from mirage_core.people import is_about_person

_ROWS = 16


def parquet_files(path: Path, *, follow_links: bool = False) -> list[Path]:
    """The shards at a path: the file itself, or those in a folder or its `data/`, if they are the dataset's own."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    folder = Folder(path, follow_links=follow_links)
    found = (*folder.path.glob("*.parquet"), *(folder.path / "data").glob("*.parquet"))
    return sorted(each for each in found if not is_hidden(each.name) and folder.holds(each))


class ParquetReader:
    """Reads shards a few rows at a time; a shard that is broken is one bad row."""

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        import pyarrow.parquet  # noqa: F401 -- known now, not in the middle of a run

        self._path = path
        self._follow = follow_links
        self._folder = Folder(path, follow_links=follow_links)
        self.left_out = LeftOut()

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records shard after shard; a row's number is that in its shard, from 1."""
        ids = Ids(self._folder.name)
        for shard in parquet_files(self._path, follow_links=self._follow):
            yield from self._read(shard, ids)

    def _read(self, shard: Path, ids: Ids) -> Iterator[AtlasRecord | BadRow]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = self._folder.relative(shard)
        split = shard.name.partition("-")[0]
        number = 0
        try:
            with pq.ParquetFile(shard) as file:
                columns = _columns(file.schema_arrow.names)
                for each in file.schema_arrow.names:
                    if each not in columns.values() and is_about_person(each):
                        self.left_out.add(each)
                what = "" if "file" in columns else "image"
                if not what and not {"caption", "title", "impression", "findings"} & set(columns):
                    what = "caption"
                if what:
                    yield BadRow(0, f"a shard has no column for the {what}", name)
                    return
                wanted = list(dict.fromkeys(columns.values()))
                for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                    for place in range(batch.num_rows):
                        number += 1
                        try:
                            given = _row(batch, place)
                            row = {what: given[column] for what, column in columns.items()}
                            yield self._record(row, split, ids, name, number)
                        except RowError as error:
                            yield BadRow(number, str(error), name)
        except (pa.ArrowException, OSError):
            yield BadRow(number + 1, "a shard cannot be read to its end", name)

    def _record(self, row: Mapping[str, Any], split: str, ids: Ids, file: str, number: int) -> AtlasRecord:
        image = row["file"]
        inner = image.get("path") if isinstance(image, dict) else image if isinstance(image, str) else None
        data = image.get("bytes") if isinstance(image, dict) else image if isinstance(image, bytes) else None
        path: Path | None = None
        if not isinstance(data, bytes) or not data:
            if not isinstance(inner, str) or not inner:
                raise RowError("the image is missing")
            path, data = self._folder.image(inner), None
        elif len(data) > IMAGE_BYTES:
            raise RowError("the file is too large")
        texts = case_texts(row.get)
        caption, replaced = choose_caption(row.get("caption"), texts, inner if isinstance(inner, str) else "")
        if replaced:
            self.left_out.add_placeholder(f"{file} row {number}")
        own, where = row.get("id"), f"{file} row {number}"
        own_id: dict[str, str] = {}
        former: tuple[str, ...] = ()
        is_without = own is None or own == ""
        if is_without:
            # Without a name of a file, too, an image is known by what it is.
            key = inner if isinstance(inner, str) and inner else hashlib.sha256(data or b"").hexdigest()
            identity, former = ids.make(key, where)
        else:
            identity, own_id = ids.take(own, where)
        cuis = row.get("cuis") or []
        listed = [str(cui) for cui in cuis] if isinstance(cuis, list) else str(cuis).split(";")
        licence = licence_name(row.get("licence"))
        pmcid = line_text(row.get("pmcid"))
        labels = facets_of(caption, listed)
        labels["licence"] = facet_values([licence])
        original = {**own_id, "cuis": " ".join(listed), "split": split, "pmcid": pmcid}
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={key: text for key, value in original.items() if (text := label_text(value))},
            licence=licence,
            source=line_text(row.get("source"))
            or (f"PubMed Central {pmcid}" if pmcid else "ROCO on the Hugging Face hub"),
            attribution=line_text(row.get("attribution")),
            sha256="" if data is None else hashlib.sha256(data).hexdigest(),
            image_path=path,
            image_bytes=data,
            **texts.items(),
            file=file,
            line=number,
            made_id=is_without,
            former_ids=former,
        )


def _columns(names: list[str]) -> dict[str, str]:
    """Names that tables use for each column."""
    keys = {column_key(name): name for name in reversed(names)}
    return {
        what: keys[known[0]] for what, all_ in COLUMNS.items() if (known := [each for each in all_ if each in keys])
    }


def _row(batch: Any, place: int) -> dict[str, Any]:
    """A row of a batch; raises RowError for a string that is not UTF-8."""
    try:
        return {name: batch.column(name)[place].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        raise RowError("the row has bytes that are not text") from None
