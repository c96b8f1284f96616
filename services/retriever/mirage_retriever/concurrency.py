"""Several awaits at once, with errors that stay coded errors."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from mirage_core.errors import MirageError


async def together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Runs all of it at the same time; the first MirageError ends the rest and is raised as itself, in no group."""
    if len(work) == 1:
        await work[0]
    elif work:
        try:
            async with asyncio.TaskGroup() as group:
                for each in work:
                    group.create_task(each)
        except* MirageError as errors:
            raise _first(errors) from errors


def _first(errors: BaseExceptionGroup[MirageError]) -> MirageError:
    error: MirageError | BaseExceptionGroup[MirageError] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
