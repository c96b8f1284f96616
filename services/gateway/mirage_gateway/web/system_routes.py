"""What is in use and how it is: models, collection, health, metrics, and the description of all of this."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action, permitted
from mirage_gateway.compose import Composer
from mirage_gateway.dependencies import OPTIONAL, Health
from mirage_gateway.web.collections import CollectionDocument, collection_document
from mirage_gateway.web.models import ModelsDocument, models_document
from mirage_gateway.web.operations import Operation, check_parameters, json_response
from mirage_gateway.web.problems import problem_response


class AliveDocument(TypedDict):
    """The process answers."""

    status: Literal["ok"]


class ReadyDocument(TypedDict):
    """Everything that searches need serves; the language model, which writes explanations, and the generator may not."""

    status: Literal["ready"]
    dependencies: dict[str, Literal["serving", "not serving", "unreachable"]]


class AccessDocument(TypedDict):
    """What the caller may do. `role` is its key's; `admin` for this machine if there are no keys; `public` without a key."""

    role: Literal["public", "read", "write", "admin"]
    may: list[str]


class SystemRoutes:
    """The server itself. `describe` gives the OpenAPI document."""

    def __init__(self, composer: Composer, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._composer = composer
        self._describe = describe
        self._description: bytes | None = None

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "GET",
                "/v1/models",
                "List the models in use",
                self._models,
                action=Action.READ_MODELS,
                reply=ModelsDocument,
                errors=(Code.MODEL_NOT_READY,),
            ),
            Operation(
                "GET",
                "/v1/access",
                "Say what the caller may do",
                self._access,
                action=Action.READ_MODELS,
                reply=AccessDocument,
            ),
            Operation(
                "GET",
                "/v1/collection",
                "Describe the collection in use",
                self._collection,
                action=Action.READ_MODELS,
                reply=CollectionDocument,
            ),
            Operation(
                "GET",
                "/healthz",
                "Say that the process is alive",
                self._healthz,
                action=Action.PROBE,
                reply=AliveDocument,
            ),
            Operation(
                "GET",
                "/readyz",
                "Say whether everything that searches need serves, each part named",
                self._readyz,
                action=Action.PROBE,
                reply=ReadyDocument,
                errors=(Code.DEPENDENCY_UNAVAILABLE,),
            ),
            Operation(
                "GET",
                "/metrics",
                "Prometheus metrics",
                self._metrics,
                action=Action.READ_METRICS,
                media_types=(CONTENT_TYPE_LATEST.split(";")[0],),
            ),
            Operation(
                "GET",
                "/openapi.json",
                "This description",
                self._openapi,
                action=Action.PROBE,
                media_types=("application/json",),
            ),
        )

    async def _models(self, request: Request) -> Response:
        check_parameters(request)
        return json_response(models_document(await self._composer.models()))

    async def _access(self, request: Request) -> Response:
        check_parameters(request)
        caller = context.caller.get()
        if caller is None:
            raise MirageError(Code.API_KEY_MISSING)
        document: AccessDocument = {
            "role": "public" if caller.public else cast("Literal['read', 'write', 'admin']", str(caller.role)),
            "may": [str(action) for action in permitted(caller)],
        }
        return json_response(document)

    async def _collection(self, request: Request) -> Response:
        check_parameters(request)
        return json_response(collection_document(await self._composer.collection()))

    async def _healthz(self, _: Request) -> Response:
        document: AliveDocument = {"status": "ok"}
        return json_response(document)

    async def _readyz(self, _: Request) -> Response:
        found = await self._composer.health()
        waiting = [name for name, state in found.items() if state is not Health.SERVING and name not in OPTIONAL]
        if waiting:
            error = MirageError(Code.DEPENDENCY_UNAVAILABLE, service=", ".join(waiting), retry_after_s=1.0)
            return problem_response(error, dependencies=found)
        return json_response({"status": "ready", "dependencies": found})

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _openapi(self, _: Request) -> Response:
        if self._description is None:
            self._description = to_json(self._describe())
        return Response(self._description, media_type="application/json")
