"""GeneratorService: protobuf to the jobs and back, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import ClassVar, TypeAlias

import grpc

from mirage.v1 import common_pb2, generator_pb2, generator_pb2_grpc
from mirage_core.methods import Kind, MethodRule
from mirage_generator.clients import Caller, caller
from mirage_generator.messages import read_order, read_states, write_event, write_job
from mirage_generator.service import JobService
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.jobs import JobStore
from mirage_inference.bundles import GeneratorManifest

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """See protos/mirage/v1/generator.proto; errors go through to the interceptor."""

    # Everybody with a key has jobs of their own.
    methods: ClassVar[Mapping[str, MethodRule]] = {
        **dict.fromkeys(("CreateJob", "GetJob", "ListJobs", "CancelJob", "GetArtifact", "GetModel"), MethodRule()),
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
        self, request: generator_pb2.GeneratorServiceCreateJobRequest, context: Context
    ) -> generator_pb2.GeneratorServiceCreateJobResponse:
        """See protos/mirage/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.create(read_order(request.spec), request.request_id, client)
        return generator_pb2.GeneratorServiceCreateJobResponse(job=write_job(standing, admin=client.all_jobs))

    async def GetJob(
        self, request: generator_pb2.GeneratorServiceGetJobRequest, context: Context
    ) -> generator_pb2.GeneratorServiceGetJobResponse:
        """See protos/mirage/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.get(request.id, client)
        return generator_pb2.GeneratorServiceGetJobResponse(job=write_job(standing, admin=client.all_jobs))

    async def ListJobs(
        self, request: generator_pb2.GeneratorServiceListJobsRequest, context: Context
    ) -> generator_pb2.GeneratorServiceListJobsResponse:
        """See protos/mirage/v1/generator.proto."""
        client = self._caller(context)
        page = await self._jobs.page(
            client,
            limit=request.limit if request.HasField("limit") else None,
            token=request.page_token,
            states=read_states(list(request.states)),
        )
        return generator_pb2.GeneratorServiceListJobsResponse(
            jobs=[write_job(standing, admin=client.all_jobs) for standing in page.jobs], next_page_token=page.next_token
        )

    async def WatchJob(
        self, request: generator_pb2.GeneratorServiceWatchJobRequest, context: Context
    ) -> AsyncIterator[generator_pb2.GeneratorServiceWatchJobResponse]:
        """See protos/mirage/v1/generator.proto."""
        client = self._caller(context)
        async with aclosing(self._jobs.watch(request.id, client, previews=request.previews)) as events:
            async for event in events:
                yield generator_pb2.GeneratorServiceWatchJobResponse(event=write_event(event, admin=client.all_jobs))

    async def CancelJob(
        self, request: generator_pb2.GeneratorServiceCancelJobRequest, context: Context
    ) -> generator_pb2.GeneratorServiceCancelJobResponse:
        """See protos/mirage/v1/generator.proto."""
        client = self._caller(context)
        standing = await self._jobs.cancel(request.id, client)
        return generator_pb2.GeneratorServiceCancelJobResponse(job=write_job(standing, admin=client.all_jobs))

    async def GetArtifact(
        self, request: generator_pb2.GeneratorServiceGetArtifactRequest, context: Context
    ) -> AsyncIterator[generator_pb2.GeneratorServiceGetArtifactResponse]:
        """See protos/mirage/v1/generator.proto."""
        image, chunks = await self._jobs.artifact(request.id, request.index, self._caller(context))
        part = common_pb2.ImagePart(media_type="image/png", length=image.bytes)
        for chunk in chunks:
            part.chunk = chunk
            yield generator_pb2.GeneratorServiceGetArtifactResponse(part=part)
            part = common_pb2.ImagePart()

    async def GetModel(
        self, request: generator_pb2.GeneratorServiceGetModelRequest, context: Context
    ) -> generator_pb2.GeneratorServiceGetModelResponse:
        """See protos/mirage/v1/generator.proto."""
        manifest = self._manifest
        return generator_pb2.GeneratorServiceGetModelResponse(
            model=common_pb2.Model(
                name=manifest.name,
                task=manifest.task,
                fingerprint=manifest.fingerprint,
                source=manifest.source,
                licence=manifest.licence,
                context_length=manifest.prompt.context_length,
                engine=await asyncio.to_thread(self._store.engine),
                precision=self._settings.variant or manifest.default_variant,
                manifest_json=manifest.to_json(),
            )
        )

    def _caller(self, context: Context) -> Caller:
        return caller(dict(context.invocation_metadata() or ()), self._settings)
