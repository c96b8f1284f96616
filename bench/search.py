"""Vector search over gRPC at the size of ROCO, and numpy, hnswlib and qdrant-client's local mode, in one run."""

import argparse
import asyncio
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import qdrant_edge as qe
from PIL import Image

from bench.report import Figure, Report
from bench.search_peers import Array, Timed, clustered, hnswlib_graph, nearest, numpy_exact, qdrant_local
from mirage_core.channels import invoke, invoke_upload, open_channel
from mirage_core.errors import MirageError
from mirage_core.vectors import vector_to_proto
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import collection_pb2, model_pb2, query_pb2, record_pb2

K = 10
DIMENSION = 768
FINGERPRINT = "b" * 64
PLANES = ("axial", "coronal", "sagittal")
CALL_RECORDS = 250


def vector_of(text: str) -> Array:
    """A unit vector that a text always has."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def encoder() -> grpc.GenericRpcHandler:
    """An encoder that gives each text its vector at once."""

    async def get_model(_: object, __: object) -> encoder_pb2.GetModelResponse:
        return encoder_pb2.GetModelResponse(
            model=model_pb2.Model(name="given", fingerprint=FINGERPRINT, dimension=DIMENSION)
        )

    async def encode(request: encoder_pb2.EncodeTextRequest, _: object) -> encoder_pb2.EncodeTextResponse:
        embeddings = [encoder_pb2.TextEmbedding(vector=vector_to_proto(vector_of(each))) for each in request.texts]
        return encoder_pb2.EncodeTextResponse(embeddings=embeddings, fingerprint=FINGERPRINT)

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetModel": grpc.unary_unary_rpc_method_handler(
            get_model,
            request_deserializer=encoder_pb2.GetModelRequest.FromString,
            response_serializer=encoder_pb2.GetModelResponse.SerializeToString,
        ),
        "EncodeText": grpc.unary_unary_rpc_method_handler(
            encode,
            request_deserializer=encoder_pb2.EncodeTextRequest.FromString,
            response_serializer=encoder_pb2.EncodeTextResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler("mirage.encoder.v1.EncoderService", handlers)


class Retriever:
    """The retriever in a process of its own, asked over gRPC."""

    def __init__(self, folder: Path, encoder: str) -> None:
        address = f"unix:{folder}/socket"
        environment = {
            **os.environ,
            "MIRAGE_RETRIEVER_HOST": address,
            "MIRAGE_RETRIEVER_DATA": str(folder / "data"),
            "MIRAGE_RETRIEVER_ENCODER": encoder,
        }
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "mirage_retriever"], env=environment, stderr=log)
        self._channel = open_channel(address, idempotent={})
        self.stub = retriever_pb2_grpc.RetrieverServiceStub(self._channel)

    async def collection(self) -> collection_pb2.Collection:
        """Returns its number of records once it answers; raises TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while True:
                try:
                    request = retriever_pb2.GetCollectionRequest()
                    return (await invoke(self.stub.GetCollection, request, timeout_s=10)).collection
                except MirageError:
                    await asyncio.sleep(0.1)

    async def write(self, vectors: Array, captions: Array, *, first: int) -> None:
        """Stores a record a vector, with ids from `first` on."""
        for start in range(0, len(vectors), CALL_RECORDS):
            numbers = range(first + start, first + min(len(vectors), start + CALL_RECORDS))
            part = slice(start, start + CALL_RECORDS)
            stream = _stream(numbers, vectors[part], captions[part])
            reply = await invoke_upload(self.stub.UpsertRecords, stream, timeout_s=120)
            if any(outcome.state == record_pb2.UPSERT_STATE_REJECTED for outcome in reply.outcomes):
                raise RuntimeError("a record was rejected")

    async def indexed(self) -> None:
        """Returns once the graph covers all records except the few that are searched without it.

        Raises TimeoutError after an hour.
        """
        async with asyncio.timeout(3600):
            while True:
                collection = await self.collection()
                if collection.records - collection.indexed < 0.1 * collection.records:
                    return
                await asyncio.sleep(0.5)

    async def calibrated(self) -> None:
        """Returns once likeness was measured, which takes processor time from searches; raises TimeoutError."""
        async with asyncio.timeout(600):
            while True:
                if (await self.collection()).HasField("calibration"):
                    return
                await asyncio.sleep(0.5)

    async def ask(self, query: Array, *, plane: str = "") -> tuple[float, list[int]]:
        """Milliseconds from the vector to the parsed answer, and the numbers of the records found."""
        started = time.perf_counter()
        message = query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(query))], k=K)
        if plane:
            message.where["plane"].values.append(plane)
        request = retriever_pb2.SearchRequest(query=message)
        reply = await invoke(self.stub.Search, request, timeout_s=30)
        found = [int(result.record.id.removeprefix("record-")) for result in reply.reply.results]
        return (time.perf_counter() - started) * 1000, found

    async def ask_all(self, queries: Array, *, plane: str = "") -> Timed:
        """One query after the other."""
        answers = [await self.ask(query, plane=plane) for query in queries]
        return Timed(np.asarray([ms for ms, _ in answers]), [found for _, found in answers], self.memory_mb())

    def memory_mb(self) -> float:
        """Memory of the retriever and its searcher, shared pages split between their users (PSS)."""
        process = psutil.Process(self._process.pid)
        parts = [process, *process.children(recursive=True)]
        return float(sum(part.memory_full_info().pss for part in parts)) / 2**20

    async def close(self) -> None:
        """Ends it."""
        await self._channel.close()
        self._process.terminate()
        self._process.wait(60)


async def _stream(numbers: range, vectors: Array, captions: Array) -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    for number, vector, caption in zip(numbers, vectors, captions, strict=True):
        record = record_pb2.Record(
            id=f"record-{number}",
            caption=f"Section {number}: T1-weighted MRI of the brain at the level of the lateral ventricles, with a "
            "well-defined lesion of the left frontal lobe and mild surrounding oedema.",
            licence="CC-BY-4.0",
            source="benchmark",
            original_labels={"modality": "MRI", "organ": "brain"},
        )
        for name, value in (("plane", PLANES[number % 3]), ("modality", "mr"), ("body_part", "brain")):
            record.labels[name].values.append(value)
        head = record_pb2.RecordHead(
            record=record,
            image_vector=vector_to_proto(vector),
            caption_vector=vector_to_proto(caption),
            fingerprint=FINGERPRINT,
        )
        for part in (record_pb2.RecordPart(record=head), record_pb2.RecordPart(image_chunk=buffer.getvalue())):
            yield retriever_pb2.UpsertRecordsRequest(part=part)


async def _measure(folder: Path, *, records: int, queries: int) -> list[Figure]:
    clusters = max(10, records // 100)
    vectors = clustered(records, DIMENSION, clusters=clusters, seed=1)
    captions = clustered(records, DIMENSION, clusters=clusters, seed=2)
    asked = clustered(queries, DIMENSION, clusters=clusters, seed=3)
    truth = nearest(vectors, asked, K)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((encoder(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    retriever = Retriever(folder, f"127.0.0.1:{port}")
    try:
        await retriever.collection()
        started = time.perf_counter()
        await retriever.write(vectors, captions, first=0)
        write_s = time.perf_counter() - started
        await retriever.indexed()
        build_s = time.perf_counter() - started - write_s
        await retriever.calibrated()
        engine = engine_in_process(folder)
        await retriever.ask_all(asked[:50])
        ours, its_own = await _in_turns(retriever, engine, asked)
        axial = np.arange(records) % 3 == 0
        filtered = await retriever.ask_all(asked[:300], plane="axial")
        filtered_truth = np.flatnonzero(axial)[nearest(vectors[axial], asked[:300], K)]
        worst_ms, swapped = await _while_rebuilding(retriever, asked, clusters=clusters, records=records)
    finally:
        await retriever.close()
        await server.stop(None)
    peers = {
        "numpy exact": numpy_exact(vectors, asked[:200], K),
        "hnswlib": hnswlib_graph(vectors, asked, K),
        "qdrant-client local mode": qdrant_local(vectors, asked[:30], K),
    }
    ratio = ours.percentile(50) / its_own.percentile(50)
    figures = [
        Figure(
            "qdrant-edge in this process, p50", its_own.percentile(50), "ms", note="a copy of the shard, with records"
        ),
        Figure(
            "retriever over gRPC: times qdrant-edge in this process, p50", ratio, "x", bar=3, goal=2.3, better="lower"
        ),
        Figure("retriever over gRPC, p50", ours.percentile(50), "ms", bar=4, goal=2.5, better="lower"),
        Figure("retriever over gRPC, p99", ours.percentile(99), "ms", bar=12, goal=6, better="lower"),
        Figure("retriever, recall@10", ours.recall(truth), "", bar=0.99),
        Figure("retriever and searcher, memory", ours.memory_mb, "MB", note="PSS, both spaces, mapped files included"),
        Figure(
            "with a facet filter, p50", filtered.percentile(50), "ms", better="lower", note="a third of the records"
        ),
        Figure("with a facet filter, recall@10", filtered.recall(filtered_truth), "", bar=0.99),
        Figure(
            "worst query while writing and building anew",
            worst_ms,
            "ms",
            better="lower",
            note="to the end of the swap" if swapped else "the swap was not reached",
        ),
        Figure("records written", records / write_s, "1/s", note="durable, vectors given, over gRPC"),
        Figure("first graph built after the last write", build_s, "s", bar=200, goal=110, better="lower"),
    ]
    for name, timed in peers.items():
        figures += [
            Figure(f"{name}, p50", timed.percentile(50), "ms", better="lower", note="in process, one space"),
            Figure(f"{name}, p99", timed.percentile(99), "ms", better="lower"),
            Figure(f"{name}, recall@10", timed.recall(truth), ""),
            Figure(f"{name}, memory", timed.memory_mb, "MB", note="added by it"),
        ]
    return figures


def engine_in_process(folder: Path) -> Callable[[Array], list[int]]:
    """Returns a search by Qdrant's engine in this process, on a copy of the retriever's shard: ids, with records read."""
    shards = folder / "data" / "edge" / "shards" / "0"
    copy = folder / "copy"
    shutil.copytree(shards / (shards / "CURRENT").read_text().strip(), copy)
    shard = qe.EdgeShard.load(str(copy))

    def ask(query: Array) -> list[int]:
        found = shard.query(
            qe.QueryRequest(
                limit=K,
                query=qe.Query.Nearest(query.tolist(), using="image"),
                params=qe.SearchParams(hnsw_ef=64),
                with_payload=["id", "record"],
            )
        )
        return [int(payload["id"].removeprefix("record-")) for point in found if (payload := point.payload)]

    return ask


async def _in_turns(retriever: Retriever, engine: Callable[[Array], list[int]], queries: Array) -> tuple[Timed, Timed]:
    """Asks the retriever and the engine each query, one after the other."""
    answers, own_ms, own = [], [], []
    for query in queries:
        started = time.perf_counter()
        own.append(engine(query))
        own_ms.append((time.perf_counter() - started) * 1000)
        answers.append(await retriever.ask(query))
    ours = Timed(np.asarray([ms for ms, _ in answers]), [found for _, found in answers], retriever.memory_mb())
    return ours, Timed(np.asarray(own_ms), own, 0.0)


async def _while_rebuilding(retriever: Retriever, asked: Array, *, clusters: int, records: int) -> tuple[float, bool]:
    """The slowest of steady queries while more records come in and the graph is built over all of them."""
    # Enough that a build is due: more than a tenth, and more than are searched without a graph.
    more = max(records // 8, 4_500)
    indexed_before = (await retriever.collection()).indexed
    writing = asyncio.create_task(
        retriever.write(
            clustered(more, DIMENSION, clusters=clusters, seed=4),
            clustered(more, DIMENSION, clusters=clusters, seed=5),
            first=records,
        )
    )
    worst_ms, number, end = 0.0, 0, time.monotonic() + 1800
    swapped = False
    while not swapped and time.monotonic() < end:
        elapsed_ms, _ = await retriever.ask(asked[number % len(asked)])
        worst_ms = max(worst_ms, elapsed_ms)
        number += 1
        if number % 200 == 0 and writing.done():
            swapped = (await retriever.collection()).indexed > indexed_before
        await asyncio.sleep(0.005)
    await writing
    for query in asked[:100]:
        worst_ms = max(worst_ms, (await retriever.ask(query))[0])
    return worst_ms, swapped


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(prog="bench.search", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("reports/search.json"), help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="6,000 records: shows that it runs")
    parser.add_argument("--records", type=int, default=81_000)
    arguments = parser.parse_args()
    records, queries = (6_000, 200) if arguments.quick else (arguments.records, 2_000)
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder), records=records, queries=queries))
    report = Report(
        title="Vector search",
        how=f"{records:,} records with two vectors of {DIMENSION} components (clustered, 100 a cluster), {queries:,} "
        f"vector queries one after the other, k = {K}, records with captions and labels in the answer. The retriever "
        "(edge engine, m 16, ef_construct 100, ef 64) runs as processes of its own and is asked over gRPC; the peers "
        "run in the asking process and give ids only (local mode: a small payload).",
        figures=figures,
    )
    report.save(arguments.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
