"""A folder with `captions.jsonl` and image files: the format that datasets are exchanged in.

A line is a JSON object with `id`, `file`, `caption`, and as far as known `labels`, `original_labels`, `licence`, `source`,
`attribution`, `split`, `sha256`, `regions` and the texts of case_texts.py (`title`, `findings`, `case_id`, ...). What a
source's labels say in its own words is mapped to facets if it can be, and kept next to them. Any other key is ignored, and
named if it is about a person.

`regions` is a label map: `{"file": "masks/1.png", "legend": [{"id": 1, "name": "liver", "group": "", "colour": "#d98e5f"}]}`.
The file is a PNG of the image's size whose pixels are numbers of the legend. Group and colour may be left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirage_atlas.case_texts import COLUMNS, case_texts, choose_caption, row_value, with_topic
from mirage_atlas.facets import facet_values, map_labels
from mirage_atlas.folder import Folder, Ids, RowError, label_text, line_text
from mirage_atlas.licences import UNKNOWN
from mirage_atlas.records import AtlasRecord, BadRow, LeftOut
from mirage_atlas.texts import is_text, read_lines
from mirage_core.errors import MirageError
from mirage_core.people import is_about_person
from mirage_core.regions import REGIONS_BYTES, REGIONS_MAX, Region, RegionMap, check_legend, default_colour

LINE_BYTES = 256 * 1024
_JSON = json.JSONDecoder()
_KEYS = frozenset({
    "id", "file", "caption", "labels", "original_labels", "licence", "source", "attribution", "split", "sha256",
    "regions",
    *(name for names in COLUMNS.values() for name in names),
})  # fmt: skip


class CaptionsReader:
    """Reads one dataset folder line by line; `verify` also compares each image with its sha256."""

    def __init__(
        self,
        folder: Path,
        *,
        captions: str = "captions.jsonl",
        split: str | None = None,
        verify: bool = False,
        follow_links: bool = False,
    ) -> None:
        self._folder = Folder(folder / captions, follow_links=follow_links)
        self._captions = folder / captions
        self._name = self._folder.relative(self._captions)
        self._split = split
        self._verify = verify
        self.left_out = LeftOut()

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yields records and bad rows in file order; raises OSError without a captions file."""
        ids = Ids(self._folder.name)
        for number, line in read_lines(self._captions, LINE_BYTES):
            if line is None:
                yield BadRow(number, "the line is too long", self._name)
                continue
            for row in self._rows(line):
                try:
                    if isinstance(row, RowError):
                        raise row
                    if self._split is not None and row.get("split") != self._split:
                        continue
                    record = self._record(row, ids, number)
                except RowError as error:
                    yield BadRow(number, str(error), self._name)
                    continue
                yield record

    @staticmethod
    def _rows(line: str) -> Iterator[dict[str, Any] | RowError]:
        """The objects of a line: usually one, but some programs write several, or a list of them."""
        if not is_text(line):
            yield RowError("the line has bytes that are not text")
            return
        rest = line.strip()
        while rest:
            try:
                value, end = _JSON.raw_decode(rest)
            except (ValueError, RecursionError):
                yield RowError("the line is not JSON")
                return
            rest = rest[end:].lstrip().removeprefix(",").lstrip()
            for each in value if isinstance(value, list) and value else [value]:
                yield each if isinstance(each, dict) else RowError("the line is not an object")

    def _record(self, row: dict[str, Any], ids: Ids, number: int) -> AtlasRecord:
        for key in row.keys() - _KEYS:
            if is_about_person(key):
                self.left_out.add(key)
        texts = case_texts(row_value(row))
        if row.get("diagnosis") or row.get("title"):
            texts = with_topic(texts, row.get("topic"))
        caption, replaced = choose_caption(row.get("caption"), texts, str(row.get("file") or ""))
        if replaced:
            self.left_out.add_placeholder(f"{self._name} line {number}")
        path = self._folder.image(row.get("file"))
        sha256 = row.get("sha256") or ""
        if not isinstance(sha256, str) or (sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256)):
            raise RowError("the sha256 is not a hex digest")
        if self._verify and sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise RowError("the image differs from its sha256")
        regions = self._regions(row["regions"]) if row.get("regions") else None
        licence = line_text(row.get("licence")) or UNKNOWN
        labels, original = map_labels(row.get("labels"), row.get("original_labels"), self.left_out)
        split = row.get("split")
        if word := line_text(str(split) if isinstance(split, int) else split):
            original.setdefault("split", label_text(word))
        # Last: a row that gives no record does not use up its id.
        own, where = row.get("id"), f"line {number}"
        is_without = own is None or own == ""
        own_id: dict[str, str] = {}
        former: tuple[str, ...] = ()
        if is_without:
            identity, former = ids.make(path.relative_to(self._folder.path).as_posix(), where)
        else:
            identity, own_id = ids.take(own, where)
        if "licence" not in labels:
            labels["licence"] = facet_values([licence])
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={**original, **own_id},
            licence=licence,
            source=line_text(row.get("source")) or f"{self._folder.name} (source not stated)",
            attribution=line_text(row.get("attribution")),
            sha256=sha256,
            image_path=path,
            regions=regions,
            **texts.items(),
            file=self._name,
            line=number,
            made_id=is_without,
            former_ids=former,
        )

    def _regions(self, given: object) -> RegionMap:
        """The label map of a row; its pixels are checked when they are stored."""
        legend = given.get("legend") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(legend, list) or not legend:
            raise RowError("regions is not an object with a file and a legend")
        try:
            found = tuple(map(_region, legend[: REGIONS_MAX + 1]))
            check_legend(found)
        except MirageError as error:
            raise RowError(error.message) from error
        try:
            path = self._folder.image(given.get("file"))
            if path.stat().st_size > REGIONS_BYTES:
                raise RowError("it is too large")
            return RegionMap(path.read_bytes(), found)
        except RowError as error:
            raise RowError(f"label map: {error}") from error
        except OSError:
            raise RowError("label map: the file cannot be read") from None


def _region(given: object) -> Region:
    if not isinstance(given, dict):
        raise RowError("an entry of the legend is not an object")
    number: Any = given.get("id")
    colour = given.get("colour") or (default_colour(number) if isinstance(number, int) else "")
    return Region(number, given.get("name", ""), given.get("group") or "", colour)
