"""Whoever wants no traces does not pay for them: no process loads what sends them."""

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, sys
importlib.import_module(sys.argv[1] + ".__main__")
importlib.import_module(sys.argv[2])
print(*(name for name in sys.modules if name.startswith(("mirage_core.otlp", "opentelemetry"))))
"""


@pytest.mark.parametrize(
    ("package", "more"),
    [
        ("mirage_encoder", "mirage_encoder.embedder"),
        ("mirage_retriever", "mirage_retriever.search"),
        ("mirage_llm", "mirage_llm.describer"),
        ("mirage_gateway", "mirage_gateway.web.edge"),
        ("mirage_generator", "mirage_generator.app"),
        ("mirage_generator", "mirage_generator.worker"),
    ],
)
def test_without_an_endpoint_nothing_that_sends_traces_is_loaded(package: str, more: str) -> None:
    command = [sys.executable, "-P", "-c", SCRIPT, package, more]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if package == "mirage_generator":
        # redis-py looks for OpenTelemetry's metrics by itself, and takes up what it finds: some 30 ms at a start.
        loaded = [name for name in loaded if name.startswith(("mirage_core.otlp", "opentelemetry.exporter"))]
    assert loaded == []
