"""Jobs of image generation: the generator owns them, this passes on calls, in the name of who makes them."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration

from mirage_core import context
from mirage_core.channels import Metadata
from mirage_core.context import ADMIN_METADATA, CLIENT_METADATA, address_of
from mirage_core.errors import Code, MirageError
from mirage_core.job_options import check_job_options, check_job_request_id
from mirage_gateway.dependencies import Dependencies
from mirage_gateway.image_file import ImageFile
from mirage_gateway.settings import GatewaySettings
from mirage_protos.generator.v1 import generator_pb2, generator_pb2_grpc
from mirage_protos.v1 import image_pb2, job_pb2

Request = TypeVar("Request")
Response = TypeVar("Response")

_SERVICE = "generator"
# One watch of the generator; a longer job is watched by several, one after the other.
_WATCH_S = 600.0
_AGAIN_S = 0.25
_STEADY_S = 5.0
# Errors with which a watch ends when the generator restarts or closes a long watch.
_PASSING = (Code.DEPENDENCY_UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.MODEL_NOT_READY)
# gRPC's values are printable ASCII; a key's name need not be.
_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Jobs:
    """One method a job call. All raise MirageError: GENERATOR_ABSENT without a generator, or the generator's error."""

    def __init__(self, parts: Dependencies, settings: GatewaySettings) -> None:
        self._parts = parts
        self._timeout_s = settings.read_timeout_s
        self._retry_s = settings.watch_retry_s

    async def create(self, spec: job_pb2.JobSpec, *, request_id: str) -> job_pb2.Job:
        """Puts a job in the queue."""
        check_spec(spec)
        check_job_request_id(request_id)
        response = await self._parts.ask(
            self._generator.CreateJob,
            generator_pb2.CreateJobRequest(spec=spec, request_id=request_id),
            timeout_s=self._timeout_s,
            service=_SERVICE,
            metadata=_caller(),
        )
        return response.job

    async def get(self, job_id: str) -> job_pb2.Job:
        """A job as it is now."""
        return (await self._ask(self._generator.GetJob, generator_pb2.GetJobRequest(id=job_id))).job

    async def list(
        self, *, page_size: int | None, page_token: str, states: Sequence["job_pb2.JobState.ValueType"]
    ) -> generator_pb2.ListJobsResponse:
        """A page of the caller's jobs, newest first."""
        request = generator_pb2.ListJobsRequest(page_size=page_size, page_token=page_token, states=states)
        return await self._ask(self._generator.ListJobs, request)

    async def cancel(self, job_id: str) -> job_pb2.Job:
        """Stops a job."""
        return (await self._ask(self._generator.CancelJob, generator_pb2.CancelJobRequest(id=job_id))).job

    async def watch(self, job_id: str, *, previews: bool) -> AsyncGenerator[job_pb2.JobEvent]:
        """A job from now until it ends, over restarts of the generator: a watch that breaks is begun again for a while."""
        request = generator_pb2.WatchJobRequest(id=job_id, previews=previews)
        told: tuple[int, int, int | None] | None = None
        trouble_since: float | None = None
        while True:
            heard: float | None = None
            try:
                messages = self._parts.listen(
                    self._generator.WatchJob, request, timeout_s=_WATCH_S, service=_SERVICE, metadata=_viewer()
                )
                async with aclosing(messages):
                    async for message in messages:
                        event, kind = message.event, message.event.WhichOneof("event")
                        heard = time.monotonic() if heard is None else heard
                        news = _news(event.progress) if kind == "progress" else told
                        # Each watch begins with the state that is known already.
                        if kind is None or (kind == "progress" and news == told):
                            continue
                        told, trouble_since = news, None
                        yield event
                        if kind == "done":
                            return
                broken = MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service=_SERVICE)
            except MirageError as error:
                broken = error
            # A job that waits may say nothing for hours: patience begins with the trouble, not with the last word.
            now = time.monotonic()
            # Nor does a watch end it that says what is known and breaks off: only one that holds for a while.
            held = heard is not None and now - heard > _STEADY_S
            trouble_since = now if trouble_since is None or held else trouble_since
            late = now - trouble_since > self._retry_s or context.remaining_s(_AGAIN_S) < _AGAIN_S
            if told is None or late or broken.code not in _PASSING:
                raise broken
            await asyncio.sleep(_AGAIN_S)

    async def image(self, job_id: str, index: int) -> ImageFile:
        """An image that a job made. Its first part is here when this returns, so that an error comes before any byte."""
        if not 0 <= index < 2**31:
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=job_id, index=index)
        messages = self._parts.read(
            self._generator.GetJobImage,
            generator_pb2.GetJobImageRequest(id=job_id, index=index),
            timeout_s=self._timeout_s,
            service="generator",
            metadata=_viewer(),
        )

        async def parts() -> AsyncIterator[image_pb2.ImagePart]:
            async for message in messages:
                yield message.part

        return await ImageFile.begin(parts())

    async def _ask(self, method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        return await self._parts.ask(method, request, timeout_s=self._timeout_s, service=_SERVICE, metadata=_viewer())

    @property
    def _generator(self) -> "generator_pb2_grpc.GeneratorServiceAsyncStub":
        if self._parts.generator is None:
            raise MirageError(Code.GENERATOR_ABSENT)
        return self._parts.generator


def check_spec(spec: job_pb2.JobSpec) -> None:
    """Raises what no generator would accept; the model's own ranges are the generator's to check."""
    check_job_options(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        steps=spec.steps if spec.HasField("steps") else None,
        guidance_scale=spec.guidance_scale if spec.HasField("guidance_scale") else None,
        seed=spec.seed if spec.HasField("seed") else None,
        width=spec.width if spec.HasField("width") else None,
        height=spec.height if spec.HasField("height") else None,
        images=spec.images if spec.HasField("images") else None,
        deadline_s=seconds_of(spec.deadline) if spec.HasField("deadline") else None,
    )


def seconds_of(duration: Duration) -> float:
    """Returns a duration in seconds. Any message has one, also those that protobuf's own conversion refuses."""
    return duration.seconds + duration.nanos / 1e9


def _news(job: job_pb2.Job) -> tuple[int, int, int | None]:
    """Returns the parts of a job whose changes are sent: its state, its place, and its time left to the second."""
    return job.revision, job.queue_position, round(seconds_of(job.eta)) if job.HasField("eta") else None


def _caller() -> Metadata:
    """Names the caller: the key's, else the address without its port."""
    return ((CLIENT_METADATA, quote(address_of(context.client.get()), safe=_SAFE)),)


def _viewer() -> Metadata:
    """The same, marked if it is an admin's: the generator need not know the gateway's keys."""
    return (*_caller(), (ADMIN_METADATA, "true")) if context.admin.get() else _caller()
