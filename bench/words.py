"""Retrieval by words alone on a dataset of texts: no image, no model, and rank_bm25 on the same texts if it is installed.

The dataset is a file of JSON lines with `caption` and the field that is asked, such as `diagnosis` or `keywords`. Only
captions are indexed. A row is found if its record, or another one of its `case_id`, is among the first ten.
"""

import argparse
import asyncio
import importlib.util
import json
import random
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Figure, Report
from mirage_core.errors import MirageError
from mirage_core.intervals import wilson
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES
from mirage_retriever.query import Mode, Query, Term, Text
from mirage_retriever.records import Record
from mirage_retriever.search import Search
from mirage_retriever.terms import Encoded, EncoderModel
from mirage_retriever.words.documents import to_point

K = 10
_DIMENSION = 4
_FINGERPRINT = "0" * 64
_BATCH = 1_000


class NoEncoder:
    """Stands for a model: a search by words never asks it."""

    async def model(self) -> EncoderModel:
        """The model that the collection has."""
        return EncoderModel("none", _FINGERPRINT, _DIMENSION, "{}")

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """Not asked."""
        raise NotImplementedError

    async def image(self, data: bytes) -> Encoded:
        """Not asked."""
        raise NotImplementedError

    async def images(self, files: Sequence[bytes]) -> list[Encoded | MirageError]:
        """Not asked."""
        raise NotImplementedError


def read(path: Path, field: str) -> tuple[list[str], list[str], dict[str, str]]:
    """The captions, the case of each (or its own number), and for each case the text that is asked."""
    captions: list[str] = []
    cases: list[str] = []
    asked: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines()):
        row: dict[str, Any] = json.loads(line)
        case = row.get("case_id") or str(number)
        value = row.get(field) or ""
        text = value if isinstance(value, str) else " ".join(value)
        captions.append(row["caption"])
        cases.append(case)
        if text.strip():
            asked.setdefault(case, text[:2000])
    return captions, cases, asked


async def by_words(folder: Path, captions: Sequence[str], asked: Iterable[str]) -> tuple[list[list[int]], list[float]]:
    """The first ten rows for each text, and how many milliseconds each took in this process."""
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=3600, build_share=1, build_points=10**9)
    engine = EdgeEngine(folder, facets=NAMES, policy=policy)
    atlas = Atlas(engine, name="bench")
    try:
        await atlas.open()
        await atlas.make(Collection("bench", _DIMENSION, _FINGERPRINT))
        vector = np.eye(1, _DIMENSION, dtype=np.float32)[0]
        for start in range(0, len(captions), _BATCH):
            part = enumerate(captions[start : start + _BATCH], start)
            await engine.upsert([to_point(Record(f"r{n}", text), vector, vector) for n, text in part])
        atlas.changed()
        search = Search(atlas, NoEncoder())
        found, spent = [], []
        for text in asked:
            started = time.perf_counter()
            reply = await search.search(Query((Term(Text(text)),), k=K, mode=Mode.WORDS))
            spent.append((time.perf_counter() - started) * 1000)
            found.append([int(each.id[1:]) for each in reply.results])
        return found, spent
    finally:
        await engine.close()


def by_rank_bm25(captions: Sequence[str], asked: Iterable[str]) -> list[list[int]] | None:
    """The first ten rows of rank_bm25's BM25Okapi over lower-case words; None if it is not installed."""
    if importlib.util.find_spec("rank_bm25") is None:
        return None

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    index = importlib.import_module("rank_bm25").BM25Okapi([words(each) for each in captions])
    return [[int(row) for row in np.argsort(-index.get_scores(words(text)), kind="stable")[:K]] for text in asked]


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(prog="bench.words", description=__doc__)
    parser.add_argument("dataset", type=Path, help="JSON lines with captions")
    parser.add_argument("--ask", default="diagnosis", metavar="FIELD", help="what is asked; a list is joined by spaces")
    parser.add_argument("--limit", type=int, metavar="N", help="ask N texts, drawn by seed")
    parser.add_argument("--bar", type=float, help="the share that should be reached")
    parser.add_argument("--json", type=Path, default=Path("reports/words.json"), help="where the figures go")
    arguments = parser.parse_args()
    captions, cases, asked = read(arguments.dataset, arguments.ask)
    if arguments.limit is not None and arguments.limit < len(asked):
        drawn = random.Random(1).sample(sorted(asked), arguments.limit)
        asked = {case: asked[case] for case in drawn}

    def found(ranked: Sequence[Sequence[int]]) -> int:
        return sum(any(cases[row] == case for row in rows) for case, rows in zip(asked, ranked, strict=True))

    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as folder:
        ranked, spent = asyncio.run(by_words(Path(folder), captions, asked.values()))
    right, of = found(ranked), len(asked)
    low, high = wilson(right, of)
    figures = [
        Figure("found among the first ten", right / of, "", bar=arguments.bar, note=f"95 %: {low:.3f} to {high:.3f}"),
        Figure("a query, p50", float(np.percentile(spent, 50)), "ms", better="lower", note="in process"),
    ]
    theirs = by_rank_bm25(captions, asked.values())
    if theirs is not None:
        figures.append(Figure("rank_bm25: found among the first ten", found(theirs) / of, "", note="BM25Okapi"))
    report = Report(
        title="Retrieval by words",
        how=f"{len(captions):,} captions; {of:,} queries ({arguments.ask}), whose caption or case is to be found.",
        figures=figures,
    )
    report.save(arguments.json)
    print(report.markdown())


if __name__ == "__main__":
    main()
