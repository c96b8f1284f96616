"""Explanations through real processes: gateway, retriever and encoder as they are, the language model played by a script."""

import asyncio
import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from mirage.cli.entry import run
from mirage.client import Client
from mirage.descriptions import DescribeOptions
from mirage.errors import ApiError, ClientError
from mirage.queries import Query, Term, weighted_terms
from mirage_api.descriptions import DescribeDone, DescribeRanking, DescribeSentence
from mirage_api.search import SearchReply
from mirage_launcher.folders import Folders
from mirage_launcher.state import State
from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, query_pb2
from tests.support.waiting import until

GOOD = "axial T1 brain MRI"
LONG = DescribeOptions(max_tokens=512)


@pytest.fixture
def client(explaining: Any) -> Iterator[Client]:
    with Client(explaining.http_url, timeout_s=60) as client:
        yield client


def test_an_explanation_stands_on_what_was_found(client: Client) -> None:
    events = list(client.describe(GOOD))
    retrieval, done = events[0], events[-1]
    assert isinstance(retrieval, SearchReply)
    assert isinstance(done, DescribeDone)
    found = [each.id for each in retrieval.results]
    assert found == [each.id for each in client.search(GOOD, k=3).results]
    assert [each for each in events if isinstance(each, DescribeSentence)] == list(done.sentences)
    assert " ".join(each.text for each in done.sentences) == done.text
    assert {id_ for each in done.sentences for id_ in each.ids} == set(found)
    assert (done.source, done.finish) == ("model", "stop")


def test_the_model_that_comes_along_explains(system: Any) -> None:
    with Client(system.http_url, timeout_s=120) as client:
        assert any(model.task == "describe" for model in client.models())
        events = list(client.describe(GOOD))
        again = client.description(GOOD)
    done = events[-1]
    assert isinstance(done, DescribeDone)
    assert (done.source, done.finish in ("stop", "length")) == ("model", True)
    assert done.text == again.text
    assert [each for each in events if isinstance(each, DescribeSentence)] == list(done.sentences)
    assert all(bool(each.ids) == (each.kind != "general") for each in done.sentences)
    assert any(isinstance(each, DescribeRanking) for each in events)


def test_both_rankings_are_real_and_the_first_stays_the_querys(client: Client) -> None:
    whole = client.description(GOOD)
    assert whole.ranking is not None
    assert list(whole.ranking.first) == [each.id for each in client.search(GOOD, k=10).results]
    sentences = [each.text for each in whole.sentences if each.kind == "caption"]
    again = client.search(Query(tuple(Term(text=sentence) for sentence in sentences)), k=10)
    assert [each.id for each in whole.ranking.second] == [each.id for each in again.results]
    assert whole.ranking.best in {*whole.ranking.first, *(each.id for each in whole.ranking.second)}


@pytest.mark.parametrize("side", ["base", "shifted"])
def test_each_side_of_a_comparison_has_its_own_explanation(client: Client, side: str) -> None:
    compared = client.compare(GOOD, minus="axial", plus="sagittal", k=10)
    shift: dict[str, Any] = {"minus": ["axial"], "plus": ["sagittal"]} if side == "shifted" else {}
    whole = client.description(Query(weighted_terms(GOOD, **shift), vectors="image"))
    assert whole.ranking is not None
    expected = compared.shifted if side == "shifted" else compared.base
    assert list(whole.ranking.first) == [each.id for each in expected.results]


def test_a_record_and_an_image_are_explained(client: Client) -> None:
    record = client.search(GOOD, k=1).results[0].id
    of_record = client.description(Query((Term(id=record),)))
    assert of_record.retrieval.results[0].id == record
    assert of_record.source == "model"
    of_image = client.description(Query((Term(image=client.image(record).data),)))
    assert of_image.retrieval.results[0].id == record


def test_a_filter_holds_for_both_rankings(client: Client) -> None:
    whole = client.description(Query((Term(text="coronal T1 brain MRI"),), where={"plane": ["coronal"]}))
    assert whole.ranking is not None
    shown = [*whole.retrieval.results, *whole.ranking.second]
    assert {plane for each in shown for plane in each.labels["plane"]} == {"coronal"}


def test_what_the_atlas_does_not_hold_is_declined(client: Client) -> None:
    whole = client.description("how to bake sourdough bread with a crispy crust")
    assert whole.retrieval.match in ("weak", "none")
    assert (whole.text, whole.finish, whole.ranking) == ("", "no_match", None)
    assert whole.notice


def test_a_client_that_goes_stops_the_model_within_a_token(client: Client, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=150)
    events = client.describe(GOOD)
    assert any(isinstance(event, DescribeSentence) for event in events)
    seen = explaining.counts()["tokens"]
    events.close()
    until(lambda: explaining.counts()["running"] == 0)
    # The one that was on its way when the connection closed.
    assert explaining.counts()["tokens"] <= seen + 2
    explaining.kill_llm()


def test_a_client_that_goes_while_it_waits_for_json_stops_the_model(explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=150)
    headers = {"accept": "application/json"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{explaining.http_url}/v1/describe", json={"text": GOOD}, headers=headers, timeout=1.0)
    until(lambda: explaining.counts()["running"] == 0)
    assert 0 < explaining.counts()["tokens"] < 25
    explaining.kill_llm()


def test_a_model_killed_amid_a_sentence_is_replaced_by_the_captions(client: Client, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=50)
    events = client.describe(GOOD)
    written = [next(event for event in events if isinstance(event, DescribeSentence)).text]
    explaining.kill_llm()
    rest = list(events)
    done = rest[-1]
    assert isinstance(done, DescribeDone)
    assert done.source == "extractive"
    assert done.text.startswith(written[0])
    assert all(each.ids for each in done.sentences)
    assert "not available" in done.notice
    assert not any(isinstance(event, DescribeRanking) for event in rest)


def test_a_model_that_is_frozen_is_replaced_within_seconds(client: Client, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=50)
    events = client.describe(GOOD)
    next(event for event in events if isinstance(event, DescribeSentence))
    os.kill(explaining.llm.pid, signal.SIGSTOP)
    try:
        done = list(events)[-1]
    finally:
        explaining.kill_llm()
    assert isinstance(done, DescribeDone)
    assert done.source == "extractive"


def test_without_the_model_all_is_ready_and_the_captions_answer(client: Client, explaining: Any) -> None:
    explaining.kill_llm()
    ready = httpx.get(f"{explaining.http_url}/readyz", timeout=10)
    assert (ready.status_code, ready.json()["dependencies"]["llm"]) == (200, "unreachable")
    assert "describe" not in [model.task for model in client.models()]
    done = client.description(GOOD)
    assert (done.source, bool(done.text), bool(done.notice)) == ("extractive", True, True)
    explaining.start_llm()
    assert client.description(GOOD).source == "model"


def test_a_retriever_that_is_frozen_is_a_problem_before_the_stream(system: Any, explaining: Any) -> None:
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    process = next(each.process for each in state.services if each.name == "retriever")
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        response = httpx.post(f"{explaining.http_url}/v1/describe", json={"text": GOOD}, timeout=30)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert explaining.counts()["running"] == 0


BAD: dict[str, tuple[Query, DescribeOptions, int, str]] = {
    "no terms": (Query(()), DescribeOptions(), 3, "EMPTY_QUERY"),
    "an empty text": (Query((Term(text=""),)), DescribeOptions(), 3, "TERM_EMPTY"),
    "a blank text": (Query((Term(text=" \n"),)), DescribeOptions(), 3, "TERM_EMPTY"),
    "50,000 characters": (Query((Term(text="a" * 50_000),)), DescribeOptions(), 3, "TEXT_TOO_LONG"),
    "an unknown id": (Query((Term(id="no-such-record"),)), DescribeOptions(), 3, "RECORD_NOT_FOUND"),
    "an id with ../": (Query((Term(id="../../etc/passwd"),)), DescribeOptions(), 3, "ID_INVALID"),
    "q - q": (Query(weighted_terms(GOOD, minus=[GOOD])), DescribeOptions(), 3, "QUERY_CANCELS_OUT"),
    "no image": (Query((Term(image=b"%PDF-1.7"),)), DescribeOptions(), 3, "IMAGE_FORMAT_UNSUPPORTED"),
    "an unknown facet": (Query((Term(text=GOOD),), where={"colour": ["red"]}), DescribeOptions(), 3, "FACET_UNKNOWN"),
    "k of 0": (Query((Term(text=GOOD),)), DescribeOptions(), 0, "K_OUT_OF_RANGE"),
    "k of 11": (Query((Term(text=GOOD),)), DescribeOptions(), 11, "K_OUT_OF_RANGE"),
    "max_tokens of 0": (Query((Term(text=GOOD),)), DescribeOptions(max_tokens=0), 3, "OPTION_OUT_OF_RANGE"),
    "max_tokens of 10^9": (Query((Term(text=GOOD),)), DescribeOptions(max_tokens=10**9), 3, "OPTION_OUT_OF_RANGE"),
    "a temperature of 3": (Query((Term(text=GOOD),)), DescribeOptions(temperature=3.0), 3, "OPTION_OUT_OF_RANGE"),
    "a NaN temperature": (Query((Term(text=GOOD),)), DescribeOptions(temperature=math.nan), 3, "INPUT_INVALID"),
    "a seed of -1": (Query((Term(text=GOOD),)), DescribeOptions(seed=-1), 3, "OPTION_OUT_OF_RANGE"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_refused_and_the_next_good_one_works(client: Client, name: str) -> None:
    query, options, k, code = BAD[name]
    with pytest.raises(ClientError) as streamed:
        next(client.describe(query, options, k=k))
    with pytest.raises(ClientError) as whole:
        client.description(query, options, k=k)
    assert (streamed.value.code, whole.value.code) == (code, code)
    if isinstance(streamed.value, ApiError):
        assert 400 <= streamed.value.status < 500
    assert client.description(GOOD).text


async def test_grpc_says_the_same_as_http(explaining: Any) -> None:
    async with grpc.aio.insecure_channel(explaining.grpc_address) as channel:
        stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        request = mirage_service_pb2.DescribeRequest(query=query_pb2.Query(terms=[query_pb2.Term(text=GOOD)]))
        events = [event async for event in stub.Describe(request, timeout=60)]
    end, ranking = events[-1].done, events[-2].ranking
    async with httpx.AsyncClient(base_url=explaining.http_url, timeout=60) as http:
        whole = (await http.post("/v1/describe", json={"text": GOOD}, headers={"accept": "application/json"})).json()
    assert (end.text, ranking.best) == (whole["text"], whole["ranking"]["best"])
    assert [list(each.ids) for each in end.sentences] == [each["ids"] for each in whole["sentences"]]


async def test_a_grpc_caller_who_cancels_stops_the_model(explaining: Any) -> None:
    await asyncio.to_thread(explaining.kill_llm)
    await asyncio.to_thread(explaining.start_llm, token_ms=150)
    async with grpc.aio.insecure_channel(explaining.grpc_address) as channel:
        stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        call = stub.Describe(
            mirage_service_pb2.DescribeRequest(query=query_pb2.Query(terms=[query_pb2.Term(text=GOOD)])), timeout=60
        )
        async for event in call:
            if event.WhichOneof("event") == "start":
                break
        call.cancel()
    await asyncio.to_thread(until, lambda: explaining.counts()["running"] == 0)
    assert explaining.counts()["tokens"] <= 4
    await asyncio.to_thread(explaining.kill_llm)


def test_many_at_once_are_all_answered(client: Client) -> None:
    async def ask(http: httpx.AsyncClient) -> str:
        response = await http.post("/v1/describe", json={"text": GOOD})
        assert response.status_code == 200
        return response.text.strip().split("\n\n")[-1].splitlines()[0]

    async def all_of_them() -> list[str]:
        async with httpx.AsyncClient(base_url=client.url, timeout=60) as http:
            return await asyncio.gather(*(ask(http) for _ in range(16)))

    assert set(asyncio.run(all_of_them())) == {"event: done"}


def test_the_command_line_writes_text_sources_and_rankings(
    explaining: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAGE_URL", explaining.http_url)
    assert run(["describe", GOOD, "-k", "2"]) == 0
    output = capsys.readouterr()
    text, *sources = output.out.strip().split("\n\n")
    assert "[1]" in text
    assert text.endswith("[general knowledge]")
    assert [line[:3] for line in sources[0].splitlines()[::2]] == ["[1]", "[2]"]
    assert "fits both best: " in sources[1]
    assert "can be wrong" in output.err
    assert run(["describe", GOOD, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "model"
    assert run(["describe", GOOD, "--max-tokens", "0"]) == 1
    assert "OPTION_OUT_OF_RANGE" in capsys.readouterr().err


def test_the_command_line_stops_at_ctrl_c_and_so_does_the_model(explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=150)
    command = [*explaining.command_line, "describe", GOOD, "--url", explaining.http_url]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: explaining.counts()["tokens"] > 0)
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=20)
    assert (running.returncode, b"interrupted" in shown) == (130, True)
    until(lambda: explaining.counts()["running"] == 0)
    explaining.kill_llm()
