"""A generator service that makes grey squares, over real gRPC: the transport and the states are real, the model is not.

It runs one job after the other, a step each `step_s`. A word in the prompt changes a job's course: `failing` ends it after its
first step, `waiting` leaves it in the queue as if no worker were there, `overlong` says that the prompt was cut, `crowded` is
refused with QUEUE_FULL. Run as a program it stands in for the service: `python scripted_generator.py PORT STEP_MS`; then a job
with the request id `reset` is none, but makes it forget all jobs and take as many milliseconds a step as its prompt says.
"""

import asyncio
import hashlib
import io
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from PIL import Image, PngImagePlugin

from mirage.v1 import common_pb2 as pb
from mirage.v1 import generator_pb2 as messages
from mirage.v1 import generator_pb2_grpc
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers

NAME = "mirage.v1.GeneratorService"
CHUNK = 100
FINAL = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_EXPIRED)
MANIFEST = {
    "guidance_input": "unconditional",
    "steps": {"least": 1, "most": 8, "default": 4},
    "guidance": {"least": 1.0, "most": 2.0, "default": 1.5},
    "side": {"least": 64, "most": 256, "default": 128},
}


@dataclass(frozen=True)
class Viewer:
    """Whom the gateway speaks for; `admin` sees the jobs of all."""

    name: str
    admin: bool

    def sees(self, job: pb.Job) -> bool:
        return self.admin or job.client == self.name


@dataclass
class ScriptedGenerator(generator_pb2_grpc.GeneratorServiceServicer):
    """Keeps what it was asked, and in whose name; `error` is what calls fail with, no job starts while `gate` is shut, and
    where it `breaks` a watch ends after its first word."""

    step_s: float = 0.0
    error: MirageError | None = None
    asked: list[Any] = field(default_factory=list)
    clients: list[str | None] = field(default_factory=list)
    jobs: dict[str, pb.Job] = field(default_factory=dict)
    files: dict[tuple[str, int], bytes] = field(default_factory=dict)
    previews: dict[str, pb.JobPreview] = field(default_factory=dict)
    queue: deque[str] = field(default_factory=deque)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    watching: int = 0
    watches: int = 0
    breaks: bool = False
    max_jobs: int = 50
    working: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def _take(self, request: Any, context: Any) -> Viewer:
        self.asked.append(request)
        said = dict(context.invocation_metadata())
        self.clients.append(said.get("x-mirage-client"))
        if self.error:
            await _abort(context, self.error)
        return Viewer(said.get("x-mirage-client", ""), admin=said.get("x-mirage-admin") == "true")

    async def _find(self, request: Any, context: Any) -> tuple[pb.Job, Viewer]:
        viewer = await self._take(request, context)
        job = self.jobs.get(request.id)
        if job is None or not viewer.sees(job):
            await _abort(context, MirageError(Code.JOB_NOT_FOUND, id=request.id))
            raise AssertionError
        return job, viewer

    async def _change(self, job: pb.Job, **fields: Any) -> None:
        job.MergeFrom(pb.Job(**fields))
        job.revision += 1
        if job.state in FINAL:
            job.end_time = time.time()
            job.ClearField("eta_s")
        async with self.changed:
            self.changed.notify_all()

    def shown(self, job: pb.Job, viewer: Viewer) -> pb.Job:
        """The job as it is seen: whose it is, by an admin alone."""
        found = pb.Job()
        found.CopyFrom(job)
        if not viewer.admin:
            found.client = ""
        waiting = list(self.queue)
        found.queue_position = waiting.index(job.id) if job.id in waiting else 0
        return found

    async def CreateJob(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the contract names the methods
        viewer = await self._take(request, context)
        spec = request.spec
        if request.request_id == "reset":
            await self._reset(float(spec.prompt) / 1000)
            return messages.GeneratorServiceCreateJobResponse()
        if "crowded" in spec.prompt:
            await _abort(context, MirageError(Code.QUEUE_FULL, retry_after_s=3.0))
        for job in self.jobs.values():
            if request.request_id and (job.client, job.request_id) == (viewer.name, request.request_id):
                if job.spec.prompt != spec.prompt:
                    await _abort(context, MirageError(Code.REQUEST_ID_REUSED, request_id=request.request_id))
                return messages.GeneratorServiceCreateJobResponse(job=self.shown(job, viewer))
        if len([job for job in self.jobs.values() if job.state not in FINAL]) >= self.max_jobs:
            await _abort(context, MirageError(Code.TOO_MANY_JOBS, max=self.max_jobs, retry_after_s=1.0))
        job = pb.Job(
            id=f"job{len(self.jobs) + 1:04}",
            state=pb.JOB_STATE_PENDING,
            request_id=request.request_id,
            prompt_tokens=77 if "overlong" in spec.prompt else 1 + len(spec.prompt.split()),
            prompt_truncated="overlong" in spec.prompt,
            create_time=time.time(),
            deadline_time=time.time() + 600,
            expire_time=time.time() + 3600,
            fingerprint="a1" * 32,
            client=viewer.name,
            revision=1,
        )
        job.spec.CopyFrom(spec)
        for name, default in (("steps", 4), ("seed", 2**62 + 1), ("width", 128), ("height", 128), ("images", 1)):
            if not spec.HasField(name):
                setattr(job.spec, name, default)
        if not spec.HasField("guidance_scale"):
            job.spec.guidance_scale = 1.5
        job.steps = job.spec.steps * job.spec.images
        if "waiting" not in spec.prompt:
            job.eta_s = job.steps * self.step_s
        self.jobs[job.id] = job
        self.queue.append(job.id)
        # Else a job on a step of no time would be done before its creation is answered.
        answer = messages.GeneratorServiceCreateJobResponse(job=self.shown(job, viewer))
        async with self.changed:
            self.changed.notify_all()
        return answer

    async def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.GeneratorServiceGetJobResponse(job=self.shown(*await self._find(request, context)))

    async def ListJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        viewer = await self._take(request, context)
        found = [job for job in reversed(self.jobs.values()) if viewer.sees(job)]
        found = [job for job in found if not request.states or job.state in request.states]
        start, limit = int(request.page_token or 0), request.limit or 20
        more = str(start + limit) if len(found) > start + limit else ""
        page = [self.shown(job, viewer) for job in found[start : start + limit]]
        return messages.GeneratorServiceListJobsResponse(jobs=page, next_page_token=more)

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        job, viewer = await self._find(request, context)
        self.watching += 1
        self.watches += 1
        try:
            sent, step = pb.Job(), 0
            while True:
                seen = self.shown(job, viewer)
                if seen.state in FINAL:
                    yield _event(done=seen)
                    return
                if seen != sent:
                    sent = seen
                    yield _event(progress=seen)
                if self.breaks:
                    return
                preview = self.previews.get(job.id)
                if request.previews and preview is not None and preview.step != step:
                    step = preview.step
                    yield _event(preview=preview)
                async with self.changed:
                    await self.changed.wait_for(lambda sent=sent: self.breaks or self.shown(job, viewer) != sent)
        finally:
            self.watching -= 1

    async def CancelJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        job, viewer = await self._find(request, context)
        if job.id in self.queue:
            self.queue.remove(job.id)
        if job.state not in FINAL:
            await self._change(job, state=pb.JOB_STATE_CANCELLED)
        return messages.GeneratorServiceCancelJobResponse(job=self.shown(job, viewer))

    async def GetArtifact(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        job, _ = await self._find(request, context)
        data = self.files.get((job.id, request.index))
        if data is None:
            await _abort(context, MirageError(Code.JOB_IMAGE_NOT_FOUND, id=job.id, index=request.index))
            return
        head = pb.ImagePart(media_type="image/png", length=len(data))
        for start in range(0, len(data), CHUNK):
            head.chunk = data[start : start + CHUNK]
            yield messages.GeneratorServiceGetArtifactResponse(part=head)
            head = pb.ImagePart()

    async def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        counted = {**MANIFEST, "watching": self.watching}
        model = pb.Model(
            name="scripted-pictures",
            task="generate",
            fingerprint="a1" * 32,
            source="a script",
            licence="CC0-1.0",
            engine="none",
            precision="fp32",
            context_length=77,
            manifest_json=json.dumps(counted),
        )
        return messages.GeneratorServiceGetModelResponse(model=model)

    def start_work(self) -> "asyncio.Task[None]":
        """The one worker; one that was there before is no more."""
        if self.working is not None:
            self.working.cancel()
        self.working = asyncio.create_task(self._work())
        return self.working

    async def _reset(self, step_s: float) -> None:
        self.step_s = step_s
        self.queue.clear()
        for job in self.jobs.values():
            if job.state not in FINAL:
                await self._change(job, state=pb.JOB_STATE_CANCELLED)
        for kept in (self.jobs, self.files, self.previews):
            kept.clear()
        self.start_work()

    async def _work(self) -> None:
        while True:
            async with self.changed:
                await self.changed.wait_for(self._next)
            await self.gate.wait()
            if not self._next():
                continue
            job = self.jobs[self._next()]
            self.queue.remove(job.id)
            await self._change(job, state=pb.JOB_STATE_RUNNING, start_time=time.time(), eta_s=job.steps * self.step_s)
            await self._run(job)

    def _next(self) -> str:
        return next((each for each in self.queue if "waiting" not in self.jobs[each].spec.prompt), "")

    async def _run(self, job: pb.Job) -> None:
        for step in range(1, job.steps + 1):
            await asyncio.sleep(self.step_s)
            if job.state != pb.JOB_STATE_RUNNING:
                return
            index, within = divmod(step - 1, job.spec.steps)
            self.previews[job.id] = pb.JobPreview(index=index, step=within + 1, png=_png(job, index, 16 * step, 16))
            await self._change(job, step=step, eta_s=(job.steps - step) * self.step_s)
            if "failing" in job.spec.prompt:
                problem = pb.Problem(code="MODEL_FAILED", message="The model failed on this input.")
                await self._change(job, state=pb.JOB_STATE_FAILED, problem=problem)
                return
        made = []
        for index in range(job.spec.images):
            data = _png(job, index, 200, job.spec.width)
            self.files[job.id, index] = data
            made.append(
                pb.JobImage(
                    index=index,
                    seed=(job.spec.seed + index) % 2**63,
                    width=job.spec.width,
                    height=job.spec.height,
                    bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                )
            )
        await self._change(job, state=pb.JOB_STATE_SUCCEEDED, images=made)


def _png(job: pb.Job, index: int, shade: int, side: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("ai_generated", "true")
    text.add_text("prompt", job.spec.prompt.encode("ascii", "replace").decode())
    picture = Image.radial_gradient("L").resize((side, side)).point(lambda value: (value * shade // 255 + index) % 256)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _event(**event: Any) -> Any:
    return messages.GeneratorServiceWatchJobResponse(event=pb.JobEvent(**event))


async def _abort(context: Any, error: MirageError) -> None:
    await context.abort(grpc_status(error), error.message, to_trailers(error))


async def serve(
    script: ScriptedGenerator, port: int = 0
) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer, "asyncio.Task[None]"]:
    """A running server, its port, its health, and its worker."""
    server, healths = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), health.aio.HealthServicer()
    generator_pb2_grpc.add_GeneratorServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await healths.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    return server, bound, healths, script.start_work()


async def main() -> None:
    """Stands in for the service until it is ended."""
    server, _, _, _working = await serve(ScriptedGenerator(step_s=float(sys.argv[2]) / 1000), int(sys.argv[1]))
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
