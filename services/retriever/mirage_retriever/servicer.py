"""The retriever's RPCs: messages in, the domain, messages out."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, TypeAlias

import grpc

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.methods import MethodRule, Role
from mirage_core.vectors import vector_to_proto
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import image_pb2
from mirage_retriever import browse, convert, evaluations
from mirage_retriever.algebra import cosine
from mirage_retriever.collections import Collections
from mirage_retriever.common_queries import CommonQueries
from mirage_retriever.engines.base import Filter, Placed, Stored
from mirage_retriever.facets import check_where, count_facets
from mirage_retriever.flags import FlagStore
from mirage_retriever.images import (
    IMAGES,
    PIXELS,
    PIXELS_TYPE,
    REGIONS,
    REGIONS_TYPE,
    THUMBNAIL_TYPE,
    THUMBNAILS,
    Images,
)
from mirage_retriever.ingest import Ingest
from mirage_retriever.pages import PAGE_DEFAULT, PAGE_MAX, page_of
from mirage_retriever.query import check_k, check_listing
from mirage_retriever.ratings import Ratings
from mirage_retriever.records import Record
from mirage_retriever.search import Search
from mirage_retriever.terms import TermEncoder

NAME = "mirage.retriever.v1.RetrieverService"
_FACET_VALUES = 50

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Serves the collections of one retriever; see protos/mirage/retriever/v1/retriever.proto."""

    # The gateway alone calls it, with the services' key; it knows who may what.
    methods: ClassVar[Mapping[str, MethodRule]] = {
        "Search": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES),
        "Compare": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES),
        "UpsertRecords": MethodRule(Role.ADMIN, limits.VECTORS_BYTES),
        "AddRatingItem": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES),
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
        ratings: Ratings,
    ) -> None:
        self._collections = collections
        self._encoder = encoder
        self._common = common
        self._ingest = ingest
        self._images = images
        self._flags = flags
        self._ratings = ratings

    async def Search(self, request: retriever_pb2.SearchRequest, _: Context) -> retriever_pb2.SearchResponse:
        """Finds the closest records."""
        name = request.query.collection
        async with self._collections.use(name) as atlas:
            search = Search(atlas, self._encoder, self._common)
            reply = await search.search(convert.query_from_proto(request.query))
        return retriever_pb2.SearchResponse(reply=convert.reply_to_proto(reply, self._flags, name))

    async def Compare(self, request: retriever_pb2.CompareRequest, _: Context) -> retriever_pb2.CompareResponse:
        """Both sides by one call of the engine, or two queries."""
        if request.HasField("a") or request.HasField("b"):
            return await self._compare_two(request)
        name = request.base.collection
        async with self._collections.use(name) as atlas:
            search = Search(atlas, self._encoder)
            comparison = await search.compare(
                convert.query_from_proto(request.base), convert.terms_from_proto(request.shift)
            )
        return retriever_pb2.CompareResponse(
            base=convert.reply_to_proto(comparison.base, self._flags, name),
            shifted=convert.reply_to_proto(comparison.shifted, self._flags, name),
            shift=comparison.shift,
        )

    async def _compare_two(self, request: retriever_pb2.CompareRequest) -> retriever_pb2.CompareResponse:
        if not (request.HasField("a") and request.HasField("b")) or request.HasField("base") or request.shift:
            raise MirageError(Code.REQUEST_MALFORMED, field="a, b: both, in place of a base and its shift")
        sides = []
        for query in (request.a, request.b):
            async with self._collections.use(query.collection) as atlas:
                search = Search(atlas, self._encoder, self._common)
                sides.append(await search.search(convert.query_from_proto(query)))
        first, second = sides
        shift = 0.0
        if first.query is not None and second.query is not None and first.fingerprint == second.fingerprint:
            shift = cosine(first.query.vector, second.query.vector)
        return retriever_pb2.CompareResponse(
            base=convert.reply_to_proto(first, self._flags, request.a.collection),
            shifted=convert.reply_to_proto(second, self._flags, request.b.collection),
            shift=shift,
        )

    async def GetCase(self, request: retriever_pb2.GetCaseRequest, _: Context) -> retriever_pb2.GetCaseResponse:
        """The records of a case."""
        async with self._collections.use(request.collection) as atlas:
            case = await browse.read_case(atlas, request.id)
        return retriever_pb2.GetCaseResponse(case=convert.case_to_proto(case, self._flags, request.collection))

    async def GetRecord(self, request: retriever_pb2.GetRecordRequest, _: Context) -> retriever_pb2.GetRecordResponse:
        """One record."""
        response = retriever_pb2.GetRecordResponse()
        record = await self._record(request.id, request.collection)
        convert.fill_record(response.record, record, self._flags, request.collection)
        return response

    async def GetImage(
        self, request: retriever_pb2.GetImageRequest, _: Context
    ) -> AsyncIterator[retriever_pb2.GetImageResponse]:
        """A record's image, in parts of at most 1 MiB."""
        record = await self._record(request.id, request.collection)
        match request.variant if request.HasField("variant") else image_pb2.IMAGE_VARIANT_DISPLAY:
            case image_pb2.IMAGE_VARIANT_THUMBNAIL:
                media_type, part, sha256 = THUMBNAIL_TYPE, THUMBNAILS, record.image_sha256
            case image_pb2.IMAGE_VARIANT_DISPLAY:
                media_type, part, sha256 = record.image_type, IMAGES, record.image_sha256
            case image_pb2.IMAGE_VARIANT_PIXELS:
                if not record.pixels_sha256:
                    raise MirageError(Code.PIXELS_NOT_FOUND, id=record.id)
                media_type, part, sha256 = PIXELS_TYPE, PIXELS, record.pixels_sha256
            case image_pb2.IMAGE_VARIANT_REGIONS:
                if not record.regions_sha256:
                    raise MirageError(Code.REGIONS_NOT_FOUND, id=record.id)
                media_type, part, sha256 = REGIONS_TYPE, REGIONS, record.regions_sha256
            case _:
                raise MirageError(Code.REQUEST_MALFORMED, field="variant")
        first = True
        async with aclosing(self._images.read(part, sha256)) as pieces:
            async for length, piece in pieces:
                message = image_pb2.ImagePart(chunk=piece)
                if first:
                    message.media_type, message.length, first = media_type, length, False
                yield retriever_pb2.GetImageResponse(part=message)

    async def _record(self, id_: str, collection: str) -> Record:
        limits.check_id(id_)
        async with self._collections.use(collection) as atlas:
            stored = await atlas.engine.fetch([id_])
        if id_ not in stored:
            raise MirageError(Code.RECORD_NOT_FOUND, id=id_)
        return Record.from_json(stored[id_].record)

    async def ListFacets(
        self, request: retriever_pb2.ListFacetsRequest, _: Context
    ) -> retriever_pb2.ListFacetsResponse:
        """Facets in the vocabulary's order."""
        limit = check_k(
            request.limit if request.HasField("limit") else _FACET_VALUES, field="limit", maximum=limits.K_MAX
        )
        among = Filter(
            where=check_where(convert.facets_from_proto(request.where)),
            where_not=check_where(convert.facets_from_proto(request.where_not)),
        )
        async with self._collections.use(request.collection) as atlas:
            found = await count_facets(atlas.engine, among, limit)
        return retriever_pb2.ListFacetsResponse(facets=map(convert.facet_to_proto, found))

    async def UpsertRecords(
        self, request_iterator: AsyncIterator[retriever_pb2.UpsertRecordsRequest], _: Context
    ) -> retriever_pb2.UpsertRecordsResponse:
        """Stores the records of a stream."""
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            return retriever_pb2.UpsertRecordsResponse()
        async with self._collections.use(first.collection) as atlas:
            outcomes = await self._ingest.upsert(atlas, convert.parts_from_proto(first, requests))
        return retriever_pb2.UpsertRecordsResponse(outcomes=map(convert.outcome_to_proto, outcomes))

    async def DeleteRecords(
        self, request: retriever_pb2.DeleteRecordsRequest, _: Context
    ) -> retriever_pb2.DeleteRecordsResponse:
        """Removes records."""
        async with self._collections.use(request.collection) as atlas:
            deleted = await self._ingest.delete(atlas, request.ids)
        return retriever_pb2.DeleteRecordsResponse(deleted=deleted)

    async def GetCollection(
        self, request: retriever_pb2.GetCollectionRequest, _: Context
    ) -> retriever_pb2.GetCollectionResponse:
        """Returns a collection."""
        state = await self._collections.state(request.name)
        return retriever_pb2.GetCollectionResponse(collection=convert.collection_to_proto(state))

    async def FlagRecord(
        self, request: retriever_pb2.FlagRecordRequest, _: Context
    ) -> retriever_pb2.FlagRecordResponse:
        """Keeps a flag on a record that is there."""
        record = await self._record(request.record_id, request.collection)
        reason = convert.reason_from_proto(request.reason)
        flag = await asyncio.to_thread(self._flags.add, record.id, reason=reason, comment=request.comment)
        return retriever_pb2.FlagRecordResponse(flag=convert.flag_to_proto(flag))

    async def ListFlags(self, request: retriever_pb2.ListFlagsRequest, _: Context) -> retriever_pb2.ListFlagsResponse:
        """Flags, newest first."""
        if request.record_id:
            limits.check_id(request.record_id)
        flags, token = self._flags.page(record_id=request.record_id, size=_page_size(request), token=request.page_token)
        return retriever_pb2.ListFlagsResponse(flags=map(convert.flag_to_proto, flags), next_page_token=token)

    async def LookupRecords(
        self, request: retriever_pb2.LookupRecordsRequest, _: Context
    ) -> retriever_pb2.LookupRecordsResponse:
        """Returns the stored records of some keys."""
        keys = [browse.Key(key.id, key.image_sha256) for key in request.keys]
        async with self._collections.use(request.collection) as atlas:
            found = await browse.look_up(atlas, keys)
        response = retriever_pb2.LookupRecordsResponse()
        for presence in found:
            message = response.records.add(id=presence.id, same_image_ids=presence.same_image_ids)
            if presence.record is not None:
                convert.fill_record(message.record, Record.from_json(presence.record), self._flags, request.collection)
        return response

    async def ListRecords(
        self, request: retriever_pb2.ListRecordsRequest, _: Context
    ) -> retriever_pb2.ListRecordsResponse:
        """A page of all records."""
        size = _page_size(request)
        query = check_listing(convert.listing_from_proto(request), vectors=request.vectors)
        points: Sequence[Stored | Placed]
        async with self._collections.use(request.collection) as atlas:
            if query.order is None:
                points, token = await browse.walk(
                    atlas, query, limit=size, page_token=request.page_token, vectors=request.vectors
                )
            else:
                points, token = await browse.Listing(atlas, query).page(size, request.page_token)
            response = retriever_pb2.ListRecordsResponse(
                next_page_token=token,
                fingerprint=atlas.collection.fingerprint,
                total=await atlas.engine.total(query.filter),
            )
        for point in points:
            message = response.records.add()
            convert.fill_record(message.record, Record.from_json(point.record), self._flags, request.collection)
            if isinstance(point, Stored) and point.image is not None and point.caption is not None:
                message.image_vector.CopyFrom(vector_to_proto(point.image))
                message.caption_vector.CopyFrom(vector_to_proto(point.caption))
        return response

    async def ListCollections(
        self, request: retriever_pb2.ListCollectionsRequest, _: Context
    ) -> retriever_pb2.ListCollectionsResponse:
        """A page of the collections."""
        size = _page_size(request)
        found, token = page_of(await self._collections.listed(), size=size, token=request.page_token)
        return retriever_pb2.ListCollectionsResponse(
            collections=map(convert.collection_to_proto, found), next_page_token=token
        )

    async def CreateCollection(
        self, request: retriever_pb2.CreateCollectionRequest, _: Context
    ) -> retriever_pb2.CreateCollectionResponse:
        """A new, empty one."""
        state = await self._collections.create(
            request.name, dimension=request.dimension, fingerprint=request.fingerprint
        )
        return retriever_pb2.CreateCollectionResponse(collection=convert.collection_to_proto(state))

    async def ActivateCollection(
        self, request: retriever_pb2.ActivateCollectionRequest, _: Context
    ) -> retriever_pb2.ActivateCollectionResponse:
        """Searches turn to it."""
        state, previous = await self._collections.activate(request.name)
        return retriever_pb2.ActivateCollectionResponse(
            collection=convert.collection_to_proto(state), previous=previous
        )

    async def DeleteCollection(
        self, request: retriever_pb2.DeleteCollectionRequest, _: Context
    ) -> retriever_pb2.DeleteCollectionResponse:
        """Removes a collection that is not the active one."""
        records = await self._collections.remove(request.name)
        return retriever_pb2.DeleteCollectionResponse(records=records)

    async def StoreEvaluation(
        self, request: retriever_pb2.StoreEvaluationRequest, _: Context
    ) -> retriever_pb2.StoreEvaluationResponse:
        """Keeps measured figures with their collection."""
        async with self._collections.use(request.collection) as atlas:
            kept = await evaluations.store(atlas, request.evaluation)
        return retriever_pb2.StoreEvaluationResponse(evaluation=kept)

    async def ListEvaluations(
        self, request: retriever_pb2.ListEvaluationsRequest, _: Context
    ) -> retriever_pb2.ListEvaluationsResponse:
        """The measured figures of a collection."""
        async with self._collections.use(request.collection) as atlas:
            found = await evaluations.listed(atlas)
        return retriever_pb2.ListEvaluationsResponse(evaluations=found)

    async def CreateRatingSheet(
        self, request: retriever_pb2.CreateRatingSheetRequest, _: Context
    ) -> retriever_pb2.CreateRatingSheetResponse:
        """A new sheet with its tokens."""
        sheet, tokens = await self._ratings.create(request.collection, request.raters)
        return retriever_pb2.CreateRatingSheetResponse(sheet=sheet, tokens=tokens)

    async def AddRatingItem(
        self, request: retriever_pb2.AddRatingItemRequest, _: Context
    ) -> retriever_pb2.AddRatingItemResponse:
        """An item that raters will see."""
        item = await self._ratings.add(request.id, request.item, request.image)
        return retriever_pb2.AddRatingItemResponse(item=item)

    async def ListRatingSheets(
        self, _request: retriever_pb2.ListRatingSheetsRequest, _: Context
    ) -> retriever_pb2.ListRatingSheetsResponse:
        """Sheets, newest first."""
        return retriever_pb2.ListRatingSheetsResponse(sheets=await self._ratings.sheets())

    async def GetRatingSheet(
        self, request: retriever_pb2.GetRatingSheetRequest, _: Context
    ) -> retriever_pb2.GetRatingSheetResponse:
        """A sheet with everything on it."""
        return retriever_pb2.GetRatingSheetResponse(sheet=await self._ratings.sheet(request.id))

    async def DeleteRatingSheet(
        self, request: retriever_pb2.DeleteRatingSheetRequest, _: Context
    ) -> retriever_pb2.DeleteRatingSheetResponse:
        """Removes a sheet."""
        return retriever_pb2.DeleteRatingSheetResponse(answers=await self._ratings.remove(request.id))

    async def GetRating(self, request: retriever_pb2.GetRatingRequest, _: Context) -> retriever_pb2.GetRatingResponse:
        """A rater's questions and answers."""
        rating = await self._ratings.rating(request.token)
        return retriever_pb2.GetRatingResponse(
            questions=rating.questions, answers=rating.answers, version=rating.version
        )

    async def StoreRatingAnswer(
        self, request: retriever_pb2.StoreRatingAnswerRequest, _: Context
    ) -> retriever_pb2.StoreRatingAnswerResponse:
        """Keeps an answer."""
        version = await self._ratings.answer(request.token, request.answer, request.version)
        return retriever_pb2.StoreRatingAnswerResponse(version=version)

    async def GetRatingImage(
        self, request: retriever_pb2.GetRatingImageRequest, _: Context
    ) -> AsyncIterator[retriever_pb2.GetRatingImageResponse]:
        """The image of a question, in pieces."""
        first = True
        async with aclosing(self._ratings.image(request.token, request.number)) as pieces:
            async for media_type, length, piece in pieces:
                message = image_pb2.ImagePart(chunk=piece)
                if first:
                    message.media_type, message.length, first = media_type, length, False
                yield retriever_pb2.GetRatingImageResponse(part=message)

    async def ListCommonQueries(
        self, request: retriever_pb2.ListCommonQueriesRequest, _: Context
    ) -> retriever_pb2.ListCommonQueriesResponse:
        """A page of the common queries."""
        async with self._collections.use(request.collection) as atlas:
            texts = await self._common.texts_of(atlas) if request.collection else self._common.texts
        found, token = page_of(texts, size=_page_size(request), token=request.page_token)
        return retriever_pb2.ListCommonQueriesResponse(queries=found, next_page_token=token)


def _page_size(
    request: (
        retriever_pb2.ListRecordsRequest
        | retriever_pb2.ListFlagsRequest
        | retriever_pb2.ListCollectionsRequest
        | retriever_pb2.ListCommonQueriesRequest
    ),
) -> int:
    return check_k(
        request.page_size if request.HasField("page_size") else PAGE_DEFAULT, field="page_size", maximum=PAGE_MAX
    )
