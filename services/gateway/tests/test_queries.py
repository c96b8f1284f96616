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
from mirage_gateway.web.search import compare_queries, search_query
from mirage_gateway.web.uploads import record_head


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
    base, shift = compare_queries(body)
    assert [term.text for term in base.terms] == ["q"]
    assert [(term.text, term.weight) for term in shift] == [("axial", -1.0), ("sagittal", 1.0), ("T2", 1.0)]


def test_a_comparison_needs_something_to_compare_with() -> None:
    with pytest.raises(MirageError) as caught:
        compare_queries(CompareRequest(text="q"))
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_a_record_keeps_its_labels_and_vectors() -> None:
    fields = {"id": "a", "caption": "c", "labels": {"plane": "axial"}, "image_vector": [1.0], "fingerprint": "f"}
    head = record_head(RecordUpload.model_validate(fields))
    assert list(head.record.labels["plane"].values) == ["axial"]
    assert head.HasField("image_vector")
    assert not head.HasField("caption_vector")
