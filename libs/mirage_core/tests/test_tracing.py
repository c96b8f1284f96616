"""Traces, sent to a real collector over gRPC: what belongs to what, what is never in a span, and what a bad collector costs."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
import pytest

from mirage_core import telemetry, tracing
from mirage_core.channels import invoke, invoke_exchange, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.server import GrpcServer
from mirage_core.settings import ServiceSettings
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support.otlp_collector import Collector, Seen, collector
from tests.support.servicers import partial_servicer
from tests.support.waiting import until

NAME = "mirage.encoder.v1.EncoderService"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
SECRET = "lesion of the left zebra"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Servicer(encoder_pb2_grpc.EncoderServiceServicer):
    async def EncodeText(self, request: encoder_pb2.EncodeTextRequest, ctx: Context) -> encoder_pb2.EncodeTextResponse:
        with tracing.span("encode.text", texts=len(request.texts)):
            match request.texts[0]:
                case "coded":
                    raise MirageError(Code.TEXT_TOO_LONG, max=2000, given=9999)
                case "bug":
                    raise RuntimeError(SECRET)
        return encoder_pb2.EncodeTextResponse(fingerprint="f")

    async def EncodeImages(
        self, requests: AsyncIterator[encoder_pb2.EncodeImagesRequest], ctx: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        async for request in requests:
            yield encoder_pb2.EncodeImagesResponse(key=request.key)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and this process sending to it."""
    for name in [each for each in os.environ if each.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with collector() as made:
        tracing.start("encoder", made.endpoint)
        try:
            yield made
        finally:
            tracing.stop()


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    """The servicer over real gRPC."""
    server = GrpcServer(ServiceSettings(port=0, drain_s=0))
    servicer = partial_servicer(Servicer)
    server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, servicer, NAME)
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}", idempotent={NAME: ["EncodeText"]}) as channel:
        yield encoder_pb2_grpc.EncoderServiceStub(channel)
    await server.stop()


async def ask(stub: Any, text: str) -> None:
    await invoke(stub.EncodeText, encoder_pb2.EncodeTextRequest(texts=[text]), timeout_s=30)


async def trace(seen: Collector, stub: Any, text: str) -> dict[str, list[Seen]]:
    """The spans of one call within a span `root`, by name; the call's own and the server's in this order."""
    with tracing.span("root", parent="", request_id="one"), suppress(MirageError):
        await ask(stub, text)
    names = {"root", "encode.text", f"{NAME}/EncodeText"}
    found = await asyncio.to_thread(seen.trace_with, names, attribute=("mirage.request_id", "one"))
    named: dict[str, list[Seen]] = {}
    for span in sorted(found, key=lambda span: span.start):
        named.setdefault(span.name, []).append(span)
    return named


async def test_a_call_and_what_is_done_for_it_are_one_trace(seen: Collector, stub: Any) -> None:
    named = await trace(seen, stub, SECRET)
    [root], [client, server], [phase] = named["root"], named[f"{NAME}/EncodeText"], named["encode.text"]
    assert (root.parent, client.parent, server.parent, phase.parent) == ("", root.id, client.id, server.id)
    assert (client.kind, server.kind) == (3, 2)
    assert {span.service for span in (root, client, server, phase)} == {"mirage-encoder"}
    assert phase.attributes == {"mirage.texts": 1}
    assert not any(span.failed for span in (root, client, server, phase))
    assert root.start <= client.start <= server.start <= phase.start <= phase.end <= root.end


@pytest.mark.parametrize(("text", "code"), [("coded", "TEXT_TOO_LONG"), ("bug", "INTERNAL")])
async def test_a_failure_is_told_by_its_code_and_never_by_its_text(
    seen: Collector, stub: Any, text: str, code: str
) -> None:
    named = await trace(seen, stub, text)
    calls = named[f"{NAME}/EncodeText"]
    assert [(span.failed, span.attributes["error.type"]) for span in calls] == [(True, code)] * 2
    assert named["encode.text"][0].attributes["error.type"] == ("RuntimeError" if text == "bug" else code)
    assert SECRET.encode() not in seen.sent
    assert b"Traceback" not in seen.sent


async def test_a_stream_does_not_draw_what_its_reader_does_into_its_span(seen: Collector, stub: Any) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield encoder_pb2.EncodeImagesRequest(key="a", image=b"x")
        yield encoder_pb2.EncodeImagesRequest(key="b", image=b"x")

    with tracing.span("root", parent="", request_id="stream") as root:
        async for _ in invoke_exchange(stub.EncodeImages, requests(), timeout_s=30):
            with tracing.span("between"):
                assert tracing.current().trace_id == root.trace_id
    path = f"{NAME}/EncodeImages"
    found = await asyncio.to_thread(
        seen.trace_with, {"root", "between", path}, attribute=("mirage.request_id", "stream")
    )
    [outer] = [span for span in found if span.name == "root"]
    assert [span.parent for span in found if span.name == "between"] == [outer.id, outer.id]
    client, server = sorted((span for span in found if span.name == path), key=lambda span: span.start)
    assert (client.parent, server.parent) == (outer.id, client.id)


async def test_a_callers_trace_goes_on_and_a_malformed_one_does_not(seen: Collector, stub: Any) -> None:
    request = encoder_pb2.EncodeTextRequest(texts=["a"])
    for number, given in enumerate((PARENT, "00-zz-yy-01", "0" * 2_000)):
        await stub.EncodeText(
            request, timeout=30, metadata=(("traceparent", given), ("x-request-id", f"call-{number}"))
        )
    traces = [
        (await asyncio.to_thread(seen.trace_with, {"encode.text"}, attribute=("mirage.request_id", f"call-{number}")))
        for number in range(3)
    ]
    servers = [next(span for span in spans if span.kind == 2) for spans in traces]
    assert (servers[0].trace, servers[0].parent) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert [span.parent for span in servers[1:]] == ["", ""]
    assert len({span.trace for span in servers}) == 3


async def test_what_nobody_asked_for_makes_no_trace(seen: Collector, stub: Any) -> None:
    call = tracing.open_span("background")
    with tracing.span("also"):
        tracing.past("and this", 0.1)
    assert (call.traceparent, tracing.current().trace_id) == ("", "")
    await trace(seen, stub, "a")
    assert {span.name for span in seen.spans} == {"root", "encode.text", f"{NAME}/EncodeText"}


async def test_the_trace_is_in_the_log_lines(seen: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging("encoder")
    log = telemetry.get_logger()
    with tracing.span("root", parent=PARENT):
        log.warning("within")
    log.warning("without")
    within, without = (json.loads(line) for line in capsys.readouterr().err.splitlines()[-2:])
    assert within["trace_id"] == PARENT.split("-")[1]
    assert "trace_id" not in without


async def test_what_has_passed_is_a_span_of_its_length(seen: Collector) -> None:
    with tracing.span("root", parent="", request_id="past"):
        tracing.past("step", 2.5, step=3)
    found = await asyncio.to_thread(seen.trace_with, {"root", "step"}, attribute=("mirage.request_id", "past"))
    [step] = [span for span in found if span.name == "step"]
    assert step.attributes == {"mirage.step": 3}
    assert abs((step.end - step.start) / 1e9 - 2.5) < 0.5


async def test_an_attribute_cannot_carry_a_text_away(seen: Collector) -> None:
    with tracing.span("root", parent="", request_id="long", mistake="x" * 5000):
        pass
    [root] = await asyncio.to_thread(seen.trace_with, {"root"}, attribute=("mirage.request_id", "long"))
    assert len(root.attributes["mirage.mistake"]) == 128


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(outcome: str) -> float:
    from prometheus_client import REGISTRY

    return REGISTRY.get_sample_value("mirage_trace_spans_total", {"outcome": outcome}) or 0.0


async def test_without_a_collector_calls_are_answered_and_it_is_said_once(
    stub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry.configure_logging("encoder")
    port = free_port()
    tracing.start("encoder", f"http://127.0.0.1:{port}")
    try:
        before = losses("lost")
        with tracing.span("root", parent=""):
            for _ in range(100):
                await ask(stub, "a")
        # Several batches were given up, none of them with a line of its own.
        await asyncio.to_thread(until, lambda: losses("lost") >= before + 32)
        written = capsys.readouterr().err
        assert written.count("spans are lost") == 1
        assert "Traceback" not in written
        assert "UNAVAILABLE" not in written
        with collector(port) as late, tracing.span("root", parent="", request_id="late"):
            await ask(stub, "a")
            await asyncio.to_thread(until, lambda: late.spans)
            # The collector has them before its answer is read here.
            await asyncio.to_thread(until, lambda: "spans are sent again" in capsys.readouterr().err)
    finally:
        tracing.stop()


async def test_a_collector_that_never_answers_does_not_hold_up_the_end(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    released = threading.Event()
    with collector() as silent:
        silent.on_call = lambda _: released.wait(60)
        tracing.start("encoder", silent.endpoint)
        try:
            with tracing.span("root", parent=""):
                await ask(stub, "a")
            await asyncio.to_thread(until, lambda: silent.calls)
            # It would take the call's timeout of ten seconds, and another ten for the rest.
            await asyncio.wait_for(asyncio.to_thread(tracing.stop), 8)
        finally:
            released.set()
            tracing.stop()
    assert tracing.current().trace_id == ""


def test_an_endpoint_has_a_form() -> None:
    for good in ("", "http://collector:4317", "https://traces.example.org", "http://[::1]:4317"):
        assert ServiceSettings(traces_endpoint=good).traces_endpoint == good
    for bad in (
        "collector:4317",
        "ftp://collector",
        "http://user:key@collector:4317",
        "http://collector/v1?key=1",
        "on",
    ):
        with pytest.raises(ValueError, match="traces_endpoint"):
            ServiceSettings(traces_endpoint=bad)


def test_off_is_off_and_nothing_of_it_is_loaded() -> None:
    script = (
        "import sys, mirage_core.server, mirage_core.channels, mirage_core.tracing as t; t.start('encoder', '');"
        "assert not t.current().trace_id and not t.open_span('a', parent='').traceparent;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
