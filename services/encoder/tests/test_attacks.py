"""A running encoder under attack: what it answers, what it takes of memory, and whether it goes on serving others.

With `-o junit_family=xunit1 --junitxml=FILE` the peaks are in the file, as properties of the tests.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.channels import invoke, invoke_exchange, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import problem_from_proto
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support import image_bombs
from tests.support.encoder_process import SERVICE, encoder
from tests.support.memory_peak import Peak
from tests.support.waiting import wait_until_serving

# What deploy/docker-compose.yml gives the encoder, its children included.
MEMORY_LIMIT = 2**30
# Of a file that costs too much, or is not what it says.
REFUSALS = {
    Code.IMAGE_TOO_COSTLY,
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_CODING_UNSUPPORTED,
    Code.IMAGE_FRAME_OUT_OF_RANGE,
}
DEADLINE_S = 120


Record: TypeAlias = Callable[[str, object], None]


@contextmanager
def watched(pid: int, record: Record) -> Iterator[Peak]:
    """Watches the memory of an encoder, and keeps the peak with the test's results."""
    with Peak(pid).watched() as peak:
        yield peak
    record("peak_mib", peak.bytes // 2**20)


@dataclass(frozen=True)
class Running:
    address: str
    pid: int


@pytest.fixture(scope="module")
def running(bundle: Path) -> Iterator[Running]:
    with encoder(bundle, DECODER_TIMEOUT_S="2") as (address, process):
        wait_until_serving(address, process, service=SERVICE)
        yield Running(address, process.pid)


class Caller:
    """Calls the encoder, each kind of call as a service does."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = encoder_pb2_grpc.EncoderServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    async def classify(self, image: bytes) -> Code | None:
        """The code that an image is refused with; None if it is not."""
        request = encoder_pb2.ClassifyImageRequest(image=image)
        try:
            await invoke(self._stub.ClassifyImage, request, timeout_s=DEADLINE_S)
        except MirageError as error:
            if error.code is Code.QUEUE_FULL and error.retry_after_s is None:
                raise
            return error.code
        return None

    async def encode_texts_until(self, done: "asyncio.Future[Any]") -> int:
        """How many texts were encoded, one after the other, while something else ran; at least one."""
        count = 0
        while not (done.done() and count):
            request = encoder_pb2.EncodeTextRequest(texts=[f"axial section {count}"])
            await invoke(self._stub.EncodeText, request, timeout_s=DEADLINE_S)
            count += 1
            await asyncio.wait({done}, timeout=0.1)
        return count

    async def is_serving(self) -> bool:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        reply = await self._health.Check(request, timeout=DEADLINE_S)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def stream(self, images: list[bytes]) -> list[Code | None]:
        """The same as `classify` for images of one stream."""

        async def requests() -> AsyncIterator[encoder_pb2.EncodeImagesRequest]:
            for number, image in enumerate(images):
                yield encoder_pb2.EncodeImagesRequest(key=str(number), image=image)

        codes: dict[int, Code | None] = {}
        async for reply in invoke_exchange(self._stub.EncodeImages, requests(), timeout_s=DEADLINE_S):
            codes[int(reply.key)] = problem_from_proto(reply.error).code if reply.HasField("error") else None
        return [codes[number] for number in range(len(images))]


@pytest.fixture
async def caller(running: Running) -> AsyncIterator[Caller]:
    async with open_channel(running.address, idempotent={}) as channel:
        yield Caller(channel)


async def test_a_first_call_waits_for_an_encoder_that_is_too_busy_to_take_it_at_once(
    running: Running, caller: Caller
) -> None:
    os.kill(running.pid, signal.SIGSTOP)
    try:
        call = asyncio.create_task(caller.is_serving())
        await asyncio.sleep(0.5)
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert await call


@pytest.mark.parametrize("name", list(image_bombs.BOMBS))
async def test_a_costly_file_costs_its_sender_an_answer_and_nobody_else_anything(
    running: Running, caller: Caller, record_property: Record, name: str
) -> None:
    with watched(running.pid, record_property) as peak:
        attack = asyncio.create_task(caller.classify(image_bombs.BOMBS[name]()))
        assert await caller.encode_texts_until(attack)
        refusal = await attack
    record_property("answer", refusal or "OK")
    assert refusal is None or refusal in REFUSALS
    assert await caller.is_serving()
    assert await caller.classify(image_bombs.noise(64)) is None
    assert 0 < peak.bytes < MEMORY_LIMIT


async def test_all_costly_files_at_once_stay_within_the_memory(
    running: Running, caller: Caller, record_property: Record
) -> None:
    files = [make() for make in image_bombs.BOMBS.values()]
    with watched(running.pid, record_property) as peak:
        attack = asyncio.gather(*(caller.classify(file) for file in files))
        assert await caller.encode_texts_until(attack)
        outcomes = set(await attack)
    assert outcomes <= {None, Code.QUEUE_FULL, *REFUSALS}
    assert outcomes & REFUSALS
    assert await caller.is_serving()
    assert await caller.classify(image_bombs.noise(65)) is None
    assert 0 < peak.bytes < MEMORY_LIMIT


def large_uploads(count: int) -> list[bytes]:
    """Files of 14 MiB of ordinary images: what follows the end of a JPEG is not looked at. No cache knows them."""
    image = image_bombs.noise(256)
    return [image + os.urandom(16) + bytes(14 * 2**20) for _ in range(count)]


async def test_fifty_large_uploads_stay_within_the_memory(
    running: Running, caller: Caller, record_property: Record
) -> None:
    files = large_uploads(50)
    with watched(running.pid, record_property) as peak:
        attack = asyncio.gather(*(caller.classify(file) for file in files))
        assert await caller.encode_texts_until(attack)
        outcomes = Counter(await attack)
    record_property("answers", str(dict(outcomes)))
    assert outcomes.keys() <= {None, Code.QUEUE_FULL}
    assert outcomes[None] > 0
    assert await caller.is_serving()
    assert 0 < peak.bytes < MEMORY_LIMIT


async def test_streams_of_large_images_wait_for_their_turn(
    running: Running, caller: Caller, record_property: Record
) -> None:
    files = large_uploads(10)
    with watched(running.pid, record_property) as peak:
        outcomes = await asyncio.gather(*(caller.stream(files) for _ in range(3)))
    assert outcomes == [[None] * len(files)] * 3
    assert 0 < peak.bytes < MEMORY_LIMIT


async def test_a_stream_that_nobody_reads_to_its_end_gives_back_what_it_held(running: Running, caller: Caller) -> None:
    async with open_channel(running.address, idempotent={}) as other:
        for _ in range(3):
            stream = Caller(other).stream(large_uploads(6))
            running_stream = asyncio.ensure_future(stream)
            await caller.classify(image_bombs.noise(66))
            running_stream.cancel()
            await asyncio.gather(running_stream, return_exceptions=True)
    assert await caller.classify(image_bombs.noise(67)) is None
