"""Searching and reading over real gRPC, with the real encoder behind the retriever."""

import hashlib
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from mirage_core.channels import invoke
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import vector_to_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import collection_pb2, facet_pb2, flag_pb2, image_pb2, query_pb2, vector_pb2
from tests.support.waiting import until_async as until

from .conftest import Stub
from .service_calls import BAD_IMAGES, code_of, collection, ids, image_of, parts, picture, record, search, upsert
from .service_calls import atlas as atlas


async def test_an_image_finds_itself_and_its_record_comes_with_it(stub: Stub, atlas: str) -> None:
    reply = await search(stub, query_pb2.Term(image=picture(5)), k=3)
    first = reply.results[0]
    assert first.record.id == f"{atlas}-05"
    assert first.cosine == first.score == pytest.approx(1, abs=0.01)
    assert first.record.caption == "Section number 5, sagittal."
    assert list(first.record.labels["plane"].values) == ["sagittal"]
    assert dict(first.record.original_labels) == {"Plane": "TRA"}
    assert first.record.original_sha256 == hashlib.sha256(picture(5)).hexdigest()
    _, stored = await image_of(stub, f"{atlas}-05", image_pb2.IMAGE_VARIANT_DISPLAY)
    assert first.record.image_sha256 == hashlib.sha256(stored).hexdigest()
    assert (first.record.image_type, first.record.width, first.record.height) == ("image/png", 96, 96)
    assert reply.fingerprint == (await collection(stub)).fingerprint
    assert reply.timings.total_ms >= reply.timings.search_ms > 0


async def test_a_text_is_reported_with_its_tokens(stub: Stub, atlas: str) -> None:
    reply = await search(stub, query_pb2.Term(text="axial section"))
    assert len(reply.results) == 10
    assert reply.query.tokens == 4
    assert not reply.query.truncated
    assert reply.query.shift == pytest.approx(1)
    assert [(term.label, term.weight, term.share) for term in reply.query.terms] == [("axial section", 1, 1)]
    assert (await search(stub, query_pb2.Term(text="section " * 100))).query.truncated


async def test_a_caption_is_found_among_captions(stub: Stub, atlas: str) -> None:
    reply = await search(
        stub, query_pb2.Term(text="Section number 7, coronal."), vectors=query_pb2.VECTOR_SPACE_CAPTION, k=1
    )
    assert ids(reply) == [f"{atlas}-07"]
    assert reply.results[0].score == pytest.approx(1, abs=1e-3)
    assert reply.match == query_pb2.MATCH_NOT_JUDGED  # thresholds are of image vectors


async def test_fused_results_carry_both_scores(stub: Stub, atlas: str) -> None:
    reply = await search(
        stub, query_pb2.Term(text="Section number 7, coronal."), vectors=query_pb2.VECTOR_SPACE_FUSED, k=12
    )
    assert sorted(ids(reply)) == [f"{atlas}-{n:02}" for n in range(12)]
    scores = [result.score for result in reply.results]
    assert scores == sorted(scores, reverse=True)
    assert all(2 / 72 - 1e-6 <= score <= 2 / 61 + 1e-6 for score in scores)
    by_image = await search(stub, query_pb2.Term(text="Section number 7, coronal."), k=12)
    cosines = {result.record.id: result.cosine for result in by_image.results}
    assert {result.record.id: result.cosine for result in reply.results} == pytest.approx(cosines, abs=1e-5)
    floor = sorted(cosines.values())[6]
    bounded = await search(
        stub,
        query_pb2.Term(text="Section number 7, coronal."),
        vectors=query_pb2.VECTOR_SPACE_FUSED,
        k=12,
        min_score=floor,
    )
    assert set(ids(bounded)) == {id_ for id_, cosine in cosines.items() if cosine >= floor}


async def test_pages_give_everything_once_and_in_order(stub: Stub, atlas: str) -> None:
    for space in (query_pb2.VECTOR_SPACE_IMAGE, query_pb2.VECTOR_SPACE_CAPTION, query_pb2.VECTOR_SPACE_FUSED):
        whole = ids(await search(stub, query_pb2.Term(text="axial"), vectors=space, k=12))
        token, paged, matches = "", [], set()
        while True:
            reply = await search(stub, query_pb2.Term(text="axial"), vectors=space, k=5, page_token=token)
            paged += ids(reply)
            matches.add(reply.match)
            token = reply.next_page_token
            if not token:
                break
        assert paged == whole
        assert len(matches) == 1


async def test_equal_images_are_paged_in_order_of_their_ids(stub: Stub) -> None:
    names = [f"twin-{n:02}" for n in range(30)]
    await upsert(stub, *(parts(record(name), picture(1)) for name in reversed(names)))
    first = await search(stub, query_pb2.Term(image=picture(1)), k=7)
    second = await search(stub, query_pb2.Term(image=picture(1)), k=7, page_token=first.next_page_token)
    assert ids(first) + ids(second) == names[:14]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=names), timeout_s=10)


async def test_filters_exclusions_and_scores_narrow(stub: Stub, atlas: str) -> None:
    where = {"plane": facet_pb2.StringList(values=["axial", "coronal"])}
    reply = await search(stub, query_pb2.Term(id=f"{atlas}-00"), where=where, exclude_ids=[f"{atlas}-00"], k=12)
    assert {result.record.labels["plane"].values[0] for result in reply.results} == {"axial", "coronal"}
    assert len(reply.results) == 7
    floor = reply.results[3].score
    bounded = await search(
        stub, query_pb2.Term(id=f"{atlas}-00"), where=where, exclude_ids=[f"{atlas}-00"], k=12, min_score=floor
    )
    assert ids(bounded) == ids(reply)[:4]
    nothing = await search(stub, query_pb2.Term(text="axial"), where={"modality": facet_pb2.StringList(values=["nm"])})
    assert not nothing.results


async def test_compare_gives_both_sides_and_their_distance(stub: Stub, atlas: str) -> None:
    request = retriever_pb2.CompareRequest(
        base=query_pb2.Query(terms=[query_pb2.Term(id=f"{atlas}-03")], k=2),
        shift=[query_pb2.Term(id=f"{atlas}-03", weight=-1), query_pb2.Term(id=f"{atlas}-04", weight=1)],
    )
    reply = await invoke(stub.Compare, request, timeout_s=10)
    assert ids(reply.base)[0] == f"{atlas}-03"
    assert ids(reply.shifted)[0] == f"{atlas}-04"
    assert reply.shift == pytest.approx(reply.shifted.query.shift, abs=1e-5)
    assert sum(term.share for term in reply.shifted.query.terms) == pytest.approx(1, abs=1e-5)
    assert [term.label for term in reply.shifted.query.terms] == [f"{atlas}-03", f"{atlas}-03", f"{atlas}-04"]
    rest = await search(stub, *request.base.terms, *request.shift, k=2, page_token=reply.shifted.next_page_token)
    assert not set(ids(rest)) & set(ids(reply.shifted))


async def test_facets_are_counted_under_a_filter(stub: Stub, atlas: str) -> None:
    where = {"plane": facet_pb2.StringList(values=["axial", "coronal"])}
    reply = await invoke(stub.ListFacets, retriever_pb2.ListFacetsRequest(where=where), timeout_s=10)
    counts = {facet.name: {value.value: value.count for value in facet.values} for facet in reply.facets}
    # What a facet's own filter leaves out is counted too: it could be chosen next.
    assert counts == {"plane": {"axial": 4, "coronal": 4, "sagittal": 4}, "licence": {"cc0-1.0": 8}}


async def test_flags_count_on_the_record(stub: Stub, atlas: str) -> None:
    request = retriever_pb2.FlagRecordRequest(
        record_id=f"{atlas}-06", reason=flag_pb2.FLAG_REASON_WRONG_CAPTION, comment="left?"
    )
    flag = (await invoke(stub.FlagRecord, request, timeout_s=10)).flag
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-06"), timeout_s=10)
    assert got.record.flags == 1
    listed = await invoke(stub.ListFlags, retriever_pb2.ListFlagsRequest(record_id=f"{atlas}-06"), timeout_s=10)
    assert list(listed.flags) == [flag]
    assert flag.reason == flag_pb2.FLAG_REASON_WRONG_CAPTION
    assert flag.create_time.seconds > 1_700_000_000
    nameless = retriever_pb2.FlagRecordRequest(record_id=f"{atlas}-06")
    assert await code_of(invoke(stub.FlagRecord, nameless, timeout_s=10)) == "FLAG_INVALID"


@pytest.mark.parametrize("name", ["ListRecords", "ListFlags", "ListCollections", "ListCommonQueries"])
async def test_a_list_refuses_a_page_of_no_size_and_a_token_that_it_did_not_make(stub: Stub, name: str) -> None:
    method, request = getattr(stub, name), getattr(retriever_pb2, f"{name}Request")
    for size in (0, -1, 1_001):
        assert await code_of(invoke(method, request(page_size=size), timeout_s=10)) == "K_OUT_OF_RANGE"
    assert await code_of(invoke(method, request(page_token="?"), timeout_s=10)) == "PAGE_TOKEN_INVALID"


async def test_common_queries_come_page_by_page(stub: Stub) -> None:
    found: list[str] = []
    token = ""
    while True:
        request = retriever_pb2.ListCommonQueriesRequest(page_size=7, page_token=token)
        page = await invoke(stub.ListCommonQueries, request, timeout_s=10)
        assert len(page.queries) <= 7
        found += page.queries
        if not (token := page.next_page_token):
            break
    everything = await invoke(
        stub.ListCommonQueries, retriever_pb2.ListCommonQueriesRequest(page_size=1_000), timeout_s=10
    )
    assert found == list(everything.queries) != []


TEXT = query_pb2.Term(text="axial section")


BAD_QUERIES: list[tuple[str, Callable[[str, int], query_pb2.Query]]] = [
    ("EMPTY_QUERY", lambda *_: query_pb2.Query(variety=True)),
    ("TERM_EMPTY", lambda *_: query_pb2.Query(terms=[query_pb2.Term()])),
    ("TERM_EMPTY", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text=" ")])),
    ("TEXT_TOO_LONG", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a" * 10_000)])),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=0)),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=-5)),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=10**9)),
    ("TOO_MANY_TERMS", lambda *_: query_pb2.Query(terms=[TEXT] * 17)),
    ("QUERY_CANCELS_OUT", lambda *_: query_pb2.Query(terms=[TEXT, query_pb2.Term(text="axial section", weight=-1)])),
    ("WEIGHT_NOT_FINITE", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=math.nan)])),
    ("WEIGHT_NOT_FINITE", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=math.inf)])),
    ("WEIGHTS_ALL_ZERO", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=0)])),
    (
        "VECTOR_WRONG_DIMENSION",
        lambda *_: query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(np.array([1, 2], np.float32)))]),
    ),
    (
        "VECTOR_NOT_FINITE",
        lambda _, d: query_pb2.Query(
            terms=[query_pb2.Term(vector=vector_to_proto(np.array([math.nan] * d, np.float32)))]
        ),
    ),
    (
        "VECTOR_NOT_FINITE",
        lambda _, d: query_pb2.Query(
            terms=[query_pb2.Term(vector=vector_to_proto(np.array([math.inf] * d, np.float32)))]
        ),
    ),
    (
        "VECTOR_ZERO",
        lambda _, d: query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(np.array([0.0] * d, np.float32)))]),
    ),
    ("MIN_SCORE_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], min_score=math.nan)),
    ("PAGE_TOKEN_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], page_token="AAAA")),
    ("FACET_UNKNOWN", lambda *_: query_pb2.Query(terms=[TEXT], where={"colour": facet_pb2.StringList(values=["red"])})),
    ("FACET_VALUE_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], where={"plane": facet_pb2.StringList()})),
    ("ID_INVALID", lambda *_: query_pb2.Query(terms=[query_pb2.Term(id="../../etc/passwd")])),
    ("ID_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], exclude_ids=["../x"])),
    ("RECORD_NOT_FOUND", lambda *_: query_pb2.Query(terms=[query_pb2.Term(id="no-such-record")])),
    ("REQUEST_MALFORMED", lambda *_: query_pb2.Query(terms=[TEXT], vectors=query_pb2.VectorSpace.ValueType(9))),
    ("REQUEST_MALFORMED", lambda *_: query_pb2.Query(terms=[TEXT], vectors=query_pb2.VECTOR_SPACE_UNSPECIFIED)),
    (
        "REQUEST_MALFORMED",
        lambda *_: query_pb2.Query(terms=[query_pb2.Term(vector=vector_pb2.Vector(float32=b"12345"))]),
    ),
    *(
        (code, lambda *_, data=data: query_pb2.Query(terms=[query_pb2.Term(image=data)]))
        for code, data in BAD_IMAGES.items()
    ),
]


@pytest.mark.parametrize(("code", "make"), BAD_QUERIES, ids=[f"{n}-{code}" for n, (code, _) in enumerate(BAD_QUERIES)])
async def test_a_bad_query_gets_its_error_and_the_next_good_one_an_answer(
    stub: Stub, atlas: str, code: str, make: Callable[[str, int], query_pb2.Query]
) -> None:
    query = make(atlas, (await collection(stub)).dimension)
    request = retriever_pb2.SearchRequest(query=query)
    assert await code_of(invoke(stub.Search, request, timeout_s=30)) == code
    assert len(ids(await search(stub, TEXT, k=3))) == 3


async def test_a_page_token_of_another_query_is_refused(stub: Stub, atlas: str) -> None:
    token = (await search(stub, TEXT, k=3)).next_page_token
    assert (
        await code_of(search(stub, query_pb2.Term(text="coronal section"), k=3, page_token=token))
        == "PAGE_TOKEN_INVALID"
    )
    assert await code_of(search(stub, TEXT, k=3, min_score=0, page_token=token)) == "PAGE_TOKEN_INVALID"


async def test_a_filter_may_be_written_in_any_case(stub: Stub, atlas: str) -> None:
    where = {"Plane": facet_pb2.StringList(values=["AXIAL "])}
    assert len(ids(await search(stub, query_pb2.Term(text="axial section"), where=where))) == 4
    request = retriever_pb2.ListFacetsRequest(where=where)
    facets = (await invoke(stub.ListFacets, request, timeout_s=10)).facets
    assert [(value.value, value.count) for value in next(f for f in facets if f.name == "licence").values] == [
        ("cc0-1.0", 4)
    ]


async def test_an_unknown_id_is_not_found_everywhere(stub: Stub) -> None:
    calls: list[Awaitable[Any]] = [
        invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id="none"), timeout_s=10),
        image_of(stub, "none", image_pb2.IMAGE_VARIANT_THUMBNAIL),
        invoke(
            stub.FlagRecord,
            retriever_pb2.FlagRecordRequest(record_id="none", reason=flag_pb2.FLAG_REASON_OTHER),
            timeout_s=10,
        ),
    ]
    for call in calls:
        assert await code_of(call) == "RECORD_NOT_FOUND"


async def test_counts_have_limits(stub: Stub) -> None:
    many = retriever_pb2.DeleteRecordsRequest(ids=[f"i{n}" for n in range(1_001)])
    assert await code_of(invoke(stub.DeleteRecords, many, timeout_s=10)) == "TOO_MANY_ITEMS"
    none = retriever_pb2.DeleteRecordsRequest()
    assert await code_of(invoke(stub.DeleteRecords, none, timeout_s=10)) == "TOO_MANY_ITEMS"
    facets = retriever_pb2.ListFacetsRequest(limit=0)
    assert await code_of(invoke(stub.ListFacets, facets, timeout_s=10)) == "K_OUT_OF_RANGE"
    flags = retriever_pb2.ListFlagsRequest(page_size=1_001)
    assert await code_of(invoke(stub.ListFlags, flags, timeout_s=10)) == "K_OUT_OF_RANGE"


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": query_pb2.SEARCH_MODE_UNSPECIFIED},
        {"mode": 77},
        {"mode": query_pb2.SEARCH_MODE_WORDS, "vectors": query_pb2.VECTOR_SPACE_IMAGE},
    ],
)
async def test_a_mode_that_is_none_is_refused(stub: Stub, fields: dict[str, Any]) -> None:
    with pytest.raises(MirageError) as refused:
        await search(stub, query_pb2.Term(text="x"), **fields)
    assert refused.value.code is Code.REQUEST_MALFORMED


async def test_words_of_an_image_or_of_several_terms_are_refused(stub: Stub, png: bytes) -> None:
    for terms in ([query_pb2.Term(image=png)], [query_pb2.Term(text="a"), query_pb2.Term(text="b")]):
        with pytest.raises(MirageError) as refused:
            await search(stub, *terms, mode=query_pb2.SEARCH_MODE_WORDS)
        assert refused.value.code is Code.REQUEST_MALFORMED


async def test_a_filter_of_a_hundred_values_is_refused_with_the_limit(stub: Stub) -> None:
    where = {"finding": facet_pb2.StringList(values=[f"v{number}" for number in range(100)])}
    with pytest.raises(MirageError) as refused:
        await search(stub, query_pb2.Term(text="x"), where=where)
    assert refused.value.code is Code.FACET_VALUE_INVALID
    assert "64" in refused.value.message


async def test_a_collection_says_what_was_measured(stub: Stub, png: bytes) -> None:
    await upsert(stub, *(parts(record(f"many{number}", f"Section {number}."), png) for number in range(20)))
    found = await until(lambda: _calibrated(stub))
    assert set(found.kinds) <= {"text", "image", "arithmetic", "caption"}
    assert found.kinds["text"].recall.queries >= 20
    assert -1 <= found.kinds["text"].weak <= found.kinds["text"].good <= 1
    ids = [f"many{number}" for number in range(20)]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=ids), timeout_s=10)


async def _calibrated(stub: Stub) -> collection_pb2.Calibration | None:
    found = (await collection(stub)).calibration
    return found if found.kinds else None
