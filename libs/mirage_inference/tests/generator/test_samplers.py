"""Samplers of a plain Stable Diffusion. That they equal diffusers' is tested where diffusers is (models/tests_build)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import DiffusionSchedule
from mirage_inference.engines.base import FloatArray
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.pipeline import ImageRequest, StepDone, default_request, make_image, to_pixels, warm_up
from mirage_inference.generator.samplers import make_sampler
from tests.support.oracle_generator import PLAIN, PLAIN_CHANGES, SCHEDULE, SIDE, Session, make_manifest

REQUEST = ImageRequest("axial brain", steps=10, guidance=7.5, seed=5, width=SIDE, height=SIDE)
MakeModel = Callable[..., GeneratorModel]


def changed(**changes: object) -> DiffusionSchedule:
    return DiffusionSchedule.model_validate({**PLAIN.model_dump(), **changes})


def calls(model: GeneratorModel, network: str) -> int:
    """How often a network of the model ran."""
    session = model.sessions[network]
    assert isinstance(session, Session)
    return len(session.seen)


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [10, 25, 50])
def test_a_perfect_model_gives_its_picture_with_each_sampler(
    make_model: MakeModel, wanted: FloatArray, sampler: str, prediction: str, steps: int
) -> None:
    schedule = changed(sampler=sampler, prediction=prediction)
    done: list[StepDone] = []
    model = make_model(**{**PLAIN_CHANGES, "schedule": schedule})
    image = make_image(model, replace(REQUEST, steps=steps), on_step=done.append)
    assert [each.step for each in done] == list(range(1, steps + 1))
    assert all(np.allclose(each.denoised, wanted, atol=1e-2) for each in done)
    expected = to_pixels(wanted[:, :3].repeat(8, axis=2).repeat(8, axis=3))
    assert np.abs(image.pixels.astype(int) - expected.astype(int)).max() <= 1
    # Guidance: each step runs the UNet on the prompt and on the negative one.
    assert calls(model, "unet") == 2 * steps


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [999, 799, 599, 400, 200]),
        ({"spacing": "leading"}, [831, 665, 499, 333, 167]),
        ({"spacing": "trailing"}, [999, 799, 599, 399, 199]),
        ({"sampler": "ddim"}, [999, 749, 500, 250, 0]),
        ({"sampler": "ddim", "spacing": "leading"}, [801, 601, 401, 201, 1]),
        ({"sampler": "ddim", "spacing": "trailing"}, [999, 799, 599, 399, 199]),
    ],
)
def test_timesteps_are_spaced_as_the_schedule_says(changes: dict[str, object], expected: list[int]) -> None:
    assert list(make_sampler(changed(**changes), 5).timesteps) == expected


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim"])
@pytest.mark.parametrize("steps", [0, -1, 501])
def test_impossible_steps_are_refused(sampler: str, steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 500 are possible"):
        make_sampler(changed(sampler=sampler), steps)


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim"])
def test_the_seed_is_all_the_noise(make_model: MakeModel, sampler: str) -> None:
    draws: list[tuple[int, ...]] = []

    class Counted:
        def draw(self, shape: tuple[int, ...]) -> FloatArray:
            draws.append(shape)
            return np.ones(shape, np.float32)

    make_image(make_model(**{**PLAIN_CHANGES, "schedule": changed(sampler=sampler)}), REQUEST, noise=Counted())
    assert draws == [(1, 4, SIDE // 8, SIDE // 8)]


def test_an_end_that_is_not_clean_keeps_the_noise_of_the_first_timestep() -> None:
    random = np.random.default_rng(0)
    latents, prediction = random.standard_normal((2, 1, 4, 8, 8), dtype=np.float32)
    for name in ("dpm-solver++", "ddim"):
        ends = []
        for clean in (True, False):
            sampler = make_sampler(changed(sampler=name, ends_clean=clean, spacing="leading"), 1)
            ends.append(sampler.step(prediction, latents, draw=lambda: latents))
        assert np.allclose(ends[0].latents, ends[0].denoised, atol=1e-6), name
        assert np.abs(ends[1].latents - ends[1].denoised).max() > 0.01, name


def test_predictions_are_clipped_if_the_model_was_trained_so() -> None:
    sampler = make_sampler(changed(sampler="ddim", prediction="sample", clip_range=1.0), 10)
    zeros = np.zeros((1, 4, 8, 8), np.float32)
    stepped = sampler.step(np.full_like(zeros, 9.0), zeros, draw=lambda: zeros)
    assert stepped.denoised.max() == 1.0


@pytest.mark.parametrize(
    ("change", "possible"),
    [
        ({"steps": 9}, "steps must be between 10 and 50; 9 was asked for."),
        ({"steps": 51}, "steps must be between 10 and 50; 51 was asked for."),
        ({"guidance": 15.5}, "guidance_scale must be between 1 and 15; 15.5 was asked for."),
        ({"guidance": 0.5}, "guidance_scale must be between 1 and 15; 0.5 was asked for."),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(
    make_model: MakeModel, change: dict[str, Any], possible: str
) -> None:
    with pytest.raises(MirageError) as refused:
        make_image(make_model(**PLAIN_CHANGES), replace(REQUEST, **change))
    assert refused.value.code is Code.OPTION_OUT_OF_RANGE
    assert refused.value.message == possible


def test_a_negative_prompt_is_read_and_refused_only_without_guidance(make_model: MakeModel) -> None:
    model = make_model(**PLAIN_CHANGES)
    make_image(model, replace(REQUEST, negative_prompt="left kidney"))
    text = model.sessions["text"]
    assert isinstance(text, Session)
    assert [each["tokens"][0, 1] for each in text.seen] == [3, 7]
    with pytest.raises(MirageError, match="ask for more than 1, at most 15") as refused:
        make_image(model, replace(REQUEST, negative_prompt="left kidney", guidance=1.0))
    assert refused.value.code is Code.NEGATIVE_PROMPT_UNUSED


def test_a_cancelled_image_stops_before_the_next_step(make_model: MakeModel) -> None:
    model = make_model(**PLAIN_CHANGES)
    done: list[StepDone] = []
    with pytest.raises(MirageError) as stopped:
        make_image(model, REQUEST, on_step=done.append, cancelled=lambda: len(done) == 3)
    assert stopped.value.code is Code.CANCELLED
    assert (calls(model, "unet"), calls(model, "decoder")) == (6, 0)


def test_warming_up_takes_one_step_whatever_the_model(make_model: MakeModel) -> None:
    plain, distilled = make_model(**PLAIN_CHANGES), make_model()
    warm_up(plain)
    warm_up(distilled)
    assert (calls(plain, "unet"), calls(distilled, "unet")) == (2, 1)
    assert calls(plain, "decoder") == calls(distilled, "decoder") == 1


def test_a_manifest_says_its_sampler_and_stays_the_same_when_it_is_read_again() -> None:
    manifest = make_manifest(**PLAIN_CHANGES)
    assert not manifest.distilled
    assert default_request(manifest, "brain").steps == 25
    again = type(manifest).model_validate_json(manifest.to_json())
    assert (again.schedule, again.fingerprint) == (PLAIN, manifest.fingerprint)
    other = make_manifest(**{**PLAIN_CHANGES, "schedule": changed(sampler="ddim")})
    assert other.fingerprint != manifest.fingerprint


def test_the_schedule_of_a_latent_consistency_model_has_no_new_field() -> None:
    manifest = make_manifest()
    assert manifest.distilled
    assert list(manifest.model_dump(mode="json")["schedule"]) == list(SCHEDULE.model_dump())
    assert type(manifest).model_validate_json(manifest.to_json()).schedule == SCHEDULE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schedule": {**PLAIN.model_dump(), "sampler": "euler"}}, "'dpm-solver[+]{2}' or 'ddim'"),
        ({"schedule": {**PLAIN.model_dump(), "timestep_scaling": 10.0}}, "timestep_scaling"),
        ({"schedule": {**SCHEDULE.model_dump(), "spacing": "leading"}}, "spacing"),
        ({"guidance_input": "embedding", "guidance_dimension": 256}, "belongs to a latent consistency model"),
        ({"schedule": changed(train_timesteps=60)}, "too few timesteps"),
        ({"schedule": changed(steps_offset=19)}, "too few timesteps"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        make_manifest(**{**PLAIN_CHANGES, **changes})
