"""Who may change the atlas."""

import ipaddress
import re

from mirage_core.errors import Code, MirageError

_PEER = re.compile(r"ipv[46]:\[?(?P<address>[^\]]+)\]?:\d+")


def check_may_write(client: str, *, keyed: bool) -> None:
    """Raises API_KEY_REQUIRED unless the server has keys (then the caller showed one) or `client` is this machine.

    `client` is the key's name or the peer as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`.
    """
    if not keyed and not is_this_machine(client):
        raise MirageError(Code.API_KEY_REQUIRED)


def is_this_machine(peer: str) -> bool:
    """True for a loopback peer and a unix socket."""
    if peer.startswith("unix:"):
        return True
    found = _PEER.fullmatch(peer.replace("%5B", "[").replace("%5D", "]"))
    try:
        return found is not None and ipaddress.ip_address(found["address"]).is_loopback
    except ValueError:
        return False
