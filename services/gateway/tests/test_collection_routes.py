"""Collections, walks, look-ups and flags over HTTP and gRPC: translated, and open only to those who may."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mirage_api.records import FlagsReply, LookupReply, RecordsReply
from mirage_api.system import ActivateReply, Collection, CollectionsReply, CommonQueriesReply

from .conftest import Gateway, Peer, check
from .test_record_routes import form


async def test_collections_are_made_switched_and_removed(http: httpx.AsyncClient, peer: Peer) -> None:
    listed = (await http.get("/v1/collections")).json()
    check(CollectionsReply, listed)
    made = (await http.post("/v1/collections", json={"name": "next", "dimension": 4, "fingerprint": "f" * 64})).json()
    assert made["name"] == "next"
    activated = (await http.post("/v1/collections/next/activate")).json()
    check(ActivateReply, activated)
    assert activated["previous"] == "atlas"
    assert (await http.delete("/v1/collections/old")).json() == {"records": 7}
    assert [getattr(each, "name", "") for each in peer.script.asked] == ["", "next", "next", "old"]


async def test_records_are_walked_with_packed_vectors(http: httpx.AsyncClient, peer: Peer) -> None:
    document = (await http.get("/v1/records?vectors=true&limit=5&page_token=t&collection=next")).json()
    check(RecordsReply, document)
    vector = np.frombuffer(base64.b64decode(document["records"][0]["image_vector"]), "<f4")
    assert vector.tolist() == [1.0, 0.0]
    asked = peer.script.asked[0]
    assert (asked.page_size, asked.page_token, asked.vectors, asked.collection) == (5, "t", True, "next")
    assert "image_vector" not in (await http.get("/v1/records")).json()["records"][0]


async def test_records_are_looked_up(http: httpx.AsyncClient, peer: Peer) -> None:
    body = {"keys": [{"id": "r1", "image_sha256": "a" * 64}, {"id": "new"}], "collection": "next"}
    document = (await http.post("/v1/records/lookup", json=body)).json()
    check(LookupReply, document)
    assert [each["record"] is not None for each in document["records"]] == [True, False]
    assert document["records"][0]["same_image_ids"] == ["r2"]
    assert peer.script.asked[0].keys[0].image_sha256 == "a" * 64


async def test_flags_and_common_queries_are_listed(http: httpx.AsyncClient) -> None:
    check(FlagsReply, (await http.get("/v1/flags?record_id=r1&limit=3")).json())
    queries = (await http.get("/v1/common-queries")).json()
    check(CommonQueriesReply, queries)
    assert queries == {"queries": ["brain MRI"]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/search", {"text": "a", "collection": "next"}),
        ("POST", "/v1/compare", {"text": "a", "minus": "b", "collection": "next"}),
        ("POST", "/v1/describe", {"text": "a", "collection": "next"}),
        ("GET", "/v1/records/r1?collection=next", None),
        ("GET", "/v1/records/r1/similar?collection=next", None),
        ("GET", "/v1/records?collection=next", None),
        ("POST", "/v1/records/lookup", {"keys": [{"id": "r1"}], "collection": "next"}),
        ("POST", "/v1/records/r1/flags?collection=next", {"reason": "other"}),
        ("GET", "/v1/images/r1?collection=next", None),
        ("GET", "/v1/images/r1/thumbnail?collection=next", None),
        ("GET", "/v1/facets?collection=next", None),
        ("GET", "/v1/common-queries?collection=next", None),
        ("GET", "/v1/collections/next", None),
    ],
)
async def test_every_reading_call_takes_a_collection(
    http: httpx.AsyncClient, peer: Peer, method: str, path: str, body: Any
) -> None:
    response = await http.request(method, path, json=body)
    assert response.status_code == 200, response.text
    asked = [getattr(each, "query", getattr(each, "base", each)) for each in peer.script.asked]
    assert asked
    assert {getattr(each, "collection", "") or getattr(each, "name", "") for each in asked} == {"next"}


async def test_the_images_of_a_collection_that_was_named_are_found_in_it(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.collection = "next"
    found = (await http.get("/v1/records/r1?collection=next")).json()
    assert found["collection"] == "next"
    for url in (found["image_url"], found["thumbnail_url"]):
        assert (await http.get(url)).status_code == 200
        assert {each.collection for each in peer.script.asked[-2:]} == {"next"}


async def test_a_collection_is_described_by_its_name(http: httpx.AsyncClient) -> None:
    check(Collection, (await http.get("/v1/collections/atlas")).json())


async def test_an_upload_names_its_collection_and_packs_its_vectors(http: httpx.AsyncClient, peer: Peer) -> None:
    packed = base64.b64encode(np.array([0.5, -2], "<f4").tobytes()).decode()
    parts = form("record", "image", image_vector=packed, caption_vector=[1.0, 2.0], fingerprint="f" * 64)
    response = await http.post("/v1/records?collection=next", files=parts)
    assert response.status_code == 200, response.text
    assert peer.script.collections == ["next"]
    head = peer.script.asked[0][0].record
    assert (head.image_vector.float32, head.caption_vector.float32) == (
        struct.pack("<2f", 0.5, -2.0),
        struct.pack("<2f", 1.0, 2.0),
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/v1/records?vectors=yes", None, "REQUEST_MALFORMED"),
        ("GET", "/v1/records?limit=many", None, "REQUEST_MALFORMED"),
        ("GET", f"/v1/records?limit={10**12}", None, "K_OUT_OF_RANGE"),
        ("GET", "/v1/records?nonsense=1", None, "REQUEST_MALFORMED"),
        ("POST", "/v1/records/lookup", {"keys": "r1"}, "REQUEST_MALFORMED"),
        ("POST", "/v1/records/lookup", {"keys": [{"id": "a"}] * 1001}, "TOO_MANY_ITEMS"),
        ("POST", "/v1/collections", {"name": 3}, "REQUEST_MALFORMED"),
        ("POST", "/v1/collections", {"name": "a", "dimension": -1}, "REQUEST_MALFORMED"),
        ("POST", "/v1/collections/a/activate?x=1", None, "REQUEST_MALFORMED"),
        ("PUT", "/v1/collections", None, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_malformed_requests_are_refused(
    http: httpx.AsyncClient, method: str, path: str, body: Any, code: str
) -> None:
    assert (await http.request(method, path, json=body)).json()["code"] == code


async def test_a_packed_vector_of_half_a_number_is_refused(http: httpx.AsyncClient) -> None:
    parts = form("record", "image", image_vector=base64.b64encode(b"abc").decode(), fingerprint="f" * 64)
    assert (await http.post("/v1/records", files=parts)).json()["code"] == "REQUEST_MALFORMED"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/collections"),
        ("POST", "/v1/collections/a/activate"),
        ("DELETE", "/v1/collections/a"),
        ("GET", "/v1/flags"),
    ],
)
async def test_without_its_key_nobody_changes_a_collection_or_reads_flags(
    gateway: Gateway, method: str, path: str
) -> None:
    http = await gateway(api_keys="teacher:secret-key-0123456789")
    response = await http.request(method, path, json={"name": "a"} if method == "POST" else None)
    assert (response.status_code, response.json()["code"]) == (401, "API_KEY_MISSING")


async def test_a_page_of_another_site_changes_nothing(http: httpx.AsyncClient, peer: Peer) -> None:
    foreign = {"origin": "https://elsewhere.example"}
    for method, path in (("POST", "/v1/collections/a/activate"), ("DELETE", "/v1/records/r1")):
        response = await http.request(method, path, headers=foreign)
        assert (response.status_code, response.json()["metadata"]) == (400, {"field": "origin"})
    assert peer.script.asked == []
    assert (await http.post("/v1/collections/a/activate", headers={"origin": "http://localhost"})).status_code == 200
    assert (await http.get("/v1/collections", headers=foreign)).status_code == 200


BUILDING = {"done": 40, "total": 625, "fetching": "histology (4 MB)", "missing": "", "problem": "", "finished": False}


async def test_the_collection_says_how_far_the_demonstration_is(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    http = await gateway(progress_file=file)
    # Before anything was written, and for what is not progress.
    assert "building" not in (await http.get("/v1/collection")).json()
    for content in (b"", b"[]", b"{", b'{"done": "x"}', b'{"other": 1}', b"\xff" * 100_000):
        file.write_bytes(content)
        assert "building" not in (await http.get("/v1/collection")).json()
    file.write_text(json.dumps(BUILDING))
    document = (await http.get("/v1/collection")).json()
    check(Collection, document)
    assert document["building"] == BUILDING


async def test_a_complete_demonstration_is_not_mentioned_and_an_incomplete_one_is(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "progress.json"
    http = await gateway(progress_file=file)
    file.write_text(json.dumps(BUILDING | {"finished": True, "fetching": ""}))
    assert "building" not in (await http.get("/v1/collection")).json()
    missing = "the demonstration atlas is without histology: pip could not download it"
    file.write_text(json.dumps(BUILDING | {"finished": True, "missing": missing}))
    assert (await http.get("/v1/collection")).json()["building"]["missing"] == missing
