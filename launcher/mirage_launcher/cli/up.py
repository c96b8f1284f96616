"""`mirage up`: everything on this machine."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirage.cli.options import data_option, json_option
from mirage.cli.output import note, print_json
from mirage_atlas.demo.sources import SETS, STANDARD

if TYPE_CHECKING:
    from mirage_core.cleaning_progress import Progress
    from mirage_launcher.state import State

# Seconds between two lines of progress without a terminal.
_LINE_S = 10.0


_LAST_PORT = 65535


@click.command("up")
@click.option(
    "--port", type=click.IntRange(1, _LAST_PORT), default=8080, show_default=True, help="Port of the page and of HTTP."
)
@click.option("--grpc-port", type=click.IntRange(1, _LAST_PORT), help="Port of gRPC; default: the next one.")
@data_option
@click.option(
    "--models", default="mini", show_default=True, metavar="DIR|mini", help="Directory of the encoder's bundle."
)
@click.option(
    "--llm",
    default="",
    metavar="NAME|DIR",
    help="Language model in place of the one among the models: one that `mirage models fetch` made, or a bundle.",
)
@click.option(
    "--qdrant",
    default="",
    metavar="URL",
    help="Keep records and vectors on this Qdrant server, not in the data directory; nodes of a cluster: separated by commas.",
)
@click.option(
    "--qdrant-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File with the API key of the Qdrant server.",
)
@click.option("--detach", is_flag=True, help="Return once all is ready; `mirage down` stops it, with the same --data.")
@click.option(
    "--demo",
    type=click.Choice(("none", *SETS)),
    default=STANDARD,
    show_default=True,
    help="Demonstration atlas of the first start: an averaged brain that needs no download; with it real images of the "
    "whole body, which are downloaded (100 MB); or full, with more of head, chest, heart and knee (230 MB, needs npm).",
)
@click.option("--no-demo", is_flag=True, help="The same as --demo none: begin with an empty atlas.")
@json_option
def command(
    port: int,
    grpc_port: int | None,
    data: Path | None,
    models: str,
    llm: str,
    qdrant: str,
    qdrant_key_file: Path | None,
    detach: bool,
    demo: str,
    no_demo: bool,
    as_json: bool,
) -> None:
    """Start all services on this machine. The first start builds the demonstration atlas.

    Runs until Ctrl-C, or in the background with --detach.
    """
    if grpc_port is None and port == _LAST_PORT:
        raise click.UsageError(f"--port {port} has no next port for gRPC: give --grpc-port too.")
    if grpc_port == port:
        raise click.UsageError("--port and --grpc-port must differ.")
    from mirage_launcher import operations

    options = operations.UpOptions(
        data=data,
        models=models,
        llm=llm,
        port=port,
        grpc_port=grpc_port,
        demo="none" if no_demo else demo,
        qdrant=qdrant,
        qdrant_key_file=qdrant_key_file,
    )
    running = operations.running_state(data)
    if running is not None:
        _say_where(running, data, as_json=as_json, already=True)
        return
    with _reporter(as_json=as_json, foreground=not detach) as report:
        if detach:
            state = operations.up_detached(options, report)
        else:
            operations.up(options, report)
    if detach:
        _say_where(state, data, as_json=as_json)


def _say_where(state: "State", data: Path | None, *, as_json: bool, already: bool = False) -> None:
    if as_json:
        print_json({"already_up": already, **dataclasses.asdict(state)})
    elif already:
        click.echo(f"already up at {state.url} ({state.phase})")
    else:
        stop = shlex.join(["mirage", "down", *(["--data", str(data)] if data else [])])
        click.echo(f"MIRAGE is at {state.url} (gRPC at {state.grpc}). `{stop}` stops it.")


class _Narrator:
    """Prints the changes from one state to the next, each once."""

    def __init__(self, *, as_json: bool, foreground: bool, progress: Callable[[str], None]) -> None:
        self._as_json = as_json
        self._foreground = foreground
        self._progress = progress
        self._told: set[str] = set()
        self._on_terminal = sys.stderr.isatty()
        self._said_at = 0.0
        self._restarts: dict[str, int] = {}

    def __call__(self, state: "State") -> None:
        for remark in state.remarks:
            self._once(remark)
        for service in state.services:
            if service.restarts > self._restarts.get(service.name, 0):
                note(f"the {service.name} ended by itself and was started again; its log: {service.log}")
            self._restarts[service.name] = service.restarts
        if state.phase == "starting":
            self._once("starting")
            if state.cleaning and state.cleaning.step != "finished":
                self._clean(state.cleaning)
            else:
                self._progress(f"waiting for {', '.join(state.waiting_for)}" if state.waiting_for else "starting")
        elif state.phase == "indexing":
            self._once(f"the page is up at {state.url}; building the demonstration atlas")
            if state.index and state.index.total:
                fetching = f"; downloading {state.index.fetching}" if state.index.fetching else ""
                self._progress(f"demonstration atlas: {state.index.done:,} of {state.index.total:,} records{fetching}")
        elif state.phase == "ready":
            self._progress("")
            self._ready(state)
        elif state.phase == "stopping":
            self._progress("")
            self._once("stopping")

    def _clean(self, progress: "Progress") -> None:
        steps = {"images": "Cleaning stored images", "words": "Indexing the words of records"}
        what = steps.get(progress.step, "Updating records")
        text = f"{what}: {progress.done} of {progress.total}"
        self._once("images that an older version stored are cleaned first; nothing is served meanwhile")
        self._progress(text)
        if not self._on_terminal and time.monotonic() - self._said_at >= _LINE_S:
            self._said_at = time.monotonic()
            note(text)

    def _ready(self, state: "State") -> None:
        if state.cleaning and state.cleaning.step == "finished":
            done = state.cleaning
            text = f"cleaned {done.cleaned:,} stored images"
            if done.removed:
                text += (
                    f"; {done.removed:,} could not be kept (damaged, or their pixels show annotations), and "
                    f"{done.records_removed:,} records with them: their ids are in the retriever's log"
                )
            self._once(text)
        if state.index and state.index.problem:
            self._once(f"the demonstration atlas is incomplete, the next start goes on: {state.index.problem}")
        elif state.index and state.index.finished:
            self._once(f"demonstration atlas: {state.index.done:,} records")
            if state.index.missing:
                self._once(f"{state.index.missing}; the next start tries again")
        if self._foreground and "ready" not in self._told:
            self._told.add("ready")
            if self._as_json:
                print_json(dataclasses.asdict(state))
            else:
                click.echo(f"MIRAGE is at {state.url} (gRPC at {state.grpc}). Ctrl-C stops it.")
            sys.stdout.flush()

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            note(text)


@contextmanager
def _reporter(*, as_json: bool, foreground: bool) -> Iterator[Callable[["State"], None]]:
    """A narrator; on a terminal with a line that renews itself while there is something to wait for."""
    if not sys.stderr.isatty():
        yield _Narrator(as_json=as_json, foreground=foreground, progress=lambda _text: None)
        return
    from rich.console import Console
    from rich.status import Status

    status: Any = Status("starting", console=Console(stderr=True))

    def progress(text: str) -> None:
        if text:
            status.update(text)
            status.start()
        else:
            status.stop()

    try:
        yield _Narrator(as_json=as_json, foreground=foreground, progress=progress)
    finally:
        status.stop()
