"""The client says what callers ask for, and turns what the gateway answers into values and errors."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirage.client import Client
from mirage.errors import ApiError, InputError, ReplyError, TimedOutError, UnreachableError
from mirage.queries import Query, Term, weighted_terms
from mirage.transport import REPLY_BYTES
from mirage.uploads import Upload

SEARCH = {
    "results": [
        {
            "id": "a",
            "score": 0.5,
            "cosine": 0.5,
            "caption": "axial T1",
            "labels": {"plane": ["axial"], "modality": ["mr"]},
            "licence": "CC0-1.0",
            "source": "here",
            "image_url": "/v1/images/a",
            "thumbnail_url": "/v1/images/a/thumbnail",
        }
    ],
    "match": "good",
    "query": {"tokens": 4, "truncated": False, "shift": 0.75, "terms": [{"label": "x", "weight": 1, "share": 1.0}]},
    "timings": {"total_ms": 3.5, "cached": False},
    "next_page_token": "more",
}


class Gateway:
    """Answers every request with one response, and keeps the requests."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)

    @property
    def path(self) -> str:
        return self.requests[-1].url.raw_path.decode()


def client(gateway: Callable[[httpx.Request], httpx.Response], **options: Any) -> Client:
    return Client("http://mirage.test", transport=httpx.MockTransport(gateway), **options)


def answering(document: Any, status: int = 200) -> Gateway:
    return Gateway(lambda _request: httpx.Response(status, json=document))


def failing(error: Exception) -> Gateway:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    return Gateway(fail)


def test_a_text_search_sends_one_term_and_gives_typed_results() -> None:
    gateway = answering(SEARCH)
    reply = client(gateway).search("axial T1", k=3, where={"plane": ["axial"]})
    assert gateway.body == {"terms": [{"text": "axial T1"}], "k": 3, "where": {"plane": ["axial"]}}
    [result] = reply.results
    assert (result.id, result.score, result.labels) == ("a", 0.5, {"plane": ("axial",), "modality": ("mr",)})
    assert (reply.match, reply.query.shift, reply.next_page_token) == ("good", 0.75, "more")
    assert reply.timings.total_ms == 3.5
    assert reply.raw == SEARCH


def test_a_sum_of_terms_is_sent_in_order_with_its_weights() -> None:
    gateway = answering(SEARCH)
    terms = weighted_terms("q", images=[b"\x89PNG"], ids=["a"], minus=["axial"], plus=["sagittal"])
    client(gateway).search(Query((*terms, Term(vector=[1.0, 0.5], weight=0.5)), vectors="fused", min_score=0.2))
    assert gateway.body == {
        "terms": [
            {"text": "q"},
            {"image": base64.b64encode(b"\x89PNG").decode()},
            {"id": "a"},
            {"text": "axial", "weight": -1.0},
            {"text": "sagittal"},
            {"vector": [1.0, 0.5], "weight": 0.5},
        ],
        "k": 10,
        "vectors": "fused",
        "min_score": 0.2,
    }


@pytest.mark.parametrize("fields", [{}, {"text": "a", "id": "b"}])
def test_a_term_is_exactly_one_thing(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Term(**fields)


def test_a_comparison_takes_one_phrase_or_several() -> None:
    gateway = answering({"base": SEARCH, "shifted": {**SEARCH, "match": "weak"}, "shift": 0.9})
    both = client(gateway).compare("q", minus="axial", plus=["sagittal", "t2"], k=2)
    assert gateway.body == {"text": "q", "minus": ["axial"], "plus": ["sagittal", "t2"], "k": 2}
    assert (both.base.match, both.shifted.match, both.shift) == ("good", "weak", 0.9)


@pytest.mark.parametrize("record_id", ["../../etc/passwd", "a/b", "..", ".", "a?b#c", "ä b"])
def test_an_id_never_leaves_its_path_segment(record_id: str) -> None:
    gateway = answering({"id": "x"})
    client(gateway).record(record_id)
    assert gateway.path.startswith("/v1/records/")
    segment = gateway.path.removeprefix("/v1/records/")
    assert not set("/?#") & set(segment)
    assert segment not in (".", "..")


def test_filters_of_get_requests_are_repeated_parameters() -> None:
    gateway = answering({"facets": [{"name": "plane", "values": [{"value": "axial", "count": 3}]}]})
    [facet] = client(gateway).facets(where={"plane": ["axial", "coronal"]})
    assert gateway.requests[-1].url.params.get_list("where") == ["plane=axial", "plane=coronal"]
    assert [(each.value, each.count) for each in facet.values] == [("axial", 3)]


def test_records_are_stored_as_pairs_of_a_document_and_a_file() -> None:
    outcomes = [
        {"id": "a", "state": "created"},
        {"id": "b", "state": "rejected", "error": {"code": "IMAGE_EMPTY", "message": "no image", "metadata": {}}},
    ]
    gateway = answering({"outcomes": outcomes})
    first, second = client(gateway).upsert(Upload(name, "caption ä", b"PIXELS" + name.encode()) for name in "ab")
    assert (first.state, second.state, second.error and second.error.code) == ("created", "rejected", "IMAGE_EMPTY")
    content = gateway.requests[-1].content
    marks = [b'name="record"', b'"id": "a"', b'name="image"', b"PIXELSa", b'name="record"', b'"id": "b"', b"PIXELSb"]
    position = 0
    for mark in marks:
        position = content.index(mark, position) + 1


def test_more_records_than_the_gateway_takes_are_not_sent() -> None:
    with pytest.raises(InputError):
        client(answering({})).upsert(Upload(str(i), "c", b"x") for i in range(65))


def test_the_key_travels_as_a_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = answering(SEARCH)
    monkeypatch.setenv("MIRAGE_API_KEY", "from-the-environment")
    client(gateway).search("q")
    client(gateway, api_key="given").search("q")
    sent = [request.headers["authorization"] for request in gateway.requests]
    assert sent == ["Bearer from-the-environment", "Bearer given"]


def test_a_problem_becomes_an_error_with_its_code() -> None:
    problem = {
        "type": "x",
        "title": "t",
        "status": 429,
        "detail": "too busy",
        "code": "QUEUE_FULL",
        "metadata": {"service": "encoder"},
        "retry_after_s": 1.5,
        "request_id": "r1",
    }
    with pytest.raises(ApiError) as caught:
        client(answering(problem, 429)).search("q")
    error = caught.value
    assert (error.code, error.message, error.status, error.retry_after_s) == ("QUEUE_FULL", "too busy", 429, 1.5)
    assert error.metadata == {"service": "encoder"}
    assert error.problem()["request_id"] == "r1"


@pytest.mark.parametrize(
    ("response", "match"),
    [
        (httpx.Response(200, text="<html>"), "not JSON"),
        (httpx.Response(200, json=[1]), "not a JSON object"),
        (httpx.Response(200, json={"results": []}), "query"),
        (httpx.Response(200, json={**SEARCH, "results": [{"id": "a"}]}), "score"),
        (httpx.Response(502, text="Bad Gateway"), "502"),
        (httpx.Response(302, headers={"location": "/login"}), "302"),
        (httpx.Response(200, content=bytes(REPLY_BYTES + 1)), "exceeds"),
    ],
)
def test_an_answer_that_is_not_mirages_is_named_so(response: httpx.Response, match: str) -> None:
    with pytest.raises(ReplyError, match=match):
        client(Gateway(lambda _request: response)).search("q")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("Connection refused"), UnreachableError),
        (httpx.ConnectTimeout("slow"), UnreachableError),
        (httpx.ReadTimeout("slow"), TimedOutError),
        (httpx.RemoteProtocolError("gone"), ReplyError),
    ],
)
def test_a_failed_exchange_is_an_error_of_this_package(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        client(failing(error)).search("q")


@pytest.mark.parametrize("query", [Query((Term(text="a"),), min_score=float("nan")), Query((Term(text="\udcff"),))])
def test_what_json_cannot_say_is_not_sent(query: Query) -> None:
    gateway = answering(SEARCH)
    with pytest.raises(InputError):
        client(gateway).search(query)
    assert gateway.requests == []


def test_a_server_that_is_down_is_named_with_the_way_to_start_it() -> None:
    with pytest.raises(UnreachableError, match=r"no MIRAGE at http://mirage.test .*start it with `mirage up`"):
        client(failing(httpx.ConnectError("Connection refused"))).collection()


def test_the_key_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-key-in-a-file\n")
    monkeypatch.delenv("MIRAGE_API_KEY", raising=False)
    monkeypatch.setenv("MIRAGE_API_KEY_FILE", str(file))
    gateway = answering(SEARCH)
    client(gateway).search("pons")
    assert gateway.requests[0].headers["authorization"] == "Bearer a-key-in-a-file"


@pytest.mark.parametrize("bad", ["both", "absent", "empty", "not ascii"])
def test_a_key_file_that_does_not_do_is_named_by_its_variable_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: str
) -> None:
    file = tmp_path / "key"
    file.write_text({"empty": "\n", "not ascii": "hunter2\u00e9"}.get(bad, "hunter2"), encoding="utf-8")
    monkeypatch.setenv("MIRAGE_API_KEY_FILE", str(tmp_path / "none" if bad == "absent" else file))
    monkeypatch.setenv("MIRAGE_API_KEY", "hunter3" if bad == "both" else "")
    with pytest.raises(InputError, match="MIRAGE_API_KEY_FILE") as caught:
        client(answering(SEARCH))
    assert "hunter" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("given", "search_s", "upsert_s"), [(None, 30.0, 330.0), (5.0, 5.0, 5.0)])
def test_records_may_take_longer_to_store_unless_the_caller_says_how_long(
    given: float | None, search_s: float, upsert_s: float
) -> None:
    """With a large model the gateway answers an upsert of 32 images after minutes."""
    gateway = answering({**SEARCH, "outcomes": []})
    asker = client(gateway, timeout_s=given)
    asker.search("q")
    asker.upsert([Upload(id="a", image=b"png", caption="c")])
    assert [each.extensions["timeout"]["read"] for each in gateway.requests] == [search_s, upsert_s]
