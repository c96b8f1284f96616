"""Describes records of a running atlas and counts what is shown: `python -m mirage_training.trust.shown --url URL`.

Each record is described from its own caption and those of its nearest records. A word is made up if it is neither in
the captions and titles that were found, nor in the list of facts, nor an English word. `--out` gets a sample of
sentences with their captions, to be read.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mirage.client import Client
from mirage.queries import Query, Term
from mirage_api.descriptions import DescribeDone, DescribeSentence
from mirage_api.search import SearchReply
from mirage_inference.llm.glossary import load
from mirage_inference.llm.words import known, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = re.compile(r"[^\W\d_]{2,}")


def made_up(text: str, said: Iterable[str], facts: frozenset[str]) -> set[str]:
    """Returns the words of a text that nothing accounts for; `said` are captions and titles."""
    listed = {word for each in said for word in (*_WORD.findall(each.lower()), *_WORD.findall(plain(each)))}
    unknown = set(_WORD.findall(text.lower())) - listed - facts
    return {word for word in unknown if not known(word)}


def main() -> None:
    """Prints counts and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway's address")
    parser.add_argument("--records", type=int, default=200, help="how many records, drawn from all")
    parser.add_argument("--read", type=int, default=60, help="how many sentences are written to --out")
    parser.add_argument("--out", type=Path, help="file for the sample")
    arguments = parser.parse_args()
    facts, random = load().words, np.random.default_rng(11)
    sources, finishes, kinds = Counter[str](), Counter[str](), Counter[str]()
    invented = Counter[str]()
    withheld = empty = 0
    first_ms, whole_ms, sample = list[float](), list[float](), list[str]()
    with Client(arguments.url, timeout_s=120) as client:
        ids, page = list[str](), None
        while page is None or page.next_page_token:
            page = client.records(limit=100, page_token=page.next_page_token if page else "")
            ids += [record.id for record in page.records]
        for record in random.permutation(ids)[: arguments.records].tolist():
            started, first, end = time.perf_counter(), 0.0, None
            captions: dict[str, str] = {}
            for event in client.describe(Query((Term(id=record),))):
                match event:
                    case SearchReply():
                        captions = {each.id: each.caption for each in event.results}
                    case DescribeSentence():
                        first = first or (time.perf_counter() - started) * 1000
                    case DescribeDone():
                        end = event
            if end is None:
                raise RuntimeError("the stream has no end")
            whole_ms.append((time.perf_counter() - started) * 1000)
            sources[end.source or "none"] += 1
            finishes[end.finish or "no model"] += 1
            kinds.update(f"{each.kind}/{each.block}" for each in end.sentences)
            withheld += end.withheld
            empty += not end.text
            if end.text:
                first_ms.append(first)
            for each in end.sentences:
                if each.block != "apart":
                    invented.update(made_up(each.text, captions.values(), facts))
                named = " || ".join(captions.get(id_, "(a look-alike)") for id_ in each.ids)
                sample.append(f"{each.kind}/{each.block}: {each.text}\n    {named}")
    print(f"by whom: {dict(sources)}; ended: {dict(finishes)}; empty: {empty}")
    print(f"sentences by kind and block: {dict(kinds)}; withheld: {withheld}; made-up words: {dict(invented)}")
    for name, times in (("first sentence", first_ms), ("whole", whole_ms)):
        median, high = np.percentile(times, [50, 95])
        print(f"{name}: median {median:.0f} ms, p95 {high:.0f} ms")
    if arguments.out:
        arguments.out.write_text("\n".join(random.permutation(sample)[: arguments.read]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
