"""Search, compare, similar, facets, and what an image seems to be."""

from typing import Annotated

from pydantic import Field

from mirage_api import limits
from mirage_api.descriptions import DescribeRequest
from mirage_api.search import (
    ClassifyReply,
    ClassifyRequest,
    CompareReply,
    CompareRequest,
    FacetsReply,
    Query,
    SearchReply,
    SearchRequest,
    SearchResult,
    Term,
)
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer, string_lists
from mirage_gateway.convert import derived, fill, to_message, to_model
from mirage_gateway.web.json_bounds import FILE, QUERY
from mirage_gateway.web.operations import CollectionName, Filter, NotFilter, PageToken, RecordId, operation
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import query_pb2

FACET_ERRORS = (Code.FACET_UNKNOWN, Code.FACET_VALUE_INVALID)
IMAGE_ERRORS = (
    Code.IMAGE_EMPTY,
    Code.IMAGE_TOO_LARGE,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_TOO_SMALL,
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_FORMAT_UNSUPPORTED,
    Code.MODEL_NOT_READY,
    Code.MODEL_FAILED,
)
QUERY_ERRORS = (
    Code.EMPTY_QUERY,
    Code.TERM_EMPTY,
    Code.TEXT_TOO_LONG,
    Code.K_OUT_OF_RANGE,
    Code.TOO_MANY_TERMS,
    Code.TOO_MANY_ITEMS,
    Code.WEIGHT_NOT_FINITE,
    Code.WEIGHTS_ALL_ZERO,
    Code.QUERY_CANCELS_OUT,
    Code.VECTOR_NOT_FINITE,
    Code.VECTOR_WRONG_DIMENSION,
    Code.VECTOR_ZERO,
    Code.MIN_SCORE_OUT_OF_RANGE,
    *IMAGE_ERRORS,
    Code.IMAGE_NOT_MEDICAL,
    Code.ID_INVALID,
    Code.RECORD_NOT_FOUND,
    Code.FINGERPRINT_MISMATCH,
    Code.COLLECTION_NOT_FOUND,
    *FACET_ERRORS,
)


class SearchRoutes:
    """Finding records."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    @operation("POST", "/v1/search", Action.SEARCH, bounds=QUERY, errors=(*QUERY_ERRORS, Code.PAGE_TOKEN_INVALID))
    async def search(self, body: SearchRequest) -> SearchReply:
        """Find the records closest to a weighted sum of terms."""
        searching = self._composer.search(search_query(body))
        # Its images are large: nothing here keeps them while it is searched.
        del body
        return to_model(SearchReply, await searching)

    @operation("POST", "/v1/compare", Action.SEARCH, bounds=QUERY, errors=QUERY_ERRORS)
    async def compare(self, body: CompareRequest) -> CompareReply:
        """Run q and q - minus + plus side by side, or two queries a and b."""
        comparing = self._composer.compare(compare_request(body))
        del body
        return to_model(CompareReply, await comparing)

    @operation(
        "GET",
        "/v1/records/{id}/similar",
        Action.SEARCH,
        errors=(
            Code.ID_INVALID,
            Code.RECORD_NOT_FOUND,
            Code.K_OUT_OF_RANGE,
            Code.PAGE_TOKEN_INVALID,
            Code.COLLECTION_NOT_FOUND,
            *FACET_ERRORS,
        ),
    )
    async def similar(
        self,
        id: RecordId,
        k: Annotated[int, Field(description="How many.", ge=1, le=limits.SIMILAR_K_MAX)] = limits.K_DEFAULT,
        where: Filter = {},
        page_token: PageToken = "",
        collection: CollectionName = "",
    ) -> SearchReply:
        """Find the records nearest to one record's image, except itself."""
        found = await self._composer.similar(id, k=k, where=where, page_token=page_token, collection=collection)
        return to_model(SearchReply, found)

    @operation(
        "GET",
        "/v1/facets",
        Action.READ_RECORDS,
        errors=(Code.K_OUT_OF_RANGE, Code.COLLECTION_NOT_FOUND, *FACET_ERRORS),
    )
    async def facets(
        self,
        where: Filter = {},
        not_: NotFilter = {},
        limit: Annotated[int, Field(description="Most values of a facet.", ge=1, le=100)] = 50,
        collection: CollectionName = "",
    ) -> FacetsReply:
        """List facets and how many records carry each value; a facet's own part of the filter does not count for it."""
        asked = retriever_pb2.ListFacetsRequest(
            where=string_lists(where), where_not=string_lists(not_), limit=limit, collection=collection
        )
        return to_model(FacetsReply, await self._composer.forward(asked))

    @operation("POST", "/v1/classify", Action.CLASSIFY, bounds=FILE, errors=IMAGE_ERRORS)
    async def classify(self, body: ClassifyRequest) -> ClassifyReply:
        """Say what an image is: a medical one or not, and facets such as its modality, or that they are not known."""
        classifying = self._composer.classify(to_message(encoder_pb2.ClassifyImageRequest, body))
        del body
        return to_model(ClassifyReply, await classifying)


@derived(SearchResult, "matched")
def _matched(result: query_pb2.Result) -> dict[str, tuple[tuple[int, int], ...]]:
    return {
        name: tuple((span.start, span.end) for span in result.matched[name].spans) for name in sorted(result.matched)
    }


def search_query(body: SearchRequest) -> query_pb2.Query:
    """Returns the query of a search; raises K_OUT_OF_RANGE, or REQUEST_MALFORMED for a term that is more than one thing."""
    query = query_message(body, limits.K_MAX)
    query.terms.extend(term_messages(body.terms))
    return query


def compare_request(body: CompareRequest) -> retriever_pb2.CompareRequest:
    """Returns two queries, or the base query and the terms added to it; raises as `search_query`, REQUEST_MALFORMED for one
    query alone or next to a base, and without anything to add.
    """
    if body.a is not None or body.b is not None:
        given = body.model_fields_set - {"a", "b", "collection"}
        if body.a is None or body.b is None or given:
            raise MirageError(Code.REQUEST_MALFORMED, field="a, b: both, in place of all else but a collection")
        both = retriever_pb2.CompareRequest(a=search_query(body.a), b=search_query(body.b))
        for side in (both.a, both.b):
            side.collection = side.collection or body.collection
        return both
    shift = shift_messages(body)
    if not shift:
        raise MirageError(Code.REQUEST_MALFORMED, field="minus, plus")
    return retriever_pb2.CompareRequest(base=query_message(body, limits.K_MAX), shift=shift)


def query_message(body: Query, k_max: int) -> query_pb2.Query:
    """Returns the message of what all queries share; its terms are text, image and id. Raises K_OUT_OF_RANGE."""
    if not 1 <= body.k <= k_max:
        raise MirageError(Code.K_OUT_OF_RANGE, field="k", min=1, max=k_max, given=body.k)
    query = query_pb2.Query()
    # Terms come after those of text, image and id.
    fill(query, body, but=("terms",))
    if body.text is not None:
        query.terms.add(text=body.text)
    if body.image is not None:
        query.terms.add(image=body.image)
    if body.id is not None:
        query.terms.add(id=body.id)
    return query


def shift_messages(body: CompareRequest | DescribeRequest) -> list[query_pb2.Term]:
    """Returns the terms of `- minus + plus + terms`."""
    shift = []
    for phrases, weight in ((body.minus, -1.0), (body.plus, 1.0)):
        given = (phrases,) if isinstance(phrases, str) else phrases or ()
        shift += [query_pb2.Term(text=phrase, weight=weight) for phrase in given]
    return [*shift, *term_messages(body.terms)]


def term_messages(terms: tuple[Term, ...]) -> list[query_pb2.Term]:
    """Returns weighted terms as messages; raises REQUEST_MALFORMED for one that is more than one thing."""
    for index, term in enumerate(terms):
        if sum(each is not None for each in (term.text, term.image, term.id, term.vector)) > 1:
            raise MirageError(Code.REQUEST_MALFORMED, field=f"terms.{index}")
    return [to_message(query_pb2.Term, term) for term in terms]
