"""Checks and completes a caller's request: ranges, defaults, and options without an effect."""

import secrets
from dataclasses import dataclass

from mirage_core.errors import Code, MirageError
from mirage_core.job_options import check_job_options
from mirage_generator.jobs import Order, Spec
from mirage_inference.bundles import GeneratorManifest
from mirage_inference.generator.pipeline import check_request
from mirage_inference.generator.tokenizer import PromptTokenizer

# A seed of the server's choice fits into every caller's numbers.
_SEEDS = 2**32


@dataclass(frozen=True)
class Accepted:
    """An order that can be made, and its prompt's tokens."""

    spec: Spec
    prompt_tokens: int
    prompt_truncated: bool


class OrderDesk:
    """Checks orders against a bundle, without its networks."""

    def __init__(self, manifest: GeneratorManifest, tokenizer: PromptTokenizer, *, deadline_s: float) -> None:
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._deadline_s = deadline_s

    def accept(self, order: Order) -> Accepted:
        """The order with all defaults.

        Raises PROMPT_EMPTY, TEXT_TOO_LONG, OPTION_OUT_OF_RANGE or what `check_request` does.
        """
        check_job_options(
            prompt=order.prompt,
            negative_prompt=order.negative_prompt,
            steps=order.steps,
            guidance_scale=order.guidance_scale,
            seed=order.seed,
            width=order.width,
            height=order.height,
            images=order.images,
            deadline_s=order.deadline_s,
        )
        for field, text in (("prompt", order.prompt), ("negative_prompt", order.negative_prompt)):
            if "\0" in text:
                # No text chunk of a PNG file can hold one.
                raise MirageError(Code.OPTION_OUT_OF_RANGE, field=field, range="free of NUL characters", given="one")
        manifest = self._manifest
        side = int(manifest.side.default)
        spec = Spec(
            prompt=order.prompt,
            negative_prompt=order.negative_prompt,
            steps=int(manifest.steps.default) if order.steps is None else order.steps,
            guidance_scale=manifest.guidance.default if order.guidance_scale is None else order.guidance_scale,
            seed=secrets.randbelow(_SEEDS) if order.seed is None else order.seed,
            width=side if order.width is None else order.width,
            height=side if order.height is None else order.height,
            images=1 if order.images is None else order.images,
            priority=order.priority,
            deadline_s=self._deadline_s if order.deadline_s is None else order.deadline_s,
        )
        check_request(spec.request(0), manifest)
        tokens = self._tokenizer.tokenize(spec.prompt)
        return Accepted(spec, tokens.count, tokens.truncated)
