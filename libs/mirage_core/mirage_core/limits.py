"""The limits that callers can rely on; beyond them a request gets a catalogue error, never a silent change."""

import re

from mirage_api.limits import CAPTION_CHARS as CAPTION_CHARS
from mirage_api.limits import COMMENT_CHARS as COMMENT_CHARS
from mirage_api.limits import EXAMPLES_MAX as EXAMPLES_MAX
from mirage_api.limits import FACET_VALUES_MAX as FACET_VALUES_MAX
from mirage_api.limits import IDS_MAX as IDS_MAX
from mirage_api.limits import IMAGE_BYTES as IMAGE_BYTES
from mirage_api.limits import K_DEFAULT as K_DEFAULT
from mirage_api.limits import K_MAX as K_MAX
from mirage_api.limits import TERMS_MAX as TERMS_MAX
from mirage_api.limits import TEXT_CHARS as TEXT_CHARS
from mirage_api.limits import VECTOR_COMPONENTS as VECTOR_COMPONENTS
from mirage_core.errors import Code, MirageError

TEXTS_MAX = 64
EXCLUDE_MAX = 100
FACET_CHARS = 64
IMAGE_PIXELS = 50_000_000
IMAGE_SIDE_MIN = 16
CHUNK_BYTES = 2**20
# A part of an image that is sent: each reader that is slow holds a few of them in every process on the way.
PART_BYTES = 2**18
# One image, its fields and gRPC's framing; anything larger is refused before it is read.
MESSAGE_BYTES = 25 * 2**20
# A request without images, with vectors or long texts, and any other one.
VECTORS_BYTES = 2 * 2**20
REQUEST_BYTES = 256 * 2**10
# A JSON body with images: one of 20 MiB is 28 MB in base64, and there is room for the other fields.
JSON_FILE_BYTES = 32 * 2**20
# Of an HTTP request's head (and of its trailers), counted before anything is made of it.
HEAD_BYTES = 32 * 2**10
HEAD_FIELDS = 100
# A gRPC request with vectors or long texts, any other one, and a health check.
VECTORS_BYTES = 2 * 2**20
REQUEST_BYTES = 256 * 2**10
PROBE_BYTES = 4 * 2**10
# Bytes that a gRPC call may have sent before it is read.
WINDOW_BYTES = 16 * 2**10

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def check_id(value: str) -> str:
    """The record id unchanged; raises ID_INVALID unless it has the form that protos/mirage/v1/record.proto states."""
    if not ID_PATTERN.fullmatch(value) or ".." in value:
        raise MirageError(Code.ID_INVALID)
    return value


def facet_value(text: str) -> str:
    """Returns a text as a facet's value: lower case, on one line, at most 64 characters; the last is an ellipsis if
    it was cut.

    Empty if no character can be shown.
    """
    shown = "".join(char if char.isprintable() else " " if char.isspace() else "" for char in text.lower())
    value = " ".join(shown.split())
    return value if len(value) <= FACET_CHARS else value[: FACET_CHARS - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
