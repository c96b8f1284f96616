"""`mirage status`: how the services of this machine are."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.options import data_option, json_option
from mirage.cli.output import note, print_fields, print_json, print_table

if TYPE_CHECKING:
    from mirage_launcher.status import Status


@click.command("status")
@data_option
@json_option
@click.pass_context
def command(ctx: click.Context, data: Path | None, as_json: bool) -> None:
    """Show the state of each service, and the size of the atlas.

    The exit code is 0 if all services are healthy, else 1.
    """
    from mirage_launcher.status import read_status

    status = read_status(data)
    if as_json:
        print_json({**dataclasses.asdict(status), "healthy": status.healthy, "memory_bytes": status.memory_bytes})
    else:
        _show(status)
    ctx.exit(0 if status.healthy else 1)


def _show(status: "Status") -> None:
    if not status.processes:
        note("nothing is running: `mirage up` starts it")
        return
    print_table(
        ("process", "health", "pid", "memory", "address", "restarts"),
        [
            (
                one.name,
                one.health,
                str(one.pid or ""),
                f"{one.memory_bytes / 2**20:.0f} MiB" if one.pid else "",
                one.address,
                str(one.restarts or ""),
            )
            for one in status.processes
        ],
    )
    print_fields(
        {
            "phase": status.phase,
            "page": status.url,
            "gRPC": status.grpc,
            "memory": f"{status.memory_bytes / 2**20:.0f} MiB in all",
            "atlas": "" if status.records is None else f"{status.records:,} records ({status.indexed or 0:,} indexed)",
            "model": status.model,
            "data": status.data,
        }
    )
    for remark in status.remarks:
        note(remark)
