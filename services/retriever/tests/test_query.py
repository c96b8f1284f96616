"""Checks and digests of queries."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_retriever.facets import check_facets, check_where
from mirage_retriever.match import Match, Thresholds, judge, kind_of
from mirage_retriever.query import Given, Id, Image, Mode, Query, Term, Text, check_query
from mirage_retriever.records import Record

QUERY = Query((Term(Text("lesion")),), where={"plane": ("axial",)}, min_score=0.1, exclude_ids=("a",))


def code_of(query: Query) -> Code:
    with pytest.raises(MirageError) as caught:
        check_query(query)
    return caught.value.code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"terms": ()}, Code.EMPTY_QUERY),
        ({"terms": (Term(None),)}, Code.TERM_EMPTY),
        ({"terms": (Term(Text(" \n")),)}, Code.TERM_EMPTY),
        ({"terms": (Term(Text("a" * 2_001)),)}, Code.TEXT_TOO_LONG),
        ({"terms": (Term(Image(b"")),)}, Code.IMAGE_EMPTY),
        ({"terms": (Term(Image(bytes(20 * 2**20 + 1))),)}, Code.IMAGE_TOO_LARGE),
        ({"terms": (Term(Id("../x")),)}, Code.ID_INVALID),
        ({"terms": (Term(Given(np.zeros(0, np.float32))),)}, Code.TERM_EMPTY),
        ({"terms": tuple(Term(Text("a")) for _ in range(17))}, Code.TOO_MANY_TERMS),
        ({"terms": (Term(Text("a"), float("nan")),)}, Code.WEIGHT_NOT_FINITE),
        ({"terms": (Term(Text("a"), 0.0),)}, Code.WEIGHTS_ALL_ZERO),
        ({"k": 0}, Code.K_OUT_OF_RANGE),
        ({"k": -5}, Code.K_OUT_OF_RANGE),
        ({"k": 101}, Code.K_OUT_OF_RANGE),
        ({"min_score": 1.01}, Code.MIN_SCORE_OUT_OF_RANGE),
        ({"min_score": float("nan")}, Code.MIN_SCORE_OUT_OF_RANGE),
        ({"where": {"colour": ("red",)}}, Code.FACET_UNKNOWN),
        ({"where": {"plane": ()}}, Code.FACET_VALUE_INVALID),
        ({"where": {"plane": ("diagonal",)}}, Code.FACET_VALUE_INVALID),
        ({"where": {"finding": ("",)}}, Code.FACET_VALUE_INVALID),
        ({"where": {"finding": ("\x00\n",)}}, Code.FACET_VALUE_INVALID),
        ({"where": {"finding": ("a",) * 65}}, Code.FACET_VALUE_INVALID),
        ({"exclude_ids": ("a/b",)}, Code.ID_INVALID),
        ({"exclude_ids": tuple(f"i{n}" for n in range(101))}, Code.TOO_MANY_ITEMS),
    ],
)
def test_what_is_wrong_with_a_query_is_named(change: dict[str, Any], code: Code) -> None:
    assert code_of(replace(QUERY, **change)) is code


def test_a_query_at_the_limits_passes() -> None:
    terms = tuple(Term(Text("a" * 2_000)) for _ in range(16))
    check_query(replace(QUERY, terms=terms, k=100, min_score=-1.0, exclude_ids=tuple(f"i{n}" for n in range(100))))


def test_facet_values_are_sorted_and_each_there_once() -> None:
    assert check_facets({"finding": ("b", "a", "b")}) == {"finding": ("a", "b")}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"modality": ("CT",)}, {"modality": ("ct",)}),
        ({"Modality": ("X-Ray", "x-ray")}, {"modality": ("x-ray",)}),
        ({"Body Part": ("  Left\nLung ",)}, {"body_part": ("left lung",)}),
        ({"BODY-PART": ("LUNG",), "body_part": ("chest",)}, {"body_part": ("chest", "lung")}),
        ({"License": ("CC-BY-4.0",)}, {"licence": ("cc-by-4.0",)}),
        ({"finding": ("ÄTZUNG",)}, {"finding": ("ätzung",)}),
    ],
)  # fmt: skip
def test_a_filter_is_matched_in_any_case(given: dict[str, tuple[str, ...]], where: dict[str, tuple[str, ...]]) -> None:
    assert check_query(replace(QUERY, where=given)).where == where


def test_a_filter_finds_a_licence_that_was_too_long_for_a_facet() -> None:
    licence = "All rights reserved. " * 20
    record = Record(id="a", caption="b", licence=licence)
    assert check_where({"licence": (licence,)})["licence"] == record.facets()["licence"]
    assert len(record.facets()["licence"][0]) <= 64


def test_an_unknown_value_or_facet_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(MirageError) as caught:
        check_where({"modality": ("MRI",)})
    assert caught.value.message == (
        'The facet modality has no value "mri"; known are: ct, dermoscopy, endoscopy, fundus, histology, microscopy, '
        "mr, nm, oct, other, photo, us, x-ray."
    )
    with pytest.raises(MirageError) as caught:
        check_where({"Colour": ("red",)})
    assert "There is no facet named Colour; known are: modality, plane, body_part" in caught.value.message
    with pytest.raises(MirageError) as caught:
        check_where({"plane": ("x" * 5_000,)})
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("value", ["Tumour", "a\nb", "x" * 65, "", " a"])
def test_a_records_own_values_must_be_in_form(value: str) -> None:
    with pytest.raises(MirageError) as caught:
        check_facets({"finding": (value,)})
    assert caught.value.code is Code.FACET_VALUE_INVALID


def test_what_a_record_says_is_not_repeated() -> None:
    with pytest.raises(MirageError) as caught:
        check_facets({"modality": ("Erika Mustermann",)})
    assert "ustermann" not in str(caught.value) + repr(caught.value.metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"terms": (Term(Text("lesions")),)},
        {"terms": (Term(Id("lesion")),)},
        {"terms": (Term(Text("lesion"), 2.0),)},
        {"terms": (Term(Text("lesion")), Term(Text("")))},
        {"mode": Mode.CAPTIONS},
        {"where": {"plane": ("coronal",)}},
        {"where": {}},
        {"min_score": None},
        {"exclude_ids": ()},
        {"exclude_ids": ("a", "b")},
    ],
)
def test_a_digest_tells_queries_apart(change: dict[str, Any]) -> None:
    assert replace(QUERY, **change).digest() != QUERY.digest()


def test_a_digest_overlooks_the_page() -> None:
    assert replace(QUERY, page_token="x", k=50).digest() == QUERY.digest()


TEXT, PICTURE, RECORD, VECTOR = (Term(v) for v in (Text("a"), Image(b"a"), Id("a"), Given(np.ones(1, np.float32))))


@pytest.mark.parametrize(
    ("terms", "kind"),
    [
        ([TEXT], "text"),
        ([PICTURE], "image"),
        ([RECORD], "image"),
        ([TEXT, TEXT], "arithmetic"),
        ([PICTURE, TEXT], "arithmetic"),
        ([TEXT, replace(PICTURE, weight=0.0)], "text"),
        ([VECTOR], None),
        ([TEXT, VECTOR], None),
    ],
)
def test_a_query_is_of_its_only_term_s_kind_or_arithmetic(terms: list[Term], kind: str | None) -> None:
    assert kind_of(terms) == kind


@pytest.mark.parametrize(
    ("best", "match"), [(0.9, Match.GOOD), (0.5, Match.GOOD), (0.4, Match.WEAK), (0.1, Match.NONE), (None, Match.NONE)]
)
def test_a_match_is_judged_by_the_best_cosine(best: float | None, match: Match) -> None:
    assert judge(best, Thresholds(good=0.5, weak=0.3)) is match


def test_without_thresholds_there_is_no_judgement() -> None:
    assert judge(0.9, None) is Match.NOT_JUDGED
