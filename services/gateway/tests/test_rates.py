"""Token buckets by address, with a clock of the test's own."""

from dataclasses import dataclass

import pytest

from mirage_core.errors import Code, MirageError
from mirage_gateway.rates import Rate, RateLimit


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def refused_for(limit: RateLimit, address: str, cost: int = 1) -> float:
    """Seconds until it is allowed again."""
    with pytest.raises(MirageError) as caught:
        limit.take(address, cost)
    assert caught.value.code is Code.RATE_LIMITED
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_half_may_come_at_once_and_the_rest_as_time_goes() -> None:
    clock = Clock()
    limit = RateLimit(Rate(60, 60), clock=clock)
    for _ in range(30):
        limit.take("a")
    assert refused_for(limit, "a") == pytest.approx(1)
    clock.now += 1
    limit.take("a")
    assert refused_for(limit, "a") == pytest.approx(1)
    clock.now += 3600
    for _ in range(30):
        limit.take("a")
    refused_for(limit, "a")


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(Rate(2, 60), clock=clock)
    limit.take("a")
    for _ in range(100):
        assert refused_for(limit, "a") == pytest.approx(30)
    clock.now += 30
    limit.take("a")


def test_each_address_has_its_own_and_all_together_ten_times_as_much() -> None:
    limit = RateLimit(Rate(2, 60), clock=Clock())
    for number in range(10):
        limit.take(f"address-{number}")
    refused_for(limit, "address-0")
    assert refused_for(limit, "a-new-one") == pytest.approx(3)


def test_one_that_costs_more_than_may_come_at_once_takes_all() -> None:
    clock = Clock()
    limit = RateLimit(Rate(4, 60), clock=clock)
    limit.take("a", 4)
    assert refused_for(limit, "a") == pytest.approx(45)


def test_a_rate_of_0_refuses_everything() -> None:
    limit = RateLimit(Rate(0, 60), clock=Clock())
    assert refused_for(limit, "a") == 3600


def test_more_addresses_than_are_remembered_take_no_more_memory() -> None:
    clock = Clock()
    limit = RateLimit(Rate(100_000, 1), clock=clock)
    for number in range(30_000):
        clock.now += 1
        limit.take(f"address-{number}")
    limit.take("address-0")
