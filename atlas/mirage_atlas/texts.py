"""Text files of datasets as lines, whatever their line ends and encoding: UTF-8, UTF-16 (with a mark or without), Windows."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 2**20
_NO_TEXT = re.compile("[\0\udc80-\udcff]")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN = "cp1252"


def read_lines(path: Path, most: int) -> Iterator[tuple[int, str | None]]:
    """Number and text of each line with its end; None for one of more than `most` characters. Lines end as they like.

    `is_text` is False for a line with bytes that the file's encoding does not have. Raises OSError.
    """
    encoding = encoding_of(path)
    errors = "surrogateescape" if encoding.startswith("utf-8") else _AS_LATIN if encoding == _WESTERN else "replace"
    with io.TextIOWrapper(path.open("rb"), encoding=encoding, errors=errors, newline="") as lines:
        number = 0
        while line := lines.readline(most + 1):
            number += 1
            if number == 1:
                line = line.removeprefix("\ufeff")
            if len(line) > most and not line.endswith(("\n", "\r")):
                while (rest := lines.readline(most)) and not rest.endswith(("\n", "\r")):
                    pass
                yield number, None
                continue
            yield number, line


def is_text(line: str) -> bool:
    """Returns False for a line with bytes that its file's encoding does not have, or with NULs."""
    return _NO_TEXT.search(line) is None


def count_lines(path: Path) -> int:
    """About how many lines a file has."""
    with path.open("rb") as file:
        return sum(max(block.count(b"\n"), block.count(b"\r")) for block in iter(lambda: file.read(_BLOCK), b""))


def encoding_of(path: Path) -> str:
    """The encoding of a text file: by its mark, else by its bytes. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(4096)
        for mark, encoding in _MARKS:
            if start.startswith(mark):
                return encoding
        if wide := _wide(start):
            return wide
        file.seek(0)
        if _is_utf8(file):
            return "utf-8"
        file.seek(0)
        return "utf-8" if _mostly_utf8(file) else _WESTERN


def _wide(start: bytes) -> str:
    """UTF-16 without a mark: of Western text every other byte is zero."""
    half = len(start) // 2
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if half and odd > 0.4 * half and even < 0.1 * half:
        return "utf-16-le"
    if half and even > 0.4 * half and odd < 0.1 * half:
        return "utf-16-be"
    return ""


def _is_utf8(file: io.BufferedReader) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in iter(lambda: file.read(_BLOCK), b""):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf8(file: io.BufferedReader) -> bool:
    """True if more lines beyond ASCII are UTF-8 than not: then the others are damaged, and not of another encoding."""
    right = wrong = 0
    for line in iter(lambda: file.readline(_BLOCK), b""):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
            right += 1
        except UnicodeDecodeError:
            wrong += 1
    return right >= wrong and right > 0


def _as_latin(error: UnicodeError) -> tuple[str, int]:
    """The five bytes that cp1252 leaves undefined, as Latin-1 has them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_AS_LATIN = "mirage-latin"
codecs.register_error(_AS_LATIN, _as_latin)
