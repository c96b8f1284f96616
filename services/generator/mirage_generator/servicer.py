"""GeneratorService: protobuf to the jobs and back, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import ClassVar, TypeAlias

import grpc

from mirage_core.methods import Kind, MethodRule
from mirage_generator.clients import Caller, caller
from mirage_generator.convert import event_to_proto, job_to_proto, model_to_proto, request_from_proto, states_from_proto
from mirage_generator.service import JobService
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.jobs import JobStore
from mirage_inference.bundles import GeneratorManifest
from mirage_protos.generator.v1 import generator_pb2, generator_pb2_grpc
from mirage_protos.v1 import image_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """See protos/mirage/generator/v1/generator.proto; errors go through to the interceptor."""

    # Everybody with a key has jobs of their own.
    methods: ClassVar[Mapping[str, MethodRule]] = {
        **dict.fromkeys(("CreateJob", "GetJob", "ListJobs", "CancelJob", "GetJobImage", "GetModel"), MethodRule()),
        "WatchJob": MethodRule(kind=Kind.WATCH),
    }

    def __init__(
        self, jobs: JobService, store: JobStore, manifest: GeneratorManifest, settings: GeneratorSettings
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._manifest = manifest
        self._settings = settings

    async def CreateJob(
        self, request: generator_pb2.CreateJobRequest, context: Context
    ) -> generator_pb2.CreateJobResponse:
        """See protos/mirage/generator/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.create(request_from_proto(request.spec), request.request_id, client)
        return generator_pb2.CreateJobResponse(job=job_to_proto(standing, admin=client.all_jobs))

    async def GetJob(self, request: generator_pb2.GetJobRequest, context: Context) -> generator_pb2.GetJobResponse:
        """See protos/mirage/generator/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.get(request.id, client)
        return generator_pb2.GetJobResponse(job=job_to_proto(standing, admin=client.all_jobs))

    async def ListJobs(
        self, request: generator_pb2.ListJobsRequest, context: Context
    ) -> generator_pb2.ListJobsResponse:
        """See protos/mirage/generator/v1/generator.proto."""
        client = self._caller(context)
        page = await self._jobs.page(
            client,
            size=request.page_size if request.HasField("page_size") else None,
            token=request.page_token,
            states=states_from_proto(list(request.states)),
        )
        return generator_pb2.ListJobsResponse(
            jobs=[job_to_proto(standing, admin=client.all_jobs) for standing in page.jobs],
            next_page_token=page.next_token,
        )

    async def WatchJob(
        self, request: generator_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[generator_pb2.WatchJobResponse]:
        """See protos/mirage/generator/v1/generator.proto."""
        client = self._caller(context)
        async with aclosing(self._jobs.watch(request.id, client, previews=request.previews)) as events:
            async for event in events:
                yield generator_pb2.WatchJobResponse(event=event_to_proto(event, admin=client.all_jobs))

    async def CancelJob(
        self, request: generator_pb2.CancelJobRequest, context: Context
    ) -> generator_pb2.CancelJobResponse:
        """See protos/mirage/generator/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.cancel(request.id, client)
        return generator_pb2.CancelJobResponse(job=job_to_proto(standing, admin=client.all_jobs))

    async def GetJobImage(
        self, request: generator_pb2.GetJobImageRequest, context: Context
    ) -> AsyncIterator[generator_pb2.GetJobImageResponse]:
        """See protos/mirage/generator/v1/generator.proto."""
        image, chunks = await self._jobs.artifact(request.id, request.index, self._caller(context))
        part = image_pb2.ImagePart(media_type="image/png", length=image.bytes)
        for chunk in chunks:
            part.chunk = chunk
            yield generator_pb2.GetJobImageResponse(part=part)
            part = image_pb2.ImagePart()

    async def GetModel(
        self, request: generator_pb2.GetModelRequest, context: Context
    ) -> generator_pb2.GetModelResponse:
        """See protos/mirage/generator/v1/generator.proto."""
        engine = await asyncio.to_thread(self._store.engine)
        variant = self._settings.variant or self._manifest.default_variant
        return generator_pb2.GetModelResponse(model=model_to_proto(self._manifest, engine=engine, variant=variant))

    def _caller(self, context: Context) -> Caller:
        return caller(dict(context.invocation_metadata() or ()), self._settings)
