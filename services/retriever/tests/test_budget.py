"""The budget of bytes: nobody gets more than there is, and nobody waits for ever."""

import asyncio
import random

import pytest

from mirage_core.errors import Code, MirageError
from mirage_retriever.budget import ByteBudget
from tests.support.waiting import PATIENCE_S


def budget(wait_s: float = 60.0) -> ByteBudget:
    return ByteBudget(100, reserve=20, wait_s=wait_s)


async def settle() -> None:
    """Lets every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_asks_for_more_than_there_is_waits_for_others_to_give() -> None:
    bytes_ = budget()
    with bytes_.hold() as first, bytes_.hold() as second, bytes_.hold() as third:
        await first.take(80)
        await second.take(20)  # the reserve
        assert bytes_.is_short
        waiting = asyncio.create_task(third.take(10))
        await settle()
        assert not waiting.done()
        first.give(10)
        await waiting
    assert not bytes_.is_short


async def test_the_reserve_is_for_one_at_a_time() -> None:
    bytes_ = budget()
    with bytes_.hold() as first, bytes_.hold() as second, bytes_.hold() as third:
        await first.take(80)
        await second.take(5)
        waiting = asyncio.create_task(third.take(5))
        await settle()
        assert not waiting.done()
        await second.take(15)  # it has the reserve: nobody's turn comes before
        second.give()
        await waiting
        assert third.reserved == 5


async def test_who_waits_too_long_is_refused_and_told_when_to_come_again() -> None:
    bytes_ = budget(wait_s=0.01)
    with bytes_.hold() as first, bytes_.hold() as second:
        await first.take(80)
        await first.take(20)
        with pytest.raises(MirageError) as caught:
            await second.take(1)
        assert caught.value.code is Code.QUEUE_FULL
        assert caught.value.retry_after_s is not None
        first.give()
        await second.take(80)


async def test_a_hold_that_ends_while_it_waits_leaves_its_place() -> None:
    bytes_ = budget()
    with bytes_.hold() as first, bytes_.hold() as third:
        await first.take(80)
        await first.take(20)

        async def come_and_go() -> None:
            with bytes_.hold() as second:
                await second.take(50)

        gone = asyncio.create_task(come_and_go())
        await settle()
        waiting = asyncio.create_task(third.take(10))
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        first.give(30)
        await waiting
    # Everything is there again.
    with bytes_.hold() as last:
        await last.take(80)


async def test_many_that_each_need_a_lot_bit_by_bit_all_get_it() -> None:
    bytes_ = budget()
    chance = random.Random(3)
    held = 0
    most = 0

    async def upload() -> None:
        nonlocal held, most
        with bytes_.hold() as hold:
            for _ in range(10):
                await hold.take(2)
                held += 2
                most = max(most, held)
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
            held -= 20
            hold.give(20)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(upload() for _ in range(100)))
    assert 80 <= most <= 100


def test_a_reserve_is_a_part_of_the_budget() -> None:
    with pytest.raises(ValueError, match="part"):
        ByteBudget(10, reserve=10, wait_s=1)
