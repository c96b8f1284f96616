"""A retriever and an encoder that answer what a test tells them to, over real gRPC: these tests are about translation."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import BaseModel

from mirage_api.base import Omitted
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_core.server import GrpcServer
from mirage_gateway import servicer
from mirage_gateway.compose import Composer
from mirage_gateway.dependencies import ENCODER, RETRIEVER, Dependencies
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.app import build_app
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import (
    collection_pb2,
    facet_pb2,
    flag_pb2,
    image_pb2,
    mirage_service_pb2_grpc,
    model_pb2,
    problem_pb2,
    query_pb2,
    rating_pb2,
    record_pb2,
    timings_pb2,
    vector_pb2,
)
from tests.support import scripted_generator
from tests.support.scripted_generator import ScriptedGenerator
from tests.support.scripted_llm import ScriptedLlm, serve
from tests.support.servicers import partial_servicer


def record(record_id: str = "r1", **fields: Any) -> record_pb2.Record:
    """A record as the retriever gives it."""
    made = record_pb2.Record(
        id=record_id,
        caption="Axial T1 <b>brain</b>",
        licence="CC0-1.0",
        source="a source",
        image_sha256="ab" * 32,
        original_sha256="cd" * 32,
        image_type="image/png",
        width=32,
        height=24,
    )
    made.labels["plane"].values.append("axial")
    made.labels["modality"].values.append("mr")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def reply(*ids: str) -> query_pb2.SearchReply:
    """An answer with one result an id."""
    return query_pb2.SearchReply(
        results=[query_pb2.Result(record=record(each), score=0.1 + 0.2, cosine=0.1 + 0.2) for each in ids],
        match=query_pb2.MATCH_GOOD,
        query=query_pb2.QueryReport(
            tokens=5, shift=1.0, terms=[query_pb2.TermShare(label="x", weight=1, share=1, tokens=5)]
        ),
        timings=timings_pb2.Timings(inference_ms=1.5, search_ms=0.5, total_ms=2.0),
        next_page_token="next",
        fingerprint="f" * 64,
    )


def _info(name: str, *, active: bool = False) -> collection_pb2.Collection:
    return collection_pb2.Collection(name=name, active=active, records=3, dimension=4, fingerprint="f" * 64)


def check(model: type[BaseModel], document: Any) -> None:
    """Fails unless a JSON value is exactly what the model says: nothing is missing, unknown or of another type."""
    _check_fields(model.model_validate_json(json.dumps(document), strict=True))


def _check_fields(value: object) -> None:
    if isinstance(value, BaseModel):
        always = {name for name, info in type(value).model_fields.items() if Omitted() not in info.metadata}
        assert always <= value.model_fields_set, type(value)
        assert not value.model_extra, type(value)
        for name in value.model_fields_set:
            _check_fields(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            _check_fields(each)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Event loops that a module's tests run on: those that it names, else asyncio's own."""
    module = getattr(item, "module", None)
    return getattr(module, "LOOP_FACTORIES", None) or {"asyncio": asyncio.new_event_loop}


@dataclass
class Script(retriever_pb2_grpc.RetrieverServiceServicer, encoder_pb2_grpc.EncoderServiceServicer):
    """Keeps what it was asked; answers with `error` where one is set, and waits for `gate` where that is set."""

    asked: list[Any] = field(default_factory=list)
    error: MirageError | None = None
    gate: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    found: tuple[str, ...] = ("r1", "r2")
    # What a search of several texts finds, as the second of a description; as any other where None.
    second: tuple[str, ...] | None = None
    match: "query_pb2.Match.ValueType" = query_pb2.MATCH_GOOD
    match_pending: bool = False
    image_type: str = "image/png"
    collection: str = ""
    # What GetImage sends; after the first part it waits for the gate, if there is one.
    image_parts: tuple[bytes, ...] = (b"abc", b"def")
    image_gate: asyncio.Event | None = None
    pixels: record_pb2.Pixels | None = None
    regions: tuple[record_pb2.Region, ...] = ()
    image_kind: int = image_pb2.IMAGE_KIND_MEDICAL
    classify_error: MirageError | None = None
    collections: list[str] = field(default_factory=list)

    async def _take(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.arrived.set()
        if self.gate:
            await self.gate.wait()
        if self.error:
            await context.abort(grpc_status(self.error), self.error.message, to_trailers(self.error))

    async def Search(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        second = len(request.query.terms) > 1 and self.second is not None
        found = reply(*(self.second or ()) if second else self.found)
        found.match, found.match_pending = self.match, self.match_pending
        return retriever_pb2.SearchResponse(reply=found)

    async def Compare(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.CompareResponse(base=reply("r1"), shifted=reply("r2"), shift=0.25)

    async def GetRecord(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        made = record(request.id, image_type=self.image_type, collection=self.collection)
        if self.pixels is not None:
            made.pixels.CopyFrom(self.pixels)
        made.regions.extend(self.regions)
        made.original_regions_sha256 = "ef" * 32 if self.regions else ""
        return retriever_pb2.GetRecordResponse(record=made)

    async def GetImage(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        names = {
            image_pb2.IMAGE_VARIANT_THUMBNAIL: "image/webp",
            image_pb2.IMAGE_VARIANT_DISPLAY: self.image_type,
            image_pb2.IMAGE_VARIANT_PIXELS: "image/png",
            image_pb2.IMAGE_VARIANT_REGIONS: "image/png",
        }
        length = sum(map(len, self.image_parts))
        first, *others = self.image_parts
        head = image_pb2.ImagePart(media_type=names[request.variant], length=length, chunk=first)
        yield retriever_pb2.GetImageResponse(part=head)
        if self.image_gate:
            await self.image_gate.wait()
        for chunk in others:
            yield retriever_pb2.GetImageResponse(part=image_pb2.ImagePart(chunk=chunk))

    async def ListFacets(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        facet = facet_pb2.Facet(name="plane", values=[facet_pb2.FacetValue(value="axial", count=3, display="Axial")])
        facet.other.values.append("oblique")
        facet.other.count = 1
        return retriever_pb2.ListFacetsResponse(facets=[facet])

    async def UpsertRecords(self, requests: Any, context: Any) -> Any:
        messages = [request async for request in requests]
        self.collections += [message.collection for message in messages[:1]]
        parts = [message.part for message in messages]
        # A stream that its sender broke off ends here as well, and then the call is cancelled.
        await context.send_initial_metadata(())
        await self._take(parts, context)
        ids = [part.record.record.id for part in parts if part.WhichOneof("part") == "record"]
        outcomes = [record_pb2.UpsertOutcome(id=each, state=record_pb2.UPSERT_STATE_CREATED) for each in ids]
        problem = problem_pb2.Problem(code="IMAGE_EMPTY", message="The image has no bytes.")
        outcomes[-1].MergeFrom(record_pb2.UpsertOutcome(state=record_pb2.UPSERT_STATE_REJECTED, error=problem))
        return retriever_pb2.UpsertRecordsResponse(outcomes=outcomes)

    async def DeleteRecords(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.DeleteRecordsResponse(deleted=len(request.ids))

    async def GetCollection(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.GetCollectionResponse(
            collection=collection_pb2.Collection(name="atlas", active=True, engine="edge", records=7, dimension=4)
        )

    async def FlagRecord(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        flag = flag_pb2.Flag(id="f1", record_id=request.record_id, reason=request.reason, comment=request.comment)
        return retriever_pb2.FlagRecordResponse(flag=flag)

    async def GetModel(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return encoder_pb2.GetModelResponse(
            model=model_pb2.Model(name="mini-clip", kind=model_pb2.MODEL_KIND_ENCODER, dimension=4)
        )

    async def ClassifyImage(self, request: Any, context: Any) -> Any:
        if self.classify_error:
            error = self.classify_error
            await context.abort(grpc_status(error), error.message, to_trailers(error))
        guess = image_pb2.ImageGuess(kind=image_pb2.ImageKind.ValueType(self.image_kind), medical_score=0.125)
        guess.facets.add(facet="modality", known=True).values.add(value="mr", probability=0.75)
        vector = vector_pb2.Vector(float32=struct.pack("<f", 1.0)) if request.vector else None
        return encoder_pb2.ClassifyImageResponse(guess=guess, timings=timings_pb2.Timings(total_ms=1.0), vector=vector)

    async def ListFlags(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.ListFlagsResponse(
            flags=[flag_pb2.Flag(id="f1", record_id="r1", reason=flag_pb2.FLAG_REASON_OTHER)]
        )

    async def GetCase(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        case = record_pb2.Case(id=request.id, title="A case", images=3, records=[record("r1"), record("r2")])
        return retriever_pb2.GetCaseResponse(case=case)

    async def LookupRecords(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        known = record_pb2.RecordPresence(id="r1", record=record("r1"), same_image_ids=["r2"])
        return retriever_pb2.LookupRecordsResponse(records=[known, record_pb2.RecordPresence(id="new")])

    async def ListRecords(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        stored = record_pb2.StoredRecord(record=record("r1"))
        if request.vectors:
            stored.image_vector.float32 = struct.pack("<2f", 1, 0)
            stored.caption_vector.float32 = struct.pack("<2f", 0, 1)
        return retriever_pb2.ListRecordsResponse(
            records=[stored], next_page_token="more", fingerprint="f" * 64, total=9
        )

    async def ListCollections(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.ListCollectionsResponse(collections=[_info("atlas", active=True)])

    async def CreateCollection(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.CreateCollectionResponse(collection=_info(request.name))

    async def ActivateCollection(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.ActivateCollectionResponse(collection=_info(request.name, active=True), previous="atlas")

    async def DeleteCollection(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.DeleteCollectionResponse(records=7)

    async def GetRating(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        error = MirageError(Code.RATING_NOT_FOUND)
        await context.abort(grpc_status(error), error.message, to_trailers(error))

    StoreRatingAnswer = GetRatingSheet = DeleteRatingSheet = AddRatingItem = GetRating

    async def GetRatingImage(self, request: Any, context: Any) -> Any:
        await self.GetRating(request, context)
        yield retriever_pb2.GetRatingImageResponse()

    async def ListRatingSheets(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.ListRatingSheetsResponse(sheets=[rating_pb2.RatingSheet(id="s1", raters=2)])

    async def CreateRatingSheet(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.CreateRatingSheetResponse(sheet=rating_pb2.RatingSheet(id="s1"), tokens=["t"])

    async def ListCommonQueries(self, request: Any, context: Any) -> Any:
        await self._take(request, context)
        return retriever_pb2.ListCommonQueriesResponse(queries=["brain MRI"])

    # What the gateway never calls.
    async def EncodeText(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    EncodeImage = EncodeText

    async def EncodeImages(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield


@dataclass
class Peer:
    """A running server with both services, their health, and its address; language model and generator have their own."""

    script: Script
    health: health.aio.HealthServicer
    address: str
    server: grpc.aio.Server
    llm: ScriptedLlm
    llm_address: str
    llm_server: grpc.aio.Server
    generator: ScriptedGenerator
    generator_address: str
    generator_server: grpc.aio.Server

    async def set_health(self, name: str, *, serving: bool) -> None:
        """Sets the health of one service."""
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set(name, state)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    server, healths = grpc.aio.server(), health.aio.HealthServicer()
    script = partial_servicer(Script)
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(script, server)
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    llm = ScriptedLlm()
    llm_server, llm_port, _ = await serve(llm)
    generator = ScriptedGenerator()
    generator_server, generator_port, _, working = await scripted_generator.serve(generator)
    made = Peer(
        script,
        healths,
        f"127.0.0.1:{port}",
        server,
        llm,
        f"127.0.0.1:{llm_port}",
        llm_server,
        generator,
        f"127.0.0.1:{generator_port}",
        generator_server,
    )
    for name in (RETRIEVER, ENCODER):
        await made.set_health(name, serving=True)
    yield made
    working.cancel()
    await made.generator_server.stop(None)
    await llm_server.stop(None)
    await server.stop(None)


Gateway = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def gateway(peer: Peer) -> AsyncIterator[Gateway]:
    """Builds the application with the given settings, in front of the peer; returns a client of it."""
    open_now: list[Any] = []

    async def build(
        *,
        retriever: str = "",
        llm: str | None = None,
        generator: str | None = None,
        reader: str = "",
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
        **settings: Any,
    ) -> httpx.AsyncClient:
        chosen = GatewaySettings(
            retriever=retriever or peer.address,
            encoder=peer.address,
            llm=peer.llm_address if llm is None else llm,
            generator=peer.generator_address if generator is None else generator,
            reader=reader,
            **settings,
        )
        parts = Dependencies(
            retriever=chosen.retriever,
            encoder=chosen.encoder,
            llm=chosen.llm,
            generator=chosen.generator,
            reader=chosen.reader,
            patience_s=chosen.patience_s,
        )
        transport = httpx.ASGITransport(build_app(Composer(parts, chosen), chosen), client=(address, 123))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
        open_now.extend((client.aclose, parts.close))
        return client

    yield build
    for close in open_now:
        await close()


@pytest.fixture
async def http(gateway: Gateway) -> httpx.AsyncClient:
    """A client of a gateway with the settings as they come."""
    return await gateway()


@asynccontextmanager
async def serving_grpc(peer: Peer, **changes: Any) -> AsyncIterator[Any]:
    """A stub of the gateway's gRPC server before the peer, with these settings."""
    settings = GatewaySettings(port=0, retriever=peer.address, encoder=peer.address, **changes)
    parts = Dependencies(
        retriever=peer.address,
        encoder=peer.address,
        llm=peer.llm_address,
        generator=peer.generator_address,
        reader=changes.get("reader", ""),
        patience_s=settings.patience_s,
    )
    server = GrpcServer(settings)
    implementation = servicer.MirageServicer(Composer(parts, settings))
    server.add(mirage_service_pb2_grpc.add_MirageServiceServicer_to_server, implementation, servicer.NAME)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = mirage_service_pb2_grpc.MirageServiceStub(channel)
        stub.channel = channel
        yield stub
    await server.stop()
    await parts.close()
