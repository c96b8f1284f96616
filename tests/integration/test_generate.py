"""Synthetic images by the command line and the client, before a real gateway; a script plays the generator."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mirage.cli.entry import run
from mirage.client import Client
from mirage.errors import ApiError, ReplyError, UnreachableError
from mirage.jobs import JobOptions
from mirage_api.jobs import Job, JobPreview

Mirage = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mirage(
    generating: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Mirage:
    """Runs a command line in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.setenv("MIRAGE_URL", generating.http_url)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def test_an_image_is_made_and_says_what_it_is(mirage: Mirage, tmp_path: Path) -> None:
    code, output, remarks = mirage("generate", "axial T1 brain", "--seed", "7", "--size", "64x64")
    assert code == 0
    [path] = output.split()
    assert path.startswith("mirage-synthetic-job")
    with Image.open(tmp_path / path) as image:
        assert image.size == (64, 64)
        assert image.info["ai_generated"] == "true"
    assert "synthetic" in remarks
    assert "seed 7" in remarks
    assert "diagnosis" in remarks


def test_every_option_reaches_the_job(mirage: Mirage) -> None:
    options = [
        "--steps",
        "3",
        "--guidance",
        "1.25",
        "--negative",
        "lesion",
        "--seed",
        str(2**63 - 1),
        "--size",
        "128x64",
    ]
    code, output, _ = mirage(
        "generate", "axial", *options, "--images", "2", "--batch", "--deadline", "60", "-o", "two.png", "--json"
    )
    assert code == 0
    job = json.loads(output)
    assert job["request"] == {
        "prompt": "axial",
        "negative_prompt": "lesion",
        "steps": 3,
        "guidance_scale": 1.25,
        "seed": 2**63 - 1,
        "width": 128,
        "height": 64,
        "images": 2,
        "priority": "batch",
    }
    assert [image["seed"] for image in job["images"]] == [2**63 - 1, 0]
    assert job["files"] == ["two-0.png", "two-1.png"]
    assert all(Path(name).is_file() for name in job["files"])


def test_a_file_that_is_there_is_not_written_over_unless_told(mirage: Mirage) -> None:
    Path("here.png").write_text("mine")
    code, _, remarks = mirage("generate", "axial", "-o", "here.png")
    assert code == 1
    assert "--force" in remarks
    assert Path("here.png").read_text() == "mine"
    assert json.loads(mirage("jobs", "list", "--json")[1])["jobs"] == []
    assert mirage("generate", "axial", "-o", "here.png", "--force")[0] == 0
    assert Path("here.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_told_before_any_work(mirage: Mirage) -> None:
    code, _, remarks = mirage("generate", "axial", "-o", "nowhere/x.png")
    assert (code, "cannot write" in remarks) == (1, True)
    assert json.loads(mirage("jobs", "list", "--json")[1])["jobs"] == []


def test_a_job_is_left_on_the_queue_and_fetched_later(mirage: Mirage) -> None:
    code, output, _ = mirage("generate", "axial", "--no-wait")
    job_id = output.strip()
    assert code == 0
    assert mirage("jobs", "watch", job_id)[0] == 0
    code, output, _ = mirage("jobs", "get", job_id)
    assert code == 0
    assert ["state", "succeeded"] in [line.split("\t") for line in output.splitlines()]
    code, output, _ = mirage("jobs", "get", job_id, "-o", "later.png")
    assert (code, output.strip()) == (0, "later.png")
    assert Path("later.png").is_file()


def test_jobs_are_listed_and_cancelled(mirage: Mirage) -> None:
    waiting = mirage("generate", "waiting one", "--no-wait")[1].strip()
    mirage("generate", "axial", "-o", "x.png")
    code, output, _ = mirage("jobs", "list")
    rows = [line.split("\t") for line in output.splitlines()]
    assert code == 0
    assert [(row[1], row[3]) for row in rows] == [("succeeded", "axial"), ("waiting, next in the queue", "waiting one")]
    assert [line.split("\t")[0] for line in mirage("jobs", "list", "--state", "pending")[1].splitlines()] == [waiting]
    code, output, _ = mirage("jobs", "cancel", waiting)
    assert (code, output.strip()) == (0, f"{waiting}\tcancelled")
    code, _, remarks = mirage("jobs", "get", waiting, "-o", "none.png")
    assert (code, "JOB_CANCELLED" in remarks) == (1, True)
    assert not Path("none.png").exists()


def test_a_list_goes_on_page_by_page(mirage: Mirage) -> None:
    ids = [mirage("generate", "waiting", "--no-wait")[1].strip() for _ in range(3)]
    _, output, remarks = mirage("jobs", "list", "-n", "2")
    assert [line.split("\t")[0] for line in output.splitlines()] == [ids[2], ids[1]]
    _, output, _ = mirage("jobs", "list", "-n", "2", "--page", remarks.split("--page ")[1].strip())
    assert [line.split("\t")[0] for line in output.splitlines()] == [ids[0]]


def test_a_job_that_fails_is_an_error_with_its_code(mirage: Mirage) -> None:
    code, output, remarks = mirage("generate", "failing", "--json")
    assert (code, json.loads(output)["code"]) == (1, "MODEL_FAILED")
    assert "MODEL_FAILED" in remarks
    assert not list(Path().glob("*.png"))


def test_a_prompt_that_is_cut_is_told(mirage: Mirage) -> None:
    assert "cut off" in mirage("generate", "overlong " + "x " * 100, "-o", "x.png")[2]


def test_an_image_goes_through_a_pipe(generating: Any, tmp_path: Path) -> None:
    run_ = subprocess.run(
        [*generating.command_line, "generate", "axial", "-o", "-"],
        env={**os.environ, "MIRAGE_URL": generating.http_url},
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert run_.stdout.startswith(b"\x89PNG")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prompt", ["waiting", "axial"])
def test_ctrl_c_cancels_the_job_waiting_or_running(generating: Any, tmp_path: Path, prompt: str) -> None:
    generating.start_generator(step_ms=2000)
    process = subprocess.Popen(
        [*generating.command_line, "generate", prompt],
        env={**os.environ, "MIRAGE_URL": generating.http_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    while prompt == "axial" and b"step" not in said:
        said = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, remarks = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"cancelled the job" in remarks
    with Client(generating.http_url) as client:
        assert [job.state for job in client.jobs().jobs] == ["CANCELLED"]
    assert not list(tmp_path.iterdir())


BAD: dict[str, tuple[list[str], int, str]] = {
    "steps of 0": (["--steps", "0"], 1, "OPTION_OUT_OF_RANGE"),
    "steps of 51": (["--steps", "51"], 1, "OPTION_OUT_OF_RANGE"),
    "steps of 10^6": (["--steps", "1000000"], 1, "OPTION_OUT_OF_RANGE"),
    "steps in words": (["--steps", "four"], 2, "USAGE"),
    "a NaN guidance": (["--guidance", "nan"], 1, "INPUT_INVALID"),
    "a side of 511": (["--size", "511x512"], 1, "OPTION_OUT_OF_RANGE"),
    "a side of 10^5": (["--size", "100000x512"], 1, "OPTION_OUT_OF_RANGE"),
    "a size that is none": (["--size", "big"], 2, "USAGE"),
    "a seed of -1": (["--seed", "-1"], 1, "OPTION_OUT_OF_RANGE"),
    "a seed of 2^70": (["--seed", str(2**70)], 1, "OPTION_OUT_OF_RANGE"),
    "five images": (["--images", "5"], 1, "OPTION_OUT_OF_RANGE"),
    "an image and JSON on one line": (["-o", "-"], 2, "USAGE"),
    "a replay beside a text": (["--replay", "x.png"], 2, "USAGE"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_option_is_refused(mirage: Mirage, name: str) -> None:
    options, expected, error = BAD[name]
    Path("x.png").touch()
    code, output, _ = mirage("generate", "axial", "--json", *options)
    assert (code, json.loads(output)["code"]) == (expected, error)


@pytest.mark.parametrize(
    ("arguments", "expected", "error"),
    [
        (["generate"], 2, "USAGE"),
        (["generate", ""], 1, "PROMPT_EMPTY"),
        (["generate", "x" * 10_000], 1, "TEXT_TOO_LONG"),
        (["generate", "crowded"], 1, "QUEUE_FULL"),
        (["generate", "--replay", "plain.png"], 1, "INPUT_INVALID"),
        (["generate", "--replay", "text.png"], 1, "INPUT_INVALID"),
        (["generate", "--replay", "none.png"], 2, "USAGE"),
        (["jobs", "get", "none"], 1, "JOB_NOT_FOUND"),
        (["jobs", "watch", "../models"], 1, "ROUTE_NOT_FOUND"),
        (["jobs", "cancel", "none"], 1, "JOB_NOT_FOUND"),
        (["jobs", "list", "-n", "0"], 1, "OPTION_OUT_OF_RANGE"),
        (["jobs", "list", "--state", "done"], 2, "USAGE"),
    ],
)
def test_a_bad_input_is_refused_with_its_code(mirage: Mirage, arguments: list[str], expected: int, error: str) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    Path("text.png").write_text("no picture")
    code, output, _ = mirage(*arguments, "--json")
    assert (code, json.loads(output)["code"]) == (expected, error)


def test_the_client_gets_a_job_with_its_previews(generating: Any) -> None:
    generating.start_generator(step_ms=100)
    with Client(generating.http_url) as client:
        job = client.create_job("axial", JobOptions(steps=3, request_id="once"))
        assert client.create_job("axial", JobOptions(steps=3, request_id="once")).id == job.id
        events = list(client.watch_job(job.id, previews=True))
        assert any(isinstance(event, JobPreview) and event.png.startswith(b"\x89PNG") for event in events)
        last = events[-1]
        assert isinstance(last, Job)
        assert (last.state, last.step, last.images[0].seed) == ("SUCCEEDED", 3, 2**62 + 1)
        assert client.job_image(job.id).media_type == "image/png"
        with pytest.raises(ApiError) as caught:
            client.job_image(job.id, 3)
        assert caught.value.code == "JOB_IMAGE_NOT_FOUND"


def test_a_job_that_waits_is_told_when_it_moves_up(generating: Any) -> None:
    with Client(generating.http_url) as client:
        first, second = client.create_job("waiting"), client.create_job("waiting")
        events = client.watch_job(second.id)
        assert next(events) == second
        assert second.queue_position == 1
        client.cancel_job(first.id)
        moved = next(events)
        assert isinstance(moved, Job)
        assert (moved.state, moved.queue_position) == ("PENDING", 0)
        events.close()


def test_a_watch_that_nobody_answers_any_more_ends(generating: Any) -> None:
    with Client(generating.http_url) as client:
        job = client.create_job("waiting")
        events = client.watch_job(job.id, patience_s=0.5)
        assert next(events)
        generating.kill_generator()
        generating.start_generator()
        # The generator that came back knows nothing of the job.
        with pytest.raises((ApiError, ReplyError, UnreachableError)) as caught:
            list(events)
    assert caught.value.code == "JOB_NOT_FOUND"


def test_closing_the_watch_leaves_the_job_alone(generating: Any) -> None:
    with Client(generating.http_url) as client:
        job = client.create_job("waiting")
        events = client.watch_job(job.id)
        next(events)
        events.close()
        give_up = time.monotonic() + 10
        while generating.watches() and time.monotonic() < give_up:
            time.sleep(0.02)
        assert generating.watches() == 0
        assert client.job(job.id).state == "PENDING"
