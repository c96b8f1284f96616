"""`mirage jobs`: the jobs of image generation on the server."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.following import follow, state_text, succeeded
from mirage.cli.generate import fetch
from mirage.cli.options import open_client, page_option, server_options
from mirage.cli.output import note, plain, print_fields, print_json, print_table

if TYPE_CHECKING:
    from mirage_api.jobs import Job

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write its images to this file; several get a number before the ending.",
)
_force = click.option("--force", is_flag=True, help="Overwrite an existing file.")


@click.group("jobs", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, follow, fetch and cancel your jobs of `mirage generate`. They and their images expire after a while."""


@command.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"], case_sensitive=False),
    help="Only those in this state; repeat for more.",
)
@click.option("-n", "--limit", type=int, default=20, show_default=True, metavar="N", help="How many, 1 to 100.")
@page_option
@server_options
def list_(states: tuple[str, ...], limit: int, page_token: str | None, url: str | None, as_json: bool) -> None:
    """List your jobs, newest first; with an admin key everybody's."""
    with open_client(url) as client:
        page = client.jobs(limit=limit, states=states, page_token=page_token or "")
    if as_json:
        print_json(page.raw)
        return
    everybodys = any(job.client for job in page.jobs)
    print_table(
        ("id", "state", "created", "prompt", *(["client"] if everybodys else [])),
        [
            (
                job.id,
                state_text(job),
                job.create_time,
                job.request.prompt[:80],
                *([job.client] if everybodys else []),
            )
            for job in page.jobs
        ],
    )
    if page.next_page_token:
        note(f"more: --page {page.next_page_token}")


@command.command("get")
@click.argument("job_id", metavar="ID")
@_output
@_force
@server_options
def get(job_id: str, output: Path | None, force: bool, url: str | None, as_json: bool) -> None:
    """Show a job as it is now, or fetch its images with -o."""
    with open_client(url) as client:
        job = client.job(job_id)
        if output:
            fetch(client, succeeded(job), output, force=force, as_json=as_json)
            return
    if as_json:
        print_json(job.raw)
    else:
        _show(job)


@command.command("watch")
@click.argument("job_id", metavar="ID")
@_output
@_force
@server_options
def watch(job_id: str, output: Path | None, force: bool, url: str | None, as_json: bool) -> None:
    """Follow a job until it ends; Ctrl-C leaves it alone."""
    with open_client(url) as client:
        job = follow(client, job_id)
        if output:
            fetch(client, job, output, force=force, as_json=as_json)
            return
    if as_json:
        print_json(job.raw)
    else:
        _show(job)


@command.command("cancel")
@click.argument("job_id", metavar="ID")
@server_options
def cancel(job_id: str, url: str | None, as_json: bool) -> None:
    """Stop a job: at once while it waits, by the next step while it runs."""
    with open_client(url) as client:
        job = client.cancel_job(job_id)
    if as_json:
        print_json(job.raw)
    else:
        click.echo(f"{plain(job.id)}\t{'stopping' if job.state == 'RUNNING' else plain(state_text(job))}")


def _show(job: "Job") -> None:
    request = job.request
    print_fields(
        {
            "id": job.id,
            "state": state_text(job),
            "problem": f"{job.problem.detail} [{job.problem.code}]" if job.problem else "",
            "prompt": request.prompt,
            "cut": f"the model read {job.prompt_tokens} tokens of it" if job.prompt_truncated else "",
            "negative prompt": request.negative_prompt,
            "steps": str(request.steps),
            "guidance": str(request.guidance_scale),
            "priority": request.priority,
            "size": f"{request.width}x{request.height}",
            "seeds": ", ".join(str(image.seed) for image in job.images) or str(request.seed),
            "model": job.fingerprint[:12],
            "client": job.client,
            "created": job.create_time,
            "expires": job.expire_time or "",
        }
    )
