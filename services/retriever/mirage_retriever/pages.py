"""Pages of lists, and the page tokens of searches, which are bound to their query."""

import base64
import binascii
import hashlib
import hmac
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import Collection

# No one reads further, and an approximate search further down is neither fast nor faithful.
DEPTH_MAX = 1_000

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
T = TypeVar("T")

_FIXED = struct.Struct(">BHdBBH")
_VERSION = 2
_MAC_BYTES = 12


@dataclass(frozen=True)
class Position:
    """After which result the next page begins: its score and id, how many came before, and the match of the first page.

    By score and id rather than by count, so that records stored in between neither repeat nor push out others.
    """

    offset: int
    score: float
    id: str
    match: int
    tier: int = 0
    within: int = 0


class PageTokens:
    """Makes and reads tokens with a key of 1 to 64 bytes, the same in every retriever of a collection.

    The key keeps a token from one collection out of another and catches a damaged one; it guards no secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key).digest()

    @classmethod
    def of(cls, collection: Collection) -> "PageTokens":
        """Returns those of a collection."""
        return cls(f"{collection.name}/{collection.fingerprint}".encode())

    def write(self, position: Position, digest: bytes) -> str:
        """A token for the query of that digest; at most 240 characters of URL-safe base64."""
        body = _FIXED.pack(_VERSION, position.offset, position.score, position.match, position.tier, position.within)
        return self.seal(body + position.id.encode(), digest)

    def seal(self, body: bytes, digest: bytes) -> str:
        """Returns a token that holds the bytes."""
        return base64.urlsafe_b64encode(self._mac(body, digest) + body).rstrip(b"=").decode()

    def unseal(self, token: str, digest: bytes) -> bytes:
        """The bytes in a token; raises PAGE_TOKEN_INVALID for a token that was not written for this query."""
        if len(token) > 300:
            raise MirageError(Code.PAGE_TOKEN_INVALID)
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise MirageError(Code.PAGE_TOKEN_INVALID) from error
        body = raw[_MAC_BYTES:]
        if not hmac.compare_digest(raw[:_MAC_BYTES], self._mac(body, digest)):
            raise MirageError(Code.PAGE_TOKEN_INVALID)
        return body

    def read(self, token: str, digest: bytes) -> Position:
        """The position; raises as `unseal`."""
        body = self.unseal(token, digest)
        try:
            version, offset, score, match, tier, within = _FIXED.unpack_from(body)
            id_ = limits.check_id(body[_FIXED.size :].decode())
        except (struct.error, ValueError) as error:
            raise MirageError(Code.PAGE_TOKEN_INVALID) from error
        if version != _VERSION or not 0 < offset < DEPTH_MAX or not math.isfinite(score):
            raise MirageError(Code.PAGE_TOKEN_INVALID)
        return Position(offset, score, id_, match, tier, within)

    def _mac(self, body: bytes, digest: bytes) -> bytes:
        return hashlib.blake2b(body + digest, key=self._key, digest_size=_MAC_BYTES).digest()


def page_of(items: Sequence[T], *, size: int, token: str) -> tuple[Sequence[T], str]:
    """Returns up to `size` items after the token's position, and the token of the next page, empty at the end."""
    start = read_number(token) if token else 0
    end = start + size
    return items[start:end], str(end) if end < len(items) else ""


def read_number(token: str) -> int:
    """Returns the position in a token of `page_of` or of the flags; raises PAGE_TOKEN_INVALID."""
    if not (token.isascii() and token.isdigit() and len(token) <= 9):
        raise MirageError(Code.PAGE_TOKEN_INVALID)
    return int(token)
