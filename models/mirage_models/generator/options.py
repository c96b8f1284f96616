"""The options of a generator's build, and their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirage_inference.bundles import TINY_DECODER
from mirage_models.generator.quantise import RECIPES
from mirage_models.generator.schedules import SAMPLERS
from mirage_models.generator.stored import STORED
from mirage_models.tasks import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirage_models.tasks import BuildRequest

VARIANTS = ("int8", "fp32")
FLOAT32 = "float32"
DEFAULTS: Mapping[str, Any] = {
    "unet_recipes": ("full", "convolutions"),
    "decoder_recipes": ("full", "float32"),
    "text_recipes": ("float32",),
    "calibration_prompts": 4,
    "parity_prompts": 2,
}
MANY_STEPS: Mapping[str, Any] = {**DEFAULTS, "unet_recipes": ("full", "convolutions", STORED)}
"""Of a plain Stable Diffusion: dozens of guided steps add up what int8 activations round, which int8 weights alone do not."""
KNOWN_OPTIONS = frozenset({*DEFAULTS, "steps", "guidance", "side", "guidance_range", "side_range", "sampler"})


def check_request(request: BuildRequest, variants: Sequence[str]) -> None:
    """Raises BuildError for unknown variants, options, recipes and extra sources."""
    if unknown := set(variants) - set(VARIANTS):
        raise BuildError(f"no variant {', '.join(sorted(unknown))}; known are {', '.join(VARIANTS)}")
    if unknown := set(request.options) - KNOWN_OPTIONS:
        raise BuildError(f"no option {', '.join(sorted(unknown))}; known are {', '.join(sorted(KNOWN_OPTIONS))}")
    if unknown := set(request.extras) - {"lora", TINY_DECODER}:
        raise BuildError(f"no extra source {', '.join(sorted(unknown))}; known are lora, {TINY_DECODER}")
    if request.options.get("sampler", SAMPLERS[0]) not in SAMPLERS:
        raise BuildError(f"no sampler {request.options['sampler']}; known are {', '.join(SAMPLERS)}")
    known = {
        "unet_recipes": (*RECIPES, STORED),
        "decoder_recipes": (*RECIPES, STORED, FLOAT32),
        "text_recipes": (STORED, FLOAT32),
    }
    for key, recipes in known.items():
        for recipe in request.options.get(key, ()):
            if recipe not in recipes:
                raise BuildError(f"{key}: no recipe {recipe}; known are {', '.join(recipes)}")
