"""Search, compare, similar and facets."""

from starlette.requests import Request
from starlette.responses import Response

from mirage_core import limits
from mirage_core.errors import Code
from mirage_gateway.access import Action
from mirage_gateway.compose import SIMILAR_K_MAX, Composer
from mirage_gateway.web.answers import CompareDocument, SearchDocument, compare_document, search_document
from mirage_gateway.web.body import Intake
from mirage_gateway.web.json_bounds import QUERY
from mirage_gateway.web.operations import (
    ID,
    WHERE,
    Operation,
    Parameter,
    check_parameters,
    integer,
    json_response,
    where,
)
from mirage_gateway.web.queries import CompareBody, SearchBody, int32
from mirage_gateway.web.records import FacetsDocument, facets_document

_FACET_ERRORS = (Code.FACET_UNKNOWN, Code.FACET_VALUE_INVALID)
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
    Code.IMAGE_EMPTY,
    Code.IMAGE_TOO_LARGE,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_TOO_SMALL,
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_FORMAT_UNSUPPORTED,
    Code.IMAGE_NOT_MEDICAL,
    Code.ID_INVALID,
    Code.RECORD_NOT_FOUND,
    Code.FINGERPRINT_MISMATCH,
    Code.MODEL_NOT_READY,
    Code.MODEL_FAILED,
    *_FACET_ERRORS,
)


class SearchRoutes:
    """Finding records."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "POST",
                "/v1/search",
                "Find the records closest to a weighted sum of terms",
                self._search,
                action=Action.SEARCH,
                body=SearchBody,
                reply=SearchDocument,
                errors=(*QUERY_ERRORS, Code.PAGE_TOKEN_INVALID),
            ),
            Operation(
                "POST",
                "/v1/compare",
                "Run q and q - minus + plus side by side",
                self._compare,
                action=Action.SEARCH,
                body=CompareBody,
                reply=CompareDocument,
                errors=QUERY_ERRORS,
            ),
            Operation(
                "GET",
                "/v1/records/{id}/similar",
                "Find the records nearest to one record's image, itself left out",
                self._similar,
                action=Action.SEARCH,
                reply=SearchDocument,
                parameters=(
                    ID,
                    Parameter(
                        "k", "How many.", {"type": "integer", "minimum": 1, "maximum": SIMILAR_K_MAX, "default": 10}
                    ),
                    WHERE,
                    Parameter("page_token", "next_page_token of the reply before, with all else unchanged."),
                ),
                errors=(
                    Code.ID_INVALID,
                    Code.RECORD_NOT_FOUND,
                    Code.K_OUT_OF_RANGE,
                    Code.PAGE_TOKEN_INVALID,
                    *_FACET_ERRORS,
                ),
            ),
            Operation(
                "GET",
                "/v1/facets",
                "List facets and how many records carry each value",
                self._facets,
                action=Action.READ_RECORDS,
                reply=FacetsDocument,
                parameters=(
                    WHERE,
                    Parameter(
                        "limit",
                        "Values a facet at the most.",
                        {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
                    ),
                ),
                errors=(Code.K_OUT_OF_RANGE, *_FACET_ERRORS),
            ),
        )

    async def _search(self, request: Request) -> Response:
        # Nothing here keeps the query while it is searched: its images are large.
        found = await self._composer.search((await self._intake.json(request, SearchBody, QUERY)).to_query())
        return json_response(search_document(found))

    async def _compare(self, request: Request) -> Response:
        found = await self._composer.compare(*(await self._intake.json(request, CompareBody, QUERY)).to_queries())
        return json_response(compare_document(found))

    async def _similar(self, request: Request) -> Response:
        check_parameters(request, "k", "where", "page_token")
        reply = await self._composer.similar(
            request.path_params["id"],
            k=integer(request, "k"),
            where=where(request),
            page_token=request.query_params.get("page_token", ""),
        )
        return json_response(search_document(reply))

    async def _facets(self, request: Request) -> Response:
        check_parameters(request, "where", "limit")
        limit = integer(request, "limit")
        if limit is not None:
            int32(limit, field="limit", maximum=limits.K_MAX)
        return json_response(facets_document(await self._composer.facets(where=where(request), limit=limit)))
