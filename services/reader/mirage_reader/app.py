"""Puts the reader together from its settings."""

from contextlib import AsyncExitStack

from mirage_core.server import GrpcServer
from mirage_inference.llm.domain import DomainCheck
from mirage_protos.reader.v1.reader_pb2_grpc import add_ReaderServiceServicer_to_server
from mirage_reader.clients import GrpcAtlas
from mirage_reader.context import ContextSource
from mirage_reader.reader import Reader
from mirage_reader.servicer import ReaderServicer
from mirage_reader.settings import ReaderSettings

SERVICE = "mirage.reader.v1.ReaderService"


async def set_up(settings: ReaderSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, listens and turns health to SERVING: it has no model of its own to load."""
    atlas = GrpcAtlas(encoder=settings.encoder, retriever=settings.retriever, timeout_s=settings.call_timeout_s)
    stack.push_async_callback(atlas.close)
    context = ContextSource()
    stack.push_async_callback(context.close)
    reader = Reader(atlas, context, medical=DomainCheck.load().lets_pass, neighbours=settings.neighbours)
    server.add(add_ReaderServiceServicer_to_server, ReaderServicer(reader), SERVICE)
    await server.start()
    await server.set_serving(SERVICE, serving=True)
