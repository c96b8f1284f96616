"""The time that a model takes until it can be used."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mirage_core import telemetry

_seconds = telemetry.gauge("model_load_seconds", "From a model's files to the end of its warm-up.", ("task",))


@contextmanager
def timed_load(task: str) -> Iterator[None]:
    """Measures the block, which loads a model for a task and warms it up; a failure is not recorded."""
    started = time.perf_counter()
    yield
    _seconds.labels(task).set(time.perf_counter() - started)
