"""How slowly a body may arrive, and who waits for whom when memory is short. In virtual time, with the settings as they come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from mirage_api.search import SearchRequest
from mirage_core.errors import Code, MirageError
from mirage_gateway.request_memory import MemoryShare, RequestMemory
from mirage_gateway.request_places import Place, RequestPlaces
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.body import EXIT, PLACE, Intake
from mirage_gateway.web.json_bounds import QUERY
from mirage_gateway.web.proxies import CLIENT
from tests.support.virtual_time import VirtualTimeLoop

LOOP_FACTORIES = {"virtual": VirtualTimeLoop}
SETTINGS = GatewaySettings()
MIB = 2**20


class Sender:
    """A client that sends a body of `length` bytes as `chunk` bytes every `every_s` seconds."""

    def __init__(self, length: int, *, chunk: int, every_s: float, client: str = "192.0.2.1") -> None:
        self._left = length
        self._chunk = chunk
        self._every_s = every_s
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/search",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)],
            CLIENT: client,
            PLACE: Place(RequestPlaces(1, per_client=1), client),
            EXIT: ExitStack(),
        }

    async def receive(self) -> Message:
        await asyncio.sleep(self._every_s)
        size = min(self._chunk, self._left)
        self._left -= size
        return {"type": "http.request", "body": b"x" * size, "more_body": self._left > 0}

    async def read(self, intake: Intake) -> int:
        """How many bytes were read; ends as a request does."""
        with self.scope[EXIT]:
            return sum([len(chunk) async for chunk in intake.stream(Request(self.scope, self.receive), 64 * MIB)])

    async def search(self, intake: Intake) -> SearchRequest:
        with self.scope[EXIT]:
            return await intake.json(Request(self.scope, self.receive), SearchRequest, QUERY)


def intake_of(memory: RequestMemory | None = None) -> Intake:
    return Intake(
        memory or RequestMemory(192 * MIB, per_client=128 * MIB), SETTINGS.pace, timeout_s=SETTINGS.body_timeout_s
    )


async def outcome(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except MirageError as error:
        return error.code


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_honest_upload_may_take_its_time() -> None:
    assert await Sender(10 * MIB, chunk=30_000, every_s=0.1).read(intake_of()) == 10 * MIB
    assert now() > 30


@pytest.mark.parametrize(
    ("chunk", "every_s", "until_s"),
    [(1, 1.0, 11), (10_000, 10.0, 21), (1, 3600.0, 11), (100, 0.1, 11)],
    ids=["a byte a second", "just below", "silent", "1 kB/s"],
)
async def test_a_body_that_arrives_too_slowly_is_given_up(chunk: int, every_s: float, until_s: float) -> None:
    sender = Sender(10 * MIB, chunk=chunk, every_s=every_s)
    assert await outcome(sender.search(intake_of())) is Code.REQUEST_TOO_SLOW
    assert now() <= until_s


async def test_a_body_that_is_just_fast_enough_still_ends() -> None:
    assert await outcome(Sender(10 * MIB, chunk=2000, every_s=1.0).read(intake_of())) is Code.REQUEST_TOO_SLOW
    assert now() == pytest.approx(SETTINGS.body_timeout_s, abs=10)


async def test_a_small_body_has_the_time_of_a_window() -> None:
    assert await outcome(Sender(100, chunk=10, every_s=0.9).read(intake_of())) == 100
    assert await outcome(Sender(100, chunk=10, every_s=1.2).read(intake_of())) is Code.REQUEST_TOO_SLOW


async def test_only_the_time_that_this_side_waits_counts() -> None:
    sender = Sender(10 * MIB, chunk=64 * 1024, every_s=0.001)

    async def read_slowly() -> AsyncIterator[bytes]:
        with sender.scope[EXIT]:
            async for chunk in intake_of().stream(Request(sender.scope, sender.receive), 64 * MIB):
                await asyncio.sleep(20)
                yield chunk

    assert sum([len(chunk) async for chunk in read_slowly()]) == 10 * MIB
    assert now() > 3000


async def test_a_body_has_no_place_while_it_arrives() -> None:
    sender = Sender(10 * MIB, chunk=1 * MIB, every_s=1.0)
    places = RequestPlaces(1, per_client=1)
    sender.scope[PLACE] = Place(places, "a")
    await sender.scope[PLACE].take()
    arriving = asyncio.create_task(outcome(sender.search(intake_of())))
    await asyncio.sleep(5)
    other = Place(places, "b")
    await other.take()
    assert await arriving is Code.QUEUE_FULL
    other.leave()


async def take(memory: RequestMemory, client: str, amount: int) -> MemoryShare | Code:
    share = await outcome(memory.take(client, amount))
    assert isinstance(share, MemoryShare | Code)
    return share


async def test_a_client_waits_for_memory_and_is_told_to_come_back() -> None:
    memory = RequestMemory(192 * MIB, per_client=128 * MIB)
    first = await memory.take("a", 100 * MIB)
    assert await take(memory, "a", 100 * MIB) is Code.QUEUE_FULL
    assert now() == 2
    waiting = asyncio.create_task(memory.take("a", 100 * MIB))
    await asyncio.sleep(1)
    first.release()
    first.release()
    assert (await waiting).amount == 100 * MIB
    assert now() == 3


async def test_a_client_leaves_memory_for_others_and_large_requests_for_small_ones() -> None:
    memory = RequestMemory(192 * MIB, per_client=128 * MIB)
    await memory.take("a", 64 * MIB)
    assert await take(memory, "a", 64 * MIB) is Code.QUEUE_FULL
    await memory.take("a", 53 * MIB)
    assert await take(memory, "a", 2 * MIB) is Code.QUEUE_FULL
    assert isinstance(await take(memory, "a", MIB), MemoryShare)
    await memory.take("b", 58 * MIB)
    assert await take(memory, "c", 2 * MIB) is Code.QUEUE_FULL
    assert isinstance(await take(memory, "c", MIB), MemoryShare)


async def test_tiny_requests_have_a_part_that_small_ones_leave_free() -> None:
    memory = RequestMemory(192 * MIB, per_client=48 * MIB)
    for _ in range(46):
        await memory.take("a", MIB)
    assert await take(memory, "a", MIB) is Code.QUEUE_FULL
    for _ in range(16):
        await memory.take("a", MIB // 8)
    assert await take(memory, "a", 20_000) is Code.QUEUE_FULL


async def test_what_is_larger_than_a_part_is_served_alone() -> None:
    memory = RequestMemory(64 * MIB, per_client=48 * MIB)
    share = await memory.take("a", 500 * MIB)
    assert await take(memory, "a", 2 * MIB) is Code.QUEUE_FULL
    assert isinstance(await take(memory, "a", 20_000), MemoryShare)
    share.release()
    assert isinstance(await take(memory, "a", 2 * MIB), MemoryShare)


async def test_large_requests_get_memory_in_turn() -> None:
    memory = RequestMemory(192 * MIB, per_client=192 * MIB)
    held = await memory.take("a", 150 * MIB)
    order: list[str] = []

    async def ask(client: str, amount: int) -> None:
        share = await memory.take(client, amount)
        order.append(client)
        share.release()

    tasks = [asyncio.create_task(ask(client, amount)) for client, amount in (("b", 160 * MIB), ("c", 20 * MIB))]
    await asyncio.sleep(1)
    assert order == []
    held.release()
    await asyncio.gather(*tasks)
    assert order == ["b", "c"]


async def test_who_stops_waiting_holds_nothing() -> None:
    memory = RequestMemory(192 * MIB, per_client=128 * MIB)
    held = await memory.take("a", 128 * MIB)
    waiting = asyncio.create_task(memory.take("a", 128 * MIB))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.release()
    assert isinstance(await take(memory, "a", 128 * MIB), MemoryShare)


async def test_slow_bodies_make_room_when_memory_is_short() -> None:
    memory = RequestMemory(128 * MIB, per_client=96 * MIB)
    intake = intake_of(memory)
    slow = [
        asyncio.create_task(outcome(Sender(15 * MIB, chunk=20_000, every_s=1.0, client=client).search(intake)))
        for client in ("a", "b")
    ]
    await asyncio.sleep(30)
    assert not any(task.done() for task in slow)
    share = await memory.take("c", 40 * MIB)
    assert now() == pytest.approx(30, abs=1)
    assert [task.done() for task in slow].count(True) == 1
    share.release()
    assert Code.REQUEST_TOO_SLOW in await asyncio.gather(*slow)


async def test_honest_bodies_are_not_given_up_for_others() -> None:
    memory = RequestMemory(128 * MIB, per_client=96 * MIB)
    intake = intake_of(memory)
    honest = asyncio.create_task(outcome(Sender(25 * MIB, chunk=300_000, every_s=1.0).search(intake)))
    await asyncio.sleep(30)
    assert await take(memory, "c", 40 * MIB) is Code.QUEUE_FULL
    # All of it was read.
    assert await honest is Code.REQUEST_TOO_LARGE


async def test_an_answer_is_counted_even_where_there_is_no_room() -> None:
    memory = RequestMemory(64 * MIB, per_client=48 * MIB)
    answer = memory.hold("a", 100 * MIB)
    assert await take(memory, "b", 20_000) is Code.QUEUE_FULL
    answer.release()
    assert isinstance(await take(memory, "b", 20_000), MemoryShare)


async def test_a_request_waits_a_moment_for_a_place() -> None:
    places = RequestPlaces(1, per_client=1)
    await places.take("a")
    assert await outcome(places.take("b")) is Code.QUEUE_FULL
    assert now() == 1
    waiting = asyncio.create_task(places.take("b"))
    await asyncio.sleep(0.5)
    places.leave("a")
    await waiting
    assert now() == 1.5


async def test_clients_get_places_in_rotation() -> None:
    places = RequestPlaces(2, per_client=1)
    await places.take("a")
    await places.take("b")
    order: list[str] = []

    async def work(client: str) -> None:
        await places.take(client)
        order.append(client)
        places.leave(client)

    tasks = [asyncio.create_task(work(client)) for client in "aaaabbc"]
    await asyncio.sleep(0)
    places.leave("b")
    await asyncio.sleep(0.1)
    assert "a" not in order
    assert set(order) == {"b", "c"}
    places.leave("a")
    await asyncio.gather(*tasks)
    assert order.index("c") < 2
    assert sorted(order) == list("aaaabbc")


async def test_who_stops_waiting_for_a_place_does_not_get_it() -> None:
    places = RequestPlaces(1, per_client=1)
    await places.take("a")
    waiting = asyncio.create_task(places.take("b"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    places.leave("a")
    await places.take("c")
    places.leave("c")
