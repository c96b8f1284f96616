"""The container health check, as the engine runs it: a process and its exit code."""

import asyncio
import http.server
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from mirage_core.server import GrpcServer
from mirage_core.settings import ServiceSettings
from mirage_protos.encoder.v1 import encoder_pb2_grpc
from tests.support.servicers import partial_servicer

NAME = "mirage.encoder.v1.EncoderService"


async def probe(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "mirage_core.probe", *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    server = GrpcServer(ServiceSettings(port=0, drain_s=0))
    servicer = partial_servicer(encoder_pb2_grpc.EncoderServiceServicer)
    server.add(encoder_pb2_grpc.add_EncoderServiceServicer_to_server, servicer, NAME)
    await server.start()
    yield server
    await server.stop()


async def test_a_service_is_ready_once_it_serves(server: GrpcServer) -> None:
    address = f"127.0.0.1:{server.port}"
    assert await probe(address, NAME) == 1
    await server.set_serving(NAME, serving=True)
    assert await probe(address, NAME) == 0
    assert await probe(address) == 0


async def test_a_service_that_the_server_lacks_is_not_ready(server: GrpcServer) -> None:
    await server.set_serving(NAME, serving=True)
    assert await probe(f"127.0.0.1:{server.port}", "mirage.llm.v1.LlmService") == 1


async def test_nobody_there_is_not_ready(unused_tcp_port: int) -> None:
    assert await probe(f"127.0.0.1:{unused_tcp_port}", NAME) == 1
    assert await probe(f"http://127.0.0.1:{unused_tcp_port}/readyz") == 1


async def test_a_server_that_says_nothing_is_given_up(unused_tcp_port: int) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", unused_tcp_port)
    async with silent:
        assert await probe(f"http://127.0.0.1:{unused_tcp_port}/readyz", "--timeout", "0.2") == 1


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_page_is_ready_where_it_answers_200(url: str) -> None:
    assert await probe(f"{url}/readyz") == 0
    assert await probe(f"{url}/unready") == 1


async def test_a_wrong_use_is_told_apart() -> None:
    assert await probe() == 2
