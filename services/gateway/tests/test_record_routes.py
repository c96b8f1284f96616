import base64
import json
from typing import Any

import httpx
import pytest

from mirage_api.records import Flag, Record, UpsertReply
from mirage_core.errors import Code, MirageError
from mirage_gateway.convert import to_model
from mirage_gateway.web.operations import json_of
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import record_pb2

from .conftest import Peer, check

Parts = list[tuple[str, tuple[str | None, bytes, str]]]


def form(*names: str, **fields: Any) -> Parts:
    parts: Parts = []
    for index, name in enumerate(names):
        document = json.dumps({"id": f"n{index}", "caption": "c", **fields}).encode()
        content = document if name == "record" else b"png" * 1000
        parts.append((name, (None, content, "application/octet-stream")))
    return parts


async def test_a_record_is_read(http: httpx.AsyncClient) -> None:
    document = (await http.get("/v1/records/r1")).json()
    check(Record, document)
    assert document["caption"] == "Axial T1 <b>brain</b>"
    assert (document["image_sha256"], document["original_sha256"]) == ("ab" * 32, "cd" * 32)
    assert document["pixels"] is None


async def test_a_record_says_what_its_pixels_mean(http: httpx.AsyncClient, peer: Peer) -> None:
    lung = record_pb2.PixelWindow(name="lung", center=-600, width=1500)
    peer.script.pixels = record_pb2.Pixels(bits=12, slope=0.5, intercept=-1024, unit="HU", windows=[lung])
    document = (await http.get("/v1/records/r1")).json()
    check(Record, document)
    assert document["pixels"] == {
        "bits": 12,
        "slope": 0.5,
        "intercept": -1024.0,
        "unit": "HU",
        "windows": [{"name": "lung", "center": -600.0, "width": 1500.0}],
    }


async def test_a_record_says_where_its_structures_are(http: httpx.AsyncClient, peer: Peer) -> None:
    liver = record_pb2.Region(id=3, name="liver", group="organs", colour="#d98e5f", box=[1, 2, 30, 40], area=900)
    peer.script.regions = (liver,)
    document = (await http.get("/v1/records/r1")).json()
    check(Record, document)
    assert document["regions"] == [
        {"id": 3, "name": "liver", "group": "organs", "colour": "#d98e5f", "box": [1, 2, 30, 40], "area": 900}
    ]


async def test_a_label_map_of_an_upload_reaches_the_retriever(http: httpx.AsyncClient, peer: Peer) -> None:
    png = b"\x89PNG" + bytes(100_000)
    legend = [{"id": 3, "name": "liver", "group": "organs", "colour": "#d98e5f"}]
    regions = {"png": base64.b64encode(png).decode(), "legend": legend}
    response = await http.post("/v1/records", files=form("record", "image", regions=regions))
    assert response.status_code == 200, response.text
    sent = peer.script.asked[0][0].record
    assert sent.regions.png == png
    assert [(each.id, each.name, each.group, each.colour) for each in sent.regions.legend] == [
        (3, "liver", "organs", "#d98e5f")
    ]
    assert not sent.record.regions


async def test_a_record_without_a_label_map_is_told_from_one_whose_map_is_removed(
    http: httpx.AsyncClient, peer: Peer
) -> None:
    cases: tuple[tuple[dict[str, Any], bool], ...] = (({}, False), ({"regions": {}}, True))
    for fields, given in cases:
        peer.script.asked.clear()
        assert (await http.post("/v1/records", files=form("record", "image", **fields))).status_code == 200
        assert peer.script.asked[0][0].record.HasField("regions") == given


async def test_pixels_of_an_upload_reach_the_retriever(http: httpx.AsyncClient, peer: Peer) -> None:
    pixels = {
        "bits": 12,
        "intercept": -1024,
        "unit": "HU",
        "windows": [{"name": "lung", "center": -600, "width": 1500}],
    }
    response = await http.post("/v1/records", files=form("record", "image", pixels=pixels))
    assert response.status_code == 200, response.text
    sent = peer.script.asked[0][0].record.pixels
    assert (sent.bits, sent.slope, sent.intercept, sent.unit) == (12, 1.0, -1024.0, "HU")
    assert [(each.name, each.center, each.width) for each in sent.windows] == [("lung", -600.0, 1500.0)]


async def test_uploads_are_streamed_in_their_order(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.post("/v1/records", files=form("record", "image", "record", "image"))
    assert response.status_code == 200, response.text
    check(UpsertReply, response.json())
    assert [outcome["state"] for outcome in response.json()["outcomes"]] == ["created", "rejected"]
    parts = peer.script.asked[0]
    kinds = [part.WhichOneof("part") for part in parts]
    first, second = (index for index, kind in enumerate(kinds) if kind == "record")
    assert first == 0
    assert b"".join(part.image_chunk for part in parts[first:second]) == b"png" * 1000
    assert parts[second].record.record.id == "n2"


def test_labels_that_were_left_out_are_named() -> None:
    outcomes = [
        record_pb2.UpsertOutcome(id="a", state=record_pb2.UPSERT_STATE_CREATED, left_out=["MRN"]),
        record_pb2.UpsertOutcome(id="b", state=record_pb2.UPSERT_STATE_CREATED),
    ]
    reply = to_model(UpsertReply, retriever_pb2.UpsertRecordsResponse(outcomes=outcomes))
    document = json.loads(json_of(reply))
    check(UpsertReply, document)
    assert document["outcomes"] == [
        {"id": "a", "state": "created", "left_out": ["MRN"]},
        {"id": "b", "state": "created"},
    ]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (form("image"), "REQUEST_MALFORMED"),
        (form("colour"), "REQUEST_MALFORMED"),
        (form("record", colour=1), "REQUEST_MALFORMED"),
        (form("record", caption=7), "REQUEST_MALFORMED"),
        (form("record", pixels={}), "REQUEST_MALFORMED"),
        (form("record", pixels={"bits": "12 bits"}), "REQUEST_MALFORMED"),
        (form("record", pixels={"bits": 2**40}), "REQUEST_MALFORMED"),
        (form("record", pixels={"bits": 12, "windows": [{"center": 1}]}), "REQUEST_MALFORMED"),
        (form("record", regions={"png": "?", "legend": []}), "REQUEST_MALFORMED"),
        (form("record", regions={"legend": [{"id": 1}]}), "REQUEST_MALFORMED"),
        (form("record", regions={"legend": [{"id": 2**40, "name": "x", "colour": ""}]}), "REQUEST_MALFORMED"),
        (form("record", regions={"legend": [{"id": 1, "name": "x", "colour": ""}] * 2_000}), "TOO_MANY_ITEMS"),
        (form("record", regions={"legend": [{"id": 1, "name": "x", "colour": ""}] * 70_000}), "REQUEST_TOO_LARGE"),
        (form("record", pixels={"bits": 12, "windows": [{"center": 1, "width": 1}] * 17}), "TOO_MANY_ITEMS"),
        (form("record", pixels={"bits": 12, "colour": 1}), "REQUEST_MALFORMED"),
        (form(*["record", "image"] * 65), "TOO_MANY_ITEMS"),
    ],
)
async def test_a_form_that_is_wrong_stores_nothing(
    http: httpx.AsyncClient, peer: Peer, parts: Parts, code: str
) -> None:
    response = await http.post("/v1/records", files=parts)
    assert response.json()["code"] == code
    assert not peer.script.asked


async def test_a_form_that_breaks_off_stores_nothing(http: httpx.AsyncClient, peer: Peer) -> None:
    whole = httpx.Request("POST", "http://localhost/", files=form("record", "image"))
    headers = {"content-type": whole.headers["content-type"]}
    response = await http.post("/v1/records", content=whole.read()[:-200], headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "REQUEST_MALFORMED")
    assert not peer.script.asked


async def test_json_is_no_upload(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/records", json={})
    assert (response.status_code, response.json()["code"]) == (415, "MEDIA_TYPE_UNSUPPORTED")


async def test_an_upload_over_the_limit_is_refused_by_its_length(http: httpx.AsyncClient, peer: Peer) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(2**40)}
    response = await http.post("/v1/records", content=b"", headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "REQUEST_TOO_LARGE")
    assert not peer.script.asked


async def test_an_error_of_the_retriever_ends_an_upload(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.error = MirageError(Code.STORAGE_FULL)
    response = await http.post("/v1/records", files=form("record", "image"))
    assert (response.status_code, response.json()["code"]) == (507, "STORAGE_FULL")


async def test_a_record_is_removed(http: httpx.AsyncClient, peer: Peer) -> None:
    assert (await http.delete("/v1/records/r1")).json() == {"deleted": 1}
    assert (await http.delete("/v1/records/r2", params={"collection": "next"})).json() == {"deleted": 1}
    assert [(list(each.ids), each.collection) for each in peer.script.asked] == [(["r1"], ""), (["r2"], "next")]


async def test_a_flag_is_raised(http: httpx.AsyncClient) -> None:
    document = (await http.post("/v1/records/r1/flags", json={"reason": "licence", "comment": "whose?"})).json()
    check(Flag, document)
    assert (document["record_id"], document["reason"], document["comment"]) == ("r1", "licence", "whose?")
