"""Encoding speed at full size (random weights) and open_clip's in PyTorch float32, in one run.

By default ViT-L/14 at 448 px.

Both sides get the same text and the same decoded image, tokenise or preprocess it, and use the same number of threads;
their runs alternate, with a pause between them so that idle threads of one do not spin into the time of the other.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.report import Figure, Report
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import MANIFEST_FILE, load_encoder
from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines import EngineChoice
from mirage_inference.engines.base import EngineOptions
from mirage_models.encoder.checkpoint import load_checkpoint
from mirage_models.encoder.original import Original
from mirage_models.encoder.random_checkpoint import preset_names, write_random_checkpoint
from mirage_models.encoder.task import EncoderTask
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

TEXT = "axial t1 of the frontal lobe"  # 9 tokens with start and end
PAUSE_S = 0.3


@dataclass(frozen=True)
class Subject:
    """Something that is timed."""

    name: str
    text: Callable[[], object]
    image: Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """A way to run the bundle."""

    name: str
    variant: str
    engine: EngineChoice
    reduced_precision: bool


def prepared(work: Path, preset: str) -> tuple[Path, Path]:
    """Returns the random checkpoint and its bundle, and makes them if they are missing."""
    checkpoint, bundle = work / preset / "checkpoint", work / preset / "bundle"
    if not checkpoint.is_dir():
        partial = checkpoint.with_name("checkpoint.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_random_checkpoint(preset, partial, seed=0)
        partial.rename(checkpoint)
    if not (bundle / MANIFEST_FILE).is_file():
        request = BuildRequest(
            source=checkpoint,
            name=f"random-{preset}",
            origin="random weights, seed 0",
            licence="Apache-2.0",
            variants=("int8", "fp32"),
            threads=available_cpus(),
            options={"text_recipes": ("dynamic",), "image_recipes": ("static",), "int8_cosine": 0.9},
        )
        with open_workspace(bundle, identity={"preset": preset}) as workspace:
            workspace.seal(EncoderTask().build(request, workspace), bundle, replace=False)
    return checkpoint, bundle


def settings() -> list[Setting]:
    """The service as it comes first, then each engine at each precision."""
    ways = [
        Setting("as served by default", "", "auto", reduced_precision=True),
        Setting("ONNX Runtime, int8", "int8", "onnxruntime", reduced_precision=False),
        Setting("ONNX Runtime, fp32", "fp32", "onnxruntime", reduced_precision=False),
    ]
    if find_spec("openvino"):
        ways += [
            Setting("OpenVINO, int8, no bfloat16", "int8", "openvino", reduced_precision=False),
            Setting("OpenVINO, fp32 in bfloat16", "fp32", "openvino", reduced_precision=True),
        ]
    return ways


def subject(name: str, model: EncoderModel, image: Image.Image) -> Subject:
    """The bundle as the service runs it, without gRPC and without the cache."""
    return Subject(
        name,
        text=lambda: model.embed_texts([model.tokenizer.tokenize(TEXT)]),
        image=lambda: model.embed_pixels([preprocess(image, model.manifest.image)]),
    )


@dataclass(frozen=True)
class Taken:
    """Milliseconds: the median of all runs, and the fastest, which other work on the machine disturbs least."""

    median: float
    fastest: float


def alternate(works: list[Callable[[], object]], *, rounds: int, repeats: int) -> list[Taken]:
    """Returns the times of each; their runs take turns."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            time.sleep(PAUSE_S)
            for _ in range(repeats):
                started = time.perf_counter()
                work()
                taken.append((time.perf_counter() - started) * 1000)
    return [Taken(statistics.median(taken), min(taken)) for taken in times]


def measure(work: Path, *, preset: str, rounds: int) -> Report:
    """Times every setting and the peer."""
    threads = available_cpus()
    torch.set_num_threads(threads)
    checkpoint, bundle = prepared(work, preset)
    original = Original(load_checkpoint(checkpoint))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 640, 3), dtype=np.uint8))
    expected = original.encode_texts([TEXT])[0], original.encode_images([image])[0]
    peer = Subject(
        "open_clip", text=lambda: original.encode_texts([TEXT]), image=lambda: original.encode_images([image])
    )
    manifest = load_encoder(bundle)
    figures: list[Figure] = []
    for role in ("text", "image"):
        parity = manifest.variants["fp32"].parity["text" if role == "text" else "image"]
        figures.append(Figure(f"{role}, fp32 ONNX: lowest cosine", parity.cosine_min, "", bar=0.9999))
    for number, way in enumerate(settings()):
        options = EngineOptions(threads=threads, reduced_precision=way.reduced_precision)
        model = load_model(bundle, variant=way.variant, engine=way.engine, options=options)
        ours = subject(way.name, model, image)
        tokens = model.tokenizer.tokenize(TEXT)
        cosines = (
            float(model.embed_texts([tokens])[0] @ expected[0]),
            float(model.embed_pixels([preprocess(image, manifest.image)])[0] @ expected[1]),
        )
        text = alternate([peer.text, ours.text], rounds=rounds, repeats=8)
        picture = alternate([peer.image, ours.image], rounds=max(1, rounds // 2), repeats=1)
        model.close()
        first = number == 0
        for name, (theirs, ours_took), cosine, bar, goal in (
            (f"text of {len(tokens.ids)} tokens", text, cosines[0], 10.0, 20.0),
            (f"image of {manifest.image.size} px", picture, cosines[1], 3.5, 5.0),
        ):
            figures.append(
                Figure(
                    f"{name}, {way.name}: times as fast as open_clip",
                    round(theirs.median / ours_took.median, 2),
                    "x",
                    bar=bar if first else None,
                    goal=goal if first else None,
                    note=f"{ours_took.median:.1f} against {theirs.median:.0f} ms, fastest {ours_took.fastest:.1f} against "
                    f"{theirs.fastest:.0f}; cosine {cosine:.5f}; {model.description}",
                )
            )
    how = f"{preset}, random weights; {threads} threads; medians of alternating runs, PyTorch {torch.__version__} float32."
    return Report("Encoding", how, figures)


def main() -> None:
    """Reads the command line, measures and saves the report."""
    parser = argparse.ArgumentParser(prog="bench.encode", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "mirage" / "bench", help="keeps the 5 GB that are measured"
    )
    parser.add_argument("--preset", choices=preset_names(), default="medicat-roco", help="which encoder")
    parser.add_argument("--quick", action="store_true", help="a small model: shows that it runs")
    parser.add_argument("--rounds", type=int, default=6, help="turns that each side takes")
    args = parser.parse_args()
    report = measure(args.work, preset="mini-clip" if args.quick else args.preset, rounds=args.rounds)
    report.save(args.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
