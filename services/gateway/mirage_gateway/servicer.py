"""MirageService: gRPC requests to the composer and back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, TypeAlias

import grpc
from google.protobuf.message import Message

from mirage_core.methods import MethodRule
from mirage_gateway.access import method_rules
from mirage_gateway.compose import Composer
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import facet_pb2, mirage_service_pb2, mirage_service_pb2_grpc, record_pb2

NAME = "mirage.v1.MirageService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def _forwarded(name: str) -> Any:
    """Returns the method of a call that the retriever answers alone."""
    response: type[Message] = getattr(mirage_service_pb2, f"{name}Response")

    async def forward(self: "MirageServicer", request: Message, _context: Context) -> Message:
        found = await self._composer.forward(request)
        return response.FromString(found.SerializeToString())

    return forward


class MirageServicer(mirage_service_pb2_grpc.MirageServiceServicer):
    """Translates; the composer works. Who may call what is in mirage_gateway.access."""

    methods: ClassVar[Mapping[str, MethodRule]] = method_rules()

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    GetRecord = _forwarded("GetRecord")
    GetCase = _forwarded("GetCase")
    LookupRecords = _forwarded("LookupRecords")
    ListRecords = _forwarded("ListRecords")
    DeleteRecords = _forwarded("DeleteRecords")
    ListFacets = _forwarded("ListFacets")
    FlagRecord = _forwarded("FlagRecord")
    ListFlags = _forwarded("ListFlags")
    ListCommonQueries = _forwarded("ListCommonQueries")
    ListCollections = _forwarded("ListCollections")
    CreateCollection = _forwarded("CreateCollection")
    ActivateCollection = _forwarded("ActivateCollection")
    DeleteCollection = _forwarded("DeleteCollection")
    StoreEvaluation = _forwarded("StoreEvaluation")
    ListEvaluations = _forwarded("ListEvaluations")

    async def GetCollection(
        self, request: mirage_service_pb2.GetCollectionRequest, _context: Context
    ) -> mirage_service_pb2.GetCollectionResponse:
        """Returns a collection."""
        return mirage_service_pb2.GetCollectionResponse(collection=await self._composer.collection(request.name))

    async def Search(
        self, request: mirage_service_pb2.SearchRequest, _context: Context
    ) -> mirage_service_pb2.SearchResponse:
        """Finds the records closest to a weighted sum of terms."""
        return mirage_service_pb2.SearchResponse(reply=await self._composer.search(request.query))

    async def Compare(
        self, request: mirage_service_pb2.CompareRequest, _context: Context
    ) -> mirage_service_pb2.CompareResponse:
        """Runs a base query and a shifted one, or two queries, side by side."""
        asked = retriever_pb2.CompareRequest.FromString(request.SerializeToString())
        del request
        both = await self._composer.compare(asked)
        return mirage_service_pb2.CompareResponse(base=both.base, shifted=both.shifted, shift=both.shift)

    async def FindSimilar(
        self, request: mirage_service_pb2.FindSimilarRequest, _context: Context
    ) -> mirage_service_pb2.FindSimilarResponse:
        """The records nearest to one record's image."""
        k = request.k if request.HasField("k") else None
        reply = await self._composer.similar(
            request.id,
            k=k,
            where=_filter(request.where),
            page_token=request.page_token,
            collection=request.collection,
        )
        return mirage_service_pb2.FindSimilarResponse(reply=reply)

    async def GetImage(
        self, request: mirage_service_pb2.GetImageRequest, _context: Context
    ) -> AsyncIterator[mirage_service_pb2.GetImageResponse]:
        """A record's image file, in parts."""
        variant = request.variant if request.HasField("variant") else None
        image = await self._composer.image(request.id, variant, request.collection)
        async for part in image.parts():
            yield mirage_service_pb2.GetImageResponse(part=part)

    async def UpsertRecords(
        self, requests: AsyncIterator[mirage_service_pb2.UpsertRecordsRequest], _context: Context
    ) -> mirage_service_pb2.UpsertRecordsResponse:
        """Stores records."""
        stream = aiter(requests)
        first = await anext(stream, None)
        if first is None:
            return mirage_service_pb2.UpsertRecordsResponse()

        async def parts() -> AsyncIterator[record_pb2.RecordPart]:
            yield first.part
            async for request in stream:
                yield request.part

        outcomes = await self._composer.upsert(parts(), collection=first.collection)
        return mirage_service_pb2.UpsertRecordsResponse(outcomes=outcomes)

    async def ListModels(
        self, _request: mirage_service_pb2.ListModelsRequest, _context: Context
    ) -> mirage_service_pb2.ListModelsResponse:
        """The models in use."""
        return mirage_service_pb2.ListModelsResponse(models=await self._composer.models())

    async def ClassifyImage(
        self, request: mirage_service_pb2.ClassifyImageRequest, _context: Context
    ) -> mirage_service_pb2.ClassifyImageResponse:
        """Guesses what an image is."""
        asked = encoder_pb2.ClassifyImageRequest(image=request.image, vector=request.vector)
        found = await self._composer.classify(asked)
        # The messages of both services are the same.
        return mirage_service_pb2.ClassifyImageResponse.FromString(found.SerializeToString())

    async def Describe(
        self, request: mirage_service_pb2.DescribeRequest, _context: Context
    ) -> AsyncIterator[mirage_service_pb2.DescribeResponse]:
        """Explains what a query finds."""
        against = request.against if request.HasField("against") else None
        async with aclosing(self._composer.describe(request.query, request.options, against)) as events:
            async for event in events:
                yield event

    async def Read(
        self, request: mirage_service_pb2.ReadRequest, _context: Context
    ) -> AsyncIterator[mirage_service_pb2.ReadResponse]:
        """Reads an image step by step."""
        async with aclosing(self._composer.read(request.query)) as events:
            async for event in events:
                yield event

    async def CreateJob(
        self, request: mirage_service_pb2.CreateJobRequest, _context: Context
    ) -> mirage_service_pb2.CreateJobResponse:
        """A new job."""
        job = await self._composer.jobs.create(request.spec, request_id=request.request_id)
        return mirage_service_pb2.CreateJobResponse(job=job)

    async def GetJob(
        self, request: mirage_service_pb2.GetJobRequest, _context: Context
    ) -> mirage_service_pb2.GetJobResponse:
        """A job as it is now."""
        return mirage_service_pb2.GetJobResponse(job=await self._composer.jobs.get(request.id))

    async def ListJobs(
        self, request: mirage_service_pb2.ListJobsRequest, _context: Context
    ) -> mirage_service_pb2.ListJobsResponse:
        """The caller's jobs."""
        found = await self._composer.jobs.list(
            page_size=request.page_size if request.HasField("page_size") else None,
            page_token=request.page_token,
            states=request.states,
        )
        return mirage_service_pb2.ListJobsResponse(jobs=found.jobs, next_page_token=found.next_page_token)

    async def WatchJob(
        self, request: mirage_service_pb2.WatchJobRequest, _context: Context
    ) -> AsyncIterator[mirage_service_pb2.WatchJobResponse]:
        """A job until it ends."""
        async with aclosing(self._composer.jobs.watch(request.id, previews=request.previews)) as events:
            async for event in events:
                yield mirage_service_pb2.WatchJobResponse(event=event)

    async def CancelJob(
        self, request: mirage_service_pb2.CancelJobRequest, _context: Context
    ) -> mirage_service_pb2.CancelJobResponse:
        """Stops a job."""
        return mirage_service_pb2.CancelJobResponse(job=await self._composer.jobs.cancel(request.id))

    async def GetJobImage(
        self, request: mirage_service_pb2.GetJobImageRequest, _context: Context
    ) -> AsyncIterator[mirage_service_pb2.GetJobImageResponse]:
        """An image that a job made, in parts."""
        image = await self._composer.jobs.image(request.id, request.index)
        async for part in image.parts():
            yield mirage_service_pb2.GetJobImageResponse(part=part)


def _filter(where: Mapping[str, facet_pb2.StringList]) -> dict[str, list[str]]:
    return {name: list(values.values) for name, values in where.items()}
