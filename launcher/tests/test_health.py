"""Whether the services of this machine serve, whatever proxy the environment names."""

import asyncio

import pytest

from mirage_core.server import GrpcServer
from mirage_core.settings import ServiceSettings
from mirage_launcher.health import health as health_of


@pytest.mark.parametrize("variable", ["http_proxy", "grpc_proxy", "https_proxy"])
async def test_a_proxy_of_the_environment_is_not_asked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    server = GrpcServer(ServiceSettings(port=0, drain_s=0))
    await server.start()
    try:
        answer = await asyncio.to_thread(health_of, "encoder", f"127.0.0.1:{server.port}")
    finally:
        await server.stop()
    assert answer == "not serving"
