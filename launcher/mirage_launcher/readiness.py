"""Asks the gateway whether all that it depends on is ready, and fits together."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

_REPLY_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Readiness:
    """`ready`, or the names of the services that are waited for."""

    ready: bool
    missing: tuple[str, ...] = ()


def ask(port: int, *, timeout_s: float = 2.0) -> Readiness:
    """GET /readyz on this machine. A gateway that does not answer is itself what is missing."""
    status, document = _get(port, "/readyz", timeout_s=timeout_s)
    if status == 200:
        return Readiness(True)
    dependencies = document.get("dependencies")
    if not isinstance(dependencies, dict):
        return Readiness(False, ("gateway",))
    return Readiness(False, tuple(name for name, state in dependencies.items() if state != "serving"))


def model_fits(port: int, *, key: str = "", timeout_s: float = 5.0) -> bool:
    """Returns False if the atlas was indexed with another model than the running one; True also if that is unknown."""
    _, collection = _get(port, "/v1/collection", key=key, timeout_s=timeout_s)
    _, models = _get(port, "/v1/models", key=key, timeout_s=timeout_s)
    running = [model for model in models.get("models", []) if model.get("task") == "encode"]
    if not (running and collection.get("records")):
        return True
    return bool(collection.get("fingerprint") == running[0].get("fingerprint"))


def _get(port: int, path: str, *, key: str = "", timeout_s: float) -> tuple[int, dict[str, Any]]:
    """Returns status and JSON object of an answer; 0 without an answer, {} if it is not a JSON object."""
    # The standard library's client: the launcher stays in memory for as long as the services run.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        document = json.loads(response.read(_REPLY_BYTES))
    except (OSError, http.client.HTTPException):
        return 0, {}
    except ValueError:
        return response.status, {}
    finally:
        connection.close()
    return response.status, document if isinstance(document, dict) else {}
