"""Which token comes next: the likeliest, or one drawn from the likely ones, the same for the same seed."""

from typing import Any

import numpy as np
import pytest

from mirage_inference.llm.sampling import Sampler, Sampling

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def drawn(sampling: Sampling, count: int = 2000) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.pick(LOGITS) for _ in range(count)]


def test_without_temperature_the_likeliest_token_is_taken_and_of_equals_the_first() -> None:
    assert set(drawn(Sampling())) == {0}
    assert Sampler(Sampling()).pick(np.array([1.0, 3.0, 3.0], np.float32)) == 1


def test_the_same_seed_draws_the_same_and_another_one_something_else() -> None:
    first = drawn(Sampling(temperature=1.0, seed=7))
    assert first == drawn(Sampling(temperature=1.0, seed=7))
    assert first != drawn(Sampling(temperature=1.0, seed=8))


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    counts = np.bincount(drawn(Sampling(temperature=1.0, seed=1), 20_000), minlength=4) / 20_000
    assert np.abs(counts - [0.5, 0.3, 0.15, 0.05]).max() < 0.02


@pytest.mark.parametrize(
    ("top_p", "possible"), [(0.4, {0}), (0.5, {0}), (0.7, {0, 1}), (0.94, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_only_the_likeliest_that_make_up_top_p_are_drawn(top_p: float, possible: set[int]) -> None:
    assert set(drawn(Sampling(temperature=1.0, top_p=top_p, seed=3))) == possible


def test_a_low_temperature_prefers_the_likely_and_a_high_one_levels() -> None:
    cold = drawn(Sampling(temperature=0.3, seed=2)).count(0)
    hot = drawn(Sampling(temperature=5.0, seed=2)).count(0)
    assert cold > 1600
    assert hot < 800


def test_logits_of_any_size_give_a_token() -> None:
    extreme = np.array([-1e30, 1e30, 0, -np.inf], np.float32)
    assert Sampler(Sampling(temperature=0.01, top_p=0.5)).pick(extreme) == 1


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": 11.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"seed": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="temperature"):
        Sampling(**wrong)
