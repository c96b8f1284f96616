"""A gRPC server's rules for each method: the caller's role, and the size of messages."""

from dataclasses import dataclass
from enum import StrEnum

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.settings import Identity, Role

__all__ = ["OPEN_SERVICES", "PLAIN", "UNNAMED", "Kind", "MethodRule", "Role", "check_role", "open_rule"]


class Kind(StrEnum):
    """Duration of a call, which decides on the places that it takes."""

    CALL = "call"
    # An answer that lasts for minutes or hours and costs little meanwhile.
    WATCH = "watch"


@dataclass(frozen=True)
class MethodRule:
    """A method takes messages of up to `request_bytes` from callers with `role` or more; `open` ones need no key.

    `own_budget` is for a method whose handler reads each message of a stream within a budget of its own.
    """

    role: Role = Role.READ
    request_bytes: int = limits.REQUEST_BYTES
    kind: Kind = Kind.CALL
    open: bool = False
    own_budget: bool = False


# For a method that its servicer's table does not name.
UNNAMED = MethodRule(Role.ADMIN)
# For a servicer without a table.
PLAIN = MethodRule(Role.READ, limits.MESSAGE_BYTES)
# Probes and reflection need no key and leave no line in the access log.
OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
_OPEN = MethodRule(request_bytes=limits.PROBE_BYTES, open=True)
_OPEN_WATCH = MethodRule(request_bytes=limits.PROBE_BYTES, kind=Kind.WATCH, open=True)


def check_role(caller: Identity, least: Role) -> None:
    """Raises ROLE_REQUIRED unless the caller's role includes the one that is needed.

    API_KEY_REQUIRED if it showed no key.
    """
    if caller.role < least:
        if not caller.keyed:
            raise MirageError(Code.API_KEY_REQUIRED)
        raise MirageError(Code.ROLE_REQUIRED, role=least, given=caller.role)


def open_rule(method: str) -> MethodRule:
    """The rule of a probe's or of reflection's method."""
    return _OPEN if method == "Check" else _OPEN_WATCH
