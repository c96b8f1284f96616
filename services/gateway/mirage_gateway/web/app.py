"""The ASGI application: the operations, the page, and what is around them."""

from importlib.metadata import version
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from mirage_core import context
from mirage_gateway.access import check_permission
from mirage_gateway.compose import Composer
from mirage_gateway.request_memory import RequestMemory
from mirage_gateway.request_places import RequestPlaces
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.body import Intake
from mirage_gateway.web.collection_routes import CollectionRoutes
from mirage_gateway.web.describe_routes import DescribeRoutes
from mirage_gateway.web.edge import Edge
from mirage_gateway.web.image_routes import ImageRoutes
from mirage_gateway.web.job_routes import JobRoutes
from mirage_gateway.web.openapi import describe
from mirage_gateway.web.operations import Handler, Operation
from mirage_gateway.web.page import Page
from mirage_gateway.web.proxies import ForwardedClient, TrustedProxies
from mirage_gateway.web.record_routes import RecordRoutes
from mirage_gateway.web.search_routes import SearchRoutes
from mirage_gateway.web.system_routes import SystemRoutes
from mirage_gateway.web.visitors import Visitors, remember


def build_app(composer: Composer, settings: GatewaySettings) -> ASGIApp:
    """The application for a composer."""
    memory = RequestMemory(settings.memory_mb * 2**20, per_client=settings.memory_mb * 2**20 * 2 // 3)
    intake = Intake(memory, settings.pace, timeout_s=settings.body_timeout_s)
    watchers = RequestPlaces(settings.max_watchers, per_client=settings.max_watchers_per_client)
    keyed = bool(settings.api_keys) and not settings.public_read
    operations: list[Operation] = []

    def describe_all() -> dict[str, Any]:
        return describe(operations, version=version("mirage-gateway"))

    operations += [
        *SearchRoutes(composer, intake).operations(),
        *DescribeRoutes(composer, intake).operations(),
        *JobRoutes(composer.jobs, intake, watchers).operations(),
        *RecordRoutes(composer, intake).operations(),
        *CollectionRoutes(composer, intake).operations(),
        *ImageRoutes(composer, intake, keyed=keyed).operations(),
        *SystemRoutes(composer, describe_all).operations(),
    ]
    open_paths = frozenset({"/", *(each.path for each in operations if each.open)})
    app: ASGIApp = Edge(
        Router(_routes(operations, Visitors(settings)), redirect_slashes=False), settings, memory, open_paths=open_paths
    )
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "last-event-id", "x-request-id"],
            expose_headers=[
                "content-disposition",
                "etag",
                "location",
                "retry-after",
                "x-mirage-synthetic",
                "x-request-id",
            ],
        )
    return ForwardedClient(app, TrustedProxies(settings.trusted_proxies))


def _routes(operations: list[Operation], visitors: Visitors) -> list[BaseRoute]:
    # One route a path, so that a wrong method is known as such and Allow names all that are right.
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = _permitted(operation, visitors)
    routes = [Route(path, _dispatch(path, handlers), methods=[*handlers]) for path, handlers in by_path.items()]
    return [*routes, *(_named(route) for route in Page().routes())]


def _permitted(operation: Operation, visitors: Visitors) -> Handler:
    async def serve(request: Request) -> Response:
        caller = context.caller.get()
        check_permission(caller, operation.action)
        if operation.open or caller is None or not caller.public:
            return await operation.handler(request)
        cookie = visitors.admit(request, operation.action)
        response = await operation.handler(request)
        if cookie:
            remember(response, request, cookie)
        return response

    return serve


def _dispatch(path: str, handlers: dict[str, Handler]) -> Handler:
    async def serve(request: Request) -> Response:
        request.scope["mirage.route"] = path
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return serve


def _named(route: Route) -> Route:
    return Route(route.path, _dispatch(route.path, {"GET": route.endpoint}), methods=["GET"])
