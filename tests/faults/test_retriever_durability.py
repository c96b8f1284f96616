"""What the retriever has acknowledged survives the death of its processes at any moment, and is there once.

A round writes 5,000 records from another process over gRPC, small builds of the graph going on all the while, and kills
with -9 at a random moment: the retriever with its searcher and builder, the retriever alone, or the searcher alone. The
full form is 20 rounds (`make test-durability`); the quick one has a round of each kind, of 1,000 records.
"""

import asyncio
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image

from mirage_core.channels import invoke, invoke_stream, invoke_upload, open_channel
from mirage_core.errors import MirageError
from mirage_core.vectors import vector_to_proto
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import collection_pb2, model_pb2, query_pb2, record_pb2
from tests.support.servicers import partial_servicer

DIMENSION = 64
FINGERPRINT = "d" * 64
CALL_RECORDS = 25
KINDS = ("all", "retriever", "searcher")
START_S = 60.0
# A minute on an idle machine; on one that is busy with other things the writer must not be what gives up.
WRITE_S = 1_800.0


class ModelOnly(encoder_pb2_grpc.EncoderServiceServicer):
    """Says which model the vectors of this test are of; all vectors are given, so nothing is ever encoded."""

    async def GetModel(self, request: Any, ctx: Any) -> encoder_pb2.GetModelResponse:
        model = model_pb2.Model(name="given", fingerprint=FINGERPRINT, dimension=DIMENSION)
        return encoder_pb2.GetModelResponse(model=model)


@pytest.fixture
async def encoder() -> AsyncIterator[str]:
    server = grpc.aio.server()
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(partial_servicer(ModelOnly), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


class Retriever:
    """The retriever as a process group of its own, on a unix socket."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self._folder = folder
        self._encoder = encoder
        self.address = f"unix:{folder}/socket"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "MIRAGE_RETRIEVER_HOST": self.address,
            "MIRAGE_RETRIEVER_DATA": str(self._folder / "data"),
            "MIRAGE_RETRIEVER_ENCODER": self._encoder,
            # As small as may be and at once, so that kills hit builds and swaps as well.
            "MIRAGE_RETRIEVER_INDEXING_THRESHOLD_KB": "100",
            "MIRAGE_RETRIEVER_BUILD_QUIET_S": "0",
        }
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mirage_retriever"], env=environment, start_new_session=True, stderr=log
        )
        log.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def searchers(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self.pid).children()
            return [each for each in children if "mirage_retriever.engines.edge.searcher" in each.cmdline()]
        except psutil.NoSuchProcess:
            return []

    def kill(self, kind: str) -> None:
        match kind:
            case "all":
                os.killpg(self.pid, signal.SIGKILL)
            case "retriever":
                os.kill(self.pid, signal.SIGKILL)
            case "searcher":
                for process in self.searchers():
                    process.kill()
        if kind != "searcher" and self._process is not None:
            self._process.wait()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill("all")


@pytest.fixture
def retriever(tmp_path: Path, encoder: str) -> Iterator[Retriever]:
    retriever = Retriever(tmp_path, encoder)
    yield retriever
    retriever.end()


def vector(number: int) -> np.ndarray:
    values = np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def parts(numbers: range) -> list[retriever_pb2.UpsertRecordsRequest]:
    requests = []
    for number in numbers:
        given = vector_to_proto(vector(number))
        head = record_pb2.RecordHead(
            record=record_pb2.Record(id=f"r{number}", caption=f"caption {number}", licence="CC0-1.0", source="test"),
            image_vector=given,
            caption_vector=given,
            fingerprint=FINGERPRINT,
        )
        parts = (record_pb2.RecordPart(record=head), record_pb2.RecordPart(image_chunk=picture(number)))
        requests += [retriever_pb2.UpsertRecordsRequest(part=part) for part in parts]
    return requests


class Client:
    """Writes and reads as any client would; `acknowledged` are the numbers that an answer has named."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address, idempotent={})
        self._stub = retriever_pb2_grpc.RetrieverServiceStub(self._channel)
        self.acknowledged: set[int] = set()

    async def write(self, numbers: range) -> None:
        async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
            for request in parts(numbers):
                yield request

        reply = await invoke_upload(self._stub.UpsertRecords, stream(), timeout_s=60)
        states = {outcome.state for outcome in reply.outcomes}
        assert record_pb2.UPSERT_STATE_REJECTED not in states, reply
        assert [outcome.id for outcome in reply.outcomes] == [f"r{number}" for number in numbers]
        self.acknowledged.update(numbers)

    async def write_all(self, total: int) -> None:
        """Writes what is not acknowledged yet, again and again until all is."""
        end = time.monotonic() + WRITE_S
        while len(self.acknowledged) < total and time.monotonic() < end:
            for first in range(0, total, CALL_RECORDS):
                if first not in self.acknowledged:
                    try:
                        await self.write(range(first, min(total, first + CALL_RECORDS)))
                    except MirageError:
                        await self.ready()
        assert len(self.acknowledged) == total

    async def ready(self) -> collection_pb2.Collection:
        """The collection, as soon as there is one."""
        end = time.monotonic() + START_S
        while True:
            try:
                request = retriever_pb2.GetCollectionRequest()
                return (await invoke(self._stub.GetCollection, request, timeout_s=5)).collection
            except MirageError:
                assert time.monotonic() < end, "the retriever does not come up"
                await asyncio.sleep(0.05)

    async def present(self, numbers: range) -> set[int]:
        """Which of the records are there and say what was written. A retriever that is busy is asked again."""
        end = time.monotonic() + WRITE_S
        found: set[int] = set()
        gate = asyncio.Semaphore(16)

        async def look(number: int) -> None:
            request = retriever_pb2.GetRecordRequest(id=f"r{number}")
            async with gate:
                while True:
                    try:
                        reply = await invoke(self._stub.GetRecord, request, timeout_s=30)
                        break
                    except MirageError as error:
                        if error.code == "RECORD_NOT_FOUND":
                            return
                        if error.code != "QUEUE_FULL" or time.monotonic() > end:
                            raise
                    await asyncio.sleep(0.2)
            assert reply.record.caption == f"caption {number}"
            assert reply.record.original_sha256 == hashlib.sha256(picture(number)).hexdigest()
            found.add(number)

        await asyncio.gather(*map(look, numbers))
        return found

    async def found_once(self, number: int) -> None:
        """Its vector finds the record, first and only once, and its image is whole."""
        query = query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(vector(number)))], k=5)
        request = retriever_pb2.SearchRequest(query=query)
        results = (await invoke(self._stub.Search, request, timeout_s=30)).reply.results
        assert [result.record.id for result in results].count(f"r{number}") == 1
        assert results[0].record.id == f"r{number}"
        assert results[0].cosine == pytest.approx(1, abs=1e-4)
        image = retriever_pb2.GetImageRequest(id=f"r{number}")
        pieces = [reply.part.chunk async for reply in invoke_stream(self._stub.GetImage, image, timeout_s=30)]
        shown, sent = (Image.open(io.BytesIO(data)).convert("RGB") for data in (b"".join(pieces), picture(number)))
        assert shown.tobytes() == sent.tobytes()

    async def close(self) -> None:
        await self._channel.close()


def rounds(config: pytest.Config) -> tuple[int, int]:
    """How many rounds of how many records."""
    return (20, 5_000) if config.getoption("--full", default=False) else (3, 1_000)


async def test_acknowledged_records_survive_a_kill_at_any_moment(
    encoder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count, total = rounds(request.config)
    chance = random.Random(20261122)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        folder = tmp_path / f"round-{number}"
        folder.mkdir()
        retriever = Retriever(folder, encoder)
        client = Client(retriever.address)
        try:
            retriever.start()
            await client.ready()
            writing = asyncio.create_task(client.write_all(total))
            # At a random count of records and a random moment of the call then under way.
            due = chance.randrange(CALL_RECORDS, total - CALL_RECORDS)
            while len(client.acknowledged) < due:
                await asyncio.sleep(0.001)
            await asyncio.sleep(chance.random() * 0.1)
            before = set(client.acknowledged)
            retriever.kill(kind)
            if kind != "searcher":
                retriever.start()
            collection = await client.ready()
            there = await client.present(range(total))
            lost = before - there
            assert not lost, f"round {number} ({kind}): {len(lost)} of {len(before)} acknowledged records lost"
            assert collection.records <= total
            await writing
            collection = await client.ready()
            assert collection.records == total, f"round {number} ({kind}): doubled or lost"
            assert len(await client.present(range(total))) == total
            for sample in chance.sample(range(total), 50):
                await client.found_once(sample)
            print(f"round {number}: {kind} killed at {len(before)}, {collection.indexed} in the graph", flush=True)
        finally:
            retriever.end()
            await client.close()


async def test_the_searcher_ends_with_the_retriever(retriever: Retriever) -> None:
    client = Client(retriever.address)
    retriever.start()
    await client.ready()
    [searcher] = retriever.searchers()
    retriever.kill("retriever")
    psutil.wait_procs([searcher], timeout=10)
    assert not searcher.is_running()
    await client.close()


async def test_a_search_waits_for_a_searcher_that_died(retriever: Retriever) -> None:
    client = Client(retriever.address)
    retriever.start()
    await client.ready()
    await client.write(range(CALL_RECORDS))
    retriever.kill("searcher")
    await client.found_once(3)
    await client.close()
