"""Errors of calls to MIRAGE."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of every error of this package; the text is meant for the person who made the call."""

    code = "CLIENT_ERROR"

    def problem(self) -> dict[str, Any]:
        """The error as the `--json` of the command line prints it: at least `code` and `detail`."""
        return {"code": self.code, "detail": str(self)}


class UnreachableError(ClientError):
    """Nothing that answers as MIRAGE does at the address."""

    code = "UNREACHABLE"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no MIRAGE at {url} ({reason}): start it with `mirage up`, or set MIRAGE_URL")
        self.url = url


class TimedOutError(ClientError):
    """The answer did not come in time; whether the call had an effect is not known."""

    code = "TIMED_OUT"


class ReplyError(ClientError):
    """Something answered, but not as MIRAGE's gateway does."""

    code = "REPLY_INVALID"


class InputError(ClientError):
    """A file or an option that cannot be used; nothing was sent."""

    code = "INPUT_INVALID"


class PartMissingError(ClientError):
    """A part of MIRAGE that the call needs is not installed here."""

    code = "PART_MISSING"

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}, which is not installed in this environment")
        self.package = package


class JobError(ClientError):
    """A job ended without images; `code` is the catalogue's, or JOB_ and its state."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class ApiError(ClientError):
    """The gateway refused or failed: the catalogue's code, its text, and the field and limit concerned."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def problem(self) -> dict[str, Any]:
        """The problem as the gateway gave it."""
        problem: dict[str, Any] = {"code": self.code, "detail": self.message, "status": self.status}
        if self.metadata:
            problem["metadata"] = self.metadata
        if self.retry_after_s is not None:
            problem["retry_after_s"] = self.retry_after_s
        if self.request_id:
            problem["request_id"] = self.request_id
        return problem
