"""What a JSON body may be made of, before any object is."""

import base64
import json
from typing import Any

import pytest

from mirage_api.base import Request
from mirage_api.records import LookupRequest, RecordUpload
from mirage_api.search import ClassifyRequest, CompareRequest, SearchRequest
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_gateway.web.json_bounds import FILE, PLAIN, QUERY, JsonBounds, parse, scan
from mirage_gateway.web.search import search_query

PNG = bytes(range(256)) * 400
IMAGE = base64.b64encode(PNG).decode()


def read(model: type[Request], document: object, bounds: JsonBounds = QUERY) -> Any:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse(model, bytearray(text), bounds)[0]


def refusal(model: type[Request], document: object, bounds: JsonBounds = QUERY) -> MirageError:
    with pytest.raises(MirageError) as caught:
        read(model, document, bounds)
    return caught.value


def many(count: int, item: bytes, before: bytes, after: bytes) -> bytes:
    return before + b",".join([item] * count) + after


MIB = 2**20
# Each takes hundreds of times its size, if objects are made of it first.
BOMBS = {
    "terms": many(10 * MIB, b"{}", b'{"terms":[', b"]}"),
    "few terms": many(80_000, b"{}", b'{"terms":[', b"]}"),
    "values": many(2 * MIB, b'""', b'{"text":"a","where":{"plane":[', b"]}}"),
    "facets": b'{"text":"a","where":{' + b",".join(b'"%d":"x"' % n for n in range(MIB)) + b"}}",
    "phrases": many(2 * MIB, b'"a"', b'{"text":"a","plus":[', b"]}"),
    "lists": b'{"terms":' + b"[" * 30 * MIB,
    "closed lists": b'{"terms":' + b"[" * 1000 + b"]" * 1000 + b"}" + b" " * 4000,
    "numbers": many(15 * MIB, b"0", b'{"terms":[{"vector":[', b"]}]}"),
    "a number": b'{"k":1' + b"0" * 30 * MIB + b"}",
    "names": b"{" + b",".join(b'"%d":0' % n for n in range(MIB)) + b"}",
    "quotes": b'{"text":"' + b'\\"' * 10 * MIB + b'"}',
    "backslashes": b'{"text":"' + b"\\" * 20 * MIB + b'"}',
    "spaces": b" " * 30 * MIB + b"{}",
    "unfinished": b'{"text":"' + b"a" * 30 * MIB,
    "an image that is text": b'{"text":"' + b"a" * 30 * MIB + b'"}',
    "images": many(20, b'{"image":"' + b"A" * 40_000 + b'"}', b'{"terms":[', b"]}"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_that_would_grow_is_refused(name: str) -> None:
    allowed = {Code.TOO_MANY_ITEMS, Code.TOO_MANY_TERMS, Code.REQUEST_TOO_LARGE, Code.REQUEST_MALFORMED}
    assert refusal(CompareRequest, BOMBS[name]).code in allowed


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "images"])
def test_it_is_refused_before_it_is_parsed(name: str) -> None:
    with pytest.raises(MirageError):
        scan(BOMBS[name], QUERY)


def test_an_image_is_decoded_before_the_rest_is_parsed() -> None:
    body = read(SearchRequest, {"image": IMAGE, "terms": [{"text": "x"}, {"image": IMAGE, "weight": -1.0}], "k": 3})
    query = search_query(body)
    assert [term.image for term in query.terms if term.image] == [PNG, PNG]
    assert query.k == 3
    assert read(ClassifyRequest, {"image": IMAGE}, FILE).image == PNG


def test_an_image_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    largest = base64.b64encode(bytes(limits.IMAGE_BYTES)).decode()
    assert len(read(SearchRequest, {"image": largest}).image) == limits.IMAGE_BYTES
    more = base64.b64encode(bytes(limits.IMAGE_BYTES + 3)).decode()
    assert refusal(SearchRequest, {"image": more}).code is Code.IMAGE_TOO_LARGE


@pytest.mark.parametrize(
    "written",
    [
        b'{"image" : "%s"}',
        b'{ "image":\n"%s" }',
        b'{"id": "a\\\\", "image": "%s"}',
        b'{"text": "say \\"image\\": ", "image": "%s"}',
        b'{"accept_any_image": true, "image": "%s"}',
    ],
)
def test_an_image_is_found_however_it_is_written(written: bytes) -> None:
    assert read(SearchRequest, written % IMAGE.encode()).image == PNG


def test_slashes_may_be_escaped() -> None:
    slashes = base64.b64encode(b"\xff" * 100_000).decode()
    assert "/" in slashes
    assert read(SearchRequest, b'{"image": "%s"}' % slashes.replace("/", "\\/").encode()).image == b"\xff" * 100_000


@pytest.mark.parametrize(
    "image",
    [IMAGE[:-3] + "===", IMAGE[:40_000] + "=" + IMAGE[40_000:], "%" + IMAGE[1:], IMAGE + "A", "AA==" * 200_000],
    ids=["padding", "padding inside", "percent", "length", "padding everywhere"],
)
def test_what_is_not_base64_is_refused_by_its_name(image: str) -> None:
    error = refusal(SearchRequest, {"terms": [{"text": "x"}, {"image": image}]})
    assert (error.code, error.metadata["field"]) == (Code.REQUEST_MALFORMED, "terms.1.image")


@pytest.mark.parametrize("field", ["text", "id", "page_token"])
def test_a_file_counts_as_one_under_its_own_name_only(field: str) -> None:
    assert refusal(SearchRequest, {field: "A" * 3 * MIB}).code is Code.REQUEST_TOO_LARGE
    assert refusal(SearchRequest, {field: IMAGE}).code in (Code.TEXT_TOO_LONG, Code.REQUEST_MALFORMED)


def test_the_word_for_a_file_cannot_be_guessed() -> None:
    error = refusal(SearchRequest, {"terms": [{"image": IMAGE}, {"image": "file-0-0"}]})
    assert error.metadata["field"] == "terms.1.image"


@pytest.mark.parametrize(
    ("model", "document", "bounds"),
    [
        (SearchRequest, {"terms": [{"vector": [0.123456] * 12_000}] * 16}, QUERY),
        (SearchRequest, {"text": '"' * 2000, "where": {"plane": ["\\" * 900] * 64}}, QUERY),
        (SearchRequest, {"text": "\U0001f9e0" * 2000}, QUERY),
        (LookupRequest, {"keys": [{"id": "a" * 128, "image_sha256": "0" * 64}] * 1000}, PLAIN),
        (
            RecordUpload,
            {"id": "a", "caption": "é" * 20_000, "image_vector": [0.1] * 4096, "caption_vector": [0.1] * 4096},
            JsonBounds(MIB, MIB),
        ),
    ],
    ids=["vectors", "quotes", "astral", "lookup", "record"],
)
def test_what_the_limits_allow_passes(model: type[Request], document: object, bounds: JsonBounds) -> None:
    assert isinstance(read(model, document, bounds), model)


def test_bodies_without_image_or_vector_are_smaller() -> None:
    padded = {"text": "x", "where": {"plane": ["a" * 900] * 60}, "page_token": "x" * 9000}
    text = json.dumps(padded).encode()
    assert read(SearchRequest, text + b" " * (limits.REQUEST_BYTES - len(text)))
    error = refusal(SearchRequest, text + b" " * limits.REQUEST_BYTES)
    assert (error.code, error.metadata["max_bytes"]) == (Code.REQUEST_TOO_LARGE, str(limits.REQUEST_BYTES))


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"terms": [{"text": "x"}] * 17}, Code.TOO_MANY_TERMS),
        ({"text": "x", "plus": ["x"] * 17}, Code.TOO_MANY_TERMS),
        ({"text": "x" * 2001}, Code.TEXT_TOO_LONG),
        ({"text": "x", "minus": "x" * 2001}, Code.TEXT_TOO_LONG),
        ({"text": "x", "minus": ["y", "x" * 2001]}, Code.TEXT_TOO_LONG),
        ({"text": "x", "where": {"plane": ["x"] * 65}}, Code.TOO_MANY_ITEMS),
        ({"text": "x", "where": {str(n): "x" for n in range(65)}}, Code.TOO_MANY_ITEMS),
        ({"text": "x", "where": {"plane": "x" * 1001}}, Code.REQUEST_MALFORMED),
        ({"id": "x" * 1001}, Code.REQUEST_MALFORMED),
    ],
)
def test_every_list_map_and_text_is_bounded(document: dict[str, Any], code: Code) -> None:
    assert refusal(CompareRequest, document).code is code
