"""The asynchronous client: the same requests, values and errors as the synchronous one."""

import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mirage import calls
from mirage.client import AsyncClient, Client, Operations
from mirage.errors import ApiError, ReplyError, TimedOutError, UnreachableError
from mirage.uploads import Upload
from mirage_api.descriptions import DescribeDone, DescribeSentence
from mirage_api.jobs import Job
from mirage_api.quality import Measured
from mirage_api.ratings import ItemUpload
from mirage_api.readings import ReadDone, ReadLabel

from .test_client import SEARCH
from .test_descriptions import STREAM, frames
from .test_jobs import job

# What each operation is called with, and what the gateway answers.
FLAG = {"id": "f", "record_id": "a", "reason": "other", "comment": "", "create_time": ""}
SHEET = {"id": "s", "collection": "atlas", "create_time": "", "raters": 1, "size": 1, "answered": 0}
ITEM = {"number": 1, "kind": "result", "query": "q", "system": "mirage"}
EVALUATION = {"subject": "speed", "collection": "atlas", "fingerprint": "f", "records": 1, "create_time": ""}
CALLS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "search": (("q",), SEARCH),
    "compare": (("q",), {"base": SEARCH, "shifted": SEARCH, "shift": 0.5}),
    "compare_two": (("q", "r"), {"base": SEARCH, "shifted": SEARCH, "shift": 0.5}),
    "similar": (("a",), SEARCH),
    "description": (("q",), {"text": "", "retrieval": SEARCH}),
    "create_job": (("axial",), job("PENDING", 1)),
    "job": (("a",), job("PENDING", 1)),
    "jobs": ((), {"jobs": [job("PENDING", 1)]}),
    "cancel_job": (("a",), job("CANCELLED", 2)),
    "job_image": (("a", 1), {}),
    "record": (("a",), {"id": "a"}),
    "case": (("a",), {"id": "a", "records": []}),
    "image": (("a",), {}),
    "facets": ((), {"facets": [{"name": "plane", "values": [{"value": "axial", "count": 2}]}]}),
    "upsert": (([Upload("a", "c", b"png")],), {"outcomes": [{"id": "a", "state": "created"}]}),
    "delete": (("a",), {"deleted": 1}),
    "flag": (("a", "other"), FLAG),
    "flags": ((), {"flags": [FLAG]}),
    "encode_image": ((b"png",), {"guess": {"kind": "medical"}, "fingerprint": "f", "vector": "AACAPw=="}),
    "classify": ((b"png",), {"guess": {"kind": "medical"}}),
    "look_up": (([("a", "")],), {"records": [{"id": "a", "record": None}]}),
    "records": ((), {"records": [{"id": "a"}]}),
    "collections": ((), {"collections": [{"name": "atlas"}]}),
    "create_collection": (("next",), {"name": "next"}),
    "activate_collection": (("next",), {"collection": {"name": "next"}, "previous": "atlas"}),
    "delete_collection": (("old",), {"records": 7}),
    "common_queries": ((), {"queries": ["brain"]}),
    "quality": ((), {"evaluations": [EVALUATION]}),
    "store_evaluation": ((Measured(subject="speed", fingerprint="f", figures=()),), EVALUATION),
    "create_rating_sheet": ((), {"sheet": SHEET, "tokens": ["t"]}),
    "add_rating_item": (("s", ItemUpload(kind="result", query="q", record_id="a", system="mirage")), ITEM),
    "rating_sheets": ((), {"sheets": [SHEET]}),
    "rating_sheet": (("s",), {**SHEET, "items": [ITEM], "answers": [{"number": 1, "rater": 1}]}),
    "delete_rating_sheet": (("s",), {"answers": 3}),
    "models": ((), {"models": [{"name": "mini"}]}),
    "collection": ((), {"name": "atlas"}),
}


class Answering:
    """Answers with a document, and keeps what was asked."""

    def __init__(self, document: Any, status: int = 200) -> None:
        self.document, self.status = document, status
        self.asked: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        # The boundary of a form is random.
        content = b"" if "multipart" in request.headers.get("content-type", "") else request.content
        self.asked.append((request.method, str(request.url), content, request.headers.get("accept")))
        return httpx.Response(self.status, json=self.document)


def asynchronous(answer: Any) -> AsyncClient:
    return AsyncClient("http://mirage.test", transport=httpx.MockTransport(answer))


def test_every_operation_is_compared() -> None:
    operations = {name for name in vars(Operations) if not name.startswith("_")}
    assert operations == {*CALLS, "describe", "read"}
    assert all(inspect.getdoc(getattr(calls, name)) for name in operations)


@pytest.mark.parametrize("name", CALLS)
async def test_both_clients_ask_and_return_the_same(name: str) -> None:
    arguments, document = CALLS[name]
    gateway = Answering(document)
    with Client("http://mirage.test", transport=httpx.MockTransport(gateway)) as client:
        expected = getattr(client, name)(*arguments)
    async with asynchronous(gateway) as client_of_asyncio:
        assert await getattr(client_of_asyncio, name)(*arguments) == expected
    first, second = gateway.asked
    assert first == second


class Pieces(httpx.AsyncByteStream):
    """A body in pieces of 7 bytes, that knows whether it was closed."""

    def __init__(self, content: bytes, *, then: Exception | None = None) -> None:
        self.content, self.then, self.closed = content, then, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), 7):
            yield self.content[start : start + 7]
        if self.then:
            raise self.then

    async def aclose(self) -> None:
        self.closed = True


def streaming(*bodies: Pieces | int) -> AsyncClient:
    left = list(bodies)

    def answer(_request: httpx.Request) -> httpx.Response:
        body = left.pop(0)
        if isinstance(body, int):
            return httpx.Response(body, json={"code": "X", "detail": "x", "status": body})
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    return asynchronous(answer)


async def test_a_description_comes_event_by_event() -> None:
    body = Pieces(frames(STREAM))
    found = [event async for event in streaming(body).describe("pons")]
    assert [event.text for event in found if isinstance(event, DescribeSentence)] == ["Axial T1."]
    assert isinstance(found[-1], DescribeDone)
    assert body.closed


async def test_a_reading_comes_event_by_event() -> None:
    label = {"state": "not_known", "text": "Not known."}
    done = {"finish": "complete", "disclaimer": "Not for diagnosis.", "not_for_diagnosis": True}
    body = Pieces(frames([("label", label), ("step of a newer server", {}), ("done", done)]))
    found = [event async for event in streaming(body).read(b"png", kind={"modality": "ct"})]
    assert [type(event) for event in found] == [ReadLabel, ReadDone]
    assert body.closed


async def test_a_reader_who_leaves_closes_the_connection() -> None:
    body = Pieces(frames(STREAM) * 100)
    events = streaming(body).describe("pons")
    await anext(events)
    await events.aclose()
    assert body.closed


async def test_an_error_event_is_raised() -> None:
    problem = {"code": "QUEUE_FULL", "detail": "Too much work.", "status": 429}
    events = streaming(Pieces(frames([("error", {"problem": problem})]))).describe("pons")
    with pytest.raises(ApiError) as caught:
        await anext(events)
    assert (caught.value.code, caught.value.status) == ("QUEUE_FULL", 429)


async def test_a_watch_outlives_a_broken_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirage.client._PAUSE_S", 0)
    client = streaming(
        Pieces(frames([("progress", job("PENDING", 1))]), then=httpx.ReadError("gone")),
        503,
        Pieces(frames([("progress", job("PENDING", 1)), ("done", job("SUCCEEDED", 2))])),
    )
    found = [event.state async for event in client.watch_job("a") if isinstance(event, Job)]
    assert found == ["PENDING", "SUCCEEDED"]


async def test_a_watch_of_a_job_that_is_not_there_ends() -> None:
    with pytest.raises(ApiError) as caught:
        await anext(streaming(404).watch_job("a"))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("Connection refused"), UnreachableError),
        (httpx.ReadTimeout("slow"), TimedOutError),
        (httpx.RemoteProtocolError("gone"), ReplyError),
    ],
)
async def test_a_failed_exchange_is_an_error_of_this_package(error: Exception, kind: type[Exception]) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(kind):
        await asynchronous(fail).search("q")


@pytest.mark.parametrize("content", [b"<html>", b"[1]", json.dumps({"results": []}).encode()])
async def test_an_answer_that_is_not_mirages_is_named_so(content: bytes) -> None:
    with pytest.raises(ReplyError):
        await asynchronous(lambda _request: httpx.Response(200, content=content)).search("q")
