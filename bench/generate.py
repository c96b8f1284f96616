"""Image generation at full size (Stable Diffusion 1.x, random weights) and diffusers in PyTorch float32, in one run.

Both sides get the same latents and the same prompt's tokens, and the same number of threads; their runs alternate, with
a pause between them so that idle threads of one do not spin into the time of the other.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.report import Figure, Report
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import MANIFEST_FILE, TINY_DECODER, GeneratorManifest, load_generator
from mirage_inference.engines import EngineChoice
from mirage_inference.engines.base import EngineOptions, FloatArray
from mirage_inference.generator.model import LATENTS, PROMPT, SAMPLE, TIMESTEP, load_sessions
from mirage_models.generator.checkpoint import load_tiny, load_unet, load_vae, read_checkpoint
from mirage_models.generator.configs import Kind, Size
from mirage_models.generator.random_checkpoint import (
    write_random_checkpoint,
    write_random_lora,
    write_random_tiny_decoder,
)
from mirage_models.generator.references import load_references
from mirage_models.generator.similarity import cosine, ssim
from mirage_models.generator.task import GeneratorTask
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

PAUSE_S = 0.3
ROLES = ("unet", "decoder", TINY_DECODER)


@dataclass(frozen=True)
class Folders:
    """The measured model: checkpoints (`lora` None: a native latent consistency model) and the bundle built of them."""

    checkpoint: Path
    lora: Path | None
    tiny: Path
    bundle: Path


@dataclass(frozen=True)
class Setting:
    """A way to run the bundle; `first`: what the service does by itself, which the bars are for."""

    name: str
    variant: str
    engine: EngineChoice
    reduced_precision: bool
    first: bool = False


def prepared(work: Path, size: Size, *, native: bool = False) -> Folders:
    """Returns the random checkpoints and their bundle, and makes them if they are missing.

    `native`: a model that takes guidance as an input, in int8 alone and from few prompts, which is enough for times.
    """
    root = work / (f"lcm-{size}" if native else f"sd-{size}")
    kind: Kind = "lcm-dreamshaper-v7" if native else "prompt2medimage"
    lora = None if native else root / "lora"
    folders = Folders(root / kind, lora, root / "tiny-decoder", root / "bundle")
    writers: list[tuple[Path, Callable[[Path], object]]] = [
        (folders.checkpoint, lambda out: write_random_checkpoint(kind, out, size=size)),
        (folders.tiny, lambda out: write_random_tiny_decoder(out, size=size)),
    ]
    if lora is not None:
        writers.append((lora, lambda out: write_random_lora(out, size=size)))
    for folder, write in writers:
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            write(partial)
            partial.rename(folder)
    if not (folders.bundle / MANIFEST_FILE).is_file():
        request = BuildRequest(
            source=folders.checkpoint,
            name="random-lcm" if native else "random-sd",
            origin="random weights, seed 0",
            licence="Apache-2.0",
            variants=("int8",) if native else ("int8", "fp32"),
            allow_parity_miss=True,
            threads=available_cpus(),
            extras={TINY_DECODER: folders.tiny, **({"lora": lora} if lora is not None else {})},
            options={"parity_prompts": 1, "calibration_prompts": 1} if native else {},
        )
        with open_workspace(folders.bundle, identity={"benchmark": size}) as workspace:
            manifest = GeneratorTask().build(request, workspace)
            workspace.seal(manifest, folders.bundle, replace=False)
    return folders


def settings() -> list[Setting]:
    """The service as it comes first, then each engine at each precision."""
    ways = [Setting("as served by default", "int8", "auto", reduced_precision=True, first=True)]
    if find_spec("openvino"):
        ways += [
            Setting("OpenVINO, int8, no bfloat16", "int8", "openvino", reduced_precision=False),
            Setting("OpenVINO, fp32 in bfloat16", "fp32", "openvino", reduced_precision=True),
            Setting("OpenVINO, fp32", "fp32", "openvino", reduced_precision=False),
        ]
    return [
        *ways,
        Setting("ONNX Runtime, int8", "int8", "onnxruntime", reduced_precision=False),
        Setting("ONNX Runtime, fp32", "fp32", "onnxruntime", reduced_precision=False),
    ]


def alternate(works: list[Callable[[], object]], *, rounds: int) -> list[float]:
    """Median milliseconds of each, their runs taking turns after one that is not timed."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            work()
            taken.append((time.perf_counter() - started) * 1000)
    return [statistics.median(taken) for taken in times]


@dataclass(frozen=True)
class Part:
    """A network to time: its role, what it is given, the original as a function, the bars and how results are
    compared.
    """

    role: str
    title: str
    inputs: dict[str, Any]
    original: Callable[[], FloatArray]
    bar: float | None
    goal: float | None
    likeness: Callable[[FloatArray, FloatArray], str]


def _pixels(image: FloatArray) -> Any:
    return (image[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)


def _as_images(first: FloatArray, second: FloatArray) -> str:
    return f"SSIM {ssim(_pixels(first), _pixels(second)):.4f}"


def _as_latents(first: FloatArray, second: FloatArray) -> str:
    return f"cosine {cosine(first, second):.5f}"


def _eager(module: Any, *inputs: Any, **more: Any) -> Callable[[], FloatArray]:
    def run() -> FloatArray:
        with torch.inference_mode():
            return np.asarray(module(*inputs, return_dict=False, **more)[0].numpy(), dtype=np.float32)

    return run


def _decoded(vae: Any, latents: FloatArray) -> Callable[[], FloatArray]:
    decode = _eager(vae.decode, torch.from_numpy(latents) / vae.config.scaling_factor)
    return lambda: np.asarray((decode() * 0.5 + 0.5).clip(0, 1), dtype=np.float32)


def make_part(role: str, folders: Folders, manifest: GeneratorManifest) -> Part:
    """A network's original, loaded, at the bundle's default side."""
    checkpoint = read_checkpoint(folders.checkpoint, lora=folders.lora, tiny=folders.tiny)
    random = np.random.default_rng(0)
    side = int(manifest.side.default)
    shape = (1, manifest.latent_channels, side // manifest.latent_scale, side // manifest.latent_scale)
    latents = random.standard_normal(shape, dtype=np.float32)
    # Finished latents of the model: the decoder's ranges were taken from such ones.
    finished = load_references(folders.bundle / manifest.reference).latents[:1, -1]
    if role == "unet":
        width = int(checkpoint.unet["cross_attention_dim"])
        prompt = random.standard_normal((1, manifest.prompt.context_length, width), dtype=np.float32)
        unet = load_unet(checkpoint)
        original = _eager(unet, torch.from_numpy(latents), torch.tensor([999]), torch.from_numpy(prompt))
        inputs = {SAMPLE: latents, TIMESTEP: np.array([999]), PROMPT: prompt}
        return Part(role, f"UNet step at {side} px", inputs, original, 3.0, 4.0, _as_latents)
    if role == "decoder":
        original = _decoded(load_vae(checkpoint), finished)
        return Part(role, f"decoding {side} px", {LATENTS: finished}, original, 2.0, 3.0, _as_images)
    original = _decoded(load_tiny(folders.tiny), finished)
    return Part(role, f"tiny decoder, {side} px", {LATENTS: finished}, original, None, None, _as_images)


def time_part(part: Part, expected: FloatArray, way: Setting, path: Path, *, rounds: int) -> Figure:
    """Times one network with one setting and its original."""
    options = EngineOptions(threads=available_cpus(), reduced_precision=way.reduced_precision)
    sessions, described = load_sessions({part.role: path}, guided=False, engine=way.engine, options=options)
    session = sessions[part.role]
    likeness = part.likeness(session.run(part.inputs), expected)
    theirs, ours = alternate([part.original, lambda: session.run(part.inputs)], rounds=rounds)
    session.close()
    return Figure(
        f"{part.title}, {way.name}: times as fast as diffusers",
        round(theirs / ours, 2),
        "x",
        bar=part.bar if way.first else None,
        goal=part.goal if way.first else None,
        note=f"{ours / 1000:.2f} against {theirs / 1000:.2f} s; {likeness}; {described}",
    )


def measure(work: Path, *, size: Size, rounds: int, roles: Sequence[str] = ROLES) -> Report:
    """Times every setting and the peer, one network after another: together they would not fit."""
    torch.set_num_threads(available_cpus())
    folders = prepared(work, size)
    manifest = load_generator(folders.bundle)
    figures: list[Figure] = []
    for role in roles:
        part = make_part(role, folders, manifest)
        expected = part.original()
        for way in settings():
            path = folders.bundle / manifest.variants[way.variant].files[role]
            figures.append(time_part(part, expected, way, path, rounds=rounds))
    how = (
        f"Stable Diffusion 1.x, {size}, random weights; {available_cpus()} threads; medians of alternating runs, "
        f"PyTorch {torch.__version__} float32. Likeness is with the original, of random weights."
    )
    return Report("Image generation", how, figures)


def main() -> None:
    """Reads the command line, measures and saves the report."""
    parser = argparse.ArgumentParser(prog="bench.generate", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "mirage" / "bench", help="keeps the 10 GB that are measured"
    )
    parser.add_argument("--quick", action="store_true", help="a small model: shows that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each side takes")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES, help="networks to time")
    args = parser.parse_args()
    size: Size = "small" if args.quick else "full"
    report = measure(args.work, size=size, rounds=1 if args.quick else args.rounds, roles=args.roles)
    report.save(args.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
