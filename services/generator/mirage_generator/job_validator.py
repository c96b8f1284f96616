"""Checks and completes a caller's request: ranges, defaults, and options without an effect."""

import secrets
from dataclasses import dataclass

from mirage_core.errors import Code, MirageError
from mirage_core.job_options import check_job_options
from mirage_generator.jobs import JobRequest, Priority, Spec
from mirage_inference.bundles import GeneratorManifest
from mirage_inference.generator.pipeline import check_request
from mirage_inference.generator.prompts import PromptCheck
from mirage_inference.generator.tokenizer import PromptTokenizer

# A seed of the server's choice fits into every caller's numbers.
_SEEDS = 2**32


@dataclass(frozen=True)
class AcceptedJob:
    """A request that can be met, and its prompt's tokens."""

    spec: Spec
    prompt_tokens: int
    prompt_truncated: bool


class JobValidator:
    """Checks requests against a bundle, without its networks."""

    def __init__(
        self, manifest: GeneratorManifest, tokenizer: PromptTokenizer, *, deadline_s: float, any_topic: bool = False
    ) -> None:
        self._manifest = manifest
        self._prompts = PromptCheck(manifest, any_topic=any_topic)
        self._tokenizer = tokenizer
        self._deadline_s = deadline_s

    def accept(self, request: JobRequest) -> AcceptedJob:
        """Returns the request with all defaults.

        Jobs of a model that takes dozens of steps get batch priority whatever was asked for: they take minutes, and
        would hold up those that a person waits for. Raises PROMPT_EMPTY, TEXT_TOO_LONG, OPTION_OUT_OF_RANGE or what
        `check_request` and `PromptCheck` do.
        """
        check_job_options(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            seed=request.seed,
            width=request.width,
            height=request.height,
            images=request.images,
            deadline_s=request.deadline_s,
        )
        for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
            if "\0" in text:
                # No text chunk of a PNG file can hold one.
                raise MirageError(Code.OPTION_OUT_OF_RANGE, field=field, range="free of NUL characters", given="one")
        manifest = self._manifest
        side = int(manifest.side.default)
        spec = Spec(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            steps=int(manifest.steps.default) if request.steps is None else request.steps,
            guidance_scale=manifest.guidance.default if request.guidance_scale is None else request.guidance_scale,
            seed=secrets.randbelow(_SEEDS) if request.seed is None else request.seed,
            width=side if request.width is None else request.width,
            height=side if request.height is None else request.height,
            images=1 if request.images is None else request.images,
            priority=request.priority if manifest.distilled else Priority.BATCH,
            deadline_s=self._deadline_s if request.deadline_s is None else request.deadline_s,
        )
        check_request(spec.request(0), manifest)
        self._prompts.check(spec.prompt)
        tokens = self._tokenizer.tokenize(spec.prompt)
        return AcceptedJob(spec, tokens.count, tokens.truncated)
