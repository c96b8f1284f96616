"""A folder with `captions.jsonl` and image files: the format that datasets are exchanged in.

A line is a JSON object with `id`, `file`, `caption`, and as far as known `labels`, `original_labels`, `licence`, `source`,
`attribution`, `split` and `sha256`. What a source's labels say in its own words is mapped to facets where it can be and kept
beside them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirage_atlas.facets import map_labels
from mirage_atlas.folder import Folder, Ids, RowError, caption_text, line_text
from mirage_atlas.licences import UNKNOWN
from mirage_atlas.records import AtlasRecord, BadRow

LINE_BYTES = 256 * 1024


class CaptionsReader:
    """Reads one dataset folder line by line; `verify` also compares each image with its sha256."""

    def __init__(
        self, folder: Path, *, captions: str = "captions.jsonl", split: str | None = None, verify: bool = False
    ) -> None:
        self._folder = Folder(folder)
        self._captions = captions
        self._split = split
        self._verify = verify

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in file order, bad rows where they stand; raises OSError when the folder has no captions file."""
        ids = Ids()
        with (self._folder.path / self._captions).open("rb") as lines:
            number = 0
            while line := lines.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES and not line.endswith(b"\n"):
                    while (rest := lines.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                    yield BadRow(number, "the line is too long")
                    continue
                if not line.strip():
                    continue
                try:
                    row = self._row(line)
                    if self._split is not None and row.get("split") != self._split:
                        continue
                    record = self._record(row, ids)
                except RowError as error:
                    yield BadRow(number, str(error))
                    continue
                yield record

    @staticmethod
    def _row(line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise RowError("the line is not JSON") from None
        if not isinstance(row, dict):
            raise RowError("the line is not an object")
        return row

    def _record(self, row: dict[str, Any], ids: Ids) -> AtlasRecord:
        caption = caption_text(row.get("caption"))
        path = self._folder.image(row.get("file"))
        sha256 = row.get("sha256") or ""
        if not isinstance(sha256, str) or (sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256)):
            raise RowError("the sha256 is not a hex digest")
        if self._verify and sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise RowError("the image differs from its sha256")
        licence = line_text(row.get("licence")) or UNKNOWN
        labels, original = map_labels(row.get("labels"), row.get("original_labels"))
        for name in ("case_id", "split"):
            if word := line_text(row.get(name)):
                original.setdefault(name, word)
        # Last: a row that gives no record does not use up its id.
        identity, own_id = ids.take(row.get("id"))
        if licence and "licence" not in labels:
            labels["licence"] = (licence.lower(),)
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={**original, **own_id},
            licence=licence,
            source=line_text(row.get("source")) or f"{self._folder.path.name} (source not stated)",
            attribution=line_text(row.get("attribution")),
            sha256=sha256,
            image_path=path,
        )
