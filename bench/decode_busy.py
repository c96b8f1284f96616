"""Decoding next to llama.cpp where other work keeps the processors busy: the processor time of one thread each.

python -m bench.decode_busy --bundle DIR --gguf FILE

Waiting for a processor does not count, and one thread waits for no other. What this cannot show is how both use several
threads, and neighbours still take memory bandwidth and caches: `bench.decode` on a quiet machine is the measurement.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report
from bench.llama_cpp import LlamaCppModel
from bench.report import Figure, Report
from mirage_inference.bundles import load_llm
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeDecoder, OnnxRuntimeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT_TOKENS = 200
TOKENS = 16
CAPACITY = 512


def ours(decoder: OnnxRuntimeDecoder, ids: Sequence[int]) -> tuple[float, float]:
    """Returns the processor seconds until the first token, and for each further one."""
    session = decoder.open(capacity=CAPACITY)
    started = time.process_time()
    token = int(session.prefill(ids).argmax())
    first = time.process_time() - started
    for _ in range(TOKENS):
        token = int(session.step(token).argmax())
    return first, (time.process_time() - started - first) / TOKENS


def llama(model: LlamaCppModel, ids: Sequence[int]) -> tuple[float, float]:
    """The same of llama.cpp."""
    started = time.process_time()
    model.complete(ids, 1)
    first = time.process_time() - started
    # The prompt is there except for its last token, which is computed again and gives the first of the tokens.
    model.complete(ids, TOKENS, cached=True)
    return first, (time.process_time() - started - first) / TOKENS


def measure(bundle: Path, gguf: Path, rounds: int, variant: str) -> Report:
    """Times both in turns."""
    manifest = load_llm(bundle)
    variant = variant or manifest.default_variant
    decoder = OnnxRuntimeEngine().load(bundle, manifest, variant, threads=1)
    model = LlamaCppModel(gguf, context=CAPACITY, threads=1)
    ids = [20 + 7 * number % 600 for number in range(PROMPT_TOKENS)]
    runs: list[Callable[[], tuple[float, float]]] = [lambda: ours(decoder, ids), lambda: llama(model, ids)]
    for run in runs:
        run()
    found = [[run() for run in runs] for _ in range(rounds)]
    (first, token), (their_first, their_token) = (
        [statistics.median(times) for times in zip(*(each[side] for each in found), strict=True)] for side in (0, 1)
    )
    figures = [
        Figure(
            f"{variant}: times as fast as llama.cpp",
            round(their_token / token, 3),
            "x",
            bar=1.4,
            goal=1.8,
            note=f"{1000 * token:.1f} against {1000 * their_token:.1f} ms a token",
        ),
        Figure(
            f"{variant}: first token of {PROMPT_TOKENS}, cold, beside llama.cpp",
            round(first / their_first, 3),
            "x",
            bar=0.45,
            goal=0.3,
            better="lower",
            note=f"{1000 * first:.0f} against {1000 * their_first:.0f} ms",
        ),
    ]
    load = os.getloadavg()[0]
    how = (
        f"Processor time of one thread; medians of {rounds} rounds in turns; load {load:.1f} on {os.cpu_count()} CPUs."
    )
    return Report(f"Decoding, {manifest.name}", how, figures)


if __name__ == "__main__":
    report.run("bench.decode_busy", __doc__, measure, bundle=Path, gguf=Path, rounds=5, variant="")
