"""What the gateway does with an image query that seems to be no medical image."""

import base64
from typing import Any

import httpx
import pytest

from mirage_api.search import ClassifyReply
from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import image_pb2

from .conftest import Gateway, Peer, check

IMAGE = base64.b64encode(b"an image").decode()


async def search(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/search", json={"image": IMAGE, **fields})


async def test_an_image_is_guessed_about(http: httpx.AsyncClient) -> None:
    document = (await http.post("/v1/classify", json={"image": IMAGE})).json()
    check(ClassifyReply, document)
    assert document["guess"] == {
        "kind": "medical",
        "medical_score": 0.125,
        "facets": [
            {
                "facet": "modality",
                "values": [{"value": "mr", "probability": 0.75}],
                "known": True,
                "stated": False,
            }
        ],
    }


async def test_the_vector_comes_with_the_guess_if_it_is_asked_for(http: httpx.AsyncClient) -> None:
    assert "vector" not in (await http.post("/v1/classify", json={"image": IMAGE})).json()
    document = (await http.post("/v1/classify", json={"image": IMAGE, "vector": True})).json()
    check(ClassifyReply, document)
    assert document["vector"] == "AACAPw=="
    refused = await http.post("/v1/classify", json={"image": IMAGE, "vector": "much"})
    assert refused.json()["code"] == "REQUEST_MALFORMED"


async def test_a_guess_comes_with_the_results(http: httpx.AsyncClient) -> None:
    document = (await search(http)).json()
    assert [guess["kind"] for guess in document["query"]["images"]] == ["medical"]
    both = (await http.post("/v1/compare", json={"image": IMAGE, "plus": "x"})).json()
    assert len(both["base"]["query"]["images"]) == len(both["shifted"]["query"]["images"]) == 1
    assert "images" not in (await http.post("/v1/search", json={"text": "x"})).json()["query"]


@pytest.mark.parametrize("path", ["/v1/search", "/v1/compare"])
async def test_no_medical_image_is_declined_unless_the_caller_insists(
    http: httpx.AsyncClient, peer: Peer, path: str
) -> None:
    peer.script.image_kind = image_pb2.IMAGE_KIND_NOT_MEDICAL
    body = {"image": IMAGE, **({"plus": "x"} if path == "/v1/compare" else {})}
    declined = await http.post(path, json=body)
    assert declined.status_code == 422
    assert declined.json()["code"] == "IMAGE_NOT_MEDICAL"
    assert declined.json()["metadata"] == {"score": "0.12"}
    assert peer.script.asked == []
    assert (await http.post(path, json={**body, "accept_any_image": True})).status_code == 200


@pytest.mark.parametrize(("gate", "images"), [("report", ["not_medical"]), ("off", [])])
async def test_the_operator_can_have_it_only_reported_or_not_looked_at(
    gateway: Gateway, peer: Peer, gate: str, images: list[str]
) -> None:
    peer.script.image_kind = image_pb2.IMAGE_KIND_NOT_MEDICAL
    response = await search(await gateway(upload_gate=gate))
    assert response.status_code == 200
    assert [guess["kind"] for guess in response.json()["query"].get("images", [])] == images


async def test_an_encoder_that_cannot_tell_never_stops_a_search(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.classify_error = MirageError(Code.QUEUE_FULL, retry_after_s=1.0)
    response = await search(http)
    assert response.status_code == 200
    assert [guess["kind"] for guess in response.json()["query"]["images"]] == ["unknown"]


async def test_what_is_no_image_is_said_once_and_clearly(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.classify_error = MirageError(Code.IMAGE_FORMAT_UNSUPPORTED)
    for path, body in (("/v1/search", {"image": IMAGE}), ("/v1/classify", {"image": IMAGE})):
        response = await http.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (415, "IMAGE_FORMAT_UNSUPPORTED")


@pytest.mark.parametrize("body", [{}, {"image": "no base64!"}, {"image": 3}, {"image": IMAGE, "more": 1}])
async def test_a_malformed_request_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.post("/v1/classify", json=body)).json()["code"] == "REQUEST_MALFORMED"
