import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from mirage_api.records import RecordUpload
from mirage_api.search import CompareRequest, SearchRequest
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_gateway.web.problems import malformed
from mirage_gateway.web.search import compare_request, search_query
from mirage_gateway.web.uploads import record_head
from mirage_protos.v1 import query_pb2


def search(**fields: Any) -> SearchRequest:
    return SearchRequest.model_validate_json(json.dumps(fields), strict=True)


def refusal(**fields: Any) -> MirageError:
    try:
        search_query(search(**fields))
    except ValidationError as error:
        return malformed(error)
    except MirageError as error:
        return error
    raise AssertionError("nothing was refused")


def test_text_image_and_id_become_terms_before_the_weighted_ones() -> None:
    terms = [{"text": "axial", "weight": -1.0}, {"vector": [1.0, 0.0]}]
    query = search_query(search(text="brain", image=base64.b64encode(b"png").decode(), id="r1", terms=terms))
    assert [term.WhichOneof("value") for term in query.terms] == ["text", "image", "id", "text", "vector"]
    assert query.terms[1].image == b"png"
    assert [term.weight for term in query.terms[3:]] == [-1.0, 1.0]


def test_what_is_left_out_has_the_documented_default() -> None:
    query = search_query(search(text="brain"))
    assert query.k == 10
    # Without a mode and a space the retriever searches by words, then by likeness.
    assert not any(query.HasField(name) for name in ("mode", "vectors", "min_score"))
    assert not query.where


def test_a_filter_takes_one_value_or_several() -> None:
    query = search_query(search(text="x", where={"plane": "axial", "sequence": ["t1", "t2"]}))
    assert {name: list(values.values) for name, values in query.where.items()} == {
        "plane": ["axial"],
        "sequence": ["t1", "t2"],
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": 1}, "colour"),
        ({"terms": [{"text": "x", "wieght": 1}]}, "terms.0.wieght"),
        ({"text": 7}, "text"),
        ({"k": "10"}, "k"),
        ({"k": 1.5}, "k"),
        ({"k": True}, "k"),
        ({"vectors": "words"}, "vectors"),
        ({"terms": [{"text": "x", "id": "y"}]}, "terms.0"),
        ({"terms": [{"image": "%%%"}]}, "terms.0.image"),
        ({"image": "QUJD*"}, "image"),
    ],
)
def test_a_wrong_form_is_refused_by_the_field_s_name(fields: dict[str, Any], named: str) -> None:
    error = refusal(**fields)
    assert (error.code, error.metadata["field"]) == (Code.REQUEST_MALFORMED, named)


@pytest.mark.parametrize("k", [10**12, -(10**12)])
def test_a_k_that_no_message_can_hold_is_out_of_range(k: int) -> None:
    assert refusal(text="x", k=k).code is Code.K_OUT_OF_RANGE


def test_an_image_over_the_limit_is_refused_before_it_is_decoded() -> None:
    assert refusal(image="A" * (limits.IMAGE_BYTES * 4 // 3 + 8)).code is Code.IMAGE_TOO_LARGE


def test_a_list_of_numbers_without_end_is_refused() -> None:
    assert refusal(terms=[{"vector": [0.0] * 20_000}]).code is Code.TOO_MANY_ITEMS


def test_an_empty_image_and_an_empty_vector_stay_terms() -> None:
    query = search_query(search(terms=[{"image": ""}, {"vector": []}]))
    assert [term.WhichOneof("value") for term in query.terms] == ["image", "vector"]


def test_minus_and_plus_become_the_shift() -> None:
    body = CompareRequest.model_validate({"text": "q", "minus": "axial", "plus": ["sagittal", "T2"], "k": 3})
    request = compare_request(body)
    assert [term.text for term in request.base.terms] == ["q"]
    assert [(term.text, term.weight) for term in request.shift] == [("axial", -1.0), ("sagittal", 1.0), ("T2", 1.0)]


def test_two_queries_are_compared_in_one_collection_unless_they_name_their_own() -> None:
    a, b = {"text": "q", "k": 2, "not": {"plane": "axial"}}, {"id": "r1", "collection": "next", "group_by": "case"}
    request = compare_request(CompareRequest.model_validate({"a": a, "b": b, "collection": "old"}))
    assert not request.HasField("base")
    assert [(side.collection, side.k) for side in (request.a, request.b)] == [("old", 2), ("next", 10)]
    assert list(request.a.where_not["plane"].values) == ["axial"]
    assert request.b.group_by == query_pb2.GROUP_BY_CASE


@pytest.mark.parametrize(
    "body",
    [
        {"text": "q"},
        {},
        {"a": {"text": "q"}},
        {"b": {"text": "q"}},
        {"a": {"text": "q"}, "b": {"text": "r"}, "text": "s"},
        {"a": {"text": "q"}, "b": {"text": "r"}, "minus": "s"},
        {"a": {"text": "q"}, "b": {"text": "r"}, "k": 3},
    ],
)
def test_a_comparison_needs_something_to_compare_with(body: dict[str, Any]) -> None:
    with pytest.raises(MirageError) as caught:
        compare_request(CompareRequest.model_validate(body))
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_a_listing_has_a_filter_an_order_and_examples_no_terms() -> None:
    query = search_query(search(order="random", seed=str(2**63 - 1), **{"not": {"plane": ["axial", "coronal"]}}))
    assert not query.terms
    assert (query.order, query.seed) == (query_pb2.RECORD_ORDER_RANDOM, 2**63 - 1)
    assert list(query.where_not["plane"].values) == ["axial", "coronal"]
    query = search_query(search(positive=["a", "b"], negative=["c"], variety=True))
    assert (list(query.positive), list(query.negative), query.variety) == (["a", "b"], ["c"], True)


@pytest.mark.parametrize(
    "fields",
    [
        {"order": "oldest"},
        {"group_by": "plane"},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": "1e3"},
        {"positive": "a"},
        {"positive": ["a"] * 9},
        {"not": "axial"},
        {"not": {"plane": ["a"] * 65}},
        {"where_not": {"plane": "axial"}},
        {"variety": "yes"},
    ],
)
def test_what_a_listing_cannot_have_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(**fields).code in (Code.REQUEST_MALFORMED, Code.TOO_MANY_ITEMS)


def test_a_record_keeps_its_labels_and_vectors() -> None:
    fields = {"id": "a", "caption": "c", "labels": {"plane": "axial"}, "image_vector": [1.0], "fingerprint": "f"}
    head = record_head(RecordUpload.model_validate(fields))
    assert list(head.record.labels["plane"].values) == ["axial"]
    assert head.HasField("image_vector")
    assert not head.HasField("caption_vector")
