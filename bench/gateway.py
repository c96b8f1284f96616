"""The cost of HTTP: a text search through the gateway, and direct calls of encoder and retriever, in one run."""

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, product
from pathlib import Path

import numpy as np

from bench.report import Figure, Report
from mirage.client import Client
from mirage.indexing import Indexer
from mirage_atlas.readers import open_reader
from mirage_core.channels import invoke, open_channel
from mirage_launcher import ports
from mirage_models.paths import mini_clip_bundle
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import query_pb2

K = 10
# Every so many of the demonstration atlas's records: what is measured here does not depend on their number.
EVERY = 4
WARM_UP = 50
TIMEOUT_S = 30.0


def texts() -> Iterator[str]:
    """Phrases of about nine tokens, no two the same, so that the encoder's cache never answers."""
    planes = ("axial", "coronal", "sagittal")
    weightings = ("T1", "T2", "FLAIR")
    structures = ("thalamus", "pons", "cerebellum", "midbrain", "insula", "cuneus", "medulla", "putamen")
    for number, weighting, structure, plane in product(range(1000), weightings, structures, planes):
        yield f"{plane} {weighting} {structure} level {number}"


@contextmanager
def service(package: str, log: Path, **settings: str) -> Iterator[None]:
    """A service in a process of its own, ended afterwards."""
    prefix = package.upper()
    environment = {**os.environ, **{f"{prefix}_{name.upper()}": value for name, value in settings.items()}}
    with (
        log.open("wb") as stderr,
        subprocess.Popen([sys.executable, "-m", package], env=environment, stderr=stderr) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def wait_until_ready(port: int) -> None:
    """Returns when the gateway and all behind it serve; raises TimeoutError after a minute."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise TimeoutError("the services were not ready within a minute")


async def measure(port: int, encoder: str, retriever: str, *, queries: int) -> dict[str, np.ndarray]:
    """Milliseconds of each query, one after the other, taking turns: over HTTP, encoding and searching directly."""
    encoder_channel, retriever_channel = (open_channel(each, idempotent={}) for each in (encoder, retriever))
    encode = encoder_pb2_grpc.EncoderServiceStub(encoder_channel).EncodeText
    search = retriever_pb2_grpc.RetrieverServiceStub(retriever_channel).Search
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    phrases = texts()
    times: dict[str, list[float]] = {"http": [], "encode": [], "search": [], "hybrid over http": [], "hybrid": []}
    for number in range(WARM_UP + queries):
        given: dict[str, float] = {}
        for name, mode in (("http", "images"), ("hybrid over http", "hybrid")):
            body = json.dumps({"text": next(phrases), "k": K, "mode": mode})
            started = time.perf_counter()
            connection.request("POST", "/v1/search", body, {"content-type": "application/json"})
            response = connection.getresponse()
            document = json.loads(response.read())
            given[name] = time.perf_counter() - started
            if response.status != 200 or len(document["results"]) != K or document["timings"]["cached"]:
                raise RuntimeError(f"no fresh answer: {response.status}")
        started = time.perf_counter()
        reply = await invoke(encode, encoder_pb2.EncodeTextRequest(texts=[next(phrases)]), timeout_s=TIMEOUT_S)
        encoded = time.perf_counter()
        query = query_pb2.Query(terms=[query_pb2.Term(vector=reply.embeddings[0].vector)], k=K)
        found = await invoke(search, retriever_pb2.SearchRequest(query=query), timeout_s=TIMEOUT_S)
        given["encode"], given["search"] = encoded - started, time.perf_counter() - encoded
        text, started = next(phrases), time.perf_counter()
        query = query_pb2.Query(terms=[query_pb2.Term(text=text)], k=K)
        both = await invoke(search, retriever_pb2.SearchRequest(query=query), timeout_s=TIMEOUT_S)
        given["hybrid"] = time.perf_counter() - started
        if len(found.reply.results) != K or len(both.reply.results) != K or reply.embeddings[0].cached:
            raise RuntimeError("no fresh answer to a direct call")
        if number >= WARM_UP:
            for name, value in given.items():
                times[name].append(value)
    connection.close()
    await encoder_channel.close()
    await retriever_channel.close()
    return {name: np.array(values) * 1000 for name, values in times.items()}


def figures(times: dict[str, np.ndarray]) -> list[Figure]:
    """The percentiles, and what HTTP adds to the sum of the direct calls."""
    direct = times["encode"] + times["search"]

    def at(values: np.ndarray, percentile: float) -> float:
        return float(np.percentile(values, percentile))

    added = {each: at(times["http"], each) - at(direct, each) for each in (50, 99)}
    return [
        Figure("text search by likeness over HTTP, p50", at(times["http"], 50), "ms", better="lower"),
        Figure("text search by likeness over HTTP, p99", at(times["http"], 99), "ms", better="lower"),
        Figure("EncodeText directly, p50", at(times["encode"], 50), "ms", better="lower"),
        Figure("vector Search directly, p50", at(times["search"], 50), "ms", better="lower"),
        Figure("both directly, p50", at(direct, 50), "ms", better="lower"),
        Figure("both directly, p99", at(direct, 99), "ms", better="lower"),
        Figure("added by HTTP, p50", added[50], "ms", bar=6, goal=3, better="lower", note="two more hops included"),
        Figure("added by HTTP, p99", added[99], "ms", better="lower", note="difference of the p99s"),
        Figure("hybrid search over HTTP, p50", at(times["hybrid over http"], 50), "ms", better="lower"),
        Figure("hybrid search over HTTP, p99", at(times["hybrid over http"], 99), "ms", better="lower"),
        Figure("hybrid Search at the retriever, p50", at(times["hybrid"], 50), "ms", better="lower"),
        Figure("hybrid Search at the retriever, p99", at(times["hybrid"], 99), "ms", better="lower"),
    ]


def main() -> None:
    """Runs the benchmark and writes its report."""
    parser = argparse.ArgumentParser(prog="bench.gateway", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("reports/gateway.json"), help="where the report goes")
    parser.add_argument("--quick", action="store_true", help="few queries")
    parser.add_argument("--bundle", type=Path, default=mini_clip_bundle(), help="the encoder's bundle")
    arguments = parser.parse_args()
    queries = 50 if arguments.quick else 1000
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        encoder, retriever = f"unix:{folder}/encoder", f"unix:{folder}/retriever"
        port = ports.any_free()
        grpc_port = ports.any_free(taken=frozenset({port}))
        stack.enter_context(
            service("mirage_encoder", folder / "encoder.log", host=encoder, bundle=str(arguments.bundle))
        )
        stack.enter_context(
            service(
                "mirage_retriever",
                folder / "retriever.log",
                host=retriever,
                data=str(folder / "data"),
                encoder=encoder,
            )
        )
        stack.enter_context(
            service(
                "mirage_gateway",
                folder / "gateway.log",
                http_port=str(port),
                port=str(grpc_port),
                encoder=encoder,
                retriever=retriever,
            )
        )
        wait_until_ready(port)
        with Client(f"http://127.0.0.1:{port}", timeout_s=120) as client:
            records = Indexer(client).run(islice(open_reader("demo").read(), 0, None, EVERY)).stored
            while client.collection().calibration is None:
                time.sleep(0.5)
        times = asyncio.run(measure(port, encoder, retriever, queries=queries))
    report = Report(
        title="Search over HTTP",
        how=f"{records:,} records of the demonstration atlas, mini CLIP; {queries:,} text queries of about nine tokens, "
        f"none repeated, one after the other, k = {K}: by likeness and hybrid over HTTP (kept-alive connection, JSON "
        "parsed), and in turn with them the encoder's EncodeText and the retriever's Search, by vector and hybrid, asked "
        "directly over gRPC.",
        figures=figures(times),
    )
    report.save(arguments.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
