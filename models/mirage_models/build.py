"""`mirage models build`: the command line of the builder. Runs in the build environment, and finds it from any
other.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mirage_inference.bundles import TASKS, SamplerName
from mirage_models.presets import load_presets
from mirage_models.tasks import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "mirage models build"
PYTHON_VARIABLE = "MIRAGE_BUILD_PYTHON"


class EnvironmentMissingError(BuildError):
    """Raised if no environment with torch is found."""

    code = "PART_MISSING"


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Build the bundle of a model: fetch the checkpoint, export, quantise, compare with PyTorch, seal. "
        "A build that was stopped goes on where it was when the same command is run again.",
        epilog=f"Presets: {', '.join(load_presets())}.",
    )
    made.add_argument("target", nargs="?", metavar="PRESET|HUB_ID|PATH", help="what to build")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder to write the bundle to")
    made.add_argument("--list", action="store_true", help="list the presets and exit")
    made.add_argument("--preset", help="build a HUB_ID or PATH as this preset is built")
    made.add_argument("--task", choices=TASKS, help="default: what the checkpoint looks like")
    made.add_argument("--name", help="the bundle's name (default: the preset's or the folder's)")
    made.add_argument("--licence", help="SPDX expression of the weights' licence (default: the preset's)")
    made.add_argument("--revision", help="branch, tag or commit on the hub (default: the preset's)")
    made.add_argument(
        "--variants", nargs="+", default=(), metavar="V", help="such as int8 fp32; the first is the default"
    )
    made.add_argument(
        "--calibration", type=Path, metavar="DIR", help="your atlas: a folder with captions.jsonl and images"
    )
    made.add_argument("--calibration-items", type=int, default=1024, metavar="N", help="how many of it (default 1024)")
    made.add_argument("--lora", metavar="HUB_ID|PATH", help="LCM-LoRA to fuse into a generator")
    made.add_argument(
        "--tiny-decoder", metavar="HUB_ID|PATH", help="a generator's tiny autoencoder, in addition to the full one"
    )
    made.add_argument(
        "--sampler",
        choices=get_args(SamplerName),
        help="of a plain Stable Diffusion, which takes dozens of steps (default: the one that its scheduler names)",
    )
    made.add_argument(
        "--prompt-graph",
        action=argparse.BooleanOptionalAction,
        help="a language model's second graph, which reads prompts faster and takes more memory (default: the preset's)",
    )
    made.add_argument(
        "--allow-parity-miss",
        action="store_true",
        help="write the bundle even if it misses the parity bar; its manifest says so",
    )
    made.add_argument("--replace", action="store_true", help="replace an existing bundle")
    made.add_argument("--offline", action="store_true", help="use the hub's cache only")
    made.add_argument("--cache", type=Path, metavar="DIR", help="the hub's cache (default: HF_HOME)")
    made.add_argument("--threads", type=int, metavar="N", help="default: the CPUs that this process may use")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and build: 0, 1 on an error, 2 on wrong usage (by SystemExit, as argparse does)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    made = parser()
    parsed = made.parse_args(arguments)
    if parsed.list:
        return _list(as_json=parsed.json)
    if parsed.target is None or parsed.out is None:
        made.error("what to build and --out DIR are needed")
    if parsed.calibration_items < 1 or (parsed.threads is not None and parsed.threads < 1):
        made.error("--calibration-items and --threads are at least 1")
    if parsed.calibration is not None and not parsed.calibration.is_dir():
        made.error(f"--calibration: {parsed.calibration} is not there")
    try:
        if find_spec("torch") is None and not _without_torch(parsed):
            _elsewhere(arguments)
        return _build(parsed)
    except BuildError as error:
        print(f"error: {error} [{error.code}]", file=sys.stderr)
        if parsed.json:
            print(json.dumps({"code": error.code, "detail": str(error)}))
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def build_python() -> Path:
    """The interpreter of the build environment; raises EnvironmentMissingError."""
    named = os.environ.get(PYTHON_VARIABLE)
    python = Path(named) if named else Path(sys.prefix).parent / ".venv-build" / "bin" / "python"
    if not python.is_file():
        where = f"{PYTHON_VARIABLE} names {python}, which" if named else "the build environment"
        raise EnvironmentMissingError(f"{where} is not there: run `make setup-build` (it brings torch), then try again")
    return python


def _without_torch(parsed: argparse.Namespace) -> bool:
    """True for a checkpoint on this machine whose export and original do not use torch."""
    from mirage_models.llm.decoder_source import builds_without_torch

    return parsed.task in (None, "describe") and builds_without_torch(Path(parsed.target))


def _elsewhere(arguments: Sequence[str]) -> None:
    python = build_python()
    if os.environ.get("_MIRAGE_BUILDING"):
        raise EnvironmentMissingError(f"{python} has no torch: run `make setup-build`, then try again")
    os.environ["_MIRAGE_BUILDING"] = "1"
    sys.stdout.flush()
    os.execv(python, [str(python), "-m", "mirage_models.build", *arguments])  # noqa: S606 -- a list of arguments: no shell


def _build(parsed: argparse.Namespace) -> int:
    from mirage_core.cpus import available_cpus
    from mirage_models.builder import BuildSpec, build, report

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("mirage_models").setLevel(logging.INFO)
    threads = parsed.threads or available_cpus()
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)
    extras = {"lora": parsed.lora, "tiny_decoder": parsed.tiny_decoder}
    built = build(
        BuildSpec(
            target=parsed.target,
            out=parsed.out,
            preset=parsed.preset,
            task=parsed.task,
            name=parsed.name,
            licence=parsed.licence,
            revision=parsed.revision,
            sampler=parsed.sampler,
            prompt_graph=parsed.prompt_graph,
            variants=tuple(parsed.variants),
            calibration=parsed.calibration,
            calibration_items=parsed.calibration_items,
            extras={role: place for role, place in extras.items() if place is not None},
            allow_parity_miss=parsed.allow_parity_miss,
            replace=parsed.replace,
            offline=parsed.offline,
            cache=parsed.cache,
            threads=threads,
        )
    )
    content = report(built)
    if parsed.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    print(
        f"{built.directory}: {content['name']}, {content['bytes'] / 2**20:.1f} MiB, fingerprint {content['fingerprint'][:12]}"
    )
    for name, variant in content["variants"].items():
        print(f"  {name}: {json.dumps(variant['parity'])}")
    for line in (*content["parity_missed"], *content["remarks"]):
        print(f"  note: {line}")
    print(f"  {built.seconds:.0f} s, at most {built.peak_bytes / 2**30:.1f} GiB of memory")
    return 0


def _list(*, as_json: bool) -> int:
    if as_json:
        content = [{"preset": name, **preset.model_dump(mode="json")} for name, preset in load_presets().items()]
        print(json.dumps({"presets": content}, indent=2))
        return 0
    for name, preset in load_presets().items():
        where = preset.repository or "comes with MIRAGE"
        print(f"{name:20}{preset.task:10}{preset.licence:22}{where}")
        print(
            f"{'':20}{preset.description}; {preset.memory_gib:g} GiB of memory, {preset.disk_gib:g} GiB of disk to build"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
