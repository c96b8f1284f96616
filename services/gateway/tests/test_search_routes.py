import asyncio
import gzip
from urllib.parse import quote

import httpx
import pytest

from mirage_api.records import Case
from mirage_api.search import CompareReply, FacetsReply, SearchReply
from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import query_pb2
from tests.support.waiting import PATIENCE_S

from .conftest import Gateway, Peer, check


async def test_a_search_is_passed_on_and_answered(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.post("/v1/search", json={"text": "axial brain", "k": 2, "vectors": "fused"})
    assert response.status_code == 200
    document = response.json()
    check(SearchReply, document)
    query = peer.script.asked[0].query
    assert (query.terms[0].text, query.k, query.vectors) == ("axial brain", 2, query_pb2.VECTOR_SPACE_FUSED)
    assert document["results"][0]["score"] == 0.3
    assert document["results"][0]["image_url"] == "/v1/images/r1?v=abababababababab"
    assert document["results"][0]["labels"] == {"modality": ["mr"], "plane": ["axial"]}
    assert (document["match"], document["next_page_token"]) == ("good", "next")


async def test_a_match_that_cannot_be_judged_yet_is_said_to_be_pending(http: httpx.AsyncClient, peer: Peer) -> None:
    assert "match_pending" not in (await http.post("/v1/search", json={"text": "brain"})).json()
    peer.script.match, peer.script.match_pending = query_pb2.MATCH_NOT_JUDGED, True
    document = (await http.post("/v1/search", json={"text": "brain"})).json()
    check(SearchReply, document)
    assert (document["match"], document["match_pending"]) == (None, True)


async def test_a_comparison_has_both_sides(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.post("/v1/compare", json={"text": "q", "minus": "axial", "plus": "sagittal"})
    document = response.json()
    check(CompareReply, document)
    assert [document[side]["results"][0]["id"] for side in ("base", "shifted")] == ["r1", "r2"]
    assert [term.weight for term in peer.script.asked[0].shift] == [-1.0, 1.0]


async def test_similar_leaves_the_record_itself_out(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.get("/v1/records/r7/similar", params={"k": 5, "where": ["plane=axial", "plane=coronal"]})
    assert response.status_code == 200
    query = peer.script.asked[0].query
    assert (query.terms[0].id, list(query.exclude_ids), query.k) == ("r7", ["r7"], 5)
    assert list(query.where["plane"].values) == ["axial", "coronal"]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("k=100", "K_OUT_OF_RANGE"),
        ("k=0", "K_OUT_OF_RANGE"),
        ("k=ten", "REQUEST_MALFORMED"),
        ("k=1&k=2", "REQUEST_MALFORMED"),
        ("where=axial", "REQUEST_MALFORMED"),
        ("limit=3", "REQUEST_MALFORMED"),
    ],
)
async def test_a_bad_parameter_is_refused(http: httpx.AsyncClient, peer: Peer, parameters: str, code: str) -> None:
    response = await http.get(f"/v1/records/r1/similar?{parameters}")
    assert response.json()["code"] == code
    assert not peer.script.asked


async def test_facets_come_with_counts(http: httpx.AsyncClient, peer: Peer) -> None:
    document = (await http.get("/v1/facets?where=plane=axial&limit=5")).json()
    check(FacetsReply, document)
    assert document["facets"][0] == {
        "name": "plane",
        "values": [{"value": "axial", "count": 3, "display": "Axial"}],
        "other": {"values": ["oblique"], "count": 1},
    }
    await http.get("/v1/facets?not=plane=axial&not=plane=coronal&not=modality=ct")
    unwanted = {name: list(values.values) for name, values in peer.script.asked[-1].where_not.items()}
    assert unwanted == {"plane": ["axial", "coronal"], "modality": ["ct"]}


async def test_a_case_comes_with_its_records(http: httpx.AsyncClient, peer: Peer) -> None:
    document = (await http.get("/v1/cases/c1?collection=next")).json()
    check(Case, document)
    assert (document["id"], document["images"], [each["id"] for each in document["records"]]) == ("c1", 3, ["r1", "r2"])
    assert peer.script.asked[-1].collection == "next"
    # An id of a case may have any character.
    for given in ("a/b c", "?x=1", "ü"):
        assert (await http.get(f"/v1/cases/{quote(given, safe='')}")).json()["id"] == given
        assert peer.script.asked[-1].id == given


async def test_a_listing_takes_a_filter_an_order_and_a_seed(http: httpx.AsyncClient, peer: Peer) -> None:
    document = (await http.get(f"/v1/records?where=plane=axial&not=modality=ct&order=random&seed={2**63 - 1}")).json()
    assert document["total"] == 9
    asked = peer.script.asked[-1]
    assert list(asked.where["plane"].values) == ["axial"]
    assert list(asked.where_not["modality"].values) == ["ct"]
    assert (asked.order, asked.seed) == (query_pb2.RECORD_ORDER_RANDOM, 2**63 - 1)
    for bad in ("order=oldest", "order=NEWEST", "seed=x", "seed=1&seed=2", "not=plane", "order=newest&order=case"):
        assert (await http.get(f"/v1/records?{bad}")).json()["code"] == "REQUEST_MALFORMED", bad
    assert (await http.get("/v1/records?seed=-1")).json()["code"] == "K_OUT_OF_RANGE"


async def test_two_queries_are_compared(http: httpx.AsyncClient, peer: Peer) -> None:
    body = {"a": {"text": "embolism"}, "b": {"text": "pneumonia", "group_by": "case"}, "collection": "next"}
    document = (await http.post("/v1/compare", json=body)).json()
    check(CompareReply, document)
    asked = peer.script.asked[-1]
    assert (asked.a.terms[0].text, asked.b.terms[0].text) == ("embolism", "pneumonia")
    assert {asked.a.collection, asked.b.collection} == {"next"}
    assert asked.b.group_by == query_pb2.GROUP_BY_CASE


async def test_an_error_of_the_retriever_keeps_code_metadata_and_retry(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.error = MirageError(Code.QUEUE_FULL, retry_after_s=2.5)
    response = await http.post("/v1/search", json={"text": "x"})
    assert (response.status_code, response.json()["code"]) == (429, "QUEUE_FULL")
    assert response.headers["retry-after"] == "3"
    peer.script.error = MirageError(Code.FACET_UNKNOWN, field="colour", known="plane")
    response = await http.post("/v1/search", json={"text": "x"})
    assert response.json()["metadata"] == {"field": "colour", "known": "plane"}


async def test_a_retriever_that_is_gone_gives_503_before_the_deadline(gateway: Gateway) -> None:
    http = await gateway(retriever="127.0.0.1:9")
    response = await http.post("/v1/search", json={"text": "x"})
    assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert response.json()["metadata"]["service"] == "retriever"
    assert "retry-after" in response.headers


async def test_a_retriever_that_hangs_gives_503_before_the_deadline(gateway: Gateway) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    http = await gateway(retriever=f"{host}:{port}")
    response = await http.post("/v1/search", json={"text": "x"})
    assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    gone.set()
    server.close()


async def test_a_slow_answer_of_a_living_retriever_is_waited_for(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(patience_s=0.05)
    peer.script.gate = asyncio.Event()
    search = asyncio.create_task(http.post("/v1/search", json={"text": "x"}))
    await asyncio.wait_for(peer.script.arrived.wait(), timeout=PATIENCE_S)
    done, _ = await asyncio.wait((search,), timeout=0.3)
    assert not done
    peer.script.gate.set()
    assert (await search).status_code == 200


async def test_an_answer_that_takes_too_long_ends_at_the_deadline(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(search_timeout_s=0.2)
    peer.script.gate = asyncio.Event()
    response = await http.post("/v1/search", json={"text": "x"})
    assert (response.status_code, response.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    peer.script.gate.set()


async def test_large_replies_are_compressed_for_clients_that_take_it(http: httpx.AsyncClient) -> None:
    plain = await http.get("/openapi.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with http.stream("GET", "/openapi.json", headers={"accept-encoding": "br, gzip"}) as packed:
        sent = b"".join([piece async for piece in packed.aiter_raw()])
    assert (packed.headers["content-encoding"], packed.headers["content-length"]) == ("gzip", str(len(sent)))
    assert (plain.headers["vary"], packed.headers["vary"]) == ("accept-encoding", "accept-encoding")
    assert len(sent) < len(plain.content) / 3
    assert gzip.decompress(sent) == plain.content
    small = await http.get("/v1/records/r7/similar", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers
