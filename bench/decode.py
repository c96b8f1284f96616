"""Decoding speed of a GPT-NeoX of 1 B parameters (Pythia's, random weights) beside PyTorch and llama.cpp, in one run.

PyTorch: transformers' GPTNeoXForCausalLM, float32, eager, with its cache. llama.cpp: the same weights as Q4_0 in a GGUF file,
through the `xllamacpp` wheel. All have the same prompt and number of threads; their runs take turns, with a pause between
them so that idle threads of one do not spin into the time of the other. A figure is the median over the tokens (llama.cpp
tells the mean of each run: the median of these). A run during which other processes took more than a twentieth of the
processors is made again, as far as that helps: llama.cpp's threads wait for each other spinning, and a neighbour costs it most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import xllamacpp  # type: ignore[import-not-found]
from transformers import GPTNeoXForCausalLM

from bench.gguf_file import write_gguf
from bench.report import Figure, Report
from mirage_core.bundles import MANIFEST_FILE, load_language
from mirage_core.cpus import available_cpus
from mirage_llm.engines.onnxruntime import OnnxRuntimeEngine
from mirage_models.language.random_checkpoint import write_random_checkpoint
from mirage_models.language.task import LanguageTask
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE_S = 0.5
DISTURBED = 0.05
ATTEMPTS = 8
PROMPT_TOKENS = 200
VARIANTS = ("int4", "int8")


class Neighbours:
    """How much of the processors other processes took (Linux; 0 elsewhere)."""

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


class Subject(Protocol):
    """Something that decodes."""

    name: str

    def first(self, ids: Sequence[int]) -> float:
        """Seconds until the logits after the prompt are there."""
        ...

    def tokens(self, count: int) -> list[float]:
        """Seconds of each of the tokens that follow."""
        ...


def undisturbed(subject: Subject, ids: Sequence[int], tokens: int) -> tuple[float, list[float], float]:
    """Seconds of the prompt and of each token, and the neighbours' share: of the first quiet run, or the quietest tried."""
    runs = []
    for _ in range(ATTEMPTS):
        time.sleep(PAUSE_S)
        neighbours = Neighbours()
        first, each = subject.first(ids), subject.tokens(tokens)
        runs.append((first, each, neighbours.share()))
        if runs[-1][2] <= DISTURBED:
            break
    return min(runs, key=lambda run: run[2])


class Ours:
    """A variant of the bundle, as the service runs it."""

    def __init__(self, bundle: Path, variant: str, threads: int) -> None:
        self.name = f"bundle, {variant}"
        manifest = load_language(bundle)
        self.parity = manifest.variants[variant].parity
        started = time.perf_counter()
        self._decoder = OnnxRuntimeEngine().load(bundle, manifest, variant, threads=threads)
        self.load_s = time.perf_counter() - started

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        started = time.perf_counter()
        self._session = self._decoder.open(capacity=2 * PROMPT_TOKENS)
        self._token = int(self._session.prefill(ids).argmax())
        return time.perf_counter() - started

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens."""
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            self._token = int(self._session.step(self._token).argmax())
            taken.append(time.perf_counter() - started)
        return taken


class PyTorch:
    """The original."""

    name = "PyTorch float32, eager"

    def __init__(self, checkpoint: Path) -> None:
        self._model = GPTNeoXForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        self._cache: Any = None
        return self._run(list(ids))

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens."""
        return [self._run([self._token]) for _ in range(count)]

    def _run(self, ids: list[int]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            found = self._model(torch.tensor([ids]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = found.past_key_values
        self._token = int(found.logits[0, -1].argmax())
        return time.perf_counter() - started


class LlamaCpp:
    """llama.cpp in this process; it times itself, tokenising and sampling not included."""

    name = "llama.cpp, Q4_0"

    def __init__(self, model: Path, threads: int) -> None:
        settings = xllamacpp.CommonParams()
        settings.model.path = str(model)
        settings.n_ctx = 2 * PROMPT_TOKENS
        settings.n_parallel = 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.verbosity = -1
        self._server = xllamacpp.Server(settings)

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        self._ids = list(ids)
        return float(self._complete(1)["prompt_ms"]) / 1000

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens; the mean of them."""
        return [float(self._complete(count)["predicted_per_token_ms"]) / 1000]

    def _complete(self, count: int) -> dict[str, Any]:
        asked = {"prompt": self._ids, "n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        answer = self._server.handle_completions(asked)
        content = json.loads(answer) if isinstance(answer, str | bytes) else answer
        timings: dict[str, Any] = content["timings"]
        return timings


@dataclass(frozen=True)
class Prepared:
    """Where the weights lie in each form."""

    checkpoint: Path
    bundle: Path
    gguf: Path


def prepared(work: Path, like: str, size: str) -> Prepared:
    """Random checkpoint, bundle and GGUF file, made where they are not there yet."""
    folder = work / f"{like}-{size}"
    made = Prepared(folder / "checkpoint", folder / "bundle", folder / "q4_0.gguf")
    if not made.checkpoint.is_dir():
        partial = folder / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_random_checkpoint(like, partial, size=size)
        partial.rename(made.checkpoint)
    if not (made.bundle / MANIFEST_FILE).is_file():
        request = BuildRequest(
            source=made.checkpoint,
            name=f"random-{like}",
            origin="random weights, seed 0",
            licence="Apache-2.0",
            variants=VARIANTS,
            allow_parity_miss=True,
        )
        with open_workspace(made.bundle, identity={"bench": "decode"}) as workspace:
            workspace.seal(LanguageTask().build(request, workspace), made.bundle, replace=False)
    if not made.gguf.is_file():
        write_gguf(made.checkpoint, made.gguf)
    return made


def measure(work: Path, *, like: str, size: str, rounds: int, tokens: int) -> Report:
    """Times every subject in turns."""
    threads = available_cpus()
    torch.set_num_threads(threads)
    made = prepared(work, like, size)
    ours = [Ours(made.bundle, variant, threads) for variant in VARIANTS]
    subjects: list[Subject] = [*ours, LlamaCpp(made.gguf, threads), PyTorch(made.checkpoint)]
    ids = [2 + 7 * number % 600 for number in range(PROMPT_TOKENS)]
    first: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    token: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for subject in subjects:
        subject.first(ids)
        subject.tokens(2)
    shares: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            prompt_s, taken, share = undisturbed(subject, ids, tokens)
            first[subject.name].append(prompt_s)
            token[subject.name] += taken
            shares[subject.name].append(share)
    pace = {name: 1 / statistics.median(taken) for name, taken in token.items()}
    wait = {name: statistics.median(taken) for name, taken in first.items()}
    best, spread = ours[0].name, {name: f"{1 / max(each):.1f} to {1 / min(each):.1f}" for name, each in token.items()}
    llama, torch_name = LlamaCpp.name, PyTorch.name
    figures = [
        Figure(
            f"{best}: times as fast as PyTorch",
            round(pace[best] / pace[torch_name], 2),
            "x",
            bar=4.0,
            goal=5.0,
            note=f"{pace[best]:.1f} against {pace[torch_name]:.2f} tokens/s",
        ),
        Figure(
            f"{best}: times as fast as llama.cpp",
            round(pace[best] / pace[llama], 3),
            "x",
            bar=1.0,
            goal=1.2,
            note=f"{pace[best]:.1f} against {pace[llama]:.1f} tokens/s",
        ),
    ]
    figures += [Figure(f"{name}: decoding", round(pace[name], 2), "tokens/s", note=spread[name]) for name in pace]
    figures += [
        Figure(f"{name}: {PROMPT_TOKENS} tokens of prompt", round(1000 * wait[name], 1), "ms", better="lower")
        for name in wait
    ]
    for each in ours:
        figures.append(Figure(f"{each.name}: loading", round(each.load_s, 2), "s", better="lower"))
        figures.append(Figure(f"{each.name}: next tokens as the original's", each.parity.agreement, ""))
    worst = max(max(each) for each in shares.values())
    how = (
        f"{like} ({size}), random weights; {threads} threads; runs in turns; PyTorch {torch.__version__}; "
        f"other processes took at most {worst:.0%} of the processors during a run that counts."
    )
    return Report("Decoding", how, figures)


def main() -> None:
    """Reads the command line, measures and saves the report."""
    parser = argparse.ArgumentParser(prog="bench.decode", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "mirage" / "bench", help="keeps the 6 GB that are measured"
    )
    parser.add_argument("--quick", action="store_true", help="a small model: shows that it runs")
    parser.add_argument("--rounds", type=int, default=6, help="turns that each side takes")
    args = parser.parse_args()
    size = "small" if args.quick else "full"
    report = measure(args.work, like="pythia-1b", size=size, rounds=args.rounds, tokens=16)
    report.save(args.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
