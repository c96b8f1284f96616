"""An encoder in a process of its own, for tests."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import bare_environment

SERVICE = "mirage.encoder.v1.EncoderService"
DEADLINE_S = 60


@contextmanager
def encoder(bundle: Path, **settings: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The service in a process of its own, as soon as health says SERVING."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"BUNDLE": str(bundle), "PORT": str(port), "ENGINE": "onnxruntime", **settings}
    environment = {f"MIRAGE_ENCODER_{name}": value for name, value in variables.items()}
    environment |= bare_environment()
    process = subprocess.Popen([sys.executable, "-m", "mirage_encoder"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}", process
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
