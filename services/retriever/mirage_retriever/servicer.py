"""The retriever's RPCs: messages in, the domain, messages out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc

from mirage.v1 import common_pb2, retriever_pb2, retriever_pb2_grpc
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor
from mirage_retriever import messages
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Filter
from mirage_retriever.facets import NAMES, check_facets
from mirage_retriever.flags import FlagStore
from mirage_retriever.images import THUMBNAIL_TYPE, ImageStore
from mirage_retriever.ingest import Ingest
from mirage_retriever.query import check_k
from mirage_retriever.records import Record
from mirage_retriever.search import Search

NAME = "mirage.v1.RetrieverService"
_FACET_VALUES = 50
_FLAGS = 100
_FLAGS_MAX = 1_000

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Serves one atlas; see protos/mirage/v1/retriever.proto."""

    def __init__(
        self,
        *,
        atlas: Atlas,
        search: Search,
        ingest: Ingest,
        images: ImageStore,
        flags: FlagStore,
        decoder: BoundedExecutor,
    ) -> None:
        self._atlas = atlas
        self._search = search
        self._ingest = ingest
        self._images = images
        self._flags = flags
        self._decoder = decoder

    async def Search(
        self, request: retriever_pb2.RetrieverServiceSearchRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceSearchResponse:
        """Finds the closest records."""
        reply = await self._search.search(messages.to_query(request.query))
        return retriever_pb2.RetrieverServiceSearchResponse(reply=messages.from_reply(reply, self._flags))

    async def Compare(
        self, request: retriever_pb2.RetrieverServiceCompareRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceCompareResponse:
        """Both sides by one call of the engine."""
        comparison = await self._search.compare(messages.to_query(request.base), messages.to_terms(request.shift))
        return retriever_pb2.RetrieverServiceCompareResponse(
            base=messages.from_reply(comparison.base, self._flags),
            shifted=messages.from_reply(comparison.shifted, self._flags),
            shift=comparison.shift,
        )

    async def GetRecord(
        self, request: retriever_pb2.RetrieverServiceGetRecordRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceGetRecordResponse:
        """One record."""
        response = retriever_pb2.RetrieverServiceGetRecordResponse()
        messages.fill_record(response.record, await self._record(request.id), self._flags)
        return response

    async def GetImage(
        self, request: retriever_pb2.RetrieverServiceGetImageRequest, _: Context
    ) -> AsyncIterator[retriever_pb2.RetrieverServiceGetImageResponse]:
        """A record's image, in parts of at most 1 MiB."""
        record = await self._record(request.id)
        match request.variant:
            case common_pb2.IMAGE_VARIANT_THUMBNAIL:
                media_type = THUMBNAIL_TYPE
                ran = await self._decoder.run(self._images.thumbnail, record.image_sha256)
            case common_pb2.IMAGE_VARIANT_DISPLAY:
                media_type = "image/png"
                ran = await self._decoder.run(self._images.display, record.image_sha256, record.image_type)
            case common_pb2.IMAGE_VARIANT_ORIGINAL | common_pb2.IMAGE_VARIANT_UNSPECIFIED:
                media_type = record.image_type
                ran = await self._decoder.run(self._images.original, record.image_sha256)
            case _:
                raise MirageError(Code.REQUEST_MALFORMED, field="variant")
        data = ran.value
        for start in range(0, len(data), limits.CHUNK_BYTES):
            part = common_pb2.ImagePart(chunk=data[start : start + limits.CHUNK_BYTES])
            if start == 0:
                part.media_type = media_type
                part.length = len(data)
            yield retriever_pb2.RetrieverServiceGetImageResponse(part=part)

    async def _record(self, id_: str) -> Record:
        limits.check_id(id_)
        stored = await self._atlas.engine.fetch([id_])
        if id_ not in stored:
            raise MirageError(Code.RECORD_NOT_FOUND, id=id_)
        return Record.from_json(stored[id_].record)

    async def ListFacets(
        self, request: retriever_pb2.RetrieverServiceListFacetsRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceListFacetsResponse:
        """Facets in the vocabulary's order."""
        limit = check_k(
            request.limit if request.HasField("limit") else _FACET_VALUES, field="limit", maximum=limits.K_MAX
        )
        where = check_facets(messages.to_facets(request.where))
        found = await self._atlas.engine.facets(NAMES, Filter(where=where), limit)
        return retriever_pb2.RetrieverServiceListFacetsResponse(
            facets=[
                common_pb2.Facet(
                    name=name,
                    values=[common_pb2.FacetValue(value=value, count=count) for value, count in found[name]],
                )
                for name in NAMES
                if found[name]
            ]
        )

    async def Upsert(
        self, request_iterator: AsyncIterator[retriever_pb2.RetrieverServiceUpsertRequest], _: Context
    ) -> retriever_pb2.RetrieverServiceUpsertResponse:
        """Stores the records of a stream."""
        outcomes = await self._ingest.upsert(messages.to_parts(request_iterator))
        return retriever_pb2.RetrieverServiceUpsertResponse(outcomes=map(messages.from_outcome, outcomes))

    async def Delete(
        self, request: retriever_pb2.RetrieverServiceDeleteRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceDeleteResponse:
        """Removes records."""
        return retriever_pb2.RetrieverServiceDeleteResponse(deleted=await self._ingest.delete(request.ids))

    async def GetCollection(
        self, _: retriever_pb2.RetrieverServiceGetCollectionRequest, __: Context
    ) -> retriever_pb2.RetrieverServiceGetCollectionResponse:
        """What the collection is."""
        collection, status = self._atlas.collection, await self._atlas.engine.status()
        return retriever_pb2.RetrieverServiceGetCollectionResponse(
            name=collection.name,
            engine=self._atlas.engine.version,
            records=status.records,
            indexed=status.indexed,
            dimension=collection.dimension,
            fingerprint=collection.fingerprint,
            revision=self._atlas.revision,
        )

    async def FlagRecord(
        self, request: retriever_pb2.RetrieverServiceFlagRecordRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceFlagRecordResponse:
        """Keeps a flag on a record that is there."""
        record = await self._record(request.record_id)
        flag = await asyncio.to_thread(self._flags.add, record.id, reason=request.reason, comment=request.comment)
        return retriever_pb2.RetrieverServiceFlagRecordResponse(flag=messages.from_flag(flag))

    async def ListFlags(
        self, request: retriever_pb2.RetrieverServiceListFlagsRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceListFlagsResponse:
        """Flags, newest first."""
        limit = check_k(request.limit if request.HasField("limit") else _FLAGS, field="limit", maximum=_FLAGS_MAX)
        if request.record_id:
            limits.check_id(request.record_id)
        flags = self._flags.listed(record_id=request.record_id, limit=limit)
        return retriever_pb2.RetrieverServiceListFlagsResponse(flags=map(messages.from_flag, flags))
