"""The parts of a generator's manifest that follow from its checkpoint alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirage_inference.bundles import (
    BundleFile,
    GeneratorManifest,
    GeneratorParity,
    GeneratorVariant,
    LcmSchedule,
    PromptInput,
    Range,
    describe_file,
)
from mirage_models.generator.checkpoint import Checkpoint
from mirage_models.generator.export import OPSET
from mirage_models.generator.references import REFERENCE_FILE
from mirage_models.tasks import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_STEPS, _SIDE = 10, 768
# A native LCM takes the scales it was distilled with (Luo et al. 2023: up to 14, 8 on its card); with an LCM-LoRA more
# than 2 burns the image, and 1 runs the UNet once a step instead of twice. A plain Stable Diffusion needs guidance (7.5
# is diffusers' default) and dozens of steps; 25 of DPM-Solver++ are enough.
_NATIVE_GUIDANCE = Range(least=1, most=14, default=8)
_LORA_GUIDANCE = Range(least=1, most=2, default=1)
_PLAIN_GUIDANCE = Range(least=1, most=15, default=7.5)
_PLAIN_STEPS = Range(least=10, most=50, default=25)


def ranges(checkpoint: Checkpoint, options: Mapping[str, Any]) -> dict[str, Range]:
    """Returns the ranges of parameters with the defaults that the options name.

    Raises ValueError if a default is outside its range.
    """
    guidance, steps = _usual(checkpoint)
    if "guidance_range" in options:
        least, most = options["guidance_range"]
        guidance = Range(least=least, most=most, default=options.get("guidance", least))
    sides = options.get("side_range", (min(256, checkpoint.side // 2), _SIDE))
    side = int(options.get("side", checkpoint.side))
    return {
        "guidance": Range(least=guidance.least, most=guidance.most, default=options.get("guidance", guidance.default)),
        "steps": Range(least=steps.least, most=steps.most, default=options.get("steps", steps.default)),
        "side": Range(least=sides[0], most=sides[1], default=side),
    }


def _usual(checkpoint: Checkpoint) -> tuple[Range, Range]:
    schedule = checkpoint.schedule
    if not isinstance(schedule, LcmSchedule):
        return _PLAIN_GUIDANCE, _PLAIN_STEPS
    most = min(_STEPS, schedule.original_steps)
    guidance = _NATIVE_GUIDANCE if checkpoint.native else _LORA_GUIDANCE
    return guidance, Range(least=1, most=most, default=min(4, most))


def make_manifest(
    checkpoint: Checkpoint,
    request: BuildRequest,
    prompt: PromptInput,
    *,
    variants: Mapping[str, GeneratorVariant],
    files: Sequence[BundleFile],
    preview: Sequence[tuple[float, float, float]] = (),
    missed: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> GeneratorManifest:
    """The manifest of a checkpoint's bundle."""
    return GeneratorManifest(
        name=request.name,
        task="generate",
        source=request.origin,
        licence=request.licence,
        opset=OPSET,
        variants=variants,
        default_variant=next(iter(variants)),
        reference=REFERENCE_FILE,
        files=tuple(files),
        parity_missed=tuple(missed),
        remarks=tuple(remarks),
        prompt=prompt,
        schedule=checkpoint.schedule,
        guidance_input="embedding" if checkpoint.native else "unconditional",
        guidance_dimension=checkpoint.unet.get("time_cond_proj_dim") or 0,
        latent_channels=int(checkpoint.unet["in_channels"]),
        latent_scale=checkpoint.latent_scale,
        side_multiple=checkpoint.side_multiple,
        preview=tuple(preview),
        safety_checker=checkpoint.safety_checker,
        draws=checkpoint.draws,
        **ranges(checkpoint, request.options),
    )


def draft_manifest(checkpoint: Checkpoint, request: BuildRequest, prompt: PromptInput) -> GeneratorManifest:
    """A manifest to run networks with that are not measured yet: how they work is true, files and parity are not
    stated.
    """
    roles = ("text", "unet", "decoder")
    graphs = {role: f"{role}.onnx" for role in roles}
    variant = GeneratorVariant(
        files=graphs,
        quantisation=dict.fromkeys(roles, "not stated"),
        parity=GeneratorParity(images=1, latents=(0.0,), ssim=0.0),
    )
    names = (*graphs.values(), prompt.tokenizer, REFERENCE_FILE)
    files = [BundleFile(path=name, size=0, sha256="0" * 64) for name in names]
    return make_manifest(checkpoint, request, prompt, variants={"draft": variant}, files=files)


def describe_files(folder: Path) -> list[BundleFile]:
    """All files of a bundle's folder, by name."""
    return [describe_file(folder, path.name) for path in sorted(folder.iterdir()) if path.is_file()]
