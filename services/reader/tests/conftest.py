"""An encoder and a retriever that answer what a test tells them to, over real gRPC, and the reader in front of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import collection_pb2, image_pb2, query_pb2, record_pb2, vector_pb2
from mirage_reader.clients import GrpcAtlas
from mirage_reader.context import ContextSource
from mirage_reader.engines.base import ReadingEngine, Summariser
from mirage_reader.events import Event
from mirage_reader.reader import Query, Reader
from tests.support.servicers import partial_servicer

Labels = Mapping[str, Sequence[str]]


def record(id_: str, case: str = "", caption: str = "A frontal chest X-ray.", **labels: Any) -> record_pb2.Record:
    """A chest X-ray with further labels."""
    made = record_pb2.Record(id=id_, caption=caption, case_id=case)
    for name, value in {"modality": "x-ray", "body_part": "chest", **labels}.items():
        made.labels[name].values.extend([value] if isinstance(value, str) else value)
    return made


@dataclass
class Script(retriever_pb2_grpc.RetrieverServiceServicer, encoder_pb2_grpc.EncoderServiceServicer):
    """Finds its `records` in their order, if they pass the filter, and counts the labels of all of them."""

    records: list[record_pb2.Record] = field(default_factory=list)
    kind: int = image_pb2.IMAGE_KIND_MEDICAL
    sure: bool = True
    error: MirageError | None = None
    same_image: tuple[str, ...] = ()
    asked: list[Any] = field(default_factory=list)
    collections: list[str] = field(default_factory=list)

    async def ClassifyImage(self, request: Any, context: Any) -> Any:
        if self.error:
            await context.abort(grpc_status(self.error), self.error.message, to_trailers(self.error))
        guess = image_pb2.ImageGuess(kind=image_pb2.ImageKind.ValueType(self.kind), medical_score=0.9)
        for facet, value in (("modality", "x-ray"), ("body_part", "chest")):
            guess.facets.add(facet=facet, known=self.sure).values.add(value=value, probability=0.8)
        return encoder_pb2.ClassifyImageResponse(guess=guess)

    async def EncodeImage(self, request: Any, context: Any) -> Any:
        return encoder_pb2.EncodeImageResponse(vector=vector_pb2.Vector(float32=b"\0\0\x80?"))

    async def Search(self, request: Any, context: Any) -> Any:
        self.collections.append(request.query.collection)
        self.asked.append(request)
        found = [each for each in self.records if _passes(each, request.query.where)]
        reply = query_pb2.SearchReply(results=[query_pb2.Result(record=each) for each in found[: request.query.k]])
        return retriever_pb2.SearchResponse(reply=reply)

    async def ListFacets(self, request: Any, context: Any) -> Any:
        self.collections.append(request.collection)
        counts: dict[str, dict[str, int]] = {}
        for each in self.records:
            for name, values in each.labels.items():
                for value in values.values if _passes(each, request.where) else ():
                    counts.setdefault(name, {})[value] = counts.get(name, {}).get(value, 0) + 1
        reply = retriever_pb2.ListFacetsResponse()
        for name, counted in counts.items():
            facet = reply.facets.add(name=name)
            for value, count in counted.items():
                facet.values.add(value=value, count=count)
        return reply

    async def GetCollection(self, request: Any, context: Any) -> Any:
        self.collections.append(request.name)
        return retriever_pb2.GetCollectionResponse(collection=collection_pb2.Collection(records=len(self.records)))

    async def LookupRecords(self, request: Any, context: Any) -> Any:
        self.collections.append(request.collection)
        presence = record_pb2.RecordPresence(id=request.keys[0].id, same_image_ids=self.same_image)
        return retriever_pb2.LookupRecordsResponse(records=[presence])

    async def GetRecord(self, request: Any, context: Any) -> Any:
        self.collections.append(request.collection)
        found = next((each for each in self.records if each.id == request.id), None)
        if found is None:
            error = MirageError(Code.RECORD_NOT_FOUND, id=request.id)
            await context.abort(grpc_status(error), error.message, to_trailers(error))
        return retriever_pb2.GetRecordResponse(record=found)

    async def GetImage(self, request: Any, context: Any) -> Any:
        self.collections.append(request.collection)
        yield retriever_pb2.GetImageResponse(part=image_pb2.ImagePart(media_type="image/png", length=3, chunk=b"png"))


def _passes(each: record_pb2.Record, where: Any) -> bool:
    return all(set(values.values) & set(each.labels[name].values) for name, values in where.items())


Read = Callable[[Query], Awaitable[list[Event]]]
MakeReader = Callable[..., Reader]


@pytest.fixture
def script() -> Script:
    return partial_servicer(Script)


@pytest.fixture
async def peers(script: Script) -> AsyncIterator[str]:
    """The address of the script."""
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(script, server)
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def make_reader(peers: str) -> AsyncIterator[MakeReader]:
    """Builds a reader in front of the script."""
    async with AsyncExitStack() as stack:
        atlas = GrpcAtlas(encoder=peers, retriever=peers, timeout_s=30, calls=1)
        stack.push_async_callback(atlas.close)

        def make(
            engine: ReadingEngine | None = None,
            context: ContextSource | None = None,
            *,
            medical: bool = True,
            summariser: Summariser | None = None,
        ) -> Reader:
            return Reader(
                atlas, context or ContextSource(), medical=lambda _, __: medical, engine=engine, summariser=summariser
            )

        yield make


@pytest.fixture
def read(make_reader: MakeReader) -> Read:
    """Reads with rules alone."""
    return lambda query: collect(make_reader(), query)


async def collect(reader: Reader, query: Query) -> list[Event]:
    """All events of a reading."""
    async with aclosing(reader.read(query)) as events:
        return [event async for event in events]
