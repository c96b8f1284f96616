"""Collections: made beside the active one, switched to, removed; and the list of common queries."""

from starlette.requests import Request
from starlette.responses import Response

from mirage_core.errors import Code
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.web.body import Intake
from mirage_gateway.web.collections import (
    ActivatedDocument,
    CollectionInfoDocument,
    CollectionsDocument,
    CommonQueriesDocument,
    RemovedCollectionDocument,
    collection_info_document,
)
from mirage_gateway.web.operations import Operation, Parameter, check_parameters, json_response
from mirage_gateway.web.queries import CollectionBody

_NAME = Parameter("name", "The name of a collection.", within="path")


class CollectionRoutes:
    """Collections side by side."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "GET",
                "/v1/collections",
                "List the collections",
                self._list,
                action=Action.LIST_COLLECTIONS,
                reply=CollectionsDocument,
            ),
            Operation(
                "POST",
                "/v1/collections",
                "Make an empty collection beside the active one",
                self._create,
                action=Action.MANAGE_COLLECTIONS,
                body=CollectionBody,
                reply=CollectionInfoDocument,
                errors=(
                    Code.COLLECTION_NAME_INVALID,
                    Code.COLLECTION_EXISTS,
                    Code.TOO_MANY_ITEMS,
                    Code.MODEL_NOT_READY,
                    Code.STORAGE_FULL,
                ),
            ),
            Operation(
                "POST",
                "/v1/collections/{name}/activate",
                "Turn all searches to a collection, between two of them",
                self._activate,
                action=Action.MANAGE_COLLECTIONS,
                reply=ActivatedDocument,
                parameters=(_NAME,),
                errors=(Code.COLLECTION_NOT_FOUND, Code.STORAGE_FULL),
            ),
            Operation(
                "DELETE",
                "/v1/collections/{name}",
                "Remove a collection that is not the active one",
                self._delete,
                action=Action.MANAGE_COLLECTIONS,
                reply=RemovedCollectionDocument,
                parameters=(_NAME,),
                errors=(Code.COLLECTION_NOT_FOUND, Code.COLLECTION_ACTIVE),
            ),
            Operation(
                "GET",
                "/v1/common-queries",
                "List the queries that are answered from a cache",
                self._common_queries,
                action=Action.READ_MODELS,
                reply=CommonQueriesDocument,
            ),
        )

    async def _list(self, request: Request) -> Response:
        check_parameters(request)
        found = await self._composer.collections()
        document: CollectionsDocument = {"collections": [collection_info_document(each) for each in found.collections]}
        return json_response(document)

    async def _create(self, request: Request) -> Response:
        body = await self._intake.json(request, CollectionBody)
        made = await self._composer.create_collection(body.name, dimension=body.dimension, fingerprint=body.fingerprint)
        return json_response(collection_info_document(made))

    async def _activate(self, request: Request) -> Response:
        check_parameters(request)
        found = await self._composer.activate_collection(request.path_params["name"])
        document: ActivatedDocument = {
            "collection": collection_info_document(found.collection),
            "previous": found.previous,
        }
        return json_response(document)

    async def _delete(self, request: Request) -> Response:
        check_parameters(request)
        document: RemovedCollectionDocument = {
            "records": await self._composer.delete_collection(request.path_params["name"])
        }
        return json_response(document)

    async def _common_queries(self, request: Request) -> Response:
        check_parameters(request)
        # As many as a list of common queries may have.
        found = await self._composer.common_queries(page_size=1_000)
        document: CommonQueriesDocument = {"queries": list(found.queries)}
        return json_response(document)
