"""Explanations as the client reads them, and as the command line shows them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mirage.cli.describe import marked
from mirage.client import Client
from mirage.descriptions import DescribeOptions
from mirage.errors import ApiError, InputError, ReplyError, TimedOutError
from mirage.queries import Query, Term
from mirage_api.descriptions import DescribeDone, DescribeRanking, DescribeSentence, DescribeStart
from mirage_api.search import SearchReply

RESULT = {"id": "a", "score": 0.5, "caption": "Axial T1.", "labels": {}}
REPLY = {"results": [RESULT], "match": "good", "query": {"terms": []}, "timings": {}}
SENTENCE = {"text": "Axial T1.", "ids": ["a"], "kind": "caption", "block": "see"}
DONE = {
    "text": "Axial T1.",
    "sentences": [SENTENCE],
    "shown": 1,
    "withheld": 2,
    "source": "model",
    "finish": "stop",
    "notice": "",
    "tokens": 2,
}
RANKING = {"first": ["a"], "second": [RESULT], "best": "a", "sentences": 1, "truncated": False}
STREAM: list[tuple[str, Any]] = [
    ("retrieval", REPLY),
    ("start", {"used_ids": ["a"], "dropped_ids": [], "seed": 7}),
    ("sentence", SENTENCE),
    ("something-new", {"x": 1}),
    ("ranking", RANKING),
    ("done", DONE),
]


def frames(events: list[tuple[str, Any]]) -> bytes:
    return b": hello\n\n" + b"".join(f"event: {n}\ndata: {json.dumps(d)}\n\n".encode() for n, d in events)


class Body(httpx.SyncByteStream):
    """A body in small pieces, that knows whether it was closed."""

    def __init__(self, content: bytes, *, then: Exception | None = None) -> None:
        self.content, self.then, self.closed, self.taken = content, then, False, 0

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), 7):
            self.taken = start
            yield self.content[start : start + 7]
        if self.then:
            raise self.then

    def close(self) -> None:
        self.closed = True


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://mirage.test", transport=httpx.MockTransport(answer))


def streaming(body: Body, asked: list[httpx.Request] | None = None) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, stream=body)

    return client(answer)


def test_events_come_typed_and_in_order() -> None:
    asked: list[httpx.Request] = []
    found = list(streaming(Body(frames(STREAM)), asked).describe("pons", DescribeOptions(max_tokens=9, seed=7), k=2))
    kinds = [type(event) for event in found]
    assert kinds == [
        SearchReply,
        DescribeStart,
        DescribeSentence,
        DescribeRanking,
        DescribeDone,
    ]
    assert found[-1] == DescribeDone.model_validate(DONE)
    assert json.loads(asked[0].content) == {"terms": [{"text": "pons"}], "k": 2, "max_tokens": 9, "seed": 7}
    assert asked[0].headers["accept"] == "text/event-stream"


def test_two_queries_are_sent_as_two_sides() -> None:
    asked: list[httpx.Request] = []
    list(streaming(Body(frames([("done", DONE)])), asked).describe("pons", k=2, against=Query((Term(id="r"),))))
    sides = {"a": {"terms": [{"text": "pons"}], "k": 2}, "b": {"terms": [{"id": "r"}], "k": 2}}
    assert json.loads(asked[0].content) == {**sides, "k": 2}


def test_a_reader_who_leaves_closes_the_connection() -> None:
    body = Body(frames(STREAM) * 100)
    events = streaming(body).describe(Query((Term(id="a"),)))
    assert isinstance(next(events), SearchReply)
    events.close()
    assert body.closed
    assert body.taken < 1000


def test_the_whole_comes_as_one_document() -> None:
    whole = {**DONE, "retrieval": REPLY, "start": None, "ranking": RANKING}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept"] == "application/json"
        return httpx.Response(200, json=whole)

    found = client(answer).description("pons")
    assert (found.text, found.raw) == ("Axial T1.", whole)
    assert found.ranking is not None
    assert found.ranking.best == "a"


def test_a_declined_question_has_no_ranking() -> None:
    whole = {"text": "", "source": None, "finish": "no_match", "retrieval": REPLY, "ranking": None, "notice": "none"}
    found = client(lambda _request: httpx.Response(200, json=whole)).description("pons")
    assert (found.source, found.finish, found.ranking) == (None, "no_match", None)


PROBLEM = {"code": "QUEUE_FULL", "detail": "Too much work.", "status": 429, "retry_after_s": 2.0}


def test_an_error_event_is_raised_after_what_came_before() -> None:
    events = streaming(Body(frames([*STREAM[:3], ("error", {"problem": PROBLEM})]))).describe("pons")
    assert [type(next(events)) for _ in range(3)] == [SearchReply, DescribeStart, DescribeSentence]
    with pytest.raises(ApiError) as caught:
        next(events)
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("QUEUE_FULL", 429, 2.0)


def test_a_refusal_is_raised_at_the_first_event() -> None:
    events = client(lambda _request: httpx.Response(429, json=PROBLEM)).describe("pons")
    with pytest.raises(ApiError) as caught:
        next(events)
    assert (caught.value.code, caught.value.status) == ("QUEUE_FULL", 429)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (Body(b"event: sentence\ndata: nonsense\n\n"), ReplyError),
        (Body(b"event: sentence\ndata: [1]\n\n"), ReplyError),
        (Body(b"event: sentence\ndata: {}\n\n"), ReplyError),
        (Body(frames(STREAM[:2]), then=httpx.ReadError("gone")), ReplyError),
        (Body(frames(STREAM[:2]), then=httpx.ReadTimeout("slow")), TimedOutError),
    ],
)
def test_a_stream_that_is_none_of_ours_is_an_error(body: Body, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(streaming(body).describe("pons"))


def test_an_answer_that_is_no_stream_is_an_error() -> None:
    with pytest.raises(ReplyError, match="not a stream"):
        list(client(lambda _request: httpx.Response(200, json={})).describe("pons"))


def test_a_number_that_json_has_not_is_not_sent() -> None:
    with pytest.raises(InputError):
        list(client(lambda _request: httpx.Response(200)).describe("pons", DescribeOptions(temperature=float("nan"))))


@pytest.mark.parametrize(
    ("sentences", "shown"),
    [
        ([("A b.", "xy", "caption", None), ("C d.", "", "general", None)], "A b. [1][2] C d. [general knowledge]"),
        (
            [("C d.", "y", "extract", "where"), ("A.", "", "general", "where"), ("E.", "x", "caption", "see")],
            "What you see: E. [1]\nWhere to look: C d. [2] A. [general knowledge]",
        ),
        ([("A b.", "z", "caption", "apart")], "What it is told apart from: A b."),
        ([("\x1b[2J ä 𝔸b.", "x", "caption", None)], "[2J ä 𝔸b. [1]"),
        ([], ""),
    ],
)
def test_sources_are_numbered_in_the_text(sentences: list[Any], shown: str) -> None:
    made = [DescribeSentence(text=text, ids=tuple(ids), kind=kind, block=block) for text, ids, kind, block in sentences]
    assert marked(made, ["x", "y"]) == shown
