"""gRPC over TLS, with a certificate made for the occasion."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.server import GrpcServer
from mirage_core.settings import ServiceSettings
from tests.support.certificates import self_signed


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


async def check(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status)


async def test_with_a_certificate_only_tls_is_spoken(certificate: tuple[Path, Path]) -> None:
    server = GrpcServer(ServiceSettings(port=0, drain_s=0, tls_certificate=certificate[0], tls_key=certificate[1]))
    await server.start()
    try:
        trusted = grpc.ssl_channel_credentials(certificate[0].read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{server.port}", trusted) as channel:
            assert await check(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        async with grpc.aio.insecure_channel(f"localhost:{server.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await check(channel)
    finally:
        await server.stop()


async def test_files_that_are_no_certificate_are_refused_at_start(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    server = GrpcServer(ServiceSettings(port=0, drain_s=0, tls_certificate=rubbish, tls_key=rubbish))
    with pytest.raises(OSError, match="cannot listen"):
        await server.start()
    await server.stop()
