"""MirageService: gRPC requests to the composer and back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, TypeAlias

import grpc

from mirage.v1 import common_pb2 as pb
from mirage.v1 import encoder_pb2, gateway_pb2, gateway_pb2_grpc
from mirage_core.methods import MethodRule
from mirage_gateway.access import method_rules
from mirage_gateway.compose import Composer

NAME = "mirage.v1.MirageService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class MirageServicer(gateway_pb2_grpc.MirageServiceServicer):
    """Translates; the composer works. Who may call what is in mirage_gateway.access."""

    methods: ClassVar[Mapping[str, MethodRule]] = method_rules()

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    async def Search(self, request: gateway_pb2.SearchRequest, _context: Context) -> gateway_pb2.SearchResponse:
        """Finds the records closest to a weighted sum of terms."""
        return gateway_pb2.SearchResponse(reply=await self._composer.search(request.query))

    async def Compare(self, request: gateway_pb2.CompareRequest, _context: Context) -> gateway_pb2.CompareResponse:
        """Runs a base query and a shifted one side by side."""
        both = await self._composer.compare(request.base, request.shift)
        return gateway_pb2.CompareResponse(base=both.base, shifted=both.shifted, shift=both.shift)

    async def GetRecord(
        self, request: gateway_pb2.GetRecordRequest, _context: Context
    ) -> gateway_pb2.GetRecordResponse:
        """One record by id."""
        return gateway_pb2.GetRecordResponse(record=await self._composer.record(request.id))

    async def FindSimilar(
        self, request: gateway_pb2.FindSimilarRequest, _context: Context
    ) -> gateway_pb2.FindSimilarResponse:
        """The records nearest to one record's image."""
        k = request.k if request.HasField("k") else None
        reply = await self._composer.similar(request.id, k=k, where=_filter(request.where))
        return gateway_pb2.FindSimilarResponse(reply=reply)

    async def GetImage(
        self, request: gateway_pb2.GetImageRequest, _context: Context
    ) -> AsyncIterator[gateway_pb2.GetImageResponse]:
        """A record's image file, in parts."""
        image = await self._composer.image(request.id, request.variant)
        async for part in image.parts():
            yield gateway_pb2.GetImageResponse(part=part)

    async def ListFacets(
        self, request: gateway_pb2.ListFacetsRequest, _context: Context
    ) -> gateway_pb2.ListFacetsResponse:
        """Facets with counts, under a filter."""
        limit = request.limit if request.HasField("limit") else None
        facets = await self._composer.facets(where=_filter(request.where), limit=limit)
        return gateway_pb2.ListFacetsResponse(facets=facets)

    async def Upsert(
        self, requests: AsyncIterator[gateway_pb2.UpsertRequest], _context: Context
    ) -> gateway_pb2.UpsertResponse:
        """Stores records."""
        stream = aiter(requests)
        first = await anext(stream, None)
        if first is None:
            return gateway_pb2.UpsertResponse()

        async def parts() -> AsyncIterator[pb.RecordPart]:
            yield first.part
            async for request in stream:
                yield request.part

        outcomes = await self._composer.upsert(parts(), collection=first.collection)
        return gateway_pb2.UpsertResponse(outcomes=outcomes)

    async def Delete(self, request: gateway_pb2.DeleteRequest, _context: Context) -> gateway_pb2.DeleteResponse:
        """Removes records."""
        return gateway_pb2.DeleteResponse(deleted=await self._composer.delete(request.ids))

    async def FlagRecord(
        self, request: gateway_pb2.FlagRecordRequest, _context: Context
    ) -> gateway_pb2.FlagRecordResponse:
        """Marks a record as wrong in some way."""
        flag = await self._composer.flag(request.record_id, reason=request.reason, comment=request.comment)
        return gateway_pb2.FlagRecordResponse(flag=flag)

    async def ListModels(
        self, _request: gateway_pb2.ListModelsRequest, _context: Context
    ) -> gateway_pb2.ListModelsResponse:
        """The models in use."""
        return gateway_pb2.ListModelsResponse(models=await self._composer.models())

    async def GetCollection(
        self, _request: gateway_pb2.GetCollectionRequest, _context: Context
    ) -> gateway_pb2.GetCollectionResponse:
        """The collection in use."""
        found = await self._composer.collection()
        return gateway_pb2.GetCollectionResponse(
            name=found.name,
            engine=found.engine,
            records=found.records,
            indexed=found.indexed,
            dimension=found.dimension,
            fingerprint=found.fingerprint,
            revision=found.revision,
        )

    async def ClassifyImage(
        self, request: gateway_pb2.ClassifyImageRequest, _context: Context
    ) -> gateway_pb2.ClassifyImageResponse:
        """What an image seems to be."""
        found = await self._composer.classify(encoder_pb2.EncoderServiceClassifyImageRequest(image=request.image))
        return gateway_pb2.ClassifyImageResponse(guess=found.guess, timings=found.timings)

    async def ListFlags(
        self, request: gateway_pb2.ListFlagsRequest, _context: Context
    ) -> gateway_pb2.ListFlagsResponse:
        """The marks that readers made."""
        limit = request.limit if request.HasField("limit") else None
        return gateway_pb2.ListFlagsResponse(flags=await self._composer.flags(record_id=request.record_id, limit=limit))

    async def LookupRecords(
        self, request: gateway_pb2.LookupRecordsRequest, _context: Context
    ) -> gateway_pb2.LookupRecordsResponse:
        """What is stored of some records."""
        found = await self._composer.look_up(request.keys, collection=request.collection)
        return gateway_pb2.LookupRecordsResponse(records=found)

    async def ListRecords(
        self, request: gateway_pb2.ListRecordsRequest, _context: Context
    ) -> gateway_pb2.ListRecordsResponse:
        """A page of all records."""
        found = await self._composer.records(
            limit=request.limit if request.HasField("limit") else None,
            page_token=request.page_token,
            vectors=request.vectors,
            collection=request.collection,
        )
        return gateway_pb2.ListRecordsResponse(
            records=found.records, next_page_token=found.next_page_token, fingerprint=found.fingerprint
        )

    async def ListCollections(
        self, _request: gateway_pb2.ListCollectionsRequest, _context: Context
    ) -> gateway_pb2.ListCollectionsResponse:
        """The collections."""
        return gateway_pb2.ListCollectionsResponse(collections=await self._composer.collections())

    async def CreateCollection(
        self, request: gateway_pb2.CreateCollectionRequest, _context: Context
    ) -> gateway_pb2.CreateCollectionResponse:
        """A new, empty one."""
        made = await self._composer.create_collection(
            request.name, dimension=request.dimension, fingerprint=request.fingerprint
        )
        return gateway_pb2.CreateCollectionResponse(collection=made)

    async def ActivateCollection(
        self, request: gateway_pb2.ActivateCollectionRequest, _context: Context
    ) -> gateway_pb2.ActivateCollectionResponse:
        """Searches turn to it."""
        found = await self._composer.activate_collection(request.name)
        return gateway_pb2.ActivateCollectionResponse(collection=found.collection, previous=found.previous)

    async def DeleteCollection(
        self, request: gateway_pb2.DeleteCollectionRequest, _context: Context
    ) -> gateway_pb2.DeleteCollectionResponse:
        """It goes, unless it is the active one."""
        return gateway_pb2.DeleteCollectionResponse(records=await self._composer.delete_collection(request.name))

    async def Describe(
        self, request: gateway_pb2.DescribeRequest, _context: Context
    ) -> AsyncIterator[gateway_pb2.DescribeResponse]:
        """Explains what a query finds."""
        async with aclosing(self._composer.describe(request.query, request.options)) as events:
            async for event in events:
                yield event

    async def CreateJob(
        self, request: gateway_pb2.CreateJobRequest, _context: Context
    ) -> gateway_pb2.CreateJobResponse:
        """A new job."""
        job = await self._composer.jobs.create(request.spec, request_id=request.request_id)
        return gateway_pb2.CreateJobResponse(job=job)

    async def GetJob(self, request: gateway_pb2.GetJobRequest, _context: Context) -> gateway_pb2.GetJobResponse:
        """A job as it is now."""
        return gateway_pb2.GetJobResponse(job=await self._composer.jobs.get(request.id))

    async def ListJobs(self, request: gateway_pb2.ListJobsRequest, _context: Context) -> gateway_pb2.ListJobsResponse:
        """The caller's jobs."""
        limit = request.limit if request.HasField("limit") else None
        found = await self._composer.jobs.list(limit=limit, page_token=request.page_token, states=request.states)
        return gateway_pb2.ListJobsResponse(jobs=found.jobs, next_page_token=found.next_page_token)

    async def WatchJob(
        self, request: gateway_pb2.WatchJobRequest, _context: Context
    ) -> AsyncIterator[gateway_pb2.WatchJobResponse]:
        """A job until it ends."""
        async with aclosing(self._composer.jobs.watch(request.id, previews=request.previews)) as events:
            async for event in events:
                yield gateway_pb2.WatchJobResponse(event=event)

    async def CancelJob(
        self, request: gateway_pb2.CancelJobRequest, _context: Context
    ) -> gateway_pb2.CancelJobResponse:
        """Stops a job."""
        return gateway_pb2.CancelJobResponse(job=await self._composer.jobs.cancel(request.id))

    async def GetArtifact(
        self, request: gateway_pb2.GetArtifactRequest, _context: Context
    ) -> AsyncIterator[gateway_pb2.GetArtifactResponse]:
        """An image that a job made, in parts."""
        image = await self._composer.jobs.image(request.id, request.index)
        async for part in image.parts():
            yield gateway_pb2.GetArtifactResponse(part=part)

    async def ListCommonQueries(
        self, _request: gateway_pb2.ListCommonQueriesRequest, _context: Context
    ) -> gateway_pb2.ListCommonQueriesResponse:
        """The operator's list."""
        return gateway_pb2.ListCommonQueriesResponse(texts=await self._composer.common_queries())


def _filter(where: Mapping[str, pb.StringList]) -> dict[str, list[str]]:
    return {name: list(values.values) for name, values in where.items()}
