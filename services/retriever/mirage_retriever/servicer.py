"""The retriever's RPCs: messages in, the domain, messages out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, TypeAlias

import grpc

from mirage.v1 import common_pb2, retriever_pb2, retriever_pb2_grpc
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.methods import MethodRule, Role
from mirage_core.vectors import to_proto
from mirage_retriever import browse, messages
from mirage_retriever.collections import Collections
from mirage_retriever.common_queries import CommonQueries
from mirage_retriever.engines.base import Filter
from mirage_retriever.facets import NAMES, check_where
from mirage_retriever.flags import FlagStore
from mirage_retriever.images import IMAGES, PIXELS, PIXELS_TYPE, THUMBNAIL_TYPE, THUMBNAILS, Images
from mirage_retriever.ingest import Ingest
from mirage_retriever.query import check_k
from mirage_retriever.records import Record
from mirage_retriever.search import Search
from mirage_retriever.terms import TermEncoder

NAME = "mirage.v1.RetrieverService"
_FACET_VALUES = 50
_FLAGS = 100
_FLAGS_MAX = 1_000

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Serves the collections of one retriever; see protos/mirage/v1/retriever.proto."""

    # The gateway alone calls it, with the services' key; it knows who may what.
    methods: ClassVar[Mapping[str, MethodRule]] = {
        "Search": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES),
        "Compare": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES),
        "Upsert": MethodRule(Role.ADMIN, limits.VECTORS_BYTES),
    }

    def __init__(
        self,
        *,
        collections: Collections,
        encoder: TermEncoder,
        common: CommonQueries,
        ingest: Ingest,
        images: Images,
        flags: FlagStore,
    ) -> None:
        self._collections = collections
        self._encoder = encoder
        self._common = common
        self._ingest = ingest
        self._images = images
        self._flags = flags

    async def Search(
        self, request: retriever_pb2.RetrieverServiceSearchRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceSearchResponse:
        """Finds the closest records."""
        async with self._collections.use() as atlas:
            search = Search(atlas, self._encoder, self._common)
            reply = await search.search(messages.to_query(request.query))
        return retriever_pb2.RetrieverServiceSearchResponse(reply=messages.from_reply(reply, self._flags))

    async def Compare(
        self, request: retriever_pb2.RetrieverServiceCompareRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceCompareResponse:
        """Both sides by one call of the engine."""
        async with self._collections.use() as atlas:
            search = Search(atlas, self._encoder)
            comparison = await search.compare(messages.to_query(request.base), messages.to_terms(request.shift))
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
                media_type, part, sha256 = THUMBNAIL_TYPE, THUMBNAILS, record.image_sha256
            case common_pb2.IMAGE_VARIANT_DISPLAY | common_pb2.IMAGE_VARIANT_UNSPECIFIED:
                media_type, part, sha256 = record.image_type, IMAGES, record.image_sha256
            case common_pb2.IMAGE_VARIANT_PIXELS:
                if not record.pixels_sha256:
                    raise MirageError(Code.PIXELS_NOT_FOUND, id=record.id)
                media_type, part, sha256 = PIXELS_TYPE, PIXELS, record.pixels_sha256
            case _:
                raise MirageError(Code.REQUEST_MALFORMED, field="variant")
        first = True
        async with aclosing(self._images.read(part, sha256)) as pieces:
            async for length, piece in pieces:
                message = common_pb2.ImagePart(chunk=piece)
                if first:
                    message.media_type, message.length, first = media_type, length, False
                yield retriever_pb2.RetrieverServiceGetImageResponse(part=message)

    async def _record(self, id_: str) -> Record:
        limits.check_id(id_)
        async with self._collections.use() as atlas:
            stored = await atlas.engine.fetch([id_])
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
        where = check_where(messages.to_facets(request.where))
        async with self._collections.use() as atlas:
            found = await atlas.engine.facets(NAMES, Filter(where=where), limit)
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
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            return retriever_pb2.RetrieverServiceUpsertResponse()
        async with self._collections.use(first.collection) as atlas:
            outcomes = await self._ingest.upsert(atlas, messages.to_parts(first, requests))
        return retriever_pb2.RetrieverServiceUpsertResponse(outcomes=map(messages.from_outcome, outcomes))

    async def Delete(
        self, request: retriever_pb2.RetrieverServiceDeleteRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceDeleteResponse:
        """Removes records."""
        async with self._collections.use() as atlas:
            deleted = await self._ingest.delete(atlas, request.ids)
        return retriever_pb2.RetrieverServiceDeleteResponse(deleted=deleted)

    async def GetCollection(
        self, _: retriever_pb2.RetrieverServiceGetCollectionRequest, __: Context
    ) -> retriever_pb2.RetrieverServiceGetCollectionResponse:
        """Returns the collection."""
        async with self._collections.use() as atlas:
            collection, status = atlas.collection, await atlas.engine.status()
        return retriever_pb2.RetrieverServiceGetCollectionResponse(
            name=collection.name,
            engine=atlas.engine.version,
            records=status.records,
            indexed=status.indexed,
            dimension=collection.dimension,
            fingerprint=collection.fingerprint,
            revision=atlas.revision,
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

    async def LookupRecords(
        self, request: retriever_pb2.RetrieverServiceLookupRecordsRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceLookupRecordsResponse:
        """Returns the stored records of some keys."""
        keys = [browse.Key(key.id, key.image_sha256) for key in request.keys]
        async with self._collections.use(request.collection) as atlas:
            found = await browse.look_up(atlas, keys)
        response = retriever_pb2.RetrieverServiceLookupRecordsResponse()
        for presence in found:
            message = response.records.add(id=presence.id, same_image_ids=presence.same_image_ids)
            if presence.record is not None:
                messages.fill_record(message.record, Record.from_json(presence.record), self._flags)
        return response

    async def ListRecords(
        self, request: retriever_pb2.RetrieverServiceListRecordsRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceListRecordsResponse:
        """A page of all records."""
        limit = request.limit if request.HasField("limit") else None
        async with self._collections.use(request.collection) as atlas:
            points, token = await browse.walk(
                atlas, limit=limit, page_token=request.page_token, vectors=request.vectors
            )
            response = retriever_pb2.RetrieverServiceListRecordsResponse(
                next_page_token=token, fingerprint=atlas.collection.fingerprint
            )
        for point in points:
            message = response.records.add()
            messages.fill_record(message.record, Record.from_json(point.record), self._flags)
            if point.image is not None and point.caption is not None:
                message.image_vector.CopyFrom(to_proto(point.image))
                message.caption_vector.CopyFrom(to_proto(point.caption))
        return response

    async def ListCollections(
        self, _: retriever_pb2.RetrieverServiceListCollectionsRequest, __: Context
    ) -> retriever_pb2.RetrieverServiceListCollectionsResponse:
        """All collections."""
        return retriever_pb2.RetrieverServiceListCollectionsResponse(
            collections=map(messages.from_state, await self._collections.listed())
        )

    async def CreateCollection(
        self, request: retriever_pb2.RetrieverServiceCreateCollectionRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceCreateCollectionResponse:
        """A new, empty one."""
        state = await self._collections.create(
            request.name, dimension=request.dimension, fingerprint=request.fingerprint
        )
        return retriever_pb2.RetrieverServiceCreateCollectionResponse(collection=messages.from_state(state))

    async def ActivateCollection(
        self, request: retriever_pb2.RetrieverServiceActivateCollectionRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceActivateCollectionResponse:
        """Searches turn to it."""
        state, previous = await self._collections.activate(request.name)
        return retriever_pb2.RetrieverServiceActivateCollectionResponse(
            collection=messages.from_state(state), previous=previous
        )

    async def DeleteCollection(
        self, request: retriever_pb2.RetrieverServiceDeleteCollectionRequest, _: Context
    ) -> retriever_pb2.RetrieverServiceDeleteCollectionResponse:
        """Removes a collection that is not the active one."""
        records = await self._collections.remove(request.name)
        return retriever_pb2.RetrieverServiceDeleteCollectionResponse(records=records)

    async def ListCommonQueries(
        self, _: retriever_pb2.RetrieverServiceListCommonQueriesRequest, __: Context
    ) -> retriever_pb2.RetrieverServiceListCommonQueriesResponse:
        """The operator's list."""
        return retriever_pb2.RetrieverServiceListCommonQueriesResponse(texts=self._common.texts)
