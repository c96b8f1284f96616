"""The current request: its id, its caller and its deadline."""

import re
import secrets
import time
from contextvars import ContextVar

from mirage_core.settings import Identity

request_id: ContextVar[str] = ContextVar("request_id", default="")
client: ContextVar[str] = ContextVar("client", default="")
# True if the caller has an admin key.
admin: ContextVar[bool] = ContextVar("admin", default=False)
# The caller and its rights; None outside of a request.
caller: ContextVar[Identity | None] = ContextVar("caller", default=None)
# time.monotonic() of the deadline; None if the caller did not set one.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def accept_request_id(given: str | None) -> str:
    """Returns the caller's request id if it has a harmless form, else a new one of 16 hex digits."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_hex(8)


def remaining_s(timeout_s: float) -> float:
    """The shorter of `timeout_s` and what the caller's deadline leaves, in seconds; never below a millisecond."""
    limit = deadline.get()
    if limit is None:
        return timeout_s
    return max(0.001, min(timeout_s, limit - time.monotonic()))
