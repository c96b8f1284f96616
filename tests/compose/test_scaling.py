"""More containers of one service: calls are spread, and one of them can be restarted without anybody noticing."""

from collections.abc import Iterator

import pytest

from .conftest import Stack, docker, wait
from .load import RATE, Load


@pytest.fixture
def two_encoders(calm: Stack) -> Iterator[Stack]:
    scale = ("up", "-d", "--no-build", "--no-recreate", "--scale")
    calm.compose(*scale, "encoder=2", "encoder")
    wait(lambda: calm.healthy("encoder", 2), "the second encoder")
    yield calm
    calm.compose(*scale, "encoder=1", "encoder")


def test_two_encoders_are_restarted_in_turn_without_a_failed_search(two_encoders: Stack) -> None:
    stack = two_encoders
    with Load(stack.url) as load:
        wait(lambda: load.answered() >= RATE, "searches before")
        for index in (1, 2):
            docker("restart", f"{stack.project}-encoder-{index}")
            wait(lambda index=index: stack.healthy("encoder", index), f"encoder {index} again")
            answered = load.answered()
            wait(lambda answered=answered: load.answered() >= answered + RATE, "searches with both")
    stack.figures["rolling_restart"] = {
        "searches": len(load.outcomes),
        "longest_s": round(max(each.seconds for each in load.outcomes), 2),
    }
    assert [each for each in load.outcomes if each.status != 200] == []
