"""Explanations over HTTP, with the language model's script in place of a model."""

import asyncio
import json
import math
from typing import Any

import httpx
import pytest

from mirage_api.descriptions import EVENTS, Description
from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import description_pb2, query_pb2
from tests.support.scripted_llm import DIFFERENT, GENERAL
from tests.support.waiting import PATIENCE_S

from .conftest import Gateway, Peer, check

ASKED = {"text": "axial brain"}
WHOLE = {"accept": "application/json"}


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


async def describe(http: httpx.AsyncClient, **fields: Any) -> list[tuple[str, Any]]:
    response = await http.post("/v1/describe", json={**ASKED, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
    return events(response.text)


async def test_an_explanation_comes_event_by_event(http: httpx.AsyncClient, peer: Peer) -> None:
    found = await describe(http)
    names = [name for name, _ in found]
    assert names[:3] == ["retrieval", "start", "sentence"]
    assert names[-2:] == ["ranking", "done"]
    for name, document in found:
        check(EVENTS[name], document)
    done = found[-1][1]
    assert [each for name, each in found if name == "sentence"] == done["sentences"]
    assert " ".join(each["text"] for each in done["sentences"]) == done["text"]
    assert (done["source"], done["finish"], done["notice"]) == ("model", "stop", "")
    assert (done["shown"], done["withheld"]) == (3, 1)
    assert [(each["kind"], each["block"], each["ids"]) for each in done["sentences"]] == [
        ("caption", "see", ["r1"]),
        ("caption", "see", ["r2"]),
        ("general", "where", []),
    ]
    assert done["sentences"][-1]["text"] == GENERAL
    assert done["timings"]["total_ms"] >= done["first_sentence_ms"] > 0


async def test_the_model_gets_words_captions_match_and_options(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.found = ("r1", "r2", "r3", "r4")
    await describe(http, minus="axial", plus="sagittal", max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop=["###"])
    [asked] = peer.llm.asked
    assert asked.query == "axial brain without axial, with sagittal"
    assert [(each.id, each.text) for each in asked.captions] == [(f"r{i}", "Axial T1 <b>brain</b>") for i in (1, 2, 3)]
    assert asked.match == query_pb2.MATCH_GOOD
    options = asked.options
    assert (options.max_tokens, options.temperature, options.seed, list(options.stop)) == (7, 0.5, 3, ["###"])


async def test_retrieval_shows_k_records_and_has_no_next_page(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.found = tuple(f"r{i}" for i in range(10))
    found = dict(await describe(http, k=2))
    assert [each["id"] for each in found["retrieval"]["results"]] == ["r0", "r1"]
    assert "next_page_token" not in found["retrieval"]
    assert found["ranking"]["first"] == [f"r{i}" for i in range(10)]


async def test_the_text_is_searched_sentence_by_sentence_and_both_rankings_stand(
    http: httpx.AsyncClient, peer: Peer
) -> None:
    peer.script.second = ("r9", "r2", "r8")
    ranking = dict(await describe(http, where={"plane": "axial"}))["ranking"]
    query = peer.script.asked[-1].query
    assert [term.text for term in query.terms] == ["Axial T1 <b>brain</b>."] * 2
    assert not any(term.HasField("weight") for term in query.terms)
    assert list(query.where["plane"].values) == ["axial"]
    assert ranking["first"] == ["r1", "r2"]
    assert [each["id"] for each in ranking["second"]] == ["r9", "r2", "r8"]
    assert (ranking["best"], ranking["sentences"], ranking["truncated"]) == ("r2", 2, False)


@pytest.mark.parametrize("match", [query_pb2.MATCH_WEAK, query_pb2.MATCH_NONE])
async def test_a_record_is_described_whatever_it_resembles(http: httpx.AsyncClient, peer: Peer, match: Any) -> None:
    peer.script.match = match
    response = await http.post("/v1/describe", json={"id": "r2"})
    assert dict(events(response.text))["done"]["source"] == "model"
    [asked] = peer.llm.asked
    assert [each.id for each in asked.captions] == ["r2"]
    assert asked.match == query_pb2.MATCH_NOT_JUDGED


async def test_two_queries_are_told_apart(http: httpx.AsyncClient, peer: Peer) -> None:
    asked = {"a": {"text": "axial", "k": 9}, "b": {"id": "r1", "where": {"plane": "axial"}}, "k": 2}
    response = await http.post("/v1/describe", json=asked)
    found = events(response.text)
    assert [name for name, _ in found] == ["retrieval", "against", "difference", "done"]
    for name, document in found:
        check(EVENTS[name], document)
    [sent] = peer.llm.asked
    assert [[each.id for each in side] for side in (sent.captions, sent.against)] == [["r1", "r2"]] * 2
    assert dict(found)["difference"] == {"text": DIFFERENT, "ids": ["r1", "r1"], "kind": "caption", "block": None}
    assert found[-1][1]["text"] == DIFFERENT
    whole = (await http.post("/v1/describe", json=asked, headers=WHOLE)).json()
    check(Description, whole)
    assert [each["id"] for each in whole["against"]["results"]] == ["r1", "r2"]


async def test_without_the_model_two_queries_are_not_compared(http: httpx.AsyncClient, peer: Peer) -> None:
    await peer.llm_server.stop(None)
    response = await http.post("/v1/describe", json={"a": {"text": "x"}, "b": {"text": "y"}})
    done = dict(events(response.text))["done"]
    assert (done["text"], done["source"]) == ("", None)
    assert "could not be compared" in done["notice"]


@pytest.mark.parametrize(
    "body",
    [
        {"a": {"text": "x"}},
        {"b": {"text": "x"}},
        {"a": {"text": "x"}, "b": {"text": "y"}, "text": "z"},
        {"a": {"text": "x"}, "b": {"text": "y"}, "plus": "z"},
        {"a": {"text": "x", "page_token": "AAAA"}, "b": {"text": "y"}},
        {"a": "x", "b": "y"},
        {"a": {"colour": 1}, "b": {"text": "y"}},
    ],
)
async def test_a_comparison_that_is_not_two_queries_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    response = await http.post("/v1/describe", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "REQUEST_MALFORMED")


async def test_of_a_long_text_sixteen_sentences_are_encoded_and_that_is_told(
    http: httpx.AsyncClient, peer: Peer
) -> None:
    peer.llm.repeat = 9
    ranking = dict(await describe(http))["ranking"]
    assert (len(peer.script.asked[-1].query.terms), ranking["sentences"], ranking["truncated"]) == (16, 16, True)


async def test_one_document_holds_what_the_events_say(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/describe", json=ASKED, headers=WHOLE)
    document = response.json()
    check(Description, document)
    streamed = dict(await describe(http))
    for name in ("retrieval", "start", "ranking"):
        document[name].pop("timings", None)
        streamed[name].pop("timings", None)
        assert document[name] == streamed[name]
    assert document["text"] == streamed["done"]["text"]


@pytest.mark.parametrize("accept", ["", "*/*", "text/event-stream", "text/event-stream, application/json"])
async def test_events_come_unless_only_json_is_wanted(http: httpx.AsyncClient, accept: str) -> None:
    response = await http.post("/v1/describe", json=ASKED, headers={"accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("finish", ["NO_MATCH", "NOT_MEDICAL"])
async def test_a_declined_question_has_a_notice_and_neither_text_nor_ranking(
    http: httpx.AsyncClient, peer: Peer, finish: str
) -> None:
    peer.llm.declined = description_pb2.DescriptionFinish.Value(f"DESCRIPTION_FINISH_{finish}")
    found = await describe(http)
    assert [name for name, _ in found] == ["retrieval", "done"]
    done = found[-1][1]
    assert (done["text"], done["source"], done["finish"]) == ("", None, finish.lower())
    assert done["notice"] == "Declined by the script."


async def test_where_nothing_is_found_the_model_is_not_asked(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.found = ()
    done = dict(await describe(http))["done"]
    assert (done["finish"], done["text"]) == ("no_match", "")
    assert peer.llm.asked == []


async def test_without_the_model_the_captions_answer_and_say_so(http: httpx.AsyncClient, peer: Peer) -> None:
    await peer.llm_server.stop(None)
    found = await describe(http)
    names = [name for name, _ in found]
    assert names == ["retrieval", "start", "sentence", "done"]
    done = found[-1][1]
    assert (done["text"], done["source"]) == ("Axial T1 <b>brain</b>.", "extractive")
    assert [(each["kind"], each["ids"]) for each in done["sentences"]] == [("extract", ["r1", "r2"])]
    assert "not available" in done["notice"]
    assert "not ranked by this text" in done["notice"]
    assert "taken from the captions" in done["notice"]


async def test_a_gateway_that_knows_no_model_answers_from_the_captions(gateway: Gateway) -> None:
    done = dict(await describe(await gateway(llm="")))["done"]
    assert done["source"] == "extractive"


@pytest.mark.parametrize("match", [query_pb2.MATCH_WEAK, query_pb2.MATCH_NONE])
async def test_without_model_and_match_nothing_is_said(http: httpx.AsyncClient, peer: Peer, match: Any) -> None:
    peer.script.match = match
    await peer.llm_server.stop(None)
    done = dict(await describe(http))["done"]
    assert (done["text"], done["source"], done["finish"]) == ("", None, "no_match")


@pytest.mark.parametrize(
    ("error", "words", "finish"),
    [
        (MirageError(Code.QUEUE_FULL, retry_after_s=4.0), "busy; try again in 4 s", None),
        (MirageError(Code.MODEL_NOT_READY), "not available", None),
        (MirageError(Code.MODEL_FAILED), "failed", None),
        (MirageError(Code.DEADLINE_EXCEEDED), "too slow", "too_slow"),
    ],
)
@pytest.mark.parametrize("after", [0, 4])
async def test_a_model_that_fails_is_replaced_by_the_captions(
    http: httpx.AsyncClient, peer: Peer, error: MirageError, words: str, finish: str | None, after: int
) -> None:
    peer.llm.error, peer.llm.error_after = error, after
    done = dict(await describe(http))["done"]
    assert (done["source"], done["text"], done["finish"]) == ("extractive", "Axial T1 <b>brain</b>.", finish)
    assert words in done["notice"]
    # The model's sentence was sent already, and is not sent again.
    assert [each["ids"] for each in done["sentences"]] == [["r1"] if after else ["r1", "r2"]]


async def test_a_model_that_is_too_slow_is_replaced_at_the_deadline(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(describe_timeout_s=3.0)
    peer.llm.gate = asyncio.Event()
    done = dict(await describe(http))["done"]
    assert (done["source"], done["finish"]) == ("extractive", "too_slow")


async def test_a_model_that_hangs_is_noticed_long_before_the_deadline(gateway: Gateway) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    http = await gateway(llm=f"{host}:{port}", patience_s=0.1)
    done = dict(await describe(http))["done"]
    # Not too_slow: that is what the deadline would give.
    assert (done["source"], done["finish"]) == ("extractive", None)
    gone.set()
    server.close()


async def test_a_slow_model_that_lives_is_waited_for(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(patience_s=0.05)
    peer.llm.gate = asyncio.Event()
    asked = asyncio.create_task(describe(http))
    await asyncio.wait_for(peer.llm.arrived.wait(), timeout=PATIENCE_S)
    done, _ = await asyncio.wait((asked,), timeout=0.5)
    assert not done
    peer.llm.gate.set()
    assert dict(await asked)["done"]["source"] == "model"


async def test_a_second_retrieval_that_fails_costs_only_the_ranking(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.llm.gate = asyncio.Event()
    asked = asyncio.create_task(describe(http))
    await asyncio.wait_for(peer.llm.arrived.wait(), timeout=PATIENCE_S)
    peer.script.error = MirageError(Code.QUEUE_FULL, retry_after_s=1.0)
    peer.llm.gate.set()
    found = await asked
    assert "ranking" not in dict(found)
    done = found[-1][1]
    assert done["source"] == "model"
    assert "could not be ranked" in done["notice"]


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "k of 0": ({"k": 0}, 422, "K_OUT_OF_RANGE"),
    "k of 11": ({"k": 11}, 422, "K_OUT_OF_RANGE"),
    "k of 10^30": ({"k": 10**30}, 422, "K_OUT_OF_RANGE"),
    "k of 2.5": ({"k": 2.5}, 400, "REQUEST_MALFORMED"),
    "max_tokens of 0": ({"max_tokens": 0}, 422, "OPTION_OUT_OF_RANGE"),
    "max_tokens of 10^9": ({"max_tokens": 10**9}, 422, "OPTION_OUT_OF_RANGE"),
    "max_tokens of 10^30": ({"max_tokens": 10**30}, 422, "OPTION_OUT_OF_RANGE"),
    "temperature of -1": ({"temperature": -1}, 422, "OPTION_OUT_OF_RANGE"),
    "NaN temperature": ({"temperature": math.nan}, 422, "OPTION_OUT_OF_RANGE"),
    "top_p of 0": ({"top_p": 0}, 422, "OPTION_OUT_OF_RANGE"),
    "seed of 2^63": ({"seed": 2**63}, 422, "OPTION_OUT_OF_RANGE"),
    "five stops": ({"stop": list("abcde")}, 422, "TOO_MANY_ITEMS"),
    "an empty stop": ({"stop": [""]}, 422, "OPTION_OUT_OF_RANGE"),
    "words of more than 2,000 characters": ({"text": "a" * 1500, "plus": "b" * 1500}, 422, "TEXT_TOO_LONG"),
    "50,000 characters": ({"text": "a" * 50_000}, 422, "TEXT_TOO_LONG"),
    "an unknown field": ({"colour": "red"}, 400, "REQUEST_MALFORMED"),
    "a number for a text": ({"text": 7}, 400, "REQUEST_MALFORMED"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("headers", [{}, WHOLE])
async def test_a_bad_input_is_refused_before_anything_runs(
    http: httpx.AsyncClient, peer: Peer, name: str, headers: dict[str, str]
) -> None:
    fields, status, code = BAD[name]
    body = json.dumps({**ASKED, **fields}).encode()
    response = await http.post("/v1/describe", content=body, headers={"content-type": "application/json", **headers})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert not peer.script.asked
    assert not peer.llm.asked


@pytest.mark.parametrize("headers", [{}, WHOLE])
async def test_an_error_of_the_retrieval_comes_before_the_stream(
    http: httpx.AsyncClient, peer: Peer, headers: dict[str, str]
) -> None:
    peer.script.error = MirageError(Code.EMPTY_QUERY)
    response = await http.post("/v1/describe", json=ASKED, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "EMPTY_QUERY")


async def test_a_retriever_that_is_down_gives_503(gateway: Gateway) -> None:
    http = await gateway(retriever="127.0.0.1:9")
    response = await http.post("/v1/describe", json=ASKED)
    assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")


async def test_what_the_model_refuses_is_an_event_of_the_stream(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.llm.error = MirageError(Code.CAPTION_TOO_LONG, max=20_000, given=20_001)
    found = await describe(http)
    name, document = found[-1]
    assert name == "error"
    check(EVENTS["error"], document)
    assert document["problem"]["code"] == "CAPTION_TOO_LONG"
    whole = await http.post("/v1/describe", json=ASKED, headers=WHOLE)
    assert (whole.status_code, whole.json()["code"]) == (422, "CAPTION_TOO_LONG")


async def test_a_server_with_keys_asks_for_one(gateway: Gateway) -> None:
    http = await gateway(api_keys="student:" + "k" * 24)
    assert (await http.post("/v1/describe", json=ASKED)).status_code == 401
    good = await http.post("/v1/describe", json=ASKED, headers={"authorization": "Bearer " + "k" * 24})
    assert good.status_code == 200


async def test_the_other_side_cancelling_is_a_failure_and_not_our_own_end(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.llm.gate = asyncio.Event()
    asked = asyncio.create_task(describe(http))
    await asyncio.wait_for(peer.llm.arrived.wait(), timeout=PATIENCE_S)
    await peer.llm_server.stop(0)
    done = dict(await asked)["done"]
    assert done["source"] == "extractive"
