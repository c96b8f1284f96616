"""Servicers of which a test implements only the methods that it calls."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")


def partial_servicer(make: Callable[P, S], *args: P.args, **kwargs: P.kwargs) -> S:
    """Returns an object of a servicer's class. The generated base class declares every method as abstract, for mypy alone."""
    return make(*args, **kwargs)
