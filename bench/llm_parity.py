"""A bundle next to llama.cpp on the GGUF file that it was built from: next tokens, and perplexity on captions.

python -m bench.llm_parity --bundle DIR --gguf FILE --captions captions.jsonl

Both read the same ids. llama.cpp reports the likeliest next tokens with their log-probabilities: a caption's token that is
not among 20,000 of them is left out of both perplexities, and the report says how many were.
"""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import report
from bench.llama_cpp import LlamaCppModel
from bench.report import Figure, Report
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import load_llm
from mirage_inference.bundles.llm import PROMPT
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.parity import Predictions, run_decoder, run_prompts
from mirage_models.llm.texts import ParityText

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

LIKELIEST = (500, 20_000)
"""Next tokens that llama.cpp is asked for, and asked for again if the caption's token is not among them."""
CONTEXT = 512


def read(path: Path, count: int) -> list[str]:
    """Returns the captions of `count` lines of a JSONL file, evenly spaced."""
    captions = [json.loads(line)["caption"] for line in path.read_text("utf-8").splitlines()]
    return [captions[number * len(captions) // count] for number in range(min(count, len(captions)))]


def run_llama(model: LlamaCppModel, texts: Sequence[ParityText]) -> list[Predictions]:
    """Returns llama.cpp's predictions; a surprise is NaN if the token is not among the likeliest, and the likeliest -1 if
    it is a part of a character, which the server does not report.
    """
    found = []
    for text in texts:
        likeliest, surprise = np.zeros(text.predicted, np.int32), np.full(text.predicted, np.nan, np.float32)
        for target in range(text.predicted):
            place = text.start + target
            for most in LIKELIEST:
                answer = model.complete(text.ids[:place], 1, cached=True, likeliest=most)
                listed = {each["id"]: each["logprob"] for each in _likeliest(answer)}
                likeliest[target] = next(iter(listed), -1)
                if not listed:
                    break
                if text.ids[place] in listed:
                    surprise[target] = -listed[text.ids[place]]
                    break
        found.append(Predictions(likeliest, surprise))
    return found


def _likeliest(answer: dict[str, Any]) -> list[dict[str, Any]]:
    # None if the token is a part of a character.
    logprobs = answer["choices"][0]["logprobs"]
    listed: list[dict[str, Any]] = logprobs["content"][0]["top_logprobs"] if logprobs else []
    return listed


def figures(
    name: str, ours: Sequence[Predictions], theirs: Sequence[Predictions], whose: str = "llama.cpp's"
) -> list[Figure]:
    """Agreement and perplexities of a variant, next to llama.cpp or to `whose` the others are."""
    mine, other = joined(ours), joined(theirs)
    kept = ~np.isnan(other.surprise)
    here, there = (math.exp(each.surprise[kept].mean(dtype=np.float64)) for each in (mine, other))
    stated = other.likeliest >= 0
    same = float((mine.likeliest == other.likeliest)[stated].mean())
    return [
        Figure(f"{name}: next tokens as {whose}", round(same, 4), "", note=f"{stated.sum():,} tokens"),
        Figure(
            f"{name}: perplexity beside {whose}",
            round(here / there, 4),
            "x",
            better="lower",
            note=f"{here:.2f} against {there:.2f}; {(~kept).sum()} tokens left out",
        ),
    ]


def joined(found: Sequence[Predictions]) -> Predictions:
    """All texts in one."""
    parts: list[npt.NDArray[np.int32]] = [each.likeliest for each in found]
    return Predictions(np.concatenate(parts), np.concatenate([each.surprise for each in found]))


def measure(bundle: Path, gguf: Path, captions: Path, count: int, variants: str, threads: int) -> Report:
    """Reads the captions with each variant of the bundle and with llama.cpp."""
    manifest = load_llm(bundle)
    tokenizer = LlmTokenizer(bundle / manifest.tokenizer, vocabulary=manifest.vocabulary)
    ids = [tuple(tokenizer.encode(caption)[:CONTEXT]) for caption in read(captions, count)]
    texts = [ParityText(each, 1) for each in ids if len(each) > 1]
    theirs = run_llama(LlamaCppModel(gguf, context=CONTEXT + 1, threads=threads), texts)
    found = []
    for variant in variants.split(",") if variants else manifest.variants:
        with closing(
            OnnxRuntimeEngine().load(bundle, manifest, variant, threads=threads, prompt_graph=False)
        ) as decoder:
            alone = run_decoder(decoder, texts)
        found += figures(variant, alone, theirs)
        if PROMPT in manifest.variants[variant].files:
            with closing(OnnxRuntimeEngine().load(bundle, manifest, variant, threads=threads)) as decoder:
                after = run_prompts(decoder, texts)
            name = f"{variant} after the graph that reads prompts"
            found += figures(name, after, theirs) + figures(name, after, alone, whose="its own")
    how = f"{len(texts)} captions, evenly spaced in the file, each a text of its own; {threads} threads."
    return Report(f"{manifest.name} next to llama.cpp", how, found)


if __name__ == "__main__":
    report.run(
        "bench.llm_parity",
        __doc__,
        measure,
        bundle=Path,
        gguf=Path,
        captions=Path,
        count=200,
        variants="",
        threads=available_cpus(),
    )
