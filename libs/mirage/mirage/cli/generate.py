"""`mirage generate`: synthetic images on the server's queue."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirage.cli.files import check_writable, write_file
from mirage.cli.following import follow
from mirage.cli.options import open_client, server_options
from mirage.cli.output import note, plain, print_json
from mirage.errors import ClientError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage.client import Client
    from mirage.jobs import JobOptions
    from mirage.provenance import Comparison
    from mirage_api.jobs import AspectCheck, Job

_SIZE = re.compile(r"(\d{1,6})[xX×](\d{1,6})")
_STDOUT = Path("-")


@click.command("generate")
@click.argument("text", required=False)
@click.option("--steps", type=int, metavar="N", help="Denoising steps; range and default: the model's.")
@click.option(
    "--guidance", type=float, metavar="G", help="How closely the text is followed; range and default: the model's."
)
@click.option(
    "--negative", default="", metavar="TEXT", help="What the image should not show; not every model supports it."
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Seed of an earlier image, to make it again; if omitted, chosen at random and printed.",
)
@click.option(
    "--size",
    metavar="WxH",
    help="Pixels, multiples of 32 or 64 (the model says), such as 512x512; default the model's.",
)
@click.option("--images", type=int, metavar="N", help="How many, 1 to 4, each with a seed of its own; default 1.")
@click.option(
    "--batch",
    is_flag=True,
    help="Run after all jobs that users wait for; always so if the model takes dozens of steps.",
)
@click.option("--deadline", "deadline_s", type=float, metavar="S", help="Give up if it is not done after S seconds.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="File to write; - for standard output. Several images get a number before the ending.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--no-wait", is_flag=True, help="Queue the job, print its id, and leave: `mirage jobs get ID -o FILE` fetches it."
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Make the image of a PNG file again from its metadata, and compare the pixels.",
)
@server_options
def command(
    text: str | None,
    steps: int | None,
    guidance: float | None,
    negative: str,
    seed: int | None,
    size: str | None,
    images: int | None,
    batch: bool,
    deadline_s: float | None,
    output: Path | None,
    force: bool,
    no_wait: bool,
    replay: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Generate images from a TEXT. They are marked as generated and do not show a patient.

    The job waits for its turn on the server; Ctrl-C cancels it. The file's texts have prompt, seed, steps and model.

    mirage generate "axial T1 brain MRI at the thalami" --seed 7 -o thalami.png
    """
    # Imported here: `mirage --help` must not wait for it.
    from mirage.jobs import JobOptions

    if output == _STDOUT and (as_json or no_wait or sys.stdout.isatty()):
        raise click.UsageError("An image goes to standard output only into a pipe, and without --json and --no-wait.")
    width, height = _size(size)
    options = JobOptions(
        negative_prompt=negative,
        steps=steps,
        guidance_scale=guidance,
        seed=seed,
        width=width,
        height=height,
        images=images,
        priority="batch" if batch else "interactive",
        deadline_s=deadline_s,
    )
    if replay is not None:
        given = (text, steps, guidance, negative or None, seed, size, images)
        if no_wait or any(each is not None for each in given):
            raise click.UsageError("--replay takes everything from the file: give no TEXT and no options of the image.")
        _replay(replay, options, output, force=force, url=url, as_json=as_json)
        return
    if text is None:
        raise click.UsageError("Give a TEXT, or --replay FILE.")
    if output == _STDOUT and images not in (None, 1):
        raise click.UsageError("Only one image fits into standard output.")
    if output and output != _STDOUT:
        for index in range(max(1, min(images or 1, 4))):
            check_writable(_numbered(output, index, images or 1), replace=force)
    with open_client(url) as client:
        job = client.create_job(text, options)
        if no_wait:
            print_json(job.raw) if as_json else click.echo(job.id)
            return
        if job.prompt_truncated:
            note(f"the model reads {job.prompt_tokens} tokens: the end of the text is cut off")
        job = _wait(client, job, text=not as_json)
        fetch(client, job, output, force=force, as_json=as_json)


def fetch(client: "Client", job: "Job", output: Path | None, *, force: bool, as_json: bool) -> None:
    """Writes the images of a job and prints their paths."""
    files = []
    for index in range(len(job.images)):
        data = client.job_image(job.id, index).data
        if output == _STDOUT:
            sys.stdout.buffer.write(data)
            return
        path = _numbered(output or Path(f"mirage-synthetic-{job.id}.png"), index, len(job.images))
        write_file(path, data, replace=force)
        files.append(str(path))
        if not as_json:
            click.echo(plain(str(path)))
    if as_json:
        print_json({**job.raw, "files": files})
    else:
        seeds = ", ".join(str(image.seed) for image in job.images)
        request = job.request
        note(
            f"synthetic, made by a model: seed {seeds}, {request.steps} steps, "
            f"guidance {request.guidance_scale}, model {job.fingerprint[:12]}. For education, not for diagnosis."
        )
        for index, image in enumerate(job.images):
            if image.checks:
                number = f"image {index}: " if len(job.images) > 1 else ""
                note(f"{number}compared with the text by the encoder: {_in_words(image.checks)}")


def _in_words(checks: "Sequence[AspectCheck]") -> str:
    """Such as: plane axial; sequence t1, but it looks like flair."""
    return "; ".join(
        f"{each.aspect} {each.asked}" + ("" if each.seen == each.asked else f", but it looks like {each.seen}")
        for each in checks
    )


def _replay(
    path: Path, options: "JobOptions", output: Path | None, *, force: bool, url: str | None, as_json: bool
) -> None:
    from mirage.jobs import JobOptions
    from mirage.provenance import compare, read_provenance
    from mirage_api.provenance import ASKED

    first = _read(path)
    said = read_provenance(first)
    if said is None:
        raise InputError(f"{path} does not say that a model made it, so there is nothing to repeat")
    if output and output != _STDOUT:
        check_writable(output, replace=force)
    names = [name for name in ASKED if name != "prompt"]
    asked: dict[str, Any] = {name: getattr(said, name) for name in names}
    with open_client(url) as client:
        job = client.create_job(
            said.prompt,
            JobOptions(**asked, images=1, priority=options.priority, deadline_s=options.deadline_s),
        )
        job = _wait(client, job, text=not as_json)
        second = client.job_image(job.id).data
    found = compare(first, second)
    if output == _STDOUT:
        sys.stdout.buffer.write(second)
    elif output:
        write_file(output, second, replace=force)
    _tell(found, job, as_json=as_json)
    if not found.same_pixels:
        raise click.exceptions.Exit(1)


def _tell(found: "Comparison", job: "Job", *, as_json: bool) -> None:
    if as_json:
        differences = [{"name": each.name, "file": each.first, "now": each.second} for each in found.differences]
        print_json({"same_pixels": found.same_pixels, "differences": differences, "job": job.raw})
        return
    for each in found.differences:
        note(f"{each.name}: {each.first} then, {each.second} now")
    if found.same_pixels:
        click.echo("the same, pixel for pixel")
    elif found.differences:
        click.echo("not the same: it was made with something else (above)")
    else:
        click.echo("not the same, though model, engine and processor are")


def _wait(client: "Client", job: "Job", *, text: bool) -> "Job":
    """The job once it has succeeded; Ctrl-C cancels it."""
    try:
        return follow(client, job.id)
    except KeyboardInterrupt:
        try:
            client.cancel_job(job.id)
            note(f"cancelled the job {job.id}")
        except ClientError as error:
            note(f"the job {job.id} could not be cancelled: {error}")
        raise


def _size(given: str | None) -> tuple[int | None, int | None]:
    if given is None:
        return None, None
    found = _SIZE.fullmatch(given)
    if found is None:
        raise click.BadParameter(f"{given!r} is not WxH, such as 512x512", param_hint="--size")
    return int(found[1]), int(found[2])


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count < 2 else path.with_name(f"{path.stem}-{index}{path.suffix}")


def _read(path: Path) -> bytes:
    from mirage.png import FILE_BYTES

    try:
        if path.stat().st_size > FILE_BYTES:
            raise InputError(f"{path} is too large for an image that MIRAGE made")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read") from error
