"""Keeps the gateway's own gRPC health equal to that of what it depends on."""

import asyncio

from mirage_core import telemetry
from mirage_core.server import GrpcServer
from mirage_gateway.dependencies import Dependencies, Health, ready

_log = telemetry.get_logger()
_PERIOD_S = 1.0
_STARTING_PERIOD_S = 0.1


async def follow(dependencies: Dependencies, server: GrpcServer, name: str) -> None:
    """Sets the health of `name` until cancelled: SERVING while all that searches need is; logs each change."""
    known: dict[str, Health] = {}
    while True:
        found = await dependencies.health()
        serving = ready(found)
        if found != known:
            _log.info("dependencies", **{part: str(state) for part, state in found.items()})
            known = found
            await server.set_serving(name, serving=serving)
        await asyncio.sleep(_PERIOD_S if serving else _STARTING_PERIOD_S)
