"""Composes the other services: HTTP routes and the gRPC servicer both call it.

Its values are the messages of mirage.v1, because composing services is all that it does.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from mirage_api import limits
from mirage_core.errors import Code, MirageError
from mirage_gateway.dependencies import Dependencies, Health
from mirage_gateway.describing import Describer
from mirage_gateway.generating import Jobs
from mirage_gateway.image_file import ImageFile
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.upload_gate import UploadGate
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.generator.v1 import generator_pb2
from mirage_protos.llm.v1 import llm_pb2
from mirage_protos.reader.v1 import reader_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import (
    collection_pb2,
    description_pb2,
    facet_pb2,
    image_pb2,
    mirage_service_pb2,
    model_pb2,
    query_pb2,
    reading_pb2,
    record_pb2,
)

# Calls that the retriever answers alone, with the setting of their deadline.
FORWARDED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "GetRecord",
            "GetCase",
            "ListFacets",
            "FlagRecord",
            "ListFlags",
            "ListCommonQueries",
            "GetCollection",
            "ListEvaluations",
            "ListRatingSheets",
            "GetRatingSheet",
            "GetRating",
            "StoreRatingAnswer",
        ),
        "read_timeout_s",
    ),
    **dict.fromkeys(
        (
            "LookupRecords",
            "ListRecords",
            "DeleteRecords",
            "ListCollections",
            "StoreEvaluation",
            "CreateRatingSheet",
            "AddRatingItem",
            "DeleteRatingSheet",
        ),
        "search_timeout_s",
    ),
    **dict.fromkeys(("CreateCollection", "ActivateCollection", "DeleteCollection"), "collection_timeout_s"),
}

_PROGRESS_BYTES = 64 * 2**10


class Composer:
    """One method per thing that a caller can ask for. All raise MirageError."""

    def __init__(self, dependencies: Dependencies, settings: GatewaySettings) -> None:
        self._parts = dependencies
        self._settings = settings
        self._gate = UploadGate(dependencies, settings)
        self._describer = Describer(dependencies, settings, self.search)
        self.jobs = Jobs(dependencies, settings)

    async def search(self, query: query_pb2.Query) -> query_pb2.SearchReply:
        """The records closest to the query; `timings.total_ms` is the time spent here and behind.

        Raises IMAGE_NOT_MEDICAL for an image that seems to be none, unless the query accepts any.
        """
        started = time.perf_counter()
        request = retriever_pb2.SearchRequest(query=query)
        # It may hold images of many megabytes, and the request has a copy.
        del query
        images = await self._gate.look_at(request.query.terms, accept_any=request.query.accept_any_image)
        response = await self._parts.ask(
            self._parts.retriever.Search, request, timeout_s=self._settings.search_timeout_s
        )
        response.reply.timings.total_ms = (time.perf_counter() - started) * 1000
        response.reply.query.images.extend(images)
        return response.reply

    async def compare(self, request: retriever_pb2.CompareRequest) -> retriever_pb2.CompareResponse:
        """Two queries, or a base query next to the same with the terms of `shift` added; raises as `search` does.

        The request's images are not kept: it is the only one that holds them.
        """
        accept_any = request.base.accept_any_image
        of_base = await self._gate.look_at(request.base.terms, accept_any=accept_any)
        of_shift = await self._gate.look_at(request.shift, accept_any=accept_any)
        of_a = await self._gate.look_at(request.a.terms, accept_any=request.a.accept_any_image)
        of_b = await self._gate.look_at(request.b.terms, accept_any=request.b.accept_any_image)
        both = await self._parts.ask(self._parts.retriever.Compare, request, timeout_s=self._settings.search_timeout_s)
        both.base.query.images.extend([*of_base, *of_a])
        both.shifted.query.images.extend([*of_base, *of_shift, *of_b])
        return both

    async def classify(self, request: encoder_pb2.ClassifyImageRequest) -> encoder_pb2.ClassifyImageResponse:
        """Guesses what an image is."""
        return await self._gate.classify(request)

    def describe(
        self,
        query: query_pb2.Query,
        options: description_pb2.DescribeOptions,
        against: query_pb2.Query | None = None,
    ) -> AsyncGenerator[mirage_service_pb2.DescribeResponse]:
        """The events of a description, the first of them after the retrieval; closing the generator stops the model."""
        return self._describer.describe(query, options, against)

    async def read(self, query: reading_pb2.ReadQuery) -> AsyncGenerator[mirage_service_pb2.ReadResponse]:
        """The events of a reading; closing the generator stops it. Raises DEPENDENCY_UNAVAILABLE without a reader."""
        if self._parts.reader is None:
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="reader")
        request = reader_pb2.ReadRequest(query=query)
        # It may hold an image, and the request has a copy.
        del query
        messages = self._parts.listen(
            self._parts.reader.Read, request, timeout_s=self._settings.reading_timeout_s, service="reader"
        )
        async with aclosing(messages):
            async for message in messages:
                # The events of both services are the same.
                yield mirage_service_pb2.ReadResponse.FromString(message.SerializeToString())

    async def similar(
        self,
        record_id: str,
        *,
        k: int | None,
        where: Mapping[str, Sequence[str]],
        page_token: str = "",
        collection: str = "",
    ) -> query_pb2.SearchReply:
        """Returns the `k` (1 to 99; 10 if None) records nearest to one record's image, without that record."""
        if k is not None and not 1 <= k <= limits.SIMILAR_K_MAX:
            raise MirageError(Code.K_OUT_OF_RANGE, field="k", min=1, max=limits.SIMILAR_K_MAX, given=k)
        query = query_pb2.Query(
            terms=[query_pb2.Term(id=record_id)],
            vectors=query_pb2.VECTOR_SPACE_IMAGE,
            k=k,
            where=string_lists(where),
            exclude_ids=[record_id],
            page_token=page_token,
            collection=collection,
        )
        return await self.search(query)

    async def forward(self, request: Message) -> Any:
        """Returns the retriever's response to a request of `FORWARDED`, its own one or the public one of the same fields."""
        name = request.DESCRIPTOR.name.removesuffix("Request")
        kind = getattr(retriever_pb2, request.DESCRIPTOR.name)
        if not isinstance(request, kind):
            request = kind.FromString(request.SerializeToString())
        timeout_s: float = getattr(self._settings, FORWARDED[name])
        return await self._parts.ask(getattr(self._parts.retriever, name), request, timeout_s=timeout_s)

    async def collection(self, name: str = "") -> collection_pb2.Collection:
        """Returns a collection, the active one if the name is empty; that with the progress of the demonstration atlas, if
        there is something to say.
        """
        asked = retriever_pb2.GetCollectionRequest(name=name)
        found: collection_pb2.Collection = (await self.forward(asked)).collection
        if (
            found.active
            and (path := self._settings.progress_file)
            and (building := await asyncio.to_thread(read_progress, path))
        ):
            found.building.CopyFrom(building)
        return found

    async def record(self, record_id: str, collection: str = "") -> record_pb2.Record:
        """Returns one record; raises RECORD_NOT_FOUND."""
        asked = retriever_pb2.GetRecordRequest(id=record_id, collection=collection)
        found: record_pb2.Record = (await self.forward(asked)).record
        return found

    async def image(
        self, record_id: str, variant: "image_pb2.ImageVariant.ValueType | None", collection: str = ""
    ) -> ImageFile:
        """A record's image. Its first part is here when this returns, so that an error comes before any byte."""
        request = retriever_pb2.GetImageRequest(id=record_id, variant=variant, collection=collection)
        return await self._image(self._parts.retriever.GetImage, request)

    async def rating_image(self, token: str, number: int) -> ImageFile:
        """Returns the image of a rater's question, as `image` does."""
        request = retriever_pb2.GetRatingImageRequest(token=token, number=number)
        return await self._image(self._parts.retriever.GetRatingImage, request)

    async def _image(self, call: Any, request: Message) -> ImageFile:
        messages = self._parts.read(call, request, timeout_s=self._settings.read_timeout_s, service="retriever")

        async def parts() -> AsyncIterator[image_pb2.ImagePart]:
            async for message in messages:
                yield message.part

        return await ImageFile.begin(parts())

    async def upsert(
        self, parts: AsyncIterable[record_pb2.RecordPart], *, collection: str = ""
    ) -> Sequence[record_pb2.UpsertOutcome]:
        """Stores records, streaming them through: no more than one part is held here.

        An upload may be slow: the deadline of the answer begins at its end. Raises DEADLINE_EXCEEDED.
        """
        loop = asyncio.get_running_loop()
        timeout_s = self._settings.upsert_timeout_s

        async def requests() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
            async for part in parts:
                yield retriever_pb2.UpsertRecordsRequest(part=part, collection=collection)
            answer.reschedule(loop.time() + timeout_s)

        try:
            async with asyncio.timeout(None) as answer:
                response = await self._parts.send(
                    self._parts.retriever.UpsertRecords,
                    requests(),
                    timeout_s=self._settings.body_timeout_s + timeout_s,
                    service="retriever",
                )
        except TimeoutError:
            raise MirageError(Code.DEADLINE_EXCEEDED) from None
        return response.outcomes

    async def models(self) -> Sequence[model_pb2.Model]:
        """Returns the models in use: the encoder's, and those of the llm, the generator and the reader if they serve."""
        response, language, pictures, reading = await asyncio.gather(
            self._parts.ask(
                self._parts.encoder.GetModel, encoder_pb2.GetModelRequest(), timeout_s=self._settings.read_timeout_s
            ),
            self._language_model(),
            self._picture_model(),
            self._reading_model(),
        )
        return [response.model, *language, *pictures, *reading]

    async def _language_model(self) -> Sequence[model_pb2.Model]:
        if self._parts.llm is None or await self._parts.health_of("llm") is not Health.SERVING:
            return ()
        try:
            response = await self._parts.ask(
                self._parts.llm.GetModel, llm_pb2.GetModelRequest(), timeout_s=self._settings.read_timeout_s
            )
        except MirageError:
            return ()
        return (response.model,)

    async def _picture_model(self) -> Sequence[model_pb2.Model]:
        if self._parts.generator is None or await self._parts.health_of("generator") is not Health.SERVING:
            return ()
        try:
            response = await self._parts.ask(
                self._parts.generator.GetModel,
                generator_pb2.GetModelRequest(),
                timeout_s=self._settings.read_timeout_s,
                service="generator",
            )
        except MirageError:
            return ()
        return (response.model,)

    async def _reading_model(self) -> Sequence[model_pb2.Model]:
        if self._parts.reader is None or await self._parts.health_of("reader") is not Health.SERVING:
            return ()
        try:
            response = await self._parts.ask(
                self._parts.reader.GetModel, reader_pb2.GetModelRequest(), timeout_s=self._settings.read_timeout_s
            )
        except MirageError:
            return ()
        return (response.model,) if response.HasField("model") else ()

    async def health(self) -> dict[str, Health]:
        """Returns the health of each part, by name."""
        return await self._parts.health()


def string_lists(where: Mapping[str, Sequence[str]]) -> dict[str, facet_pb2.StringList]:
    """A filter as messages."""
    return {name: facet_pb2.StringList(values=values) for name, values in where.items()}


def read_progress(path: Path) -> collection_pb2.Building | None:
    """Returns the progress in a file; None if it is complete, missing, or of another kind."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_PROGRESS_BYTES))
        if not isinstance(found, dict):
            return None
        building = ParseDict(found, collection_pb2.Building())
    except (OSError, ValueError, RecursionError, ParseError):
        return None
    complete = building.finished and not building.missing and not building.problem
    return None if complete else building
