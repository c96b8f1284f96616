"""The word index of a static site: `python -m mirage_retriever.words.site FILE` reads records as JSON lines, writes FILE.

FILE is a little-endian uint32 length, as many bytes of JSON padded with spaces to a multiple of 4, and then three arrays:
offsets (uint32), records (uint32) and weights (float32). The records that say the stem number n of the JSON's `stems` are
`records[offsets[n]:offsets[n + 1]]`, by their place among the lines.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mirage_core import denials
from mirage_retriever.records import Record
from mirage_retriever.settings import RetrieverSettings
from mirage_retriever.words import matches
from mirage_retriever.words.documents import weights_of
from mirage_retriever.words.lexicon import CLOSED, FACETS
from mirage_retriever.words.queries import APART_BY, EMPTY
from mirage_retriever.words.synonyms import LANGUAGES, Synonyms, as_one, expressions, load_synonyms, stems_of
from mirage_retriever.words.tokens import NO, stem, tables

_FIELDS = frozenset(field.name for field in fields(Record)) - {"regions", "pixels"}


def read_record(line: str) -> Record:
    """Returns the texts and labels of a record in the API's JSON."""
    given: dict[str, Any] = json.loads(line)
    known = {name: value for name, value in given.items() if name in _FIELDS}
    labels = {name: tuple(values) for name, values in known["labels"].items()}
    return Record(**{**known, "labels": labels, "keywords": tuple(known.get("keywords", ()))})


def lexicon(synonyms: Synonyms, values: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The tables by which queries are read; `values` are the labels of the collection by facet."""
    return {
        **tables(),
        "denials": {**denials.tables(), "no": NO, "empty": sorted(EMPTY)},
        "together": {**matches.tables(), "apart_by": APART_BY.pattern},
        "groups": [
            [key, [[each.text, each.stems, each.one_way] for each in group]] for key, group in synonyms.groups.items()
        ],
        "stops": sorted(synonyms.stops),
        "listed": sorted(as_one(stems) for several in expressions().values() for stems in several),
        "closed": list(CLOSED),
        "labels": [[name, value, stems_of(value)] for name in FACETS for value in sorted(values.get(name, ()))],
    }


def write(path: Path, records: Sequence[Record], synonyms: Synonyms) -> None:
    """Writes the index; the same records give the same bytes."""
    postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
    forms: Counter[str] = Counter()
    values: dict[str, set[str]] = defaultdict(set)
    for number, record in enumerate(records):
        weights, written = weights_of(record)
        forms.update(written)
        for each, weight in weights.items():
            postings[each].append((number, weight))
        for name, several in record.facets().items():
            values[name].update(several)
    stems = sorted(postings)
    words = {word: [count, stem(word)] for word, count in sorted(forms.items())}
    head = {"stems": stems, "forms": words, **lexicon(synonyms, values)}
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    lengths = [len(postings[each]) for each in stems]
    pairs = [pair for each in stems for pair in postings[each]]
    path.write_bytes(
        b"".join(
            (
                len(text).to_bytes(4, "little"),
                text,
                np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype("<u4").tobytes(),
                np.array([number for number, _ in pairs], dtype="<u4").tobytes(),
                np.array([weight for _, weight in pairs], dtype="<f4").tobytes(),
            )
        )
    )


def main() -> None:
    """Reads standard input to its end and writes the file that the argument names."""
    [path] = sys.argv[1:]
    settings = RetrieverSettings()
    languages = [each for each in settings.languages.split(",") if each in LANGUAGES]
    records = [read_record(line) for line in sys.stdin.buffer.read().decode().split("\n") if line]
    write(Path(path), records, load_synonyms(languages, settings.synonyms))


if __name__ == "__main__":
    main()
