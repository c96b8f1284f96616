"""The service in a process of its own, on a tiny bundle with random weights, and what it says."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc
from mirage_protos.v1 import description_pb2, query_pb2
from tests.support.paths import TINY_LLM as TINY
from tests.support.paths import bare_environment
from tests.support.waiting import wait_until_serving

SERVICE = "mirage.llm.v1.LlmService"
DEADLINE_S = 60
CAPTIONS = (
    "Axial T1-weighted section of the brain through the thalami, showing the putamina; no lesion.",
    "Coronal FLAIR-like section of the brain; a simulated hyperintense lesion of 20 mm in the left frontal lobe.",
    "Midsagittal T2-like brain MRI showing the pons and the fourth ventricle; no focal lesion.",
)


@dataclass
class Running:
    """Where the service listens, its metrics and its process."""

    address: str
    metrics_port: int
    process: "subprocess.Popen[bytes]" = field(repr=False)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def rss_mib(self) -> float:
        """Memory that the process holds, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def serving(self) -> bool:
        """What health says."""
        with grpc.insecure_channel(self.address) as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
        return bool(status == health_pb2.HealthCheckResponse.SERVING)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def llm(bundle: Path = TINY, *, wait: bool = True, **settings: str) -> Iterator[Running]:
    port, metrics = free_port(), free_port()
    variables = {"BUNDLE": str(bundle), "PORT": str(port), "METRICS_PORT": str(metrics), "THREADS": "1", **settings}
    environment = {f"MIRAGE_LLM_{name}": value for name, value in variables.items()}
    environment |= bare_environment()
    process = subprocess.Popen([sys.executable, "-m", "mirage_llm"], env=environment, stderr=subprocess.DEVNULL)
    running = Running(f"127.0.0.1:{port}", metrics, process)
    try:
        if wait:
            wait_until_serving(running.address, process, service=SERVICE)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def request(
    query: str = "thalamus",
    captions: Sequence[str] = CAPTIONS,
    match: "query_pb2.Match.ValueType" = query_pb2.MATCH_GOOD,
    **options: Any,
) -> llm_pb2.DescribeRequest:
    return llm_pb2.DescribeRequest(
        query=query,
        captions=[llm_pb2.SourceCaption(id=f"r{number}", text=text) for number, text in enumerate(captions)],
        match=match,
        options=description_pb2.DescribeOptions(**options),
    )


@dataclass
class Description:
    """A description as it came."""

    start: description_pb2.DescribeStart | None = None
    sentences: list[description_pb2.DescribeSentence] = field(default_factory=list)
    end: description_pb2.DescribeDone = field(default_factory=description_pb2.DescribeDone)
    order: list[str] = field(default_factory=list)


async def collect(events: AsyncIterable[llm_pb2.DescribeResponse]) -> Description:
    found = Description()
    async for event in events:
        kind = event.WhichOneof("event")
        found.order.append(kind or "")
        match kind:
            case "start":
                found.start = event.start
            case "sentence":
                found.sentences.append(event.sentence)
            case "done":
                found.end = event.done
    return found


async def describe(address: str, asked: llm_pb2.DescribeRequest, timeout_s: float = DEADLINE_S) -> Description:
    async with grpc.aio.insecure_channel(address) as channel:
        return await collect(llm_pb2_grpc.LlmServiceStub(channel).Describe(asked, timeout=timeout_s))


def details(error: grpc.aio.AioRpcError) -> tuple[str, float | None]:
    """The catalogue's code and the retry time of an error."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    reason, retry_s = "", None
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, retry_s


def manifest(bundle: Path = TINY) -> dict[str, Any]:
    return dict(json.loads((bundle / "manifest.json").read_text()))
