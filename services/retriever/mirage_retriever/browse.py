"""Reading without searching: looking records up by id and image, and walking over all of them."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Stored, Walked
from mirage_retriever.pages import PAGE_DEFAULT, PAGE_MAX

# A page stays far below the largest message.
_PAGE_BYTES = 12 * 2**20
_SAME_IMAGE = 10
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BINDING_BYTES = 8


@dataclass(frozen=True)
class Key:
    """A key to look up: an id and, if known, the SHA-256 of an image file."""

    id: str
    image_sha256: str = ""


@dataclass(frozen=True)
class Presence:
    """The answer for a key: the stored record as JSON (None if there is none), and ids of other records with that image."""

    id: str
    record: str | None
    same_image_ids: tuple[str, ...]


async def look_up(atlas: Atlas, keys: Sequence[Key]) -> list[Presence]:
    """Returns one answer a key, in order; raises TOO_MANY_ITEMS, ID_INVALID, and REQUEST_MALFORMED for an invalid SHA-256."""
    if not 1 <= len(keys) <= PAGE_MAX:
        raise MirageError(Code.TOO_MANY_ITEMS, field="keys", min=1, max=PAGE_MAX, given=len(keys))
    for key in keys:
        limits.check_id(key.id)
        if key.image_sha256 and not _SHA256.fullmatch(key.image_sha256):
            raise MirageError(Code.REQUEST_MALFORMED, field="image_sha256")
    stored = await atlas.engine.fetch(list(dict.fromkeys(key.id for key in keys)))
    images = list(dict.fromkeys(key.image_sha256 for key in keys if key.image_sha256))
    showing = await atlas.engine.showing(images, _SAME_IMAGE + 1) if images else {}
    return [
        Presence(
            key.id,
            stored[key.id].record if key.id in stored else None,
            tuple(id_ for id_ in showing.get(key.image_sha256, ()) if id_ != key.id)[:_SAME_IMAGE],
        )
        for key in keys
    ]


async def walk(
    atlas: Atlas, *, limit: int = PAGE_DEFAULT, page_token: str = "", vectors: bool = False
) -> tuple[tuple[Stored, ...], str]:
    """Returns up to `limit` records (1 to 1,000; 100 if None; fewer if they are large) and the token of the next page."""
    position = _read(page_token, atlas) if page_token else ""
    if vectors:
        limit = max(1, min(limit, _PAGE_BYTES // (8 * atlas.collection.dimension)))
    walked = _cut(await atlas.engine.walk(position, limit, vectors=vectors))
    return walked.points, _write(walked.position, atlas) if walked.position else ""


def _cut(walked: Walked) -> Walked:
    """The walk up to where its records grow too large for one message."""
    size = 0
    for number, point in enumerate(walked.points):
        size += len(point.record.encode()) + 8 * (0 if point.image is None else len(point.image))
        if size > _PAGE_BYTES and number:
            return Walked(walked.points[:number], walked.positions[:number], walked.positions[number])
    return walked


def _binding(atlas: Atlas) -> bytes:
    collection = atlas.collection
    text = f"{collection.name}/{collection.fingerprint}"
    return hashlib.blake2b(text.encode(), digest_size=_BINDING_BYTES, person=b"walk").digest()


def _write(position: str, atlas: Atlas) -> str:
    return base64.urlsafe_b64encode(_binding(atlas) + position.encode()).rstrip(b"=").decode()


def _read(token: str, atlas: Atlas) -> str:
    if len(token) > 200:
        raise MirageError(Code.PAGE_TOKEN_INVALID)
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = raw[_BINDING_BYTES:].decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise MirageError(Code.PAGE_TOKEN_INVALID) from error
    if raw[:_BINDING_BYTES] != _binding(atlas) or not position:
        raise MirageError(Code.PAGE_TOKEN_INVALID)
    return position
