"""From a prompt to an image, with networks that know the picture."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.engines.base import FloatArray, Inputs
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.pipeline import (
    ImageRequest,
    StepDone,
    check_request,
    default_request,
    make_image,
    preview,
    to_pixels,
)
from tests.support.oracle_generator import SCHEDULE, SIDE, Session, make_manifest

REQUEST = ImageRequest("axial brain", steps=4, guidance=1.0, seed=5, width=SIDE, height=SIDE)
MakeModel = Callable[..., GeneratorModel]


def seen(model: GeneratorModel, network: str) -> list[Inputs]:
    """The inputs that a network of the model got."""
    session = model.sessions[network]
    assert isinstance(session, Session)
    return session.seen


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_a_perfect_model_gives_its_picture_whatever_it_predicts(
    make_model: MakeModel, wanted: FloatArray, prediction: str, steps: int
) -> None:
    model = make_model(schedule=SCHEDULE.model_copy(update={"prediction": prediction}))
    done: list[StepDone] = []
    image = make_image(model, replace(REQUEST, steps=steps), on_step=done.append)
    assert [each.step for each in done] == list(range(1, steps + 1))
    assert all(np.allclose(each.denoised, wanted, atol=1e-3) for each in done)
    expected = to_pixels(wanted[:, :3].repeat(8, axis=2).repeat(8, axis=3))
    assert image.pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(image.pixels.astype(int) - expected.astype(int)).max() <= 1


def test_the_seed_decides_the_noise(make_model: MakeModel) -> None:
    def first_latents(seed: int) -> FloatArray:
        model = make_model()
        make_image(model, replace(REQUEST, seed=seed))
        latents: FloatArray = seen(model, "unet")[0]["sample"]
        return latents

    assert np.array_equal(first_latents(5), first_latents(5))
    assert not np.array_equal(first_latents(5), first_latents(6))


def test_without_guidance_the_unet_runs_once_a_step_and_with_it_twice(make_model: MakeModel) -> None:
    once, twice = make_model(), make_model()
    make_image(once, REQUEST)
    make_image(twice, replace(REQUEST, guidance=1.5, negative_prompt="left kidney"))
    assert len(seen(once, "unet")) == 4
    inputs = seen(twice, "unet")
    assert len(inputs) == 8
    assert [each["tokens"][0, 1] for each in seen(twice, "text")] == [3, 7]
    assert not np.array_equal(inputs[0]["prompt"], inputs[1]["prompt"])


def test_a_native_model_takes_the_guidance_as_an_embedding_and_runs_once(make_model: MakeModel) -> None:
    guidance = {"least": 1, "most": 14, "default": 8}
    model = make_model(guidance_input="embedding", guidance_dimension=256, guidance=guidance)
    make_image(model, replace(REQUEST, guidance=8.0))
    inputs = seen(model, "unet")
    assert len(inputs) == 4
    assert inputs[0]["guidance"].shape == (1, 256)


def test_a_prompt_that_was_cut_is_reported(make_model: MakeModel) -> None:
    image = make_image(make_model(), replace(REQUEST, prompt="brain " * 20))
    assert image.truncated
    assert image.tokens == 22


def test_a_cancelled_image_stops_before_the_next_step(make_model: MakeModel) -> None:
    model = make_model()
    done: list[StepDone] = []
    with pytest.raises(MirageError) as stopped:
        make_image(model, REQUEST, on_step=done.append, cancelled=lambda: len(done) == 2)
    assert stopped.value.code is Code.CANCELLED
    assert len(done) == 2
    assert not seen(model, "decoder")


@pytest.mark.parametrize(
    ("change", "possible"),
    [
        ({"steps": 0}, "steps must be between 1 and 10; 0 was asked for."),
        ({"steps": 11}, "steps must be between 1 and 10; 11 was asked for."),
        ({"guidance": 2.5}, "guidance_scale must be between 1 and 2; 2.5 was asked for."),
        ({"guidance": float("nan")}, "guidance_scale must be between 1 and 2; nan was asked for."),
        ({"width": 32}, "width must be a multiple of 64 between 64 and 128; 32 was asked for."),
        ({"height": 192}, "height must be a multiple of 64 between 64 and 128; 192 was asked for."),
        ({"width": 100}, "width must be a multiple of 64 between 64 and 128; 100 was asked for."),
    ],
)
def test_what_the_bundle_cannot_do_is_refused_with_what_it_can(
    make_model: MakeModel, change: dict[str, Any], possible: str
) -> None:
    with pytest.raises(MirageError) as refused:
        make_image(make_model(), replace(REQUEST, **change))
    assert refused.value.code is Code.OPTION_OUT_OF_RANGE
    assert refused.value.message == possible


def test_sides_are_multiples_of_what_the_bundles_unet_needs(make_model: MakeModel) -> None:
    model = make_model(side_multiple=32)
    check_request(replace(REQUEST, width=96), model.manifest)
    with pytest.raises(MirageError, match="width must be a multiple of 32 between 64 and 128; 80 was asked for"):
        make_image(model, replace(REQUEST, width=80))


@pytest.mark.parametrize("seed", [-1, 2**63, 2**70])
def test_a_seed_that_no_file_could_keep_is_refused(make_model: MakeModel, seed: int) -> None:
    with pytest.raises(MirageError, match=r"seed must be between 0 and 2\^63-1"):
        make_image(make_model(), replace(REQUEST, seed=seed))


@pytest.mark.parametrize(
    ("bundle", "guidance", "reason"),
    [
        ({}, 1.0, "ask for more than 1, at most 2"),
        ({"guidance": {"least": 0, "most": 2, "default": 1}}, 0.5, "ask for more than 1, at most 2"),
        ({"guidance": {"least": 1, "most": 1, "default": 1}}, 1.0, "made for a guidance scale of at most 1"),
        ({"guidance_input": "embedding", "guidance_dimension": 256}, 2.0, "takes the guidance scale as an input"),
    ],
)
def test_a_negative_prompt_without_effect_is_refused_with_the_reason(
    make_model: MakeModel, bundle: dict[str, object], guidance: float, reason: str
) -> None:
    model = make_model(**bundle)
    with pytest.raises(MirageError, match=reason) as refused:
        make_image(model, replace(REQUEST, guidance=guidance, negative_prompt="left kidney"))
    assert refused.value.code is Code.NEGATIVE_PROMPT_UNUSED
    assert not seen(model, "unet")
    make_image(model, replace(REQUEST, guidance=guidance))


def test_sides_may_differ(make_model: MakeModel) -> None:
    model = make_model()
    flat = np.zeros((1, 4, 8, 16), np.float32)
    model.sessions["unet"]._function.wanted = flat  # type: ignore[attr-defined]  # the oracle's
    assert make_image(model, replace(REQUEST, width=128)).pixels.shape == (64, 128, 3)


def test_latents_that_are_no_numbers_are_a_failure_not_an_image(make_model: MakeModel, wanted: FloatArray) -> None:
    wanted[0, 0, 0, 0] = np.nan
    with pytest.raises(MirageError) as failed:
        make_image(make_model(), REQUEST)
    assert failed.value.code is Code.MODEL_FAILED


def test_the_default_request_is_what_the_manifest_proposes() -> None:
    request = default_request(make_manifest(), "brain", seed=9)
    assert (request.steps, request.guidance, request.width, request.height, request.seed) == (4, 1.0, 64, 64, 9)


def test_a_preview_is_a_linear_picture_of_the_latents() -> None:
    rows = ((0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    latents = np.zeros((1, 4, 8, 8), np.float32)
    latents[0, 0, 0, 0] = 5.0
    picture = preview(latents, make_manifest(preview=rows))
    assert picture is not None
    assert picture.shape == (8, 8, 3)
    assert picture[0, 0].tolist() == [255, 128, 128]
    assert picture[1, 1].tolist() == [128, 128, 128]


def test_without_a_map_there_is_no_preview() -> None:
    assert preview(np.zeros((1, 4, 8, 8), np.float32), make_manifest()) is None
