"""A queue, the service and its workers, each a process of its own, on a tiny bundle with random weights."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import redis
from google.rpc import error_details_pb2, status_pb2

from mirage_launcher import queue_server
from mirage_protos.generator.v1 import generator_pb2, generator_pb2_grpc
from mirage_protos.v1 import job_pb2
from tests.support.paths import TINY_GENERATOR as TINY
from tests.support.paths import bare_environment
from tests.support.waiting import until

SERVICE = "mirage.generator.v1.GeneratorService"
DEADLINE_S = 60
# A job of ten steps of a tenth of a second and more, four times over: time enough to do something to it.
LONG: dict[str, Any] = {"width": 768, "height": 768, "steps": 10, "images": 4}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class House:
    """The processes. `stop` of a process is SIGTERM, `kill` is SIGKILL."""

    folder: Path
    port: int
    settings: dict[str, str]
    queue: "subprocess.Popen[bytes] | None" = None
    api: "subprocess.Popen[bytes] | None" = None
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(f"unix://{self.socket}")

    def start_queue(self) -> None:
        (self.folder / "redis").mkdir(exist_ok=True)
        command = queue_server.command(queue_server.find_server(), folder=self.folder / "redis", socket=self.socket)
        self.queue = self._start("redis", list(command), {})
        until(self._answers)

    def start_api(self, *, wait: bool = True, **settings: str) -> None:
        self.api = self._start("api", [sys.executable, "-P", "-m", "mirage_generator"], settings)
        if wait:
            until(self.serving)

    def start_worker(
        self, *, wait: bool = True, preface: tuple[str, ...] = (), log: str = "worker", **settings: str
    ) -> "subprocess.Popen[bytes]":
        before = self.log(log).count('"working"')
        command = [*preface, sys.executable, "-P", "-m", "mirage_generator", "worker"]
        worker = self._start(log, command, settings)
        self.workers.append(worker)
        if wait:
            until(lambda: self.log(log).count('"working"') > before or worker.poll() is not None)
            assert worker.poll() is None, self.log(log)
        return worker

    def kill(self, process: "subprocess.Popen[bytes] | None") -> None:
        assert process is not None
        process.kill()
        process.wait()

    def serving(self) -> bool:
        """What health says."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with grpc.insecure_channel(self.address) as channel, suppress(grpc.RpcError):
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
        return False

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.redis().ping())
        return False

    def _start(self, name: str, command: list[str], settings: dict[str, str]) -> "subprocess.Popen[bytes]":
        settings = {**self.settings, **settings}
        environment = {
            **bare_environment(),
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONUNBUFFERED": "1",
            **{f"MIRAGE_GENERATOR_{name}": value for name, value in settings.items() if name.isupper()},
            **{name[4:]: value for name, value in settings.items() if name.startswith("env_")},
        }
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self) -> None:
        for group in ([*self.workers, self.api], [self.queue]):
            processes = [process for process in group if process is not None and process.poll() is None]
            for process in processes:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in processes:
                try:
                    process.wait(DEADLINE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def house(*, workers: int = 1, api: bool = True, **settings: str) -> Iterator[House]:
    """A house with its queue, the service and `workers`; settings by the names after MIRAGE_GENERATOR_."""
    # Not pytest's folder: a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="mirage-"))
    port = free_port()
    made = House(
        folder,
        port,
        {
            "PORT": str(port),
            "REDIS": f"unix://{folder}/redis.sock",
            "DATA": str(folder / "images"),
            "BUNDLE": str(TINY),
            "THREADS": "1",
            "ENGINE": "onnxruntime",
            **settings,
        },
    )
    try:
        made.start_queue()
        if api:
            made.start_api(wait=False)
        for _ in range(workers):
            made.start_worker(wait=False)
        until(lambda: made.log("worker").count('"working"') >= workers)
        if api:
            until(made.serving)
        yield made
    except BaseException:
        for name in ("redis", "api", "worker"):
            sys.stderr.write(f"--- {name}\n{made.log(name)[-4000:]}\n")
        raise
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def spec(**fields: Any) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"prompt": "axial T2 section of the brain", **fields})


class Jobs:
    """The service over real gRPC, as one client."""

    def __init__(self, channel: grpc.aio.Channel, client: str = "", *, key: str = "") -> None:
        self.stub: Any = generator_pb2_grpc.GeneratorServiceStub(channel)
        said = {"x-mirage-client": client, "authorization": f"Bearer {key}" if key else ""}
        self._metadata = tuple((name, value) for name, value in said.items() if value)

    async def create(self, request_id: str = "", **fields: Any) -> job_pb2.Job:
        asked = generator_pb2.CreateJobRequest(spec=spec(**fields), request_id=request_id)
        reply: generator_pb2.CreateJobResponse = await self.stub.CreateJob(
            asked, timeout=DEADLINE_S, metadata=self._metadata
        )
        return reply.job

    async def get(self, id_: str) -> job_pb2.Job:
        asked = generator_pb2.GetJobRequest(id=id_)
        reply: generator_pb2.GetJobResponse = await self.stub.GetJob(asked, timeout=DEADLINE_S, metadata=self._metadata)
        return reply.job

    async def cancel(self, id_: str) -> job_pb2.Job:
        asked = generator_pb2.CancelJobRequest(id=id_)
        reply: generator_pb2.CancelJobResponse = await self.stub.CancelJob(
            asked, timeout=DEADLINE_S, metadata=self._metadata
        )
        return reply.job

    async def list(self, **fields: Any) -> generator_pb2.ListJobsResponse:
        asked = generator_pb2.ListJobsRequest(**fields)
        reply: generator_pb2.ListJobsResponse = await self.stub.ListJobs(
            asked, timeout=DEADLINE_S, metadata=self._metadata
        )
        return reply

    async def watch(self, id_: str, *, previews: bool = False) -> AsyncIterator[job_pb2.JobEvent]:
        asked = generator_pb2.WatchJobRequest(id=id_, previews=previews)
        async for reply in self.stub.WatchJob(asked, timeout=DEADLINE_S, metadata=self._metadata):
            yield reply.event

    async def end_of(self, id_: str) -> job_pb2.Job:
        async for event in self.watch(id_):
            if event.HasField("done"):
                return event.done
        raise AssertionError("a watch ended without the job's end")

    async def running(self, id_: str, *, step: int = 1) -> job_pb2.Job:
        """The job once that many of its steps are done."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                job = await self.get(id_)
                assert job.state in (job_pb2.JOB_STATE_PENDING, job_pb2.JOB_STATE_RUNNING), job
                if job.step >= step:
                    return job
                await asyncio.sleep(0.01)

    async def image(self, id_: str, index: int = 0) -> bytes:
        asked = generator_pb2.GetJobImageRequest(id=id_, index=index)
        parts = [
            reply.part async for reply in self.stub.GetJobImage(asked, timeout=DEADLINE_S, metadata=self._metadata)
        ]
        data = b"".join(part.chunk for part in parts)
        assert (parts[0].media_type, parts[0].length) == ("image/png", len(data))
        return data


@asynccontextmanager
async def jobs(house: House, client: str = "") -> AsyncIterator[Jobs]:
    async with grpc.aio.insecure_channel(house.address) as channel:
        yield Jobs(channel, client)


def details(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str], float | None]:
    """The catalogue's code, its metadata and the retry time of an error."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    reason, metadata, retry_s = "", {}, None
    for detail in status.details:
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, metadata, retry_s
