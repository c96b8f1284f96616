"""Describes records of a running atlas, or captions without images, and counts what is shown.

python -m mirage_training.trust.shown --url http://127.0.0.1:8080
python -m mirage_training.trust.shown --llm 127.0.0.1:50053 --captions captions.jsonl

Each record is described from its own caption and those of its nearest records; each caption, by gRPC and without a question,
from itself and the two of the file that share most words with it. A word is made up if it is neither in the captions and
titles that were found, nor in the list of facts, nor an English word. `--out` gets a sample of sentences with their
captions, to be read; `--answers` all answers, as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from mirage.client import Client
from mirage.queries import Query, Term
from mirage_api.descriptions import DescribeDone, DescribeSentence
from mirage_api.search import SearchReply
from mirage_inference.llm.glossary import load
from mirage_inference.llm.words import known, plain
from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc
from mirage_protos.v1 import description_pb2, query_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TIMEOUT_S = 120.0
ALIKE = 2
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Sentence:
    """A sentence that was shown."""

    text: str
    kind: str
    block: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The answer about a record or caption; `first_ms` is None if there is no sentence. `tokens` are the model's."""

    about: str
    captions: dict[str, str]
    sentences: tuple[Sentence, ...]
    source: str
    finish: str
    withheld: int
    tokens: int
    first_ms: float | None
    whole_ms: float


def made_up(text: str, said: Iterable[str], facts: frozenset[str]) -> set[str]:
    """Returns the words of a text that nothing accounts for; `said` are captions and titles."""
    listed = {word for each in said for word in (*_WORD.findall(each.lower()), *_WORD.findall(plain(each)))}
    unknown = set(_WORD.findall(text.lower())) - listed - facts
    return {word for word in unknown if not known(word)}


def of_records(url: str, count: int, skip: int = 0) -> Iterator[Answer]:
    """Describes records drawn at random, the same each time."""
    with Client(url, timeout_s=TIMEOUT_S) as client:
        ids, page = list[str](), None
        while page is None or page.next_page_token:
            page = client.records(limit=100, page_token=page.next_page_token if page else "")
            ids += [record.id for record in page.records]
        for record in np.random.default_rng(11).permutation(ids)[skip:count].tolist():
            yield _described(client, record)


def _described(client: Client, record: str) -> Answer:
    started, first, end = time.perf_counter(), None, None
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
    return Answer(
        record,
        captions,
        tuple(Sentence(each.text, each.kind or "", each.block or "", each.ids) for each in end.sentences),
        end.source or "none",
        end.finish or "no model",
        end.withheld,
        end.tokens,
        first,
        (time.perf_counter() - started) * 1000,
    )


def of_captions(address: str, path: Path, count: int, skip: int = 0) -> Iterator[Answer]:
    """Describes captions of a JSONL file (id, caption), evenly spaced in it, by the llm service's gRPC."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    captions = {str(row["id"]): str(row["caption"]) for row in rows}
    words = {id_: frozenset(_WORD.findall(caption.lower())) for id_, caption in captions.items()}
    ids = list(captions)
    with grpc.insecure_channel(address) as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        for record in [ids[number * len(ids) // count] for number in range(skip, min(count, len(ids)))]:
            others = sorted(ids, key=partial(_unlike, words, record))
            alike = [id_ for id_ in others if captions[id_] != captions[record]][:ALIKE]
            yield _asked(stub, record, {id_: captions[id_] for id_ in (record, *alike)})


def _unlike(words: Mapping[str, frozenset[str]], record: str, other: str) -> float:
    """Returns 0 for a caption with other words only, and -1 for one with the same words."""
    mine, theirs = words[record], words[other]
    return -len(mine & theirs) / max(1, len(mine | theirs))


def _asked(stub: llm_pb2_grpc.LlmServiceStub, record: str, captions: dict[str, str]) -> Answer:
    started, first, end = time.perf_counter(), None, None
    request = llm_pb2.DescribeRequest(
        captions=[llm_pb2.SourceCaption(id=id_, text=text) for id_, text in captions.items()],
        match=query_pb2.MATCH_NOT_JUDGED,
    )
    for event in stub.Describe(request, timeout=TIMEOUT_S):
        if event.HasField("sentence"):
            first = first or (time.perf_counter() - started) * 1000
        if event.HasField("done"):
            end = event.done
    if end is None:
        raise RuntimeError("the stream has no end")
    return Answer(
        record,
        captions,
        tuple(
            Sentence(
                each.text,
                _name(description_pb2.SentenceKind.Name(each.kind)),
                _name(description_pb2.SentenceBlock.Name(each.block)),
                tuple(each.ids),
            )
            for each in end.sentences
        ),
        _name(description_pb2.DescriptionSource.Name(end.source)),
        _name(description_pb2.DescriptionFinish.Name(end.finish)),
        end.withheld,
        end.tokens,
        first,
        (time.perf_counter() - started) * 1000,
    )


def _name(value: str) -> str:
    """SENTENCE_KIND_CAPTION as caption."""
    return value.rpartition("_")[2].lower()


def summary(answers: Sequence[Answer], facts: frozenset[str]) -> list[str]:
    """Counts and times of answers, in lines."""
    sentences = [(answer, each) for answer in answers for each in answer.sentences]
    invented = Counter[str]()
    for answer, each in sentences:
        if each.block != "apart":
            invented.update(made_up(each.text, answer.captions.values(), facts))
    withheld = sum(answer.withheld for answer in answers)
    passed = sum(each.kind == "caption" for _, each in sentences)
    sources, finishes = (Counter(getattr(answer, name) for answer in answers) for name in ("source", "finish"))
    kinds = Counter(f"{each.kind}/{each.block}" for _, each in sentences)
    lines = [
        f"{len(answers)} answers by whom: {dict(sources)}; ended: {dict(finishes)}; "
        f"empty: {sum(not answer.sentences for answer in answers)}",
        f"sentences by kind and block: {dict(kinds)}; made-up words: {dict(invented)}",
        f"the model's: {passed} from captions shown, {withheld} withheld ({passed / max(1, passed + withheld):.3f} shown)",
    ]
    first = [answer.first_ms for answer in answers if answer.first_ms is not None]
    for name, times in (("first sentence", first), ("whole", [answer.whole_ms for answer in answers])):
        if times:
            median, high = np.percentile(times, [50, 95])
            lines.append(f"{name}: median {median:.0f} ms, p95 {high:.0f} ms, at most {max(times):.0f} ms")
    return lines


def sample(answers: Sequence[Answer], count: int) -> list[str]:
    """Sentences drawn at random, each with the captions that it names."""
    found = [
        f"{each.kind}/{each.block}: {each.text}\n    "
        + " || ".join(answer.captions.get(id_, "(a look-alike)") for id_ in each.ids)
        for answer in answers
        for each in answer.sentences
    ]
    return np.random.default_rng(11).permutation(found)[:count].tolist() if found else []


def main() -> None:
    """Prints counts and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway's address")
    parser.add_argument("--llm", metavar="HOST:PORT", help="the llm service's address, with --captions")
    parser.add_argument("--captions", type=Path, help="JSONL with id and caption")
    parser.add_argument("--records", type=int, default=200, help="how many records, drawn from all, or captions")
    parser.add_argument("--skip", type=int, default=0, help="how many of them to leave out, described before")
    parser.add_argument("--minutes", type=float, default=60.0, help="no further one is begun after this time")
    parser.add_argument("--read", type=int, default=60, help="how many sentences are written to --out")
    parser.add_argument("--out", type=Path, help="file for the sample")
    parser.add_argument("--answers", type=Path, help="file for all answers, a line each")
    arguments = parser.parse_args()
    if (arguments.llm is None) != (arguments.captions is None):
        parser.error("--llm and --captions belong together")
    described = (
        of_captions(arguments.llm, arguments.captions, arguments.records, arguments.skip)
        if arguments.llm
        else of_records(arguments.url, arguments.records, arguments.skip)
    )
    until = time.monotonic() + 60 * arguments.minutes
    answers = list[Answer]()
    with (arguments.answers or Path("/dev/null")).open("w", encoding="utf-8") as file:
        for answer in described:
            answers.append(answer)
            file.write(json.dumps(asdict(answer)) + "\n")
            file.flush()
            if time.monotonic() > until:
                break
    print("\n".join(summary(answers, load().words)))
    if arguments.out:
        arguments.out.write_text("\n".join(sample(answers, arguments.read)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
