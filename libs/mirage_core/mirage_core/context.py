"""What belongs to the request that is being served: its id, its caller and its deadline."""

import re
import secrets
import time
from contextvars import ContextVar

from mirage_core.settings import Identity

request_id: ContextVar[str] = ContextVar("request_id", default="")
client: ContextVar[str] = ContextVar("client", default="")
# Whether the caller showed an admin key.
admin: ContextVar[bool] = ContextVar("admin", default=False)
# Who calls and what it may do; None outside of a request.
caller: ContextVar[Identity | None] = ContextVar("caller", default=None)
# time.monotonic() by which the answer must be out; None where the caller set no deadline.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def accept_request_id(given: str | None) -> str:
    """The caller's request id where it has a harmless form, else a fresh one of 16 hex digits."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_hex(8)


def remaining_s(timeout_s: float) -> float:
    """The shorter of `timeout_s` and what the caller's deadline leaves, in seconds; never below a millisecond."""
    limit = deadline.get()
    if limit is None:
        return timeout_s
    return max(0.001, min(timeout_s, limit - time.monotonic()))
