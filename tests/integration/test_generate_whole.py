"""Synthetic images through everything that is real: gateway, generator, worker and Redis, each with the server's keys."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirage.cli.entry import run
from mirage.client import Client
from mirage.errors import ApiError
from mirage.jobs import JobOptions
from mirage.provenance import read_provenance
from mirage.uploads import Upload
from mirage_api.jobs import Job, JobPreview
from mirage_launcher import ports
from mirage_launcher.folders import Folders
from mirage_launcher.state import State
from tests.support.generator_process import house as generator_house

KEYS = {name: name * 8 for name in ("ann", "bob", "head", "gate")}
ACCEPTED = ",".join(f"{name}:{key}{':admin' if name in ('head', 'gate') else ''}" for name, key in KEYS.items())
# So long that something can be done to it amid its steps.
LONG = JobOptions(width=768, height=768, steps=10, images=4)


@dataclass
class Whole:
    """The gateway's address, and the house of the generator."""

    url: str
    house: Any = field(repr=False)

    def client(self, name: str) -> Client:
        """A client with the key of that name."""
        return Client(self.url, api_key=KEYS[name], timeout_s=60)


@pytest.fixture(scope="module")
def whole(system: Any) -> Iterator[Whole]:
    """A gateway of its own before the system's retriever and encoder, and a generator with one worker on a tiny bundle."""
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    addresses = {each.name: each.address for each in state.services}
    with (
        generator_house(workers=1, env_MIRAGE_API_KEYS=ACCEPTED) as house,
        _gateway(
            house,
            MIRAGE_SERVICE_KEY=KEYS["gate"],
            MIRAGE_GATEWAY_ENCODER=addresses["encoder"],
            MIRAGE_GATEWAY_RETRIEVER=addresses["retriever"],
        ) as made,
    ):
        yield made


@contextmanager
def _gateway(house: Any, **variables: str) -> Iterator[Whole]:
    """A gateway that asks for keys, before that generator."""
    http_port = ports.any_free()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")},
        "MIRAGE_API_KEYS": ACCEPTED,
        "MIRAGE_GATEWAY_HTTP_PORT": str(http_port),
        "MIRAGE_GATEWAY_PORT": str(ports.any_free(taken=frozenset({http_port}))),
        "MIRAGE_GATEWAY_LLM": "",
        "MIRAGE_GATEWAY_GENERATOR": house.address,
        **variables,
    }
    command = [sys.executable, "-P", "-m", "mirage_gateway"]
    gateway = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        made = Whole(f"http://127.0.0.1:{http_port}", house)
        _wait_ready(made.url)
        yield made
    finally:
        gateway.terminate()
        gateway.wait()


def _wait_ready(url: str) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).json()["dependencies"]["generator"] == "serving":
                return
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.05)
    raise AssertionError("the gateway does not see the generator")


def test_an_image_comes_with_its_whole_provenance_and_its_replay_is_the_same(
    whole: Whole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIRAGE_URL", whole.url)
    monkeypatch.setenv("MIRAGE_API_KEY", KEYS["ann"])
    monkeypatch.chdir(tmp_path)
    arguments = ["--seed", "7", "--steps", "3", "--guidance", "1.5", "--negative", "lesion", "-o", "a.png", "--json"]
    assert run(["generate", "axial T1 brain", *arguments]) == 0
    job = json.loads(capsys.readouterr().out)
    said = read_provenance((tmp_path / "a.png").read_bytes())
    assert said is not None
    assert (said.prompt, said.negative_prompt, said.seed, said.steps) == ("axial T1 brain", "lesion", 7, 3)
    assert (said.guidance_scale, said.job_id, said.visible_mark) == (1.5, job["id"], True)
    assert said.fingerprint == job["fingerprint"]
    assert run(["generate", "--replay", "a.png", "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert (replayed["same_pixels"], replayed["differences"]) == (True, [])
    assert replayed["job"]["id"] != job["id"]


def test_a_watch_shows_the_job_grow(whole: Whole) -> None:
    with whole.client("ann") as client:
        job = client.create_job("sagittal", JobOptions(width=512, height=512, steps=8))
        events = list(client.watch_job(job.id, previews=True))
    steps = [event.step for event in events if isinstance(event, Job)]
    assert steps == sorted(steps)
    assert any(isinstance(event, JobPreview) for event in events)
    last = events[-1]
    assert isinstance(last, Job)
    assert (last.state, last.step, len(last.images)) == ("SUCCEEDED", 8, 1)


def test_another_clients_job_and_image_are_not_found_and_an_admin_sees_them(whole: Whole) -> None:
    with whole.client("ann") as ann, whole.client("bob") as bob, whole.client("head") as head:
        job = ann.create_job("axial", JobOptions(images=1))
        [*_, last] = ann.watch_job(job.id)
        assert isinstance(last, Job)
        assert last.state == "SUCCEEDED"
        for call in (bob.job, bob.job_image, bob.cancel_job, lambda each: list(bob.watch_job(each))):
            with pytest.raises(ApiError) as caught:
                call(job.id)
            assert (caught.value.code, caught.value.status) == ("JOB_NOT_FOUND", 404)
        assert job.id not in [each.id for each in bob.jobs(limit=100).jobs]
        assert head.job(job.id).client == "ann"
        assert head.job_image(job.id).data == ann.job_image(job.id).data
        assert ann.job(job.id).client == ""


@pytest.fixture(scope="module")
def apart() -> Iterator[Whole]:
    """As in containers: the gateway alone has keys, and the generator believes who is on its network. Nobody searches."""
    with (
        generator_house(workers=1, PUBLISHED="private") as house,
        _gateway(house, MIRAGE_GATEWAY_ENCODER="127.0.0.1:9", MIRAGE_GATEWAY_RETRIEVER="127.0.0.1:9") as made,
    ):
        yield made


def test_where_the_gateway_alone_has_keys_an_admin_sees_all_jobs_and_nobody_else_does(apart: Whole) -> None:
    with apart.client("ann") as ann, apart.client("bob") as bob, apart.client("head") as head:
        hers, its = ann.create_job("axial"), head.create_job("coronal")
        for job, owner in ((hers, "ann"), (its, "head")):
            assert [each.state for each in head.watch_job(job.id) if isinstance(each, Job)][-1] == "SUCCEEDED"
            assert head.job(job.id).client == owner
            assert head.job_image(job.id).data.startswith(b"\x89PNG")
            assert head.cancel_job(job.id).state == "SUCCEEDED"
        assert [each.client for each in head.jobs().jobs] == ["head", "ann"]
        assert [(each.id, each.client) for each in ann.jobs().jobs] == [(hers.id, "")]
        assert bob.jobs().jobs == ()
        for job in (hers, its):
            for call in (bob.job, bob.job_image, bob.cancel_job, lambda each: list(bob.watch_job(each))):
                with pytest.raises(ApiError) as caught:
                    call(job.id)
                assert caught.value.code == "JOB_NOT_FOUND"


def test_the_command_line_fetches_nothing_of_another_clients_job(
    apart: Whole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with apart.client("ann") as ann:
        job = ann.create_job("axial")
        assert [each.state for each in ann.watch_job(job.id) if isinstance(each, Job)][-1] == "SUCCEEDED"
    monkeypatch.setenv("MIRAGE_URL", apart.url)
    monkeypatch.setenv("MIRAGE_API_KEY", KEYS["bob"])
    monkeypatch.chdir(tmp_path)
    assert run(["jobs", "get", job.id, "-o", "x.png", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "JOB_NOT_FOUND"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MIRAGE_API_KEY", KEYS["ann"])
    assert run(["jobs", "get", job.id, "-o", "x.png", "--json"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        (JobOptions(steps=0), "OPTION_OUT_OF_RANGE", "steps"),
        (JobOptions(steps=11), "OPTION_OUT_OF_RANGE", "steps"),
        (JobOptions(steps=10**6), "OPTION_OUT_OF_RANGE", "steps"),
        (JobOptions(guidance_scale=9.0), "OPTION_OUT_OF_RANGE", "guidance_scale"),
        (JobOptions(width=511), "OPTION_OUT_OF_RANGE", "width"),
        (JobOptions(height=10**5), "OPTION_OUT_OF_RANGE", "height"),
        (JobOptions(seed=-1), "OPTION_OUT_OF_RANGE", "seed"),
        (JobOptions(seed=2**70), "OPTION_OUT_OF_RANGE", "seed"),
        (JobOptions(negative_prompt="lesion", guidance_scale=1.0), "NEGATIVE_PROMPT_UNUSED", ""),
    ],
)
def test_what_the_model_was_not_made_for_is_refused(whole: Whole, options: JobOptions, code: str, field: str) -> None:
    with whole.client("ann") as client, pytest.raises(ApiError) as caught:
        client.create_job("axial", options)
    assert caught.value.code == code
    assert caught.value.metadata.get("field", "") == field or not field


def test_a_running_job_is_cancelled_through_everything(whole: Whole) -> None:
    with whole.client("ann") as client:
        job = client.create_job("axial", LONG)
        for event in client.watch_job(job.id):
            if isinstance(event, Job) and event.step and not event.ended:
                client.cancel_job(job.id)
                break
        assert [event.state for event in client.watch_job(job.id) if isinstance(event, Job)][-1] == "CANCELLED"


def test_a_watch_goes_on_over_a_kill_of_the_generators_service(whole: Whole) -> None:
    seen: list[Job] = []
    started = threading.Event()

    def follow(job_id: str) -> None:
        with whole.client("ann") as client:
            for event in client.watch_job(job_id):
                if isinstance(event, Job):
                    seen.append(event)
                    if event.step:
                        started.set()

    with whole.client("ann") as client:
        job = client.create_job("axial", LONG)
    watching = threading.Thread(target=follow, args=(job.id,))
    watching.start()
    assert started.wait(60)
    whole.house.kill(whole.house.api)
    whole.house.start_api()
    watching.join(120)
    assert not watching.is_alive()
    assert [each.state for each in seen].count("SUCCEEDED") == 1
    assert seen[-1].state == "SUCCEEDED"
    _wait_ready(whole.url)


def test_a_made_image_cannot_join_the_atlas(whole: Whole) -> None:
    with whole.client("ann") as client:
        [*_, last] = client.watch_job(client.create_job("axial").id)
        assert isinstance(last, Job)
        image = client.job_image(last.id).data
    with whole.client("head") as admin:
        [outcome] = admin.upsert(
            [Upload("made-by-a-model", "An axial section.", image, licence="CC0-1.0", source="a model")]
        )
    assert (outcome.state, outcome.error and outcome.error.code) == ("rejected", "SYNTHETIC_REFUSED")
