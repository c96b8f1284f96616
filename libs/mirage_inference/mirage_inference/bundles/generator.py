"""The manifest of a generator."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, field_serializer, model_validator

from mirage_inference.bundles.manifest import Frozen, Manifest, RelativePath, ShortText, TokenId, Variant

ROLES = frozenset({"text", "unet", "decoder"})
TINY_DECODER = "tiny_decoder"

Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
SamplerName: TypeAlias = Literal["dpm-solver++", "ddim"]


class GeneratorParity(Frozen):
    """Agreement of a variant with diffusers in PyTorch fp32 for the same prompt and starting noise.

    `latents` are cosines of the latents after each step, the least of all prompts; `ssim` is the structural similarity
    of the images (Wang et al. 2004), the least of all prompts.
    """

    images: int = Field(ge=1)
    latents: tuple[Cosine, ...] = Field(min_length=1, max_length=50)
    ssim: float = Field(ge=-1, le=1)


class GeneratorVariant(Variant):
    """Text tower, UNet and decoder at one precision, and perhaps a tiny decoder: several times faster, less exact.

    `reduced_precision` lets an engine compute in bfloat16 what is not quantised; parity was measured that way.
    """

    parity: GeneratorParity
    reduced_precision: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if set(self.files) - {TINY_DECODER} != ROLES or set(self.quantisation) != set(self.files):
            raise ValueError("a generator needs a text tower, a UNet and a decoder, each fully described")
        return self


class PromptInput(Frozen):
    """Tokenisation of a prompt for the text tower: CLIP's byte pairs between two ids, padded to the whole context."""

    tokenizer: RelativePath
    context_length: int = Field(ge=3, le=4096)
    start_id: TokenId
    end_id: TokenId
    pad_id: TokenId


class Range(Frozen):
    """The range of a parameter, and its default."""

    least: float = Field(allow_inf_nan=False)
    most: float = Field(allow_inf_nan=False)
    default: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.default <= self.most:
            raise ValueError("a default lies between the least and the most")
        return self


class LcmSchedule(Frozen):
    """The latent consistency scheduler's constants, as in diffusers' `LCMScheduler`.

    `clip_range` bounds the predicted clean latents if the model was trained so; None: they are not bounded.
    """

    train_timesteps: int = Field(ge=2, le=10_000)
    original_steps: int = Field(ge=1, le=1000)
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    beta_schedule: Literal["linear", "scaled_linear"]
    prediction: Literal["epsilon", "v_prediction", "sample"]
    timestep_scaling: float = Field(gt=0, le=1000)
    clip_range: float | None = Field(None, gt=0, le=1000)


class DiffusionSchedule(Frozen):
    """The constants of a plain Stable Diffusion's sampler.

    "dpm-solver++" is diffusers' `DPMSolverMultistepScheduler` of order 2, "ddim" its `DDIMScheduler` without added noise.
    `spacing` and `steps_offset` choose the timesteps as there. The last step leaves no noise with `ends_clean`, else
    that of timestep 0. `solver` and `lower_order_final` belong to DPM-Solver++, `clip_range` (as in LcmSchedule) to DDIM.
    """

    sampler: SamplerName
    train_timesteps: int = Field(ge=2, le=10_000)
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    beta_schedule: Literal["linear", "scaled_linear"]
    prediction: Literal["epsilon", "v_prediction", "sample"]
    spacing: Literal["linspace", "leading", "trailing"]
    steps_offset: int = Field(0, ge=0, le=1000)
    ends_clean: bool
    solver: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    clip_range: float | None = Field(None, gt=0, le=1000)


def _kind_of_schedule(value: object) -> str:
    plain = "sampler" in value if isinstance(value, Mapping) else isinstance(value, DiffusionSchedule)
    return "diffusion" if plain else "lcm"


# LCM's came first, and has no field that names it: manifests of that time stay as they are.
Schedule: TypeAlias = Annotated[
    Annotated[LcmSchedule, Tag("lcm")] | Annotated[DiffusionSchedule, Tag("diffusion")],
    Discriminator(_kind_of_schedule),
]


class Draws(Frozen):
    """The subjects of a model that can draw few; prompts with other words are declined.

    `about` completes "draws only". `words` are lower-case words that it was trained on, numbers left out; a word of
    `only_with` is known only if the prompt also has one of the words that it names there.
    """

    about: str = Field(min_length=1, max_length=500)
    words: frozenset[Annotated[str, Field(pattern=r"^[^\W_]{1,40}$")]] = Field(min_length=1, max_length=10_000)
    only_with: Mapping[str, tuple[str, ...]] = {}

    @field_serializer("words")
    def _sorted(self, words: frozenset[str]) -> list[str]:
        return sorted(words)

    @model_validator(mode="after")
    def _conditions_known(self) -> Self:
        if not self.words >= {*self.only_with, *(word for others in self.only_with.values() for word in others)}:
            raise ValueError("only_with names words that are not in words")
        return self


class GeneratorManifest(Manifest):
    """Text tower, UNet and decoder, which make an image from a prompt.

    A latent consistency model takes a few steps; a plain Stable Diffusion, whose schedule is a DiffusionSchedule,
    takes dozens. With `guidance_input`, guidance enters the UNet as an embedding of `guidance_dimension` numbers (a
    native LCM), else by a second run on an empty or negative prompt. Sides are in pixels; a latent covers a square of
    `latent_scale` pixels, and sides are multiples of `side_multiple`, so that the UNet can halve the latents.
    `preview` maps the channels of a latent to RGB in 0..1 (rows: latent channels, then a bias), for a picture of an
    unfinished image. `safety_checker` is True if the checkpoint has one; it is never built in. `draws` is None for a model
    without a list of what it draws.
    """

    task: Literal["generate"]
    variants: Mapping[str, GeneratorVariant] = Field(min_length=1, max_length=8)
    prompt: PromptInput
    schedule: Schedule
    guidance_input: Literal["embedding", "unconditional"]
    guidance_dimension: int = Field(0, ge=0, le=4096)
    guidance: Range
    steps: Range
    side: Range
    latent_channels: int = Field(ge=1, le=64)
    latent_scale: int = Field(ge=1, le=64)
    side_multiple: int = Field(64, ge=1, le=512)
    preview: tuple[tuple[float, float, float], ...] = ()
    safety_checker: ShortText
    draws: Draws | None = None

    @model_validator(mode="after")
    def _guided(self) -> Self:
        if (self.guidance_input == "embedding") != (self.guidance_dimension >= 4):
            raise ValueError("guidance_dimension belongs to guidance as an embedding")
        if self.preview and len(self.preview) != self.latent_channels + 1:
            raise ValueError("preview needs a row for each latent channel and one more")
        return self

    @model_validator(mode="after")
    def _spaced(self) -> Self:
        schedule = self.schedule
        if isinstance(schedule, LcmSchedule):
            return self
        if self.guidance_input == "embedding":
            raise ValueError("guidance as an embedding belongs to a latent consistency model")
        most = int(self.steps.most)
        if schedule.train_timesteps < 2 * most or schedule.steps_offset >= schedule.train_timesteps // (most + 1):
            raise ValueError("there are too few timesteps for that many steps")
        return self

    @property
    def distilled(self) -> bool:
        """True for a latent consistency model: a few steps make an image, and a person can wait for it."""
        return isinstance(self.schedule, LcmSchedule)

    def named_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().named_paths() | {self.prompt.tokenizer}

    def numeric_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().numeric_paths() | {self.prompt.tokenizer}

    def numbers(self) -> Mapping[str, Any]:
        """As in Manifest, and tokenisation, schedule and how guidance works."""
        shape = ("prompt", "schedule", "guidance_input", "guidance_dimension", "latent_channels", "latent_scale")
        return {**super().numbers(), **self.model_dump(mode="json", include=set(shape))}
