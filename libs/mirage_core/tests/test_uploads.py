"""Uploads whose server dies: grpc.aio may say that they were cancelled, though nothing cancelled them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from mirage_core.channels import invoke_upload
from mirage_core.errors import Code, MirageError


async def nothing() -> AsyncIterator[bytes]:
    for part in (b"a", b"b"):
        yield part


async def upload(method: Any) -> Any:
    return await invoke_upload(cast("Any", method), nothing(), timeout_s=60)


async def test_an_upload_that_grpc_cancels_says_that_the_service_is_unavailable() -> None:
    async def dies(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(MirageError) as failed:
        await upload(dies)
    assert failed.value.code is Code.DEPENDENCY_UNAVAILABLE


async def test_an_upload_that_its_caller_cancels_is_cancelled() -> None:
    begun = asyncio.Event()

    async def waits(*_: object, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(upload(waits))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_an_upload_stays_a_timeout() -> None:
    async def waits(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await upload(waits)


async def test_messages_that_cannot_be_read_cancel_the_upload() -> None:
    async def unreadable() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError("no message")

    async def sends(messages: AsyncIterator[bytes], **_: object) -> None:
        with pytest.raises(ValueError, match="no message"):
            async for _part in messages:
                pass
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await invoke_upload(cast("Any", sends), unreadable(), timeout_s=60)
