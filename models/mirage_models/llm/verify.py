"""Compares an llm's predictions in the reference texts with those of the original, without torch."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from mirage_core.cpus import available_cpus
from mirage_core.errors import Code, MirageError
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.parity import compare, run_decoder, run_prompts
from mirage_models.llm.references import load_references
from mirage_models.registry import Check

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles import LlmManifest
    from mirage_inference.bundles.llm import LlmParity

# Another processor rounds differently: where two tokens are nearly as likely, the other one can come first, in this
# many of
# the compared places or this share of them; perplexity hardly moves.
AGREEMENT_PLACES, AGREEMENT_SHARE, PERPLEXITY_TOLERANCE = 2, 0.02, 0.01


def verify_llm(directory: Path, manifest: LlmManifest, *, engine: str = "auto") -> tuple[str, tuple[Check, ...]]:
    """Returns the engine's description, and for each variant the next-token agreement and the perplexity relative to
    the original's.

    Raises BUNDLE_INVALID if the bundle cannot be loaded or the engine is unknown.
    """
    if engine not in ("auto", "onnxruntime"):
        raise MirageError(Code.BUNDLE_INVALID, reason=f"the engine {engine[:40]} runs no language models")
    LlmTokenizer(directory / manifest.tokenizer, vocabulary=manifest.vocabulary)
    references = load_references(
        directory / manifest.reference, vocabulary=manifest.vocabulary, context=manifest.context_length
    )
    runner = OnnxRuntimeEngine()
    checks: list[Check] = []
    for name, variant in manifest.variants.items():
        with closing(runner.load(directory, manifest, name, threads=available_cpus(), prompt_graph=False)) as decoder:
            alone = run_decoder(decoder, references.texts)
        checks += _checks(name, compare(alone, references.original), variant.reference, "the original's")
        if variant.prompt is not None:
            with closing(runner.load(directory, manifest, name, threads=available_cpus())) as decoder:
                after = compare(run_prompts(decoder, references.texts), alone)
            checks += _checks(f"{name}, prompts", after, variant.prompt.reference, "the decoder's alone")
    return runner.description, tuple(checks)


def _checks(name: str, found: LlmParity, built: LlmParity, whose: str) -> list[Check]:
    slack = max(AGREEMENT_SHARE, AGREEMENT_PLACES / found.tokens)
    return [
        Check(
            name,
            f"next token as {whose}: share",
            found.tokens,
            found.agreement,
            round(built.agreement - slack, 6),
        ),
        Check(
            name,
            f"perplexity: {whose} over the variant's",
            found.tokens,
            round(1 / found.perplexity_ratio, 6),
            round((1 - PERPLEXITY_TOLERANCE) / built.perplexity_ratio, 6),
        ),
    ]
