"""ReaderService: protobuf to the reader and back, nothing else."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import ClassVar, TypeAlias

import grpc

from mirage_core import limits
from mirage_core.methods import Kind, MethodRule, Role
from mirage_protos.reader.v1 import reader_pb2, reader_pb2_grpc
from mirage_reader.convert import event_to_proto, model_to_proto, query_from_proto
from mirage_reader.reader import Reader

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class ReaderServicer(reader_pb2_grpc.ReaderServiceServicer):
    """Answers with what the reader gives; errors go through to the interceptor."""

    methods: ClassVar[Mapping[str, MethodRule]] = {
        "Read": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES, Kind.WATCH),
        "GetModel": MethodRule(Role.ADMIN),
    }

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def Read(self, request: reader_pb2.ReadRequest, context: Context) -> AsyncIterator[reader_pb2.ReadResponse]:
        """See protos/mirage/reader/v1/reader.proto."""
        events = self._reader.read(query_from_proto(request.query))
        # The message holds the file once more.
        del request
        async with aclosing(events):
            async for event in events:
                yield event_to_proto(event)

    async def GetModel(self, request: reader_pb2.GetModelRequest, context: Context) -> reader_pb2.GetModelResponse:
        """See protos/mirage/reader/v1/reader.proto."""
        model = self._reader.engine.model
        return reader_pb2.GetModelResponse(model=model_to_proto(model) if model else None)
