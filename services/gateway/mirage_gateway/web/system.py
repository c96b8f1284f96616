"""Collections, models, access, health, metrics, and the OpenAPI document."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from pydantic_core import to_json
from starlette.responses import Response

from mirage_api.system import (
    AccessReply,
    ActivateReply,
    AliveReply,
    Calibration,
    Collection,
    CollectionInfo,
    CollectionRequest,
    CollectionsReply,
    CommonQueriesReply,
    DeleteCollectionReply,
    KindCalibration,
    Model,
    ModelsReply,
    ReadyReply,
)
from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action, permitted
from mirage_gateway.compose import Composer
from mirage_gateway.convert import derived, to_message, to_model
from mirage_gateway.dependencies import OPTIONAL, Health
from mirage_gateway.web.operations import CollectionName, operation
from mirage_gateway.web.problems import problem_response
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import collection_pb2, mirage_service_pb2, model_pb2

_COMMON_QUERIES_MAX = 1_000
# The names of the kinds in the API and in manifests.
_TASKS: Mapping[int, str] = {
    model_pb2.MODEL_KIND_ENCODER: "encode",
    model_pb2.MODEL_KIND_LLM: "describe",
    model_pb2.MODEL_KIND_GENERATOR: "generate",
    model_pb2.MODEL_KIND_READER: "read",
}

Name = Annotated[str, Field(description="The name of a collection.")]


class SystemRoutes:
    """The server itself. `describe` gives the OpenAPI document."""

    def __init__(self, composer: Composer, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._composer = composer
        self._describe = describe
        self._description: bytes | None = None

    @operation("GET", "/v1/collection", Action.READ_MODELS)
    async def collection(self) -> Collection:
        """Describe the collection in use."""
        return to_model(Collection, await self._composer.collection())

    @operation("GET", "/v1/collections/{name}", Action.READ_MODELS, errors=(Code.COLLECTION_NOT_FOUND,))
    async def named(self, name: Name) -> Collection:
        """Describe a collection."""
        return to_model(Collection, await self._composer.collection(name))

    @operation("GET", "/v1/collections", Action.LIST_COLLECTIONS)
    async def collections(self) -> CollectionsReply:
        """List the collections."""
        return to_model(CollectionsReply, await self._composer.forward(retriever_pb2.ListCollectionsRequest()))

    @operation(
        "POST",
        "/v1/collections",
        Action.MANAGE_COLLECTIONS,
        errors=(
            Code.COLLECTION_NAME_INVALID,
            Code.COLLECTION_EXISTS,
            Code.TOO_MANY_ITEMS,
            Code.MODEL_NOT_READY,
            Code.STORAGE_FULL,
        ),
    )
    async def create(self, body: CollectionRequest) -> CollectionInfo:
        """Make an empty collection next to the active one."""
        asked = to_message(retriever_pb2.CreateCollectionRequest, body)
        return to_model(CollectionInfo, (await self._composer.forward(asked)).collection)

    @operation(
        "POST",
        "/v1/collections/{name}/activate",
        Action.MANAGE_COLLECTIONS,
        errors=(Code.COLLECTION_NOT_FOUND, Code.STORAGE_FULL),
    )
    async def activate(self, name: Name) -> ActivateReply:
        """Turn all searches to a collection, between two of them."""
        asked = retriever_pb2.ActivateCollectionRequest(name=name)
        return to_model(ActivateReply, await self._composer.forward(asked))

    @operation(
        "DELETE",
        "/v1/collections/{name}",
        Action.MANAGE_COLLECTIONS,
        errors=(Code.COLLECTION_NOT_FOUND, Code.COLLECTION_ACTIVE),
    )
    async def delete(self, name: Name) -> DeleteCollectionReply:
        """Remove a collection that is not the active one."""
        asked = retriever_pb2.DeleteCollectionRequest(name=name)
        return to_model(DeleteCollectionReply, await self._composer.forward(asked))

    @operation("GET", "/v1/common-queries", Action.READ_MODELS, errors=(Code.COLLECTION_NOT_FOUND,))
    async def common_queries(self, collection: CollectionName = "") -> CommonQueriesReply:
        """List queries to offer: the operator's, or those that are typical of the collection."""
        asked = retriever_pb2.ListCommonQueriesRequest(page_size=_COMMON_QUERIES_MAX, collection=collection)
        return to_model(CommonQueriesReply, await self._composer.forward(asked))

    @operation("GET", "/v1/models", Action.READ_MODELS, errors=(Code.MODEL_NOT_READY,))
    async def models(self) -> ModelsReply:
        """List the models in use."""
        found = await self._composer.models()
        return to_model(ModelsReply, mirage_service_pb2.ListModelsResponse(models=found))

    @operation("GET", "/v1/access", Action.READ_MODELS)
    async def access(self) -> AccessReply:
        """Say what the caller may do."""
        caller = context.caller.get()
        if caller is None:
            raise MirageError(Code.API_KEY_MISSING)
        role = "public" if caller.public else cast("Literal['read', 'write', 'admin']", str(caller.role))
        return AccessReply(role=role, may=tuple(str(action) for action in permitted(caller)))

    @operation("GET", "/healthz", Action.PROBE)
    async def healthz(self) -> AliveReply:
        """Say that the process is alive."""
        return AliveReply(status="ok")

    @operation("GET", "/readyz", Action.PROBE, reply=ReadyReply, errors=(Code.DEPENDENCY_UNAVAILABLE,))
    async def readyz(self) -> ReadyReply | Response:
        """Say whether everything that searches need serves, each part named."""
        found = await self._composer.health()
        waiting = [name for name, state in found.items() if state is not Health.SERVING and name not in OPTIONAL]
        if waiting:
            error = MirageError(Code.DEPENDENCY_UNAVAILABLE, service=", ".join(waiting), retry_after_s=1.0)
            return problem_response(error, dependencies=found)
        return ReadyReply(status="ready", dependencies={name: state.value for name, state in found.items()})

    @operation("GET", "/metrics", Action.READ_METRICS, media_types=(CONTENT_TYPE_LATEST.split(";")[0],))
    async def metrics(self) -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    @operation("GET", "/openapi.json", Action.PROBE, media_types=("application/json",))
    async def openapi(self) -> Response:
        """This description."""
        if self._description is None:
            self._description = to_json(self._describe())
        return Response(self._description, media_type="application/json")


@derived(Calibration, "kinds")
def _kinds(calibration: collection_pb2.Calibration) -> dict[str, KindCalibration]:
    return {name: to_model(KindCalibration, calibration.kinds[name]) for name in sorted(calibration.kinds)}


@derived(Model, "task")
def _task(model: model_pb2.Model) -> str:
    return _TASKS[model.kind]


@derived(Model, "manifest")
def _manifest(model: model_pb2.Model) -> dict[str, Any]:
    try:
        manifest = json.loads(model.manifest_json)
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}
