"""Callers by their address, as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`."""

import ipaddress
import re

# Metadata with which the gateway tells the generator for whom it speaks, and (`true`) that this one showed an admin key.
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
    """The address without its port, which differs from one connection to the next; what is no address stays as it is."""
    found = _PEER.fullmatch(peer.replace("%5B", "[").replace("%5D", "]"))
    return found["address"] if found else peer
