"""Bounds on a JSON body that hold before any object is made of it."""

import binascii
import secrets
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_gateway.web.problems import malformed

# A shorter body can do no harm: it is not looked at before it is parsed.
_HARMLESS = 2 * 2**10
# A longer string under the key "image" is a file, and is decoded before the rest is parsed.
_FILE_CHARS = 32 * 2**10
# Of base64, decoded without letting other threads run: a multiple of 4.
_PIECE = 256 * 2**10
_DEPTH = 8
_BRACKETS = 4096
# Quotes, and backslashes before them.
_STEPS = 2**17
_NAME_CHARS = 64
_IMAGE = b"image"
_VECTORS = frozenset({b"vector", b"image_vector", b"caption_vector"})
_PLAIN_VALUES = 16_384
# A number in a list, or a short string, as Python holds it and once more while it is made.
_VALUE_BYTES = 64
_VECTOR_VALUES = limits.TERMS_MAX * limits.VECTOR_COMPONENTS + _PLAIN_VALUES
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class JsonBounds:
    """The largest body: `plain` bytes, `vectors` bytes if it has a vector, `files` bytes if it has an image."""

    plain: int = limits.REQUEST_BYTES
    vectors: int = 0
    files: int = 0

    @property
    def largest(self) -> int:
        """The most bytes that a body may have."""
        return max(self.plain, self.vectors, self.files)


# A body without vectors and images, one that may have both, and one that is an image.
PLAIN = JsonBounds()
QUERY = JsonBounds(vectors=limits.VECTORS_BYTES, files=limits.JSON_FILE_BYTES)
FILE = JsonBounds(files=limits.JSON_FILE_BYTES)


@dataclass(frozen=True)
class Scanned:
    """The structure of a body: the number of `values`, and the spans of the strings that hold files."""

    values: int
    files: tuple[tuple[int, int], ...]


class Files:
    """The decoded files of one body, by the words that replace them in its text. As pydantic's validation context."""

    def __init__(self) -> None:
        self.by_word: dict[str, bytes | None] = {}
        self._nonce = secrets.token_hex(16)

    def add(self, content: bytes | None) -> bytes:
        """Keeps a file, None for one that cannot be decoded; returns the JSON string that replaces it."""
        word = f"file-{self._nonce}-{len(self.by_word)}"
        self.by_word[word] = content
        return b'"%s"' % word.encode()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(each or b"") for each in self.by_word.values())


def parse(model: type[Model], body: bytes | bytearray, bounds: JsonBounds) -> tuple[Model, int, int]:
    """Returns the body as a model, the bytes of its files, and about how many bytes the rest takes.

    Raises REQUEST_TOO_LARGE, TOO_MANY_ITEMS, REQUEST_MALFORMED, and what `malformed` makes of a wrong form.
    """
    files = Files()
    scanned = scan(body, bounds)
    text = _without_files(body, scanned, files) if scanned.files else body
    try:
        made = model.model_validate_json(text, strict=True, context={"files": files.by_word})
    except ValidationError as error:
        raise malformed(error) from error
    return made, files.size, _VALUE_BYTES * scanned.values


def scan(body: bytes | bytearray, bounds: JsonBounds) -> Scanned:
    """Counts what a body is made of; the work is bounded too, whatever is in it.

    Raises REQUEST_TOO_LARGE, TOO_MANY_ITEMS and REQUEST_MALFORMED. What it lets pass may still not be JSON.
    """
    if len(body) <= _HARMLESS:
        return Scanned(len(body), ())
    outside: list[bytes | bytearray] = []
    files: list[tuple[int, int]] = []
    names: set[bytes] = set()
    largest = max(bounds.plain, bounds.vectors)
    at = steps = 0
    name = b""
    while (start := body.find(b'"', at)) >= 0:
        if start - at > largest:
            raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=largest)
        between = body[at:start]
        outside.append(between)
        end, steps = _end_of_string(body, start, steps)
        if end - start <= _NAME_CHARS:
            name = bytes(body[start + 1 : end])
            names.add(name)
        elif end - start > _FILE_CHARS and bounds.files and name == _IMAGE and between.strip() == b":":
            files.append((start, end + 1))
        at = end + 1
    outside.append(body[at:])
    has_vector = bounds.vectors > 0 and not names.isdisjoint(_VECTORS)
    limit = largest if has_vector or files or (bounds.files and _IMAGE in names) else bounds.plain
    if len(body) - sum(end - start for start, end in files) > limit:
        raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=limit)
    return Scanned(_count(b"".join(outside), _VECTOR_VALUES if has_vector else _PLAIN_VALUES), tuple(files))


def _end_of_string(body: bytes | bytearray, start: int, steps: int) -> tuple[int, int]:
    """Returns where the string that begins at `start` ends, and the steps made until then."""
    end = start
    while steps < _STEPS:
        end = body.find(b'"', end + 1)
        if end < 0:
            raise MirageError(Code.REQUEST_MALFORMED, field="body", reason="not JSON")
        # The quote belongs to the string if an odd number of backslashes is before it.
        back = end - 1
        while body[back] == 0x5C and steps < _STEPS:
            back -= 1
            steps += 1
        steps += 1
        if (end - back) % 2:
            return end, steps
    raise _too_many(_STEPS)


def _count(text: bytes, most: int) -> int:
    brackets = text.count(b"[") + text.count(b"{")
    values = brackets + text.count(b",")
    if brackets > _BRACKETS or values > most:
        raise _too_many(most)
    depth = 0
    for bracket in text.translate(None, _NOT_BRACKETS)[: 2 * _BRACKETS]:
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEPTH:
            raise MirageError(Code.REQUEST_MALFORMED, field="body", reason="nested too deeply")
    return values


def _without_files(body: bytes | bytearray, scanned: Scanned, files: Files) -> bytes:
    text: list[bytes | bytearray] = []
    at = 0
    for start, end in scanned.files:
        text += [body[at:start], files.add(_decode(body, start + 1, end - 1))]
        at = end
    text.append(body[at:])
    return b"".join(text)


def _decode(body: bytes | bytearray, start: int, end: int) -> bytes | None:
    """Decodes base64 in pieces, so that other threads get their turn; returns None if it is not base64."""
    if end - start > limits.IMAGE_BYTES * 4 / 3 + 4:
        raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES)
    view = memoryview(body)[start:end]
    if body.find(b"\\", start, end) >= 0:
        # Some libraries escape slashes, and JSON lets them.
        view = memoryview(bytes(view).replace(b"\\/", b"/"))
    pieces = []
    for at in range(0, len(view), _PIECE):
        piece = view[at : at + _PIECE]
        try:
            pieces.append(binascii.a2b_base64(piece, strict_mode=True))
        except ValueError:
            return None
        if at + _PIECE < len(view) and len(pieces[-1]) != _PIECE * 3 // 4:
            return None
    return b"".join(pieces)


def _too_many(most: int) -> MirageError:
    return MirageError(Code.TOO_MANY_ITEMS, field="body", min=0, max=most, given="more")
