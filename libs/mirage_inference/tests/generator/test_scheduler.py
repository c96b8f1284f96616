"""The latent consistency sampler. That it equals diffusers' is tested where diffusers is (models/tests_build)."""

import numpy as np
import pytest

from mirage_inference.generator.scheduler import LcmScheduler
from tests.support.oracle_generator import SCHEDULE

SCHEDULER = LcmScheduler(SCHEDULE)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, [999]), (2, [999, 499]), (4, [999, 759, 499, 259]), (8, [999, 879, 759, 639, 499, 379, 259, 139])],
)
def test_timesteps_are_spaced_as_the_model_was_distilled(steps: int, expected: list[int]) -> None:
    assert SCHEDULER.timesteps(steps).tolist() == expected


@pytest.mark.parametrize("steps", [0, -1, 51])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 50 are possible"):
        SCHEDULER.timesteps(steps)


def test_the_signal_falls_from_nearly_all_to_nearly_none() -> None:
    assert SCHEDULER.signal.shape == (1000,)
    assert (np.diff(SCHEDULER.signal) < 0).all()
    assert SCHEDULER.signal[0] > 0.999
    assert SCHEDULER.signal[-1] < 0.005


def test_predicting_the_noise_exactly_gives_the_clean_latents() -> None:
    random = np.random.default_rng(0)
    clean, noise = random.standard_normal((2, 1, 4, 8, 8), dtype=np.float32)
    signal = SCHEDULER.signal[999]
    noisy = np.sqrt(signal) * clean + np.sqrt(1 - signal) * noise
    stepped = SCHEDULER.step(noise, noisy, timestep=999, following=None, noise=None)
    assert np.allclose(stepped.denoised, clean, atol=1e-4)
    assert stepped.latents is stepped.denoised


def test_a_step_that_is_followed_is_noised_to_the_next_timestep() -> None:
    random = np.random.default_rng(0)
    latents, prediction, noise = random.standard_normal((3, 1, 4, 8, 8), dtype=np.float32)
    stepped = SCHEDULER.step(prediction, latents, timestep=999, following=499, noise=noise)
    signal = SCHEDULER.signal[499]
    assert np.allclose(stepped.latents, np.sqrt(signal) * stepped.denoised + np.sqrt(1 - signal) * noise, atol=1e-6)


def test_at_timestep_zero_a_model_returns_what_it_is_given() -> None:
    latents, prediction = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8), dtype=np.float32)
    stepped = SCHEDULER.step(prediction, latents, timestep=0, following=None, noise=None)
    assert np.allclose(stepped.denoised, latents, atol=1e-6)


def test_predictions_are_clipped_where_the_model_was_trained_so() -> None:
    bounded = LcmScheduler(SCHEDULE.model_copy(update={"clip_range": 1.0, "prediction": "sample"}))
    stepped = bounded.step(
        np.full((1, 4, 8, 8), 9.0, np.float32),
        np.zeros((1, 4, 8, 8), np.float32),
        timestep=999,
        following=None,
        noise=None,
    )
    assert stepped.denoised.max() <= 1.0
