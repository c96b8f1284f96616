"""Whole generated images at full size (random weights) and diffusers' LatentConsistencyModelPipeline, in one run.

Prompt to pixels: text tower, UNet steps, decoder. Both sides get the same prompt, noise and number of threads, once
with the full decoder and once with a tiny one, and take turns. Each is a process of its own, so that its memory is its
own, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal, cast

import numpy as np

from bench.report import Figure, Report
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import load_generator
from mirage_inference.generator.pipeline import ImageRequest, Pixels

Side = Literal["ours", "theirs"]
Decoder = Literal["full", "tiny"]
Make = Callable[[Decoder], Pixels]

PROMPT = "axial T2-weighted MRI of the brain at the level of the thalami"
DECODERS: tuple[Decoder, ...] = ("full", "tiny")
# Times as fast as the peer: the bar and the goal.
BARS: dict[Decoder, tuple[float, float]] = {"full": (2.2, 3.0), "tiny": (3.0, 4.0)}
PAUSE_S = 0.5
TITLES: dict[Decoder, str] = {"full": "the full decoder", "tiny": "a tiny decoder"}


@dataclass(frozen=True)
class Task:
    """The work of both sides, as files and numbers; `noise` is an .npy float32[steps, 1, channels, h, w]."""

    checkpoint: Path
    tiny: Path
    bundle: Path
    noise: Path
    guidance: float
    side: int

    def arguments(self) -> list[str]:
        """For the command line of a side's process."""
        paths = (self.checkpoint, self.tiny, self.bundle, self.noise)
        return [*map(str, paths), repr(self.guidance), str(self.side)]

    @staticmethod
    def of(arguments: list[str]) -> "Task":
        """Reads `arguments`."""
        checkpoint, tiny, bundle, noise, guidance, side = arguments
        return Task(Path(checkpoint), Path(tiny), Path(bundle), Path(noise), float(guidance), int(side))

    @property
    def noises(self) -> Any:
        """The noise."""
        return np.load(self.noise)


def ours(task: Task) -> tuple[Make, str]:
    """The generator's pipeline as the worker runs it by default, and what runs it."""
    from mirage_inference.engines.base import EngineOptions
    from mirage_inference.generator.model import load_model
    from mirage_inference.generator.noise import GivenNoise
    from mirage_inference.generator.pipeline import make_image

    model = load_model(task.bundle, options=EngineOptions(threads=available_cpus()))
    steps = len(task.noises)

    def make(decoder: Decoder) -> Pixels:
        request = ImageRequest(PROMPT, steps, task.guidance, 0, task.side, task.side, tiny_decoder=decoder == "tiny")
        return make_image(model, request, noise=GivenNoise(task.noises)).pixels

    return make, f"{model.variant}; {model.description}"


def theirs(task: Task) -> tuple[Make, str]:
    """diffusers' own pipeline in float32, and what runs it."""
    import diffusers
    import torch

    from mirage_models.generator.checkpoint import load_tiny, read_checkpoint
    from mirage_models.generator.original import Original

    torch.set_num_threads(available_cpus())
    pipeline = Original(read_checkpoint(task.checkpoint)).pipeline
    assert type(pipeline).__name__ == "LatentConsistencyModelPipeline"
    decoders = {"full": pipeline.vae, "tiny": load_tiny(task.tiny)}
    first, *later = (torch.from_numpy(noise) for noise in task.noises)

    def make(decoder: Decoder) -> Pixels:
        pipeline.vae = decoders[decoder]
        given = iter(later)
        # The scheduler draws the noise between steps itself: it gets what the other side has.
        draw = diffusers.schedulers.scheduling_lcm.randn_tensor
        diffusers.schedulers.scheduling_lcm.randn_tensor = lambda *_, **__: next(given)
        try:
            image = pipeline(
                PROMPT,
                height=task.side,
                width=task.side,
                num_inference_steps=len(later) + 1,
                guidance_scale=task.guidance,
                latents=first.clone(),
                output_type="np",
            ).images[0]
        finally:
            diffusers.schedulers.scheduling_lcm.randn_tensor = draw
        return np.asarray((image * 255).round(), dtype=np.uint8)

    return make, f"diffusers {diffusers.__version__}, torch {torch.__version__}, float32"


def peak_gib() -> float:
    """The most memory that this process has had, in GiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def serve(side: Side, task: Task, folder: Path) -> None:
    """A side's process: loads, then makes an image for each line of standard input, and prints a line with the
    result.
    """
    make, described = {"ours": ours, "theirs": theirs}[side](task)
    loaded = peak_gib()
    print(json.dumps({"described": described, "loaded_gib": loaded}), flush=True)
    for line in sys.stdin:
        decoder = cast("Decoder", line.strip())
        started = time.perf_counter()
        pixels = make(decoder)
        seconds = time.perf_counter() - started
        np.save(folder / f"{side}-{decoder}.npy", pixels)
        print(json.dumps({"seconds": seconds, "peak_gib": peak_gib()}), flush=True)


class Process:
    """A side, running."""

    def __init__(self, side: Side, task: Task, folder: Path, stack: ExitStack) -> None:
        command = [sys.executable, "-m", "bench.images", "--serve", side, str(folder), *task.arguments()]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(process.wait)
        self._input, self._output = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        stack.callback(self._input.close)
        started = time.perf_counter()
        self.described = str(self._answer()["described"])
        self.load_s = time.perf_counter() - started
        self.peak_gib = 0.0

    def make(self, decoder: Decoder) -> float:
        """Makes an image; how many seconds it took."""
        self._input.write(decoder + "\n")
        self._input.flush()
        answer = self._answer()
        self.peak_gib = float(answer["peak_gib"])
        return float(answer["seconds"])

    def _answer(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            raise RuntimeError("a side of the benchmark ended by itself")
        return dict(json.loads(line))


def measure(work: Path, *, small: bool, rounds: int) -> Report:
    """Times both sides with both decoders, their runs taking turns after one that is not timed."""
    # Imported here: it loads torch, which the process of our side must do without.
    from bench.generate import prepared

    folders = prepared(work, "small" if small else "full", native=True)
    manifest = load_generator(folders.bundle)
    side, steps = int(manifest.side.default), 4
    figures: list[Figure] = []
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        latents = (steps, 1, manifest.latent_channels, side // manifest.latent_scale, side // manifest.latent_scale)
        np.save(folder / "noise.npy", np.random.default_rng(0).standard_normal(latents, dtype=np.float32))
        task = Task(
            folders.checkpoint, folders.tiny, folders.bundle, folder / "noise.npy", manifest.guidance.default, side
        )
        sides = {name: Process(name, task, folder, stack) for name in cast("tuple[Side, ...]", ("ours", "theirs"))}
        for decoder in DECODERS:
            for process in sides.values():
                process.make(decoder)
            times: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, process in sides.items():
                    time.sleep(PAUSE_S)  # idle threads of the other side spin for a while
                    times[name].append(process.make(decoder))
            figures.append(_speed(decoder, times, folder, side, steps, small=small))
        described = f"ours: {sides['ours'].described}; theirs: {sides['theirs'].described}"
        for name, process in sides.items():
            note = f"loaded in {process.load_s:.0f} s; the most of all runs"
            figures.append(Figure(f"memory of {name}", round(process.peak_gib, 2), "GiB", better="lower", note=note))
    how = (
        f"A native latent consistency model of Stable Diffusion 1.x's {'layout, small' if small else 'size'}, random weights, "
        f"{side} x {side} pixels, {steps} steps, prompt to pixels; {available_cpus()} threads; medians of {rounds} alternating "
        f"runs. {described}."
    )
    return Report("Whole images", how, figures)


def _speed(
    decoder: Decoder, times: dict[str, list[float]], folder: Path, side: int, steps: int, *, small: bool
) -> Figure:
    from mirage_models.generator.similarity import ssim

    own, peer = (statistics.median(times[name]) for name in ("ours", "theirs"))
    alike = ssim(*(np.load(folder / f"{name}-{decoder}.npy") for name in ("ours", "theirs")))
    fastest = f"fastest {min(times['ours']):.2f} against {min(times['theirs']):.2f} s"
    bar, goal = BARS[decoder]
    return Figure(
        f"{side} px, {steps} steps, {TITLES[decoder]}: times as fast as diffusers",
        round(peer / own, 2),
        "x",
        bar=None if small else bar,
        goal=None if small else goal,
        note=f"{own:.2f} against {peer:.2f} s ({fastest}); SSIM of the images {alike:.4f}",
    )


def main() -> None:
    """Reads the command line, measures and saves the report."""
    if sys.argv[1:2] == ["--serve"]:
        serve(cast("Side", sys.argv[2]), Task.of(sys.argv[4:]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(prog="bench.images", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "mirage" / "bench", help="keeps the 8 GB that are measured"
    )
    parser.add_argument("--quick", action="store_true", help="a small model: shows that it runs")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each side takes")
    args = parser.parse_args()
    report = measure(args.work, small=args.quick, rounds=1 if args.quick else args.rounds)
    report.save(args.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
