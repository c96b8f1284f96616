"""The current request: its id, its caller and its deadline.

A caller without a key is known by its address, as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`.
"""

import ipaddress
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

# Metadata by which the gateway names its caller to the generator, and (`true`) says that the caller has an admin key.
CLIENT_METADATA = "x-mirage-client"
ADMIN_METADATA = "x-mirage-admin"
_PEER = re.compile(r"ipv[46]:\[?(?P<address>[^\]]+)\]?:\d+")
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


def is_this_machine(peer: str) -> bool:
    """True for a loopback peer and a unix socket."""
    if peer.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(address_of(peer)).is_loopback
    except ValueError:
        return False


def address_of(peer: str) -> str:
    """Returns the address without its port, which differs for each connection; anything else is returned unchanged."""
    found = _PEER.fullmatch(peer.replace("%5B", "[").replace("%5D", "]"))
    return found["address"] if found else peer
