"""Following a job of image generation: a bar on a terminal, a line at each change of state elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from mirage.cli.output import note
from mirage.errors import JobError

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage_api.jobs import Job

_ENDINGS = {
    "CANCELLED": "the job was cancelled",
    "EXPIRED": "the job was not finished within its deadline",
    "FAILED": "the job failed",
}


def follow(client: "Client", job_id: str) -> "Job":
    """Returns the job once it has succeeded. Raises JobError if it ended otherwise."""
    from mirage_api.jobs import Job

    last: Job | None = None
    with _shown() as show, closing(client.watch_job(job_id)) as events:
        for event in events:
            if isinstance(event, Job):
                last = event
                show(event)
    if last is None:
        raise JobError("JOB_LOST", f"nothing was heard of the job {job_id}")
    return succeeded(last)


def succeeded(job: "Job") -> "Job":
    """The job; raises JobError unless its images are there."""
    if job.state == "SUCCEEDED":
        return job
    if job.problem is not None:
        raise JobError(job.problem.code, job.problem.detail)
    raise JobError(f"JOB_{job.state}", _ENDINGS.get(job.state, f"the job is {job.state.lower()}"))


def state_text(job: "Job") -> str:
    """Returns the state of a job in words."""
    left = "" if job.eta_s is None else f", about {max(1, round(job.eta_s))} s left"
    match job.state:
        case "PENDING":
            ahead = f"{job.queue_position} ahead" if job.queue_position else "next in the queue"
            return f"waiting, {ahead}{left}"
        case "RUNNING":
            return f"step {job.step} of {job.steps}{left}"
    return job.state.lower()


@contextmanager
def _shown() -> "Iterator[Callable[[Job], None]]":
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("queued", total=None)
        yield lambda job: progress.update(
            task,
            completed=job.step,
            # A bar without an end moves back and forth: the progress of a waiting job is unknown.
            total=job.steps if job.state != "PENDING" else None,
            description=state_text(job),
        )


def _lines() -> "Callable[[Job], None]":
    said = ""

    def say(job: "Job") -> None:
        nonlocal said
        if job.state != said:
            said = job.state
            note(f"{job.id}: {state_text(job)}")

    return say
