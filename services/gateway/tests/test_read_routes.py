"""POST /v1/read and MirageService.Read: what is asked of the reader, and what its events become."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from mirage_api.readings import EVENTS
from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import mirage_service_pb2, model_pb2, reading_pb2
from tests.support.scripted_reader import ScriptedReader, events, serve

from .conftest import Gateway, Peer, check, serving_grpc

FILE = base64.b64encode(b"an image").decode()
ORDER = ["kind", "checklist", "evidence", "reading", "reading", "label", "similar", "context", "reading", "done"]


@dataclass
class Reading:
    script: ScriptedReader
    address: str
    http: httpx.AsyncClient

    async def read(self, **body: Any) -> list[tuple[str, Any]]:
        response = await self.http.post("/v1/read", json=body or {"image": FILE})
        assert response.status_code == 200, response.text
        blocks = [each.split("\n") for each in response.text.strip().split("\n\n") if each.startswith("event")]
        return [(head.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for head, data in blocks]


@pytest.fixture
async def reading(gateway: Gateway) -> AsyncIterator[Reading]:
    script = ScriptedReader()
    server, address = await serve(script)
    yield Reading(script, address, await gateway(reader=address))
    await server.stop(None)


async def test_the_events_come_in_their_order_and_form(reading: Reading) -> None:
    found = await reading.read()
    assert [name for name, _ in found] == ORDER
    for name, document in found:
        check(EVENTS[name], document)
    documents = dict(found)
    assert documents["kind"]["modality"] == {
        **{"value": "x-ray", "score": 0.5, "sure": True, "source": "classified"},
        "others": [{"value": "ct", "probability": 0.25}],
    }
    assert documents["kind"]["view"] is None
    assert documents["evidence"]["where"] == {"modality": ["x-ray"]}
    steps = [document for name, document in found if name == "reading"]
    assert [each["source"] for each in steps] == ["rules", "model", "summary"]
    assert [each.get("claim") for each in steps] == [None, "No.", None]
    fact, seen = documents["context"]["notes"]
    assert "image" not in fact
    assert (base64.b64decode(seen["image"]), seen["image_credit"]) == (b"jpeg", "by")
    assert documents["done"]["summariser"] == "scripted"
    assert (documents["done"]["not_for_diagnosis"], documents["done"]["disclaimer"]) == (True, "Not for diagnosis.")


async def test_everything_that_was_asked_reaches_the_reader(reading: Reading) -> None:
    kind = {"modality": "ct", "body_part": "head", "view": "axial"}
    await reading.read(image=FILE, collection="atlas", kind=kind, accept_any_image=True)
    await reading.read(record_id="r1")
    await reading.read(text="pneumothorax")
    first, second, third = (each.query for each in reading.script.asked)
    assert first == reading_pb2.ReadQuery(
        image=b"an image",
        collection="atlas",
        kind=reading_pb2.KindCorrection(**kind),
        accept_any_image=True,
    )
    assert (second.record_id, third.text) == ("r1", "pneumothorax")


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "an image that is not base64": ({"image": "?"}, 400, "REQUEST_MALFORMED"),
    "two subjects": ({"image": FILE, "text": "brain"}, 400, "REQUEST_MALFORMED"),
    "an unknown field": ({"image": FILE, "notes": "mine"}, 400, "REQUEST_MALFORMED"),
    "an unknown field of the kind": ({"image": FILE, "kind": {"organ": "lung"}}, 400, "REQUEST_MALFORMED"),
    "a kind that is a text": ({"image": FILE, "kind": "x-ray"}, 400, "REQUEST_MALFORMED"),
    "a long text": ({"text": "x" * 2001}, 422, "TEXT_TOO_LONG"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_refused_before_anything_runs(reading: Reading, name: str) -> None:
    body, status, code = BAD[name]
    response = await reading.http.post("/v1/read", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert reading.script.asked == []


async def test_what_the_reader_refuses_first_is_a_problem(reading: Reading) -> None:
    reading.script.error = MirageError(Code.IMAGE_TOO_SMALL, min=16, width=1, height=1)
    response = await reading.http.post("/v1/read", json={"image": FILE})
    assert (response.status_code, response.json()["code"]) == (422, "IMAGE_TOO_SMALL")
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_reading_that_breaks_off_ends_with_an_error(reading: Reading) -> None:
    reading.script.error, reading.script.error_after = MirageError(Code.RECORD_NOT_FOUND, id="r1"), 3
    names = [name for name, _ in await reading.read()]
    assert names == [*ORDER[:3], "error"]


async def test_without_a_reader_the_part_is_named(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/read", json={"image": FILE})
    assert (response.status_code, response.json()["metadata"]["service"]) == (503, "reader")


async def test_over_grpc_the_events_are_the_same(reading: Reading, peer: Peer) -> None:
    query = reading_pb2.ReadQuery(image=b"an image")
    async with serving_grpc(peer, reader=reading.address) as stub:
        found = [event async for event in stub.Read(mirage_service_pb2.ReadRequest(query=query))]
    assert [each.SerializeToString() for each in found] == [each.SerializeToString() for each in events()]


async def test_a_caller_that_goes_stops_the_reading(reading: Reading, peer: Peer) -> None:
    reading.script.gate = asyncio.Event()
    async with serving_grpc(peer, reader=reading.address) as stub:
        call = stub.Read(mirage_service_pb2.ReadRequest(query=reading_pb2.ReadQuery(image=b"an image")))
        await call.read()
        call.cancel()
        await asyncio.wait_for(reading.script.ended.wait(), timeout=30)


async def test_a_server_with_keys_asks_for_one(reading: Reading, gateway: Gateway) -> None:
    http = await gateway(reader=reading.address, api_keys="student:" + "k" * 24)
    assert (await http.post("/v1/read", json={"image": FILE})).status_code == 401
    assert reading.script.asked == []


async def test_a_reading_model_is_listed_if_there_is_one(reading: Reading) -> None:
    async def tasks() -> list[str]:
        return [each["task"] for each in (await reading.http.get("/v1/models")).json()["models"]]

    assert "read" not in await tasks()
    reading.script.model = model_pb2.Model(name="scripted", kind=model_pb2.MODEL_KIND_READER, manifest_json="{}")
    assert "read" in await tasks()
