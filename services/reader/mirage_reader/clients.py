"""The collection and the encoder over gRPC, as `mirage_reader.atlas` needs them, and the llm service as a summariser."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import grpc

from mirage_core import limits
from mirage_core.channels import Request, Response, invoke, invoke_stream, open_channel
from mirage_core.errors import Code, MirageError
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import description_pb2, facet_pb2, image_pb2, query_pb2, record_pb2, vector_pb2
from mirage_reader.atlas import Counts, Neighbour, Own, Subject, Where
from mirage_reader.kinds import FacetGuess, Look, Medical, ValueGuess

_ENCODER = "mirage.encoder.v1.EncoderService"
_RETRIEVER = "mirage.retriever.v1.RetrieverService"
_FACET_VALUES = 100
_ABOUT = 10
_CAPTIONS = 16


class GrpcAtlas:
    """Calls the encoder and the retriever at their addresses, each call within `timeout_s`.

    At most `calls` run at once, so that readings leave processors to searches.
    """

    def __init__(self, *, encoder: str, retriever: str, timeout_s: float, calls: int) -> None:
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(calls)
        self._channels = (
            open_channel(encoder, idempotent={_ENCODER: ["ClassifyImage", "EncodeImage"]}),
            open_channel(
                retriever,
                idempotent={
                    _RETRIEVER: ["Search", "GetRecord", "GetImage", "LookupRecords", "ListFacets", "GetCollection"]
                },
            ),
        )
        self._encoder: encoder_pb2_grpc.EncoderServiceAsyncStub = encoder_pb2_grpc.EncoderServiceStub(self._channels[0])
        self._retriever: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(
            self._channels[1]
        )

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close()

    async def image(self, record_id: str, collection: str) -> bytes:
        """See `Atlas`."""
        request = retriever_pb2.GetImageRequest(
            id=record_id, variant=image_pb2.IMAGE_VARIANT_DISPLAY, collection=collection
        )
        parts = bytearray()
        async for message in invoke_stream(self._retriever.GetImage, request, timeout_s=self._timeout_s):
            parts += message.part.chunk
            if len(parts) > limits.IMAGE_BYTES:
                raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES)
        return bytes(parts)

    async def look(self, image: bytes) -> Look:
        """See `Atlas`."""
        request = encoder_pb2.ClassifyImageRequest(image=image)
        guess = (await self._call(self._encoder.ClassifyImage, request)).guess
        facets = tuple(
            FacetGuess(
                each.facet, tuple(ValueGuess(value.value, value.probability) for value in each.values), each.known
            )
            for each in guess.facets
        )
        return Look(Medical(guess.kind or Medical.NOT_JUDGED), guess.medical_score, facets)

    async def vector(self, image: bytes) -> bytes:
        """See `Atlas`. The encoder has just classified it, and kept the vector."""
        request = encoder_pb2.EncodeImageRequest(image=image)
        return (await self._call(self._encoder.EncodeImage, request)).vector.float32

    async def own(self, subject: Subject) -> Own:
        """See `Atlas`."""
        if subject.record_id:
            request = retriever_pb2.GetRecordRequest(id=subject.record_id, collection=subject.collection)
            record = (await self._call(self._retriever.GetRecord, request)).record
            outlined = tuple(each.name.lower() for each in record.regions)
            return Own(frozenset({record.id}), frozenset({_case(record)}), _labels(record), outlined)
        key = record_pb2.RecordKey(id="none", image_sha256=hashlib.sha256(subject.image).hexdigest())
        lookup = retriever_pb2.LookupRecordsRequest(keys=[key], collection=subject.collection)
        found = await self._call(self._retriever.LookupRecords, lookup)
        ids = frozenset(id_ for each in found.records for id_ in each.same_image_ids)
        records = await asyncio.gather(
            *(self.own(Subject(record_id=id_, collection=subject.collection)) for id_ in ids)
        )
        return Own(ids, frozenset(case for each in records for case in each.cases))

    async def nearest(self, subject: Subject, where: Where, cases: int, *, words: str = "") -> list[Neighbour]:
        """See `Atlas`."""
        own = (
            query_pb2.Term(id=subject.record_id)
            if subject.record_id
            else query_pb2.Term(vector=vector_pb2.Vector(float32=subject.vector))
        )
        query = query_pb2.Query(
            terms=[own, *([query_pb2.Term(text=words)] if words else [])],
            vectors=query_pb2.VECTOR_SPACE_IMAGE,
            k=min(cases, limits.K_MAX),
            where=_lists(where),
            group_by=query_pb2.GROUP_BY_CASE,
            collection=subject.collection,
        )
        return await self._search(query)

    async def about(self, words: str, collection: str) -> list[Neighbour]:
        """See `Atlas`."""
        terms = [query_pb2.Term(text=words)]
        return await self._search(
            query_pb2.Query(terms=terms, k=_ABOUT, group_by=query_pb2.GROUP_BY_CASE, collection=collection)
        )

    async def counts(self, where: Where, collection: str) -> Counts:
        """See `Atlas`."""
        request = retriever_pb2.ListFacetsRequest(where=_lists(where), limit=_FACET_VALUES, collection=collection)
        facets = (await self._call(self._retriever.ListFacets, request)).facets
        values = {each.name: {value.value: value.count for value in each.values} for each in facets}
        for facet, (wanted, *_) in where.items():
            # Every record that passes the filter has its value.
            return Counts(values.get(facet, {}).get(wanted, 0), values)
        asked = retriever_pb2.GetCollectionRequest(name=collection)
        info = (await self._call(self._retriever.GetCollection, asked)).collection
        return Counts(info.records, values)

    async def _search(self, query: query_pb2.Query) -> list[Neighbour]:
        request = retriever_pb2.SearchRequest(query=query)
        reply = (await self._call(self._retriever.Search, request)).reply
        return [
            Neighbour(each.record.id, _case(each.record), _labels(each.record), each.record.caption, each)
            for each in reply.results
        ]

    async def _call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        async with self._turns:
            return await invoke(method, request, timeout_s=self._timeout_s)


class LlmSummary:
    """Sums readings up with the llm service. Its mini model, which does not know such sentences, writes nothing."""

    name = "llm"

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channel = open_channel(address, idempotent={})
        self._llm: llm_pb2_grpc.LlmServiceAsyncStub = llm_pb2_grpc.LlmServiceStub(self._channel)

    async def summarise(self, kind: str, sentences: Sequence[str]) -> AsyncGenerator[str]:
        """See `Summariser`."""
        captions = [
            llm_pb2.SourceCaption(id=f"s{number}", text=text) for number, text in enumerate(sentences[:_CAPTIONS])
        ]
        request = llm_pb2.DescribeRequest(captions=captions, match=query_pb2.MATCH_GOOD)
        async with aclosing(invoke_stream(self._llm.Describe, request, timeout_s=self._timeout_s)) as events:
            async for event in events:
                # Not what it copies, or knows besides.
                if event.sentence.kind == description_pb2.SENTENCE_KIND_CAPTION:
                    yield event.sentence.text

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


def _case(record: record_pb2.Record) -> str:
    return record.case_id or record.id


def _labels(record: record_pb2.Record) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values.values) for name, values in record.labels.items()}


def _lists(where: Mapping[str, Sequence[str]]) -> dict[str, facet_pb2.StringList]:
    return {name: facet_pb2.StringList(values=values) for name, values in where.items()}
