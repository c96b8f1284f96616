"""Ports of this machine."""

import socket
import sys

from mirage_launcher.errors import PortTakenError

_reserved: dict[int, socket.socket] = {}


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Returns True if the port is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still winding down counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(port: int, *, option: str) -> int:
    """The port. Raises PortTakenError, naming the option that chooses another."""
    if not is_free(port):
        raise PortTakenError(port, option=option)
    return port


def free_or_any(preferred: int, *, taken: frozenset[int] = frozenset()) -> int:
    """Returns the preferred port if it is free, else another free one that is not in `taken`; it is reserved."""
    port = preferred
    while port in taken or not reserve(port) or not is_free(port):
        port = any_free(taken=taken)
    return port


def reserve(port: int) -> bool:
    """Reserves a port for this process until it ends; returns False if another launcher has reserved it.

    Of two launchers that start at the same time both find a port free before either of their services listens, and the clients
    of one would then be connected to a service of the other. Only Linux has the names in the kernel that this needs; elsewhere
    nothing is reserved.
    """
    if port in _reserved or sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind(f"\0mirage-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved[port] = name
    return True


def any_free(*, taken: frozenset[int] = frozenset()) -> int:
    """A port on which nothing listens, not in `taken`. Another program may take it before it is used."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
