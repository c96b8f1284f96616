"""How strongly an image follows its prompt."""

import numpy as np
import pytest

from mirage_inference.generator.pipeline import combine, guidance_embedding


def test_no_guidance_embeds_as_zero_angles() -> None:
    embedded = guidance_embedding(1.0, 256)
    assert embedded.shape == (1, 256)
    assert embedded.dtype == np.float32
    assert (embedded[0, :128] == 0).all()
    assert (embedded[0, 128:] == 1).all()


@pytest.mark.parametrize("scale", [1.5, 8.0, 14.0])
def test_sines_and_cosines_are_of_the_same_angles(scale: float) -> None:
    embedded = guidance_embedding(scale, 256)[0]
    assert np.allclose(embedded[:128] ** 2 + embedded[128:] ** 2, 1, atol=1e-5)


def test_an_odd_dimension_ends_in_a_zero() -> None:
    assert guidance_embedding(8.0, 33)[0, -1] == 0


def test_a_scale_of_one_is_the_prompt_alone() -> None:
    first, second = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8), dtype=np.float32)
    assert np.allclose(combine(first, second, 1.0), second, atol=1e-6)
    assert np.allclose(combine(first, second, 2.0), 2 * second - first, atol=1e-6)
