"""Asks the gateway whether all that it depends on is ready."""

import http.client
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Readiness:
    """`ready`, or the names of the services that are waited for."""

    ready: bool
    missing: tuple[str, ...] = ()


def ask(port: int, *, timeout_s: float = 2.0) -> Readiness:
    """GET /readyz on this machine. A gateway that does not answer is itself what is missing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(64 * 1024)
    except (OSError, http.client.HTTPException):
        return Readiness(False, ("gateway",))
    finally:
        connection.close()
    return Readiness(True) if response.status == 200 else Readiness(False, _missing(body))


def _missing(body: bytes) -> tuple[str, ...]:
    try:
        dependencies = json.loads(body)["dependencies"]
        return tuple(name for name, state in dependencies.items() if state != "serving")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ("gateway",)
