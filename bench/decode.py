"""Decoding speed of a GPT-NeoX and of peers, in one run: 1 B parameters (Pythia's form) or 2.8 B (Dolly's), random weights.

With --bundle and --gguf it is that of a model of yours, next to llama.cpp on the file that the bundle was built from.

PyTorch: transformers' GPTNeoXForCausalLM, float32, eager, with its cache. optimum: ORTModelForCausalLM, float32 and
int8. llama.cpp: the same weights as Q4_0 in a GGUF file, through the `xllamacpp` wheel. All have the same prompt and
number of threads; their runs take turns, with a pause between them so that idle threads of one do not spin into the
time of the other. A figure is the median over the tokens (llama.cpp reports the mean of each run: the median of these).
A run is repeated, a limited number of times, if other processes took more than a twentieth of the processors:
llama.cpp's threads spin while they wait for each other, so it suffers most.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

from bench.decoders import LlamaCpp, Optimum, Ours, PyTorch, Subject
from bench.gguf_file import write_gguf
from bench.report import Figure, Report
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import MANIFEST_FILE, load_llm
from mirage_inference.bundles.llm import PROMPT
from mirage_models.llm.random_checkpoint import write_random_checkpoint
from mirage_models.llm.task import LlmTask
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

PAUSE_S = 0.5
DISTURBED = 0.05
ATTEMPTS = 8
PROMPT_TOKENS = 200
PREFIX_TOKENS = 56
"""As many as the fixed part of the service's prompt has."""


class Neighbours:
    """Returns the share of the processors that other processes took (Linux; 0 elsewhere)."""

    def __init__(self) -> None:
        self._before = self._read()

    def share(self) -> float:
        """The share since this was made, 0 to 1."""
        time_s, busy_s, own_s = (now - then for now, then in zip(self._read(), self._before, strict=True))
        return max(0.0, busy_s - own_s) / (time_s * available_cpus())

    @staticmethod
    def _read() -> tuple[float, float, float]:
        own = os.times()
        stat = Path("/proc/stat")
        if not stat.exists():
            return time.perf_counter(), 0.0, 0.0
        user, nice, system, _, _, irq, soft, steal = (int(each) for each in stat.read_text().split()[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, own.user + own.system


def undisturbed(run: Callable[[], tuple[float, list[float]]]) -> tuple[float, list[float], float]:
    """Returns the result of `run` and the other processes' share, of the first quiet run, or of the quietest one."""
    runs = []
    for _ in range(ATTEMPTS):
        time.sleep(PAUSE_S)
        neighbours = Neighbours()
        first, each = run()
        runs.append((first, each, neighbours.share()))
        if runs[-1][2] <= DISTURBED:
            break
    return min(runs, key=lambda found: found[2])


@dataclass(frozen=True)
class Prepared:
    """The model that is measured: its weights in each form; `optimum` only if its exporter was asked for."""

    what: str
    bundle: Path
    gguf: Path
    checkpoint: Path | None = None
    optimum: Path | None = None


def prepared(work: Path, like: str, size: str, *, variants: tuple[str, ...], optimum: bool) -> Prepared:
    """Returns random checkpoint, bundle, GGUF file and optimum's graphs, and makes those that are missing."""
    folder = work / f"{like}-{size}"
    checkpoint = folder / "checkpoint"
    made = Prepared(
        f"{like} ({size}), random weights",
        folder / "bundle",
        folder / "q4_0.gguf",
        checkpoint,
        folder / "optimum" if optimum else None,
    )
    if not checkpoint.is_dir():
        partial = folder / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_random_checkpoint(like, partial, size=size)
        partial.rename(checkpoint)
    if not (made.bundle / MANIFEST_FILE).is_file():
        request = BuildRequest(
            source=checkpoint,
            name=f"random-{like}",
            origin="random weights, seed 0",
            licence="Apache-2.0",
            variants=variants,
            allow_parity_miss=True,
            options={"prompt_graph": True},
        )
        with open_workspace(made.bundle, identity={"bench": "decode"}) as workspace:
            workspace.seal(LlmTask().build(request, workspace), made.bundle, replace=False)
    if not made.gguf.is_file():
        write_gguf(checkpoint, made.gguf)
    if made.optimum and not made.optimum.is_dir():
        _export_by_optimum(checkpoint, made.optimum)
    return made


def _export_by_optimum(checkpoint: Path, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # As `ORTModelForCausalLM.from_pretrained(export=True)` does, but without a comparison and a search for equal
    # weights
    # afterwards: these take more than 20 GB at 1 B parameters.
    main_export(
        str(checkpoint),
        output=partial,
        task="text-generation-with-past",
        do_validation=False,
        no_post_process=True,
    )
    eight_bits = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True, operators_to_quantize=["MatMul"])
    quantizer = ORTQuantizer.from_pretrained(partial, file_name="model.onnx")
    quantizer.quantize(eight_bits, save_dir=partial, use_external_data_format=True)
    partial.rename(folder)


def subjects_of(
    made: Prepared, variants: Sequence[str], threads: int, *, pytorch: bool
) -> tuple[list[Ours], list[Subject]]:
    """Our variants, and all that take part."""
    ours = [Ours(made.bundle, variant, threads) for variant in variants]
    described = load_llm(made.bundle).variants
    ours += [
        Ours(made.bundle, name, threads, prompt_graph=False) for name in variants if PROMPT in described[name].files
    ]
    subjects: list[Subject] = [*ours, LlamaCpp(made.gguf, threads)]
    if made.optimum:
        for file, what in (("model.onnx", "float32"), ("model_quantized.onnx", "int8")):
            subjects.append(Optimum(made.optimum, threads, file=file, name=f"optimum, {what}"))
    if pytorch and made.checkpoint:
        subjects.append(PyTorch(made.checkpoint))
    return ours, subjects


@dataclass
class Times:
    """Seconds of one subject's runs, and what neighbours took during them."""

    first: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Tokens a second."""
        return 1 / statistics.median(self.token)


def _cold(subject: Subject, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
    return subject.first(ids), subject.tokens(tokens)


def _after(subject: Subject, prefix: Sequence[int], ids: Sequence[int]) -> tuple[float, list[float]]:
    return subject.first_after(prefix, ids), []


def measure(made: Prepared, *, rounds: int, tokens: int, variants: Sequence[str], pytorch: bool) -> Report:
    """Times every subject in turns."""
    threads = available_cpus()
    torch.set_num_threads(threads)
    ours, subjects = subjects_of(made, variants, threads, pytorch=pytorch)
    ids = [2 + 7 * number % 600 for number in range(PROMPT_TOKENS)]
    prefix = ids[:PREFIX_TOKENS]
    for subject in subjects:
        subject.first(ids)
        subject.first_after(prefix, ids)
        subject.tokens(2)
    times = {subject.name: Times() for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            found = times[subject.name]
            cold, taken, share = undisturbed(partial(_cold, subject, ids, tokens))
            after, _, other = undisturbed(partial(_after, subject, prefix, ids))
            found.first.append(cold)
            found.after.append(after)
            found.token += taken
            found.shares += [share, other]
    worst = max(max(each.shares) for each in times.values())
    how = (
        f"{made.what}; {threads} threads; runs in turns; PyTorch {torch.__version__}; {PROMPT_TOKENS} tokens "
        f"of prompt, the first {PREFIX_TOKENS} of them the fixed part; "
        f"other processes took at most {worst:.0%} of the processors during a run that counts."
    )
    return Report(f"Decoding, {made.what}", how, _figures(ours, times))


def _figures(ours: Sequence[Ours], times: dict[str, Times]) -> list[Figure]:
    best, llama = times[ours[0].name], times[LlamaCpp.name]
    figures = []
    if PyTorch.name in times:
        peer = times[PyTorch.name]
        figures.append(
            Figure(
                f"{ours[0].name}: times as fast as PyTorch",
                round(best.pace / peer.pace, 2),
                "x",
                bar=4.0,
                goal=5.0,
                note=f"{best.pace:.1f} against {peer.pace:.2f} tokens/s",
            )
        )
    figures.append(
        Figure(
            f"{ours[0].name}: times as fast as llama.cpp",
            round(best.pace / llama.pace, 3),
            "x",
            bar=1.4,
            goal=1.8,
            note=f"{best.pace:.1f} against {llama.pace:.1f} tokens/s",
        )
    )
    for what, mine, theirs, bar, goal in (
        ("fixed part computed before", best.after, llama.after, 1.0, 0.8),
        ("nothing computed before", best.first, llama.first, 0.45, 0.3),
    ):
        here, there = statistics.median(mine), statistics.median(theirs)
        figures.append(
            Figure(
                f"{ours[0].name}: first token, {what}, beside llama.cpp",
                round(here / there, 3),
                "x",
                bar=bar,
                goal=goal,
                better="lower",
                note=f"{1000 * here:.0f} against {1000 * there:.0f} ms",
            )
        )
    for name, each in times.items():
        spread = f"{1 / max(each.token):.1f} to {1 / min(each.token):.1f}"
        figures.append(Figure(f"{name}: decoding", round(each.pace, 2), "tokens/s", note=spread))
        for what, taken in (("cold", each.first), ("fixed part warm", each.after)):
            value = round(1000 * statistics.median(taken), 1)
            figures.append(Figure(f"{name}: first token, {what}", value, "ms", better="lower"))
    for variant in ours:
        figures.append(Figure(f"{variant.name}: loading", round(variant.load_s, 2), "s", better="lower"))
        figures.append(Figure(f"{variant.name}: next tokens as the original's", variant.parity.agreement, ""))
    return figures


def main() -> None:
    """Reads the command line, measures and saves the report."""
    parser = argparse.ArgumentParser(prog="bench.decode", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "mirage" / "bench", help="keeps what is measured (6 GB and more)"
    )
    parser.add_argument("--bundle", type=Path, help="a bundle of yours, with --gguf")
    parser.add_argument("--gguf", type=Path, help="the file that --bundle was built from")
    parser.add_argument("--like", choices=("pythia-1b", "dolly-v2-3b"), default="pythia-1b", help="the model's form")
    parser.add_argument("--variants", nargs="+", default=["int4", "int8"], help="of the bundle; the first is compared")
    parser.add_argument("--optimum", action="store_true", help="beside optimum too (1 B: 6 GB more of disk and memory)")
    parser.add_argument("--no-pytorch", action="store_true", help="leave PyTorch out (2.8 B: it takes 11 GB)")
    parser.add_argument("--quick", action="store_true", help="a small model: shows that it runs")
    parser.add_argument("--rounds", type=int, default=6, help="turns that each side takes")
    args = parser.parse_args()
    if (args.bundle is None) != (args.gguf is None):
        parser.error("--bundle and --gguf belong together")
    if args.bundle:
        made = Prepared(load_llm(args.bundle).name, args.bundle, args.gguf)
    else:
        size = "small" if args.quick else "full"
        made = prepared(args.work, args.like, size, variants=tuple(args.variants), optimum=args.optimum)
    report = measure(made, rounds=args.rounds, tokens=16, variants=args.variants, pytorch=not args.no_pytorch)
    report.save(args.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
