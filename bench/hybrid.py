"""Words and likeness at the size of ROCO: hybrid searches next to likeness alone in one run, calibration, memory of words.

Captions and titles are made of the words of the synonym lists and of ordinary English, as frequent as words are in a
language; vectors are random, given by an encoder that costs next to nothing.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from itertools import accumulate
from pathlib import Path

import grpc
import numpy as np

from bench.report import Figure, Report
from bench.search import DIMENSION, FINGERPRINT, K, Retriever, encoder, vector_of
from mirage_core.channels import invoke
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import query_pb2
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES
from mirage_retriever.records import Record
from mirage_retriever.words.documents import to_point, words_of
from mirage_retriever.words.synonyms import load_synonyms

_BATCH = 500
_PLAIN = """
    axial coronal sagittal image section view level shows showing with without contrast left right upper lower lobe large small
    mild severe multiple focal diffuse mass lesion enhancement signal intensity density margin wall within adjacent surrounding
    consistent patient year old after before treatment follow scan weighted arrow region area size measuring normal increased
    decreased bilateral thickening there and the of in a is are
"""
_MODALITIES, _PLANES = ("ct", "mr", "x-ray", "us"), ("axial", "coronal", "sagittal")


class Language:
    """Texts by seed: the n-th most frequent word or expression is n times as rare as the first."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        terms = [each.text for group in load_synonyms().groups.values() for each in group]
        shuffled = self._random.sample(terms, len(terms))
        self._terms, self._plain = shuffled, _PLAIN.split()
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(len(terms))))
        self._plain_weights = list(accumulate(1 / (rank + 3) for rank in range(len(self._plain))))

    def term(self) -> str:
        """An expression of a list."""
        return self._random.choices(self._terms, cum_weights=self._weights)[0]

    def caption(self) -> str:
        """About twenty words, a quarter of them of the lists."""
        words = [
            self.term() if self._random.random() < 0.25 else self._plain_word()
            for _ in range(self._random.randint(8, 30))
        ]
        return " ".join(words).capitalize() + "."

    def _plain_word(self) -> str:
        return self._random.choices(self._plain, cum_weights=self._plain_weights)[0]

    def query(self) -> str:
        """One to three expressions, sometimes with the kind of image."""
        terms = [self.term() for _ in range(self._random.choice((1, 1, 2, 2, 3)))]
        return " ".join([*terms, *self._random.choices(("", "CT", "axial", "MRI"))]).strip()

    def record(self, number: int) -> Record:
        """A record; four share a case and its title."""
        chosen = random.Random(number // 4)
        title = chosen.choices(self._terms, cum_weights=self._weights)[0]
        labels = {
            "modality": (chosen.choice(_MODALITIES),),
            "plane": (_PLANES[number % 3],),
        }
        return Record(
            f"record-{number}",
            self.caption(),
            labels,
            title=title,
            case_id=f"case-{number // 4}",
            position=number % 4 + 1,
        )


async def fill(folder: Path, records: int, language: Language) -> float:
    """Stores the records in the data folder of a retriever that is to come; returns words per record."""
    policy = ShardPolicy(restart_wait_s=60, queue_limit=64, build_quiet_s=86_400, build_share=1e9, build_points=10**9)
    engine = EdgeEngine(folder / "edge", facets=NAMES, policy=policy)
    atlas = Atlas(engine, name="atlas")
    words = 0
    try:
        await atlas.open()
        await atlas.make(Collection("atlas", DIMENSION, FINGERPRINT))
        for start in range(0, records, _BATCH):
            part = [language.record(number) for number in range(start, min(records, start + _BATCH))]
            words += sum(len(words_of(each).ids) for each in part)
            await engine.upsert([to_point(each, vector_of(each.id), vector_of(each.caption)) for each in part])
    finally:
        await engine.close()
    return words / records


async def _ask(retriever: Retriever, text: str, mode: "query_pb2.SearchMode.ValueType") -> float:
    started = time.perf_counter()
    query = query_pb2.Query(terms=[query_pb2.Term(text=text)], k=K, mode=mode)
    await invoke(retriever.stub.Search, retriever_pb2.SearchRequest(query=query), timeout_s=60)
    return (time.perf_counter() - started) * 1000


async def _measure(folder: Path, *, records: int, queries: int) -> list[Figure]:
    language = Language(1)
    started = time.perf_counter()
    words = await fill(folder / "data", records, language)
    fill_s = time.perf_counter() - started
    asked = [language.query() for _ in range(queries)]
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((encoder(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    retriever = Retriever(folder, f"127.0.0.1:{port}")
    try:
        # A collection of this size is calibrated once its graph is there.
        await retriever.indexed()
        during: list[float] = []
        started = time.perf_counter()
        # Searches go on while the collection is calibrated.
        while not (await retriever.collection()).HasField("calibration"):
            for _ in range(10):
                during.append(await _ask(retriever, asked[len(during) % queries], query_pb2.SEARCH_MODE_HYBRID))
                await asyncio.sleep(0.02)
        calibrated_s = time.perf_counter() - started
        for text in asked[:50]:
            await _ask(retriever, text, query_pb2.SEARCH_MODE_HYBRID)
        hybrid, likeness = [], []
        for text in asked:
            likeness.append(await _ask(retriever, text, query_pb2.SEARCH_MODE_IMAGES))
            hybrid.append(await _ask(retriever, text, query_pb2.SEARCH_MODE_HYBRID))
        memory = retriever.memory_mb()
        disk = _disk_bytes(folder / "data", "words") / records
    finally:
        await retriever.close()
        await server.stop(None)
    measured_s = _calibration_s(folder / "log")

    def at(values: list[float], percent: float) -> float:
        return float(np.percentile(values, percent))

    return [
        Figure("hybrid, p50", at(hybrid, 50), "ms", better="lower"),
        Figure("hybrid, p99", at(hybrid, 99), "ms", better="lower"),
        Figure("likeness alone, p50", at(likeness, 50), "ms", better="lower"),
        Figure("likeness alone, p99", at(likeness, 99), "ms", better="lower"),
        Figure("hybrid: times likeness alone, p50", at(hybrid, 50) / at(likeness, 50), "x", 2, 1.4, "lower"),
        Figure("hybrid: times likeness alone, p99", at(hybrid, 99) / at(likeness, 99), "x", 2, 1.4, "lower"),
        Figure("calibration", measured_s, "s", 180, better="lower", note="as the retriever logs it, next to searches"),
        Figure("from the graph to a calibrated collection", calibrated_s, "s", better="lower"),
        Figure(
            "search p99 meanwhile", at(during, 99), "ms", 100, better="lower", note=f"{len(during):,} hybrid searches"
        ),
        Figure("words of a record", words, "", note="stems and expressions, of title, caption, labels and ids"),
        Figure(
            "words on disk, a record", disk / 1024, "kB", better="lower", note="sparse vectors and their index, mapped"
        ),
        Figure("retriever and searcher, memory", memory, "MB", better="lower", note="PSS, mapped files included"),
        Figure("records filled in", records / fill_s, "1/s", note="without gRPC and images"),
    ]


def _disk_bytes(folder: Path, name: str) -> int:
    """Blocks of the files of all directories of that name in an engine's segments."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return sum(each.stat().st_blocks * 512 for each in files if any(part.endswith(f"-{name}") for part in each.parts))


def _calibration_s(log: Path) -> float:
    for line in log.read_text().splitlines():
        if '"collection calibrated"' in line:
            return float(json.loads(line)["seconds"])
    raise RuntimeError("the retriever did not log a calibration")


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(prog="bench.hybrid", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("reports/hybrid.json"), help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="6,000 records: shows that it runs")
    parser.add_argument("--records", type=int, default=81_000)
    arguments = parser.parse_args()
    records, queries = (6_000, 100) if arguments.quick else (arguments.records, 1_000)
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as folder:
        figures = asyncio.run(_measure(Path(folder), records=records, queries=queries))
    report = Report(
        title="Words and likeness",
        how=f"{records:,} records with two vectors of {DIMENSION} components, captions of about 20 words, titles and cases; "
        f"{queries:,} queries of one to three expressions, each in both modes one after the other over gRPC, k = {K}.",
        figures=figures,
    )
    report.save(arguments.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
