"""The ASGI application: the operations, the page, and what is around them."""

from importlib.metadata import version
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Scope

from mirage_gateway.compose import Composer
from mirage_gateway.request_memory import RequestMemory
from mirage_gateway.request_places import RequestPlaces
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.body import Intake
from mirage_gateway.web.descriptions import DescribeRoutes
from mirage_gateway.web.edge import Edge
from mirage_gateway.web.images import ImageRoutes
from mirage_gateway.web.jobs import JobRoutes
from mirage_gateway.web.openapi import describe
from mirage_gateway.web.operations import Operation, named_route, operations_of, routes_of
from mirage_gateway.web.page import VIEWS, Page, asks_for_page
from mirage_gateway.web.proxies import ForwardedClient, TrustedProxies
from mirage_gateway.web.quality import QualityRoutes
from mirage_gateway.web.ratings import RatingRoutes
from mirage_gateway.web.readings import ReadRoutes
from mirage_gateway.web.records import RecordRoutes
from mirage_gateway.web.search import SearchRoutes
from mirage_gateway.web.system import SystemRoutes
from mirage_gateway.web.visitors import Visitors


def build_app(composer: Composer, settings: GatewaySettings) -> ASGIApp:
    """The application for a composer."""
    memory = RequestMemory(settings.memory_mb * 2**20, per_client=settings.memory_mb * 2**20 * 2 // 3)
    intake = Intake(memory, settings.pace, timeout_s=settings.body_timeout_s)
    watchers = RequestPlaces(settings.max_watchers, per_client=settings.max_watchers_per_client)
    keyed = bool(settings.api_keys) and not settings.public_read
    operations: list[Operation] = []

    def describe_all() -> dict[str, Any]:
        return describe(operations, version=version("mirage-gateway"))

    for routes in (
        SearchRoutes(composer),
        DescribeRoutes(composer),
        ReadRoutes(composer),
        JobRoutes(composer.jobs, intake, watchers),
        RecordRoutes(composer, intake),
        ImageRoutes(composer, intake, keyed=keyed),
        QualityRoutes(composer),
        RatingRoutes(composer, intake),
        SystemRoutes(composer, describe_all),
    ):
        operations += operations_of(routes)
    open_paths = frozenset({*VIEWS, *(each.path for each in operations if each.open)})
    # With keys, the page's HTML holds nothing of a record: it is sent to anybody.
    pages = Page(None if settings.api_keys else composer.record)
    page = [named_route(route.path, {"GET": route.endpoint}) for route in pages.routes()]
    routes_all = [*routes_of(operations, intake, Visitors(settings)), *page]
    router = Router(routes_all, redirect_slashes=False, default=pages.lost)

    def is_lost(scope: Scope) -> bool:
        return asks_for_page(scope) and all(route.matches(scope)[0] is Match.NONE for route in routes_all)

    app: ASGIApp = Edge(router, settings, memory, open_paths=open_paths, is_lost=is_lost)
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
