"""A generator service that makes grey squares, over real gRPC: the transport and the states are real, the model is not.

It runs one job after the other, a step each `step_s`. A word in the prompt changes a job's course: `failing` ends it after its
first step, `waiting` leaves it in the queue as if no worker were there, `overlong` says that the prompt was cut, `crowded` is
refused with QUEUE_FULL, `outside` with PROMPT_OUTSIDE, and with `unlike` the encoder sees a T2 instead of the T1 that was
asked for. Run as a program it stands in for the service: `python scripted_generator.py PORT STEP_MS`; then a job
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
from functools import partial
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from PIL import Image, PngImagePlugin

from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_protos.generator.v1 import generator_pb2, generator_pb2_grpc
from mirage_protos.v1 import image_pb2, job_pb2, model_pb2, problem_pb2

NAME = "mirage.generator.v1.GeneratorService"
CHUNK = 100
FINAL = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED, job_pb2.JOB_STATE_EXPIRED)
CHECKS = (
    job_pb2.AspectCheck(aspect="plane", asked="axial", seen="axial"),
    job_pb2.AspectCheck(aspect="sequence", asked="t1", seen="t2"),
    job_pb2.AspectCheck(aspect="lesion", asked="no", seen="yes"),
)
MANIFEST = {
    "draws": {"about": "grey squares", "words": ["grey"]},
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

    def sees(self, job: job_pb2.Job) -> bool:
        return self.admin or job.client == self.name


@dataclass
class ScriptedGenerator(generator_pb2_grpc.GeneratorServiceServicer):
    """Keeps what it was asked, and in whose name; `error` is what calls fail with, no job starts while `gate` is shut, and
    where it `breaks` a watch ends after its first word."""

    step_s: float = 0.0
    error: MirageError | None = None
    asked: list[Any] = field(default_factory=list)
    clients: list[str | None] = field(default_factory=list)
    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    files: dict[tuple[str, int], bytes] = field(default_factory=dict)
    previews: dict[str, job_pb2.JobPreview] = field(default_factory=dict)
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

    async def _find(self, request: Any, context: Any) -> tuple[job_pb2.Job, Viewer]:
        viewer = await self._take(request, context)
        job = self.jobs.get(request.id)
        if job is None or not viewer.sees(job):
            await _abort(context, MirageError(Code.JOB_NOT_FOUND, id=request.id))
            raise AssertionError
        return job, viewer

    async def _change(self, job: job_pb2.Job, **fields: Any) -> None:
        # Merging would keep the seconds of a duration where the new one has none.
        job.ClearField("eta")
        job.MergeFrom(job_pb2.Job(**fields))
        job.revision += 1
        if job.state in FINAL:
            job.end_time.CopyFrom(_time())
        async with self.changed:
            self.changed.notify_all()

    def _has_news(self, job: job_pb2.Job, viewer: Viewer, sent: job_pb2.Job) -> bool:
        return self.breaks or self.shown(job, viewer) != sent

    def shown(self, job: job_pb2.Job, viewer: Viewer) -> job_pb2.Job:
        """The job as it is seen: whose it is, by an admin alone."""
        found = job_pb2.Job()
        found.CopyFrom(job)
        if not viewer.admin:
            found.client = ""
        waiting = list(self.queue)
        found.queue_position = waiting.index(job.id) if job.id in waiting else 0
        return found

    async def CreateJob(self, request: Any, context: Any) -> Any:
        viewer = await self._take(request, context)
        spec = request.spec
        if request.request_id == "reset":
            await self._reset(float(spec.prompt) / 1000)
            return generator_pb2.CreateJobResponse()
        if "crowded" in spec.prompt:
            await _abort(context, MirageError(Code.QUEUE_FULL, retry_after_s=3.0))
        if "outside" in spec.prompt:
            await _abort(
                context, MirageError(Code.PROMPT_OUTSIDE, field="prompt", about="grey squares", words="outside")
            )
        for job in self.jobs.values():
            if request.request_id and (job.client, job.request_id) == (viewer.name, request.request_id):
                if job.request.prompt != spec.prompt:
                    await _abort(context, MirageError(Code.REQUEST_ID_REUSED, request_id=request.request_id))
                return generator_pb2.CreateJobResponse(job=self.shown(job, viewer))
        if len([job for job in self.jobs.values() if job.state not in FINAL]) >= self.max_jobs:
            await _abort(context, MirageError(Code.TOO_MANY_JOBS, max=self.max_jobs, retry_after_s=1.0))
        job = job_pb2.Job(
            id=f"job{len(self.jobs) + 1:04}",
            state=job_pb2.JOB_STATE_PENDING,
            request_id=request.request_id,
            prompt_tokens=77 if "overlong" in spec.prompt else 1 + len(spec.prompt.split()),
            prompt_truncated="overlong" in spec.prompt,
            create_time=_time(),
            deadline_time=_time(600),
            expire_time=_time(3600),
            fingerprint="a1" * 32,
            client=viewer.name,
            revision=1,
        )
        job.request.CopyFrom(spec)
        for name, default in (("steps", 4), ("seed", 2**62 + 1), ("width", 128), ("height", 128), ("images", 1)):
            if not spec.HasField(name):
                setattr(job.request, name, default)
        if not spec.HasField("guidance_scale"):
            job.request.guidance_scale = 1.5
        job.steps = job.request.steps * job.request.images
        if "waiting" not in spec.prompt:
            job.eta.CopyFrom(_lasting(job.steps * self.step_s))
        self.jobs[job.id] = job
        self.queue.append(job.id)
        # Else a job on a step of no time would be done before its creation is answered.
        answer = generator_pb2.CreateJobResponse(job=self.shown(job, viewer))
        async with self.changed:
            self.changed.notify_all()
        return answer

    async def GetJob(self, request: Any, context: Any) -> Any:
        return generator_pb2.GetJobResponse(job=self.shown(*await self._find(request, context)))

    async def ListJobs(self, request: Any, context: Any) -> Any:
        viewer = await self._take(request, context)
        found = [job for job in reversed(self.jobs.values()) if viewer.sees(job)]
        found = [job for job in found if not request.states or job.state in request.states]
        start, limit = int(request.page_token or 0), request.page_size or 20
        more = str(start + limit) if len(found) > start + limit else ""
        page = [self.shown(job, viewer) for job in found[start : start + limit]]
        return generator_pb2.ListJobsResponse(jobs=page, next_page_token=more)

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        job, viewer = await self._find(request, context)
        self.watching += 1
        self.watches += 1
        try:
            sent, step = job_pb2.Job(), 0
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
                    await self.changed.wait_for(partial(self._has_news, job, viewer, sent))
        finally:
            self.watching -= 1

    async def CancelJob(self, request: Any, context: Any) -> Any:
        job, viewer = await self._find(request, context)
        if job.id in self.queue:
            self.queue.remove(job.id)
        if job.state not in FINAL:
            await self._change(job, state=job_pb2.JOB_STATE_CANCELLED)
        return generator_pb2.CancelJobResponse(job=self.shown(job, viewer))

    async def GetJobImage(self, request: Any, context: Any) -> AsyncIterator[Any]:
        job, _ = await self._find(request, context)
        data = self.files.get((job.id, request.index))
        if data is None:
            await _abort(context, MirageError(Code.JOB_IMAGE_NOT_FOUND, id=job.id, index=request.index))
            return
        head = image_pb2.ImagePart(media_type="image/png", length=len(data))
        for start in range(0, len(data), CHUNK):
            head.chunk = data[start : start + CHUNK]
            yield generator_pb2.GetJobImageResponse(part=head)
            head = image_pb2.ImagePart()

    async def GetModel(self, request: Any, context: Any) -> Any:
        counted = {**MANIFEST, "watching": self.watching}
        model = model_pb2.Model(
            name="scripted-pictures",
            kind=model_pb2.MODEL_KIND_GENERATOR,
            fingerprint="a1" * 32,
            source="a script",
            licence="CC0-1.0",
            engine="none",
            precision="fp32",
            context_length=77,
            manifest_json=json.dumps(counted),
        )
        return generator_pb2.GetModelResponse(model=model)

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
                await self._change(job, state=job_pb2.JOB_STATE_CANCELLED)
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
            await self._change(
                job, state=job_pb2.JOB_STATE_RUNNING, start_time=_time(), eta=_lasting(job.steps * self.step_s)
            )
            await self._run(job)

    def _next(self) -> str:
        return next((each for each in self.queue if "waiting" not in self.jobs[each].request.prompt), "")

    async def _run(self, job: job_pb2.Job) -> None:
        for step in range(1, job.steps + 1):
            await asyncio.sleep(self.step_s)
            if job.state != job_pb2.JOB_STATE_RUNNING:
                return
            index, within = divmod(step - 1, job.request.steps)
            self.previews[job.id] = job_pb2.JobPreview(
                index=index, step=within + 1, image=_png(job, index, 16 * step, 16)
            )
            await self._change(job, step=step, eta=_lasting((job.steps - step) * self.step_s))
            if "failing" in job.request.prompt:
                problem = problem_pb2.Problem(code="MODEL_FAILED", message="The model failed on this input.")
                await self._change(job, state=job_pb2.JOB_STATE_FAILED, problem=problem)
                return
        made = []
        for index in range(job.request.images):
            data = _png(job, index, 200, job.request.width)
            self.files[job.id, index] = data
            made.append(
                job_pb2.JobImage(
                    index=index,
                    seed=(job.request.seed + index) % 2**63,
                    width=job.request.width,
                    height=job.request.height,
                    bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    checked="unlike" in job.request.prompt,
                    checks=CHECKS if "unlike" in job.request.prompt else (),
                )
            )
        await self._change(job, state=job_pb2.JOB_STATE_SUCCEEDED, images=made)


def _png(job: job_pb2.Job, index: int, shade: int, side: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("ai_generated", "true")
    text.add_text("prompt", job.request.prompt.encode("ascii", "replace").decode())
    picture = Image.radial_gradient("L").resize((side, side)).point(lambda value: (value * shade // 255 + index) % 256)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _time(after_s: float = 0.0) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round((time.time() + after_s) * 1e6))
    return made


def _lasting(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _event(**event: Any) -> Any:
    return generator_pb2.WatchJobResponse(event=job_pb2.JobEvent(**event))


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
