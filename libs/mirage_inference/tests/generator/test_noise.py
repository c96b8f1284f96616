"""Where the noise comes from."""

import numpy as np
import pytest

from mirage_inference.generator.noise import GivenNoise, SeededNoise

SHAPE = (1, 4, 8, 8)


def test_a_seed_gives_the_same_noise_every_time_and_another_seed_other_noise() -> None:
    first, again, other = SeededNoise(3), SeededNoise(3), SeededNoise(4)
    assert np.array_equal(first.draw(SHAPE), again.draw(SHAPE))
    assert np.array_equal(first.draw(SHAPE), again.draw(SHAPE))
    assert not np.array_equal(SeededNoise(3).draw(SHAPE), other.draw(SHAPE))


def test_the_noise_of_a_seed_is_what_it_was_when_images_were_stored_with_it() -> None:
    expected = [-1.3337688, 0.72527784, 0.45696557, -1.3175597]
    assert np.allclose(SeededNoise(20).draw((4,)), expected, atol=1e-7)


def test_the_greatest_seed_is_possible_and_a_negative_one_is_not() -> None:
    assert SeededNoise(2**63 - 1).draw(SHAPE).dtype == np.float32
    with pytest.raises(ValueError, match="non-negative"):
        SeededNoise(-1)


def test_given_noise_comes_in_order_and_ends() -> None:
    arrays = [np.full(SHAPE, number, np.float32) for number in range(2)]
    noise = GivenNoise(arrays)
    assert [float(noise.draw(SHAPE).max()) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="no noise"):
        noise.draw(SHAPE)


def test_given_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no noise of shape"):
        GivenNoise([np.zeros((2, 2), np.float32)]).draw(SHAPE)
