"""Readings over HTTP while the servers that the operator named misbehave: the reading model's and a context provider's."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from mirage.client import AsyncClient, Client
from mirage_api.readings import ReadContext, ReadDone, ReadEvent, ReadLabel, ReadStep
from mirage_launcher import ports
from mirage_launcher.folders import Folders
from mirage_launcher.state import State
from tests.support.paths import bare_environment
from tests.support.waiting import wait_until_serving


def streamed(*lines: str) -> bytes:
    """The answer of an OpenAI-compatible server up to these lines, left open."""
    events = (f"data: {json.dumps({'choices': [{'delta': {'content': each}}]})}\n\n" for each in lines)
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + "".join(events).encode()


def whole(body: bytes, kind: str, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


ENDLESS = streamed("on and on ").partition(b"\r\n\r\n")[2]
FOREIGN = streamed("parenchyma: There is Zorblax syndrome.\n") + b"data: [DONE]\n\n"
# What the model's server answers, whether it goes on for ever, and the notice of the reading.
MODELS: dict[str, tuple[bytes | None, bool, str]] = {
    "down": (None, False, "The reading model failed"),
    "nonsense": (whole(b"<html>", "text/html"), False, "The reading model failed"),
    "a stream of nonsense": (whole(b"data: {nonsense\n\n", "text/event-stream"), False, "The reading model failed"),
    "tokens without end": (streamed(), True, ""),
    "a label of another vocabulary": (FOREIGN, False, ""),
}
PROVIDERS = {
    "HTML": whole(b"<html>no</html>", "text/html"),
    "a redirect to loopback": whole(b"", "text/plain", "302 Found", "location: http://127.0.0.1:1/admin\r\n"),
    "nothing": b"",
}


@asynccontextmanager
async def answering(answer: bytes | None, *, endless: bool = False) -> AsyncIterator[str]:
    """The address of a server that answers every request so; None is one that is down."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((each for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(answer or b"")
            await writer.drain()
            while endless:
                writer.write(ENDLESS * 50)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if answer is None:
        server.close()
    yield address
    server.close()


@contextmanager
def reading_with(system: Any, model: str, provider: str) -> Iterator[str]:
    """The address of a gateway whose reader asks these servers; the rest is the system's."""
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    parts = {each.name: each.address for each in state.services}
    reader_port = ports.any_free()
    http_port = ports.any_free(taken=frozenset({reader_port}))
    grpc_port = ports.any_free(taken=frozenset({reader_port, http_port}))
    environment = bare_environment() | {
        "MIRAGE_READER_PORT": str(reader_port),
        "MIRAGE_READER_ENCODER": parts["encoder"],
        "MIRAGE_READER_RETRIEVER": parts["retriever"],
        "MIRAGE_READER_ENGINE": "openai",
        "MIRAGE_READER_URL": f"{model}/v1",
        "MIRAGE_READER_MODEL": "hostile",
        "MIRAGE_READER_CONTEXT": f"searxng={provider}",
        "MIRAGE_GATEWAY_HTTP_PORT": str(http_port),
        "MIRAGE_GATEWAY_PORT": str(grpc_port),
        "MIRAGE_GATEWAY_ENCODER": parts["encoder"],
        "MIRAGE_GATEWAY_RETRIEVER": parts["retriever"],
        "MIRAGE_GATEWAY_LLM": "",
        "MIRAGE_GATEWAY_GENERATOR": "",
        "MIRAGE_GATEWAY_READER": f"127.0.0.1:{reader_port}",
    }
    started = (
        ("mirage_reader", reader_port, "mirage.reader.v1.ReaderService"),
        ("mirage_gateway", grpc_port, "mirage.v1.MirageService"),
    )
    processes: list[subprocess.Popen[bytes]] = []
    try:
        # One after the other: a gateway that found no reader at first waits before it tries again.
        for name, port, service in started:
            command = [sys.executable, "-P", "-m", name]
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
            wait_until_serving(f"127.0.0.1:{port}", processes[-1], service=service)
        yield f"http://127.0.0.1:{http_port}"
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.wait(60)


@pytest.fixture(scope="module")
def section(system: Any) -> bytes:
    with Client(system.http_url, timeout_s=120) as client:
        found = client.search("axial T1 brain lesion", k=1, where={"modality": ["mr"]}).results[0]
        return client.image(found.id).data


async def read(url: str, **query: Any) -> list[ReadEvent]:
    async with AsyncClient(url, timeout_s=120) as client:
        return [event async for event in client.read(**query)]


def one(events: list[ReadEvent], kind: type[Any]) -> Any:
    return next(each for each in events if isinstance(each, kind))


@pytest.mark.parametrize("name", MODELS)
async def test_a_reading_outlives_its_model(system: Any, section: bytes, name: str) -> None:
    answer, endless, notice = MODELS[name]
    expected = await read(system.http_url, image=section)
    async with answering(answer, endless=endless) as model, answering(b"") as provider:
        with reading_with(system, model, provider) as url:
            events = await read(url, image=section)
    done, steps = one(events, ReadDone), [each for each in events if isinstance(each, ReadStep)]
    assert (done.finish, done.engine, done.shown, done.not_for_diagnosis) == ("complete", "openai", 0, True)
    assert done.notice.startswith(notice)
    assert bool(done.notice) is bool(notice)
    assert bool(done.withheld) is (name == "a label of another vocabulary")
    # What rules say stays, and a model adds no label.
    assert steps == [each for each in expected if isinstance(each, ReadStep)]
    assert one(events, ReadLabel) == one(expected, ReadLabel)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_hostile_context_provider_costs_only_its_notes(system: Any, name: str) -> None:
    async with answering(None) as model, answering(PROVIDERS[name]) as provider:
        with reading_with(system, model, provider) as url:
            events = await read(url, text="What does pneumonia look like?")
    context = one(events, ReadContext)
    assert (context.sent, context.notice) == ("pneumonia", "No answer from searxng.")
    assert {each.provider for each in context.notes} == {"glossary"}
    assert one(events, ReadDone).finish == "complete"
