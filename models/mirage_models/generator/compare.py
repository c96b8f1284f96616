"""A bundle's networks run on the original's prompts and noise, and how close they come. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirage_inference.bundles import GeneratorParity
from mirage_inference.generator.noise import GivenNoise
from mirage_inference.generator.pipeline import ImageRequest, StepDone, make_image, to_pixels
from mirage_models.generator.similarity import cosine, ssim

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirage_inference.engines.base import FloatArray
    from mirage_inference.generator.model import GeneratorModel
    from mirage_inference.generator.pipeline import Pixels
    from mirage_models.generator.references import References


def compare(model: GeneratorModel, references: References) -> GeneratorParity:
    """The least cosine of the latents after each step, and the least SSIM, over all reference prompts."""
    measured = []
    for prompt, noise, latents, image in zip(
        references.prompts, references.noise, references.latents, references.images, strict=True
    ):
        request = ImageRequest(prompt, references.steps, references.guidance, 0, image.shape[1], image.shape[0])
        steps: list[StepDone] = []
        made = make_image(model, request, noise=GivenNoise(noise[:, None]), on_step=steps.append)
        cosines = [cosine(done.latents[0], expected) for done, expected in zip(steps, latents, strict=True)]
        measured.append(_rounded(1, cosines, ssim(made.pixels, image)))
    return least(measured)


def decoded_ssim(model: GeneratorModel, latents: FloatArray, images: Pixels, *, tiny: bool) -> float:
    """The least SSIM of `images` with what the model's decoder makes of `latents` float32[images, channels, h, w]."""
    pairs = zip(latents, images, strict=True)
    return min(ssim(to_pixels(model.decode(each[None], tiny=tiny)), image) for each, image in pairs)


def least(measured: Iterable[GeneratorParity]) -> GeneratorParity:
    """The least of each number, of one or more measurements with as many steps; `images` are added up."""
    every = list(measured)
    cosines = [min(values) for values in zip(*(each.latents for each in every), strict=True)]
    return _rounded(sum(each.images for each in every), cosines, min(each.ssim for each in every))


def _rounded(images: int, cosines: list[float], similarity: float) -> GeneratorParity:
    return GeneratorParity(images=images, latents=tuple(round(each, 6) for each in cosines), ssim=round(similarity, 4))
