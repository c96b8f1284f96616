"""Runs the gateway: settings, build, serve."""

import asyncio
from contextlib import AsyncExitStack

import uvloop

from mirage_core.server import GrpcServer, run_service
from mirage_gateway import servicer
from mirage_gateway.compose import Composer
from mirage_gateway.connections import raise_file_limit
from mirage_gateway.dependencies import Dependencies, follow_health
from mirage_gateway.http_server import HttpServer
from mirage_gateway.request_memory import return_large_blocks
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.app import build_app
from mirage_protos.v1 import mirage_service_pb2_grpc


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = GatewaySettings()
    raise_file_limit()
    return_large_blocks()

    async def setup(server: GrpcServer, stack: AsyncExitStack) -> None:
        dependencies = Dependencies(
            retriever=settings.retriever,
            encoder=settings.encoder,
            llm=settings.llm,
            generator=settings.generator,
            reader=settings.reader,
            patience_s=settings.patience_s,
        )
        stack.push_async_callback(dependencies.close)
        composer = Composer(dependencies, settings)
        server.add(
            mirage_service_pb2_grpc.add_MirageServiceServicer_to_server,
            servicer.MirageServicer(composer),
            servicer.NAME,
        )
        http = HttpServer(build_app(composer, settings), settings)
        await server.start()
        await http.start()
        stack.push_async_callback(http.stop)
        following = asyncio.create_task(follow_health(dependencies, server, servicer.NAME))
        stack.callback(following.cancel)

    run_service(settings, "gateway", setup, loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    main()
