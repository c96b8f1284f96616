"""The point id that Qdrant needs, derived from a record's id."""

import hashlib
import uuid


def point_id(record_id: str) -> uuid.UUID:
    """A UUID (version 8, RFC 9562) out of the SHA-256 of the id, so that a record always lands on the same point."""
    digest = bytearray(hashlib.sha256(record_id.encode()).digest()[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return uuid.UUID(bytes=bytes(digest))
