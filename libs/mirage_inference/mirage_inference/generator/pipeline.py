"""From a prompt to an image: tokens, latents step by step, pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError
from mirage_core.job_options import SEED_MAX
from mirage_inference.bundles import GeneratorManifest
from mirage_inference.engines.base import FloatArray
from mirage_inference.generator.model import GUIDANCE, PROMPT, SAMPLE, TIMESTEP, GeneratorModel
from mirage_inference.generator.noise import NoiseSource, SeededNoise
from mirage_inference.generator.samplers import make_sampler

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageRequest:
    """The image to make: sides in pixels, `seed` of the noise.

    `negative_prompt` works if guidance runs the UNet twice.
    """

    prompt: str
    steps: int
    guidance: float
    seed: int
    width: int
    height: int
    negative_prompt: str = ""
    tiny_decoder: bool = False


@dataclass(frozen=True)
class StepDone:
    """The progress of an image: `step` of `steps` is done; both arrays are float32[1, channels, h, w]."""

    step: int
    steps: int
    latents: FloatArray
    denoised: FloatArray


@dataclass(frozen=True)
class MadeImage:
    """An image: RGB uint8[height, width, 3]; tokens of the prompt, and whether its end was cut off."""

    pixels: Pixels
    tokens: int
    truncated: bool


def default_request(manifest: GeneratorManifest, prompt: str, *, seed: int = 0) -> ImageRequest:
    """A request with all that the bundle proposes."""
    side = int(manifest.side.default)
    return ImageRequest(prompt, int(manifest.steps.default), manifest.guidance.default, seed, side, side)


def check_request(request: ImageRequest, manifest: GeneratorManifest) -> None:
    """Raises an error that names the possible values if the bundle's model cannot serve a request.

    OPTION_OUT_OF_RANGE for values that the model was not made for; NEGATIVE_PROMPT_UNUSED for a negative prompt
    without an effect: it is used in the UNet's second run, which not every model and scale have.
    """
    for name, value, span, unit in (
        ("steps", request.steps, manifest.steps, 1),
        ("guidance_scale", request.guidance, manifest.guidance, 0),
        ("width", request.width, manifest.side, manifest.side_multiple),
        ("height", request.height, manifest.side, manifest.side_multiple),
    ):
        if not span.least <= value <= span.most or (unit and value % unit):
            kind = f"a multiple of {unit} " if unit > 1 else ""
            possible = f"{kind}between {span.least:g} and {span.most:g}"
            raise MirageError(Code.OPTION_OUT_OF_RANGE, field=name, range=possible, given=f"{value:g}")
    if not 0 <= request.seed <= SEED_MAX:
        raise MirageError(Code.OPTION_OUT_OF_RANGE, field="seed", range="between 0 and 2^63-1", given=request.seed)
    if request.negative_prompt and not runs_twice(manifest, request.guidance):
        raise MirageError(Code.NEGATIVE_PROMPT_UNUSED, field="negative_prompt", reason=_why_unused(manifest))


def runs_twice(manifest: GeneratorManifest, guidance: float) -> bool:
    """Returns True if a step also runs the UNet without the prompt, to move away from that result: only then a
    negative prompt works.
    """
    return manifest.guidance_input == "unconditional" and guidance > 1


def _why_unused(manifest: GeneratorManifest) -> str:
    if manifest.guidance_input == "embedding":
        return "this model takes the guidance scale as an input and never runs on a second prompt"
    if manifest.guidance.most <= 1:
        return "this model is made for a guidance scale of at most 1, where only the prompt is looked at"
    most = manifest.guidance.most
    return f"with a guidance_scale of at most 1 only the prompt is looked at; ask for more than 1, at most {most:g}"


def make_image(
    model: GeneratorModel,
    request: ImageRequest,
    *,
    noise: NoiseSource | None = None,
    on_step: Callable[[StepDone], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> MadeImage:
    """Makes one image; the same for the same request and bundle on one machine.

    `on_step` is called after each step; `cancelled` is called before each step and before decoding. `noise` replaces
    the seed's. Raises as `check_request`, CANCELLED and MODEL_FAILED.
    """
    manifest = model.manifest
    check_request(request, manifest)
    source = noise or SeededNoise(request.seed)
    tokens = model.tokenizer.tokenize(request.prompt)
    predict = _Prediction(model, request)
    sampler = make_sampler(manifest.schedule, request.steps)
    shape = _shape_of(request, manifest)
    latents = source.draw(shape)
    for number, timestep in enumerate(sampler.timesteps, start=1):
        _stop(cancelled)
        stepped = sampler.step(predict(latents, timestep), latents, draw=partial(source.draw, shape))
        latents = stepped.latents
        if not np.isfinite(latents).all():
            raise MirageError(Code.MODEL_FAILED)
        if on_step is not None:
            on_step(StepDone(number, request.steps, latents, stepped.denoised))
    _stop(cancelled)
    pixels = to_pixels(model.decode(latents, tiny=request.tiny_decoder))
    return MadeImage(pixels, tokens.count, tokens.truncated)


def warm_up(model: GeneratorModel) -> None:
    """Runs each network at the default size, one step alone: dozens would take minutes. Raises MODEL_FAILED."""
    manifest = model.manifest
    request = default_request(manifest, "")
    latents = SeededNoise(0).draw(_shape_of(request, manifest))
    timestep = make_sampler(manifest.schedule, request.steps).timesteps[0]
    to_pixels(model.decode(_Prediction(model, request)(latents, timestep)))


def _shape_of(request: ImageRequest, manifest: GeneratorManifest) -> tuple[int, int, int, int]:
    scale = manifest.latent_scale
    return (1, manifest.latent_channels, request.height // scale, request.width // scale)


def _stop(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise MirageError(Code.CANCELLED)


class _Prediction:
    """The UNet for one prompt: with guidance as an embedding, or on two prompts one after the other.

    One after the other, not as a batch: about as fast, and with less memory.
    """

    def __init__(self, model: GeneratorModel, request: ImageRequest) -> None:
        self._unet = model.sessions["unet"]
        self._scale = request.guidance
        self._prompt = model.encode(model.tokenizer.tokenize(request.prompt))
        self._negative: FloatArray | None = None
        self._more: dict[str, FloatArray] = {}
        if model.manifest.guidance_input == "embedding":
            self._more[GUIDANCE] = guidance_embedding(request.guidance, model.manifest.guidance_dimension)
        if runs_twice(model.manifest, request.guidance):
            self._negative = model.encode(model.tokenizer.tokenize(request.negative_prompt))

    def __call__(self, latents: FloatArray, timestep: int) -> FloatArray:
        conditional = self._run(latents, timestep, self._prompt)
        if self._negative is None:
            return conditional
        return combine(self._run(latents, timestep, self._negative), conditional, self._scale)

    def _run(self, latents: FloatArray, timestep: int, prompt: FloatArray) -> FloatArray:
        return self._unet.run(
            {SAMPLE: latents, TIMESTEP: np.array([timestep], dtype=np.int64), PROMPT: prompt, **self._more}
        )


def to_pixels(image: FloatArray) -> Pixels:
    """Returns the first of float32[B, 3, height, width] in 0..1 as uint8[height, width, 3].

    Raises MODEL_FAILED for NaN.
    """
    if not np.isfinite(image).all():
        raise MirageError(Code.MODEL_FAILED)
    return np.asarray((image[0].transpose(1, 2, 0).clip(0.0, 1.0) * 255.0).round(), dtype=np.uint8)


def preview(denoised: FloatArray, manifest: GeneratorManifest) -> Pixels | None:
    """Returns a rough preview of latents float32[1, channels, h, w] as uint8[h, w, 3].

    None if the bundle lacks the map.

    Nearly free: a linear map from the channels of a latent to the colour of its square of pixels.
    """
    if not manifest.preview:
        return None
    rows = np.asarray(manifest.preview, dtype=np.float32)
    image = np.einsum("chw,cr->rhw", denoised[0], rows[:-1]) + rows[-1][:, None, None]
    return to_pixels(np.asarray(image[None], dtype=np.float32))


def guidance_embedding(scale: float, dimension: int) -> FloatArray:
    """float32[1, dimension]: the guidance scale as a native LCM's UNet takes it.

    Sines and cosines of the scale less one, as `get_guidance_scale_embedding` of diffusers'
    LatentConsistencyModelPipeline has it (after google-research/vdm, model_vdm.py); an odd dimension ends in a zero.
    """
    half = dimension // 2
    # In float32, step by step: the angles reach thousands, and float64 would round them to other sines.
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -(np.log(np.float32(10_000.0)) / np.float32(half - 1)))
    angles = np.float32(scale - 1.0) * np.float32(1000.0) * frequencies
    out = np.zeros((1, dimension), dtype=np.float32)
    out[0, :half], out[0, half : 2 * half] = np.sin(angles), np.cos(angles)
    return out


def combine(unconditional: FloatArray, conditional: FloatArray, scale: float) -> FloatArray:
    """Classifier-free guidance (Ho and Salimans 2022, in the form of Imagen): beyond the prompt, away from none."""
    return np.asarray(unconditional + np.float32(scale) * (conditional - unconditional), dtype=np.float32)
