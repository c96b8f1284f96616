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
from pathlib import Path, PurePosixPath
from typing import Any

from mirage_atlas.facets import map_labels
from mirage_atlas.records import AtlasRecord, BadRow

LINE_BYTES = 256 * 1024
CAPTION_CHARACTERS = 20_000
IMAGE_BYTES = 20_000_000
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class RowError(ValueError):
    """A row that cannot become a record; the message names the fault, never the row's content."""


class CaptionsReader:
    """Reads one dataset folder line by line; `verify` also compares each image with its sha256."""

    def __init__(
        self, folder: Path, *, captions: str = "captions.jsonl", split: str | None = None, verify: bool = False
    ) -> None:
        self._folder = folder.resolve()
        self._captions = captions
        self._split = split
        self._verify = verify

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in file order, bad rows where they stand; raises OSError when the folder has no captions file."""
        seen: set[str] = set()
        with (self._folder / self._captions).open("rb") as lines:
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
                    record = self._record(row)
                    if record.id in seen:
                        raise RowError("the id was used before")
                except RowError as error:
                    yield BadRow(number, str(error))
                    continue
                seen.add(record.id)
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

    def _record(self, row: dict[str, Any]) -> AtlasRecord:
        identity = row.get("id")
        if not isinstance(identity, str) or not ID.fullmatch(identity):
            raise RowError("the id is missing or not a plain name")
        caption = row.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            raise RowError("the caption is missing")
        if len(caption) > CAPTION_CHARACTERS:
            raise RowError("the caption is too long")
        path = self._image(row.get("file"))
        sha256 = row.get("sha256") or ""
        if not isinstance(sha256, str) or (sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256)):
            raise RowError("the sha256 is not a hex digest")
        if self._verify and sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise RowError("the image differs from its sha256")
        licence = _text(row.get("licence"))
        labels, original = map_labels(row.get("labels"), row.get("original_labels"))
        if licence and "licence" not in labels:
            labels["licence"] = (licence.lower(),)
        return AtlasRecord(
            id=identity,
            caption=caption.strip(),
            labels=labels,
            original_labels=original,
            licence=licence,
            source=_text(row.get("source")),
            attribution=_text(row.get("attribution")),
            sha256=sha256,
            image_path=path,
        )

    def _image(self, file: object) -> Path:
        if not isinstance(file, str) or not file or "\\" in file or "\0" in file:
            raise RowError("the file name is missing or not plain")
        relative = PurePosixPath(file)
        if relative.is_absolute() or ".." in relative.parts:
            raise RowError("the file lies outside the folder")
        path = self._folder / relative
        try:
            # A link anywhere on the way could lead out of the folder, or to a device.
            if path.resolve() != path or not path.is_file():
                raise RowError("the file is missing or a link")
            if path.stat().st_size > IMAGE_BYTES:
                raise RowError("the file is too large")
        except OSError:
            raise RowError("the file cannot be read") from None
        return path


def _text(value: object) -> str:
    return value.strip()[:2000] if isinstance(value, str) else ""
