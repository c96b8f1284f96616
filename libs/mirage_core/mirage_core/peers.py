"""Callers by their address, as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`."""

import ipaddress
import re

# Metadata by which the gateway names its caller to the generator, and (`true`) says that the caller has an admin key.
CLIENT_METADATA = "x-mirage-client"
ADMIN_METADATA = "x-mirage-admin"
_PEER = re.compile(r"ipv[46]:\[?(?P<address>[^\]]+)\]?:\d+")


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
