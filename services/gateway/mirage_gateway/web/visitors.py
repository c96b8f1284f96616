"""Callers without a key of a public atlas: how often they may call, and which jobs are theirs.

A visitor's jobs belong to the browser that made them: to a random cookie, set when the first one is made.
"""

import hashlib
import re
import secrets

from starlette.requests import Request
from starlette.responses import Response

from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.rates import Rate, RateLimit
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.proxies import CLIENT, group_of

_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_AGE_S = 30 * 86_400
_NAME = "mirage"
# Browsers take a name like this from the very host alone, and over TLS.
_SECURE_NAME = f"__Host-{_NAME}"
_OF_JOBS = (Action.CREATE_JOB, Action.USE_JOBS)
_SEARCHES = (Action.SEARCH, Action.CLASSIFY)


class Visitors:
    """Admits requests of callers without a key."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._requests = RateLimit(Rate(settings.public_requests_per_minute, 60))
        self._searches = RateLimit(Rate(settings.public_searches_per_minute, 60))
        self._descriptions = RateLimit(Rate(settings.public_descriptions_per_minute, 60))
        self._jobs = RateLimit(Rate(settings.public_jobs_per_hour, 3600))

    def admit(self, request: Request, action: Action) -> str:
        """Counts a request; raises RATE_LIMITED. Returns the cookie that its answer has to set, empty for none."""
        address = group_of(request.scope[CLIENT])
        self._requests.take(address)
        if action in _SEARCHES:
            self._searches.take(address)
        elif action in (Action.DESCRIBE, Action.READ):
            self._descriptions.take(address)
        elif action is Action.CREATE_JOB:
            self._jobs.take(address)
        if action not in _OF_JOBS:
            return ""
        token = request.cookies.get(_name(request), "")
        known = _TOKEN.fullmatch(token) is not None
        if not known:
            token = secrets.token_urlsafe(_BYTES)
        context.client.set(f"visitor-{hashlib.sha256(token.encode()).hexdigest()[:32]}")
        return token if action is Action.CREATE_JOB and not known else ""


def remember(response: Response, request: Request, token: str) -> None:
    """Sets a visitor's cookie."""
    response.set_cookie(
        _name(request),
        token,
        max_age=_AGE_S,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def check_one_image(images: int | None) -> None:
    """Raises OPTION_OUT_OF_RANGE if a visitor asks for more than one image."""
    caller = context.caller.get()
    if caller is not None and caller.public and (images or 1) > 1:
        raise MirageError(Code.OPTION_OUT_OF_RANGE, field="images", range="1 without a key", given=images)


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _name(request: Request) -> str:
    return _SECURE_NAME if _is_secure(request) else _NAME
