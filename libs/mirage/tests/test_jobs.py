"""Jobs as the client reads them: exact numbers, typed events, and watches that outlive a broken connection."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from mirage import client as client_module
from mirage.cli.files import check_writable, write_file
from mirage.cli.following import state_text, succeeded
from mirage.client import Client
from mirage.errors import ApiError, InputError, JobError, ReplyError
from mirage.jobs import JobOptions
from mirage_api.jobs import Job, JobPreview

from .test_descriptions import Body, frames

REQUEST = {"prompt": "axial", "steps": 4, "guidance_scale": 1.5, "seed": 2**63 - 1, "width": 64, "height": 64}
IMAGE = {"url": "/v1/jobs/a/images/0", "seed": 2**63 - 1, "width": 64, "height": 64, "bytes": 9, "sha256": "0" * 64}


def job(state: str, revision: int, **fields: Any) -> dict[str, Any]:
    return {"id": "a", "state": state, "step": 0, "steps": 4, "request": REQUEST, "revision": revision, **fields}


class Lazy(httpx.SyncByteStream):
    """A body whose pieces come as they are asked for."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces()


def watching(
    *streams: list[tuple[str, Any]] | Callable[[], Iterator[bytes]] | int,
) -> tuple[Client, list[httpx.Request]]:
    """A client whose requests are answered with these events, pieces of streams, or statuses, one after the other."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = streams[len(asked) - 1]
        if isinstance(given, int):
            return httpx.Response(given, json={"code": "X", "detail": "x", "status": given})
        stream = Lazy(given) if callable(given) else Body(frames(given))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    return Client("http://mirage.test", transport=httpx.MockTransport(answer)), asked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that a watch's patience is measured in: `now` stands still but for `step` seconds at each pause."""
    made = SimpleNamespace(now=0.0, step=0.5)

    def pause(_seconds: float) -> None:
        made.now += made.step

    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=pause))
    return made


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://mirage.test", transport=httpx.MockTransport(answer))


def test_what_is_not_set_is_not_sent_and_seeds_stay_exact() -> None:
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(202, json=job("SUCCEEDED", 1, images=[IMAGE]))

    made = answering(answer).create_job("axial", JobOptions(seed=2**63 - 1, priority="batch"))
    assert sent == [{"prompt": "axial", "seed": 2**63 - 1, "priority": "batch"}]
    assert (made.images[0].seed, made.request.seed) == (2**63 - 1, 2**63 - 1)


def test_events_come_typed_and_a_done_job_is_the_last() -> None:
    preview = {"index": 1, "step": 2, "image": base64.b64encode(b"png").decode()}
    client, asked = watching(
        [("progress", job("RUNNING", 1)), ("preview", preview), ("something-new", {}), ("done", job("SUCCEEDED", 2))]
    )
    found = list(client.watch_job("a", previews=True))
    assert [type(each) for each in found] == [Job, JobPreview, Job]
    assert isinstance(found[1], JobPreview)
    assert (found[1].index, found[1].step, found[1].png) == (1, 2, b"png")
    assert asked[0].url.path == "/v1/jobs/a/events"
    assert asked[0].url.params["previews"] == "true"


def test_a_watch_that_breaks_is_begun_again_and_says_nothing_twice() -> None:
    client, asked = watching(
        [("progress", job("PENDING", 1)), ("progress", job("RUNNING", 2))],
        503,
        [("progress", job("RUNNING", 2)), ("progress", job("RUNNING", 3)), ("done", job("SUCCEEDED", 4))],
    )
    found = [each for each in client.watch_job("a") if isinstance(each, Job)]
    assert [each.state for each in found] == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert len(asked) == 3


def test_a_job_that_is_gone_or_was_never_there_ends_the_watch() -> None:
    client, asked = watching([("progress", job("PENDING", 1))], 404)
    with pytest.raises(ApiError) as caught:
        list(client.watch_job("a"))
    assert (caught.value.status, len(asked)) == (404, 2)
    client, asked = watching(503)
    with pytest.raises(ApiError):
        list(client.watch_job("a"))
    assert len(asked) == 1


def test_a_server_that_stays_away_ends_the_watch() -> None:
    client, _ = watching([("progress", job("PENDING", 1))], 503, 503)
    with pytest.raises(ApiError) as caught:
        list(client.watch_job("a", patience_s=0.2))
    assert caught.value.status == 503


@pytest.mark.parametrize("trouble", [[], 429, 503, 504])
def test_a_job_that_was_quiet_for_an_hour_is_followed_on(
    clock: SimpleNamespace, trouble: list[tuple[str, Any]] | int
) -> None:
    client, asked = watching([("progress", job("PENDING", 1))], trouble, [("done", job("SUCCEEDED", 2))])
    events = client.watch_job("a")
    assert isinstance(next(events), Job)
    clock.now += 3600
    assert [each.state for each in events if isinstance(each, Job)] == ["SUCCEEDED"]
    assert len(asked) == 3


def test_a_watch_that_holds_for_a_while_ends_the_trouble_before_it(clock: SimpleNamespace) -> None:
    clock.step = 20

    def quiet() -> Iterator[bytes]:
        yield b": hello\n\n"
        clock.now += 6

    begun = [("progress", job("PENDING", 1))]
    client, asked = watching(begun, 503, quiet, 503, [("done", job("SUCCEEDED", 2))])
    assert [each.state for each in client.watch_job("a") if isinstance(each, Job)] == ["PENDING", "SUCCEEDED"]
    assert len(asked) == 5
    client, asked = watching(begun, 503, 503)
    with pytest.raises(ApiError):
        list(client.watch_job("a"))
    assert len(asked) == 3


def test_a_server_that_says_what_is_known_and_breaks_off_is_not_asked_for_ever(clock: SimpleNamespace) -> None:
    clock.step = 10
    client, asked = watching(*[[("progress", job("PENDING", 1))]] * 9)
    with pytest.raises(ReplyError, match="ended the watch"):
        list(client.watch_job("a"))
    assert len(asked) == 5


def test_a_place_in_the_queue_and_a_time_left_are_told_as_they_change() -> None:
    client, _ = watching(
        [
            ("progress", job("PENDING", 1, queue_position=1, eta_s=9.0)),
            ("progress", job("PENDING", 1, queue_position=0, eta_s=9.1)),
            ("progress", job("PENDING", 1, queue_position=0, eta_s=4.0)),
        ],
        [("progress", job("PENDING", 1, queue_position=0, eta_s=4.2)), ("done", job("SUCCEEDED", 2))],
    )
    found = [(each.queue_position, each.eta_s) for each in client.watch_job("a") if isinstance(each, Job)]
    assert found == [(1, 9.0), (0, 9.1), (0, 4.0), (0, None)]


@pytest.mark.parametrize("image", ["no base64!", 7, None])
def test_a_preview_that_is_none_is_an_error(image: object) -> None:
    client, _ = watching([("preview", {"index": 0, "step": 1, "image": image})])
    with pytest.raises(ReplyError):
        list(client.watch_job("a", previews=True, patience_s=0))


@pytest.mark.parametrize(
    "document", [{}, {"id": "a"}, {"id": "a", "state": "RUNNING", "request": 7}, job("X", 1, step="1")]
)
def test_a_job_that_is_none_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(ReplyError):
        answering(lambda _request: httpx.Response(200, json=document)).job("a")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "PENDING"}, "waiting, next in the queue"),
        ({"state": "PENDING", "queue_position": 3, "eta_s": 12.4}, "waiting, 3 ahead, about 12 s left"),
        ({"state": "RUNNING", "step": 2, "eta_s": 0.2}, "step 2 of 4, about 1 s left"),
        ({"state": "EXPIRED"}, "expired"),
    ],
)
def test_a_state_is_told_in_words(fields: dict[str, Any], words: str) -> None:
    assert state_text(Job.model_validate({**job("", 1), **fields})) == words


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"state": "FAILED", "problem": {"code": "MODEL_FAILED", "detail": "It failed."}}, "MODEL_FAILED"),
        ({"state": "CANCELLED"}, "JOB_CANCELLED"),
        ({"state": "EXPIRED"}, "JOB_EXPIRED"),
        ({"state": "RUNNING"}, "JOB_RUNNING"),
    ],
)
def test_a_job_without_images_is_an_error_with_a_code(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(JobError) as caught:
        succeeded(Job.model_validate({**job("", 1), **fields}))
    assert caught.value.code == code


def test_a_file_is_written_whole_and_over_another_only_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_file(path, b"one", replace=False)
    with pytest.raises(InputError, match="--force"):
        write_file(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_file(path, b"two")
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    for bad in (tmp_path, tmp_path / "nowhere" / "a.png"):
        with pytest.raises(InputError):
            check_writable(bad, replace=True)
