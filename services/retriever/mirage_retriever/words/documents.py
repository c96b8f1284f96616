"""The words of a record as numbers: a sparse vector of BM25 weights, to which the engine adds how rare each word is."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mirage_core.denials import denied_spans
from mirage_retriever.engines.base import Array, Point, Words
from mirage_retriever.records import Record
from mirage_retriever.words.synonyms import as_one, expressions
from mirage_retriever.words.tokens import Token, denied_stem, tokens

_K1 = 2.0


@dataclass(frozen=True)
class _Field:
    """The weight of a word of a field, the usual number of words in it, and the penalty of longer ones."""

    weight: float
    usual: float
    b: float


_FIELDS = {
    "title": _Field(3.0, 4, 0.3),
    "keywords": _Field(2.0, 8, 0.3),
    "impression": _Field(1.5, 20, 0.6),
    "caption": _Field(1.5, 20, 0.6),
    "findings": _Field(1.0, 40, 0.7),
    "labels": _Field(0.7, 6, 0.0),
    "history": _Field(0.25, 20, 0.7),
    "id": _Field(2.0, 2, 0.0),
    "case_id": _Field(1.0, 1, 0.0),
    "source": _Field(1.0, 1, 0.0),
}
# The reason for an examination is not what the image shows.
WEAK = "history"
# Of the weight of a word, what it has where the text says that the thing is not there: "no pneumothorax".
_DENIED = 0.1
# Fields of numbers, not of words: they are found, but are not vocabulary.
_NUMBERED = frozenset({"id", "case_id", "source"})
# Parts of an id that are more than a word or a small number, and ids of PubMed Central.
_PART = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z\d]{3,}")
_PMC = re.compile(r"\bPMC\d{3,}\b", re.IGNORECASE)
# Scores differ by less than this share between records that say the same, so that long ties do not come up.
_SPREAD = 1e-4


def texts(record: Record) -> Iterator[tuple[str, str]]:
    """The searched texts of a record with their paths: a field's name, "keywords.0", or "labels.modality.0".

    Of ids and the source only what is a number is searched; the rest is blank, so that places stay the same.
    """
    for name in ("title", "caption", "findings", "impression", "history"):
        if text := getattr(record, name):
            yield name, text
    for number, keyword in enumerate(record.keywords):
        yield f"keywords.{number}", keyword
    for name, values in record.labels.items():
        for number, value in enumerate(values):
            yield f"labels.{name}.{number}", value
    for name, form in (("id", _PART), ("case_id", _PART), ("source", _PMC)):
        text = getattr(record, name)
        if parts := [match.span() for match in form.finditer(text)]:
            yield name, _only(text, parts)


def _only(text: str, parts: Sequence[tuple[int, int]]) -> str:
    kept = [" "] * len(text)
    for start, end in parts:
        kept[start:end] = text[start:end]
    return "".join(kept)


def to_point(record: Record, image: Array, caption: Array) -> Point:
    """Everything that an engine stores of a record."""
    return Point(
        id=record.id,
        image=image,
        caption=caption,
        record=record.to_json(),
        facets=record.facets(),
        image_sha256=record.image_sha256,
        original_sha256=record.original_sha256,
        pixels_sha256=record.pixels_sha256,
        regions_sha256=record.regions_sha256,
        words=words_of(record),
        case_id=record.case_id,
        order=_order(record),
    )


def _order(record: Record) -> dict[str, int]:
    """The record's place in each order (engines.base.ORDERS), below 2^53: what JSON takes for a whole number everywhere."""
    chance = int.from_bytes(hashlib.blake2b(record.id.encode(), digest_size=8).digest(), "big")
    case = int.from_bytes(hashlib.blake2b((record.case_id or record.id).encode(), digest_size=8).digest(), "big")
    return {
        # Records of older versions are older than all others.
        "added": record.added or chance >> 24,
        # 30 bits of a case, its images by position, and 6 bits so that those without one do not all tie.
        "case": case >> 34 << 23 | record.position << 6 | chance & 63,
        "shuffle": chance >> 12,
    }


def words_of(record: Record) -> Words:
    """The record's words, weighted by field, length and how often they occur."""
    weights, forms = weights_of(record)
    return Words(*sparse(weights), forms=forms)


def weights_of(record: Record) -> tuple[dict[str, float], tuple[str, ...]]:
    """The record's stems and expressions with their weights, and its words as written."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    lengths: Counter[str] = Counter()
    forms: set[str] = set()
    for path, text in texts(record):
        name = path.partition(".")[0]
        found = tokens(text)
        denied = {start for start, _ in denied_spans(text)}
        for token in found:
            counts[name][token.stem] += _DENIED if token.start in denied else 1.0
            if token.start in denied:
                counts[name][denied_stem(token.stem)] += 1.0
        for expression, first in _expressions(found):
            counts[name][as_one(expression)] += _DENIED if first.start in denied else 1.0
        lengths[name] += len(found)
        if name not in _NUMBERED:
            forms.update(token.word for token in found)
    totals: dict[str, float] = defaultdict(float)
    for name in lengths:
        field = _FIELDS[name]
        scale = field.weight / (1 - field.b + field.b * lengths[name] / field.usual)
        for stem, count in counts[name].items():
            totals[stem] += count * scale
    digest = hashlib.blake2b(record.id.encode(), digest_size=4).digest()
    shrink = 1 - _SPREAD * int.from_bytes(digest, "big") / 2**32
    return {stem: shrink * total * (_K1 + 1) / (total + _K1) for stem, total in totals.items()}, tuple(sorted(forms))


def _expressions(found: Sequence[Token]) -> Iterator[tuple[tuple[str, ...], Token]]:
    """The expressions of our lists among the words of a text, with the first word of each."""
    known = expressions()
    words = [token for token in found if not token.compound]
    stems = [token.stem for token in words]
    for start, stem in enumerate(stems):
        for expression in known.get(stem, ()):
            if tuple(stems[start : start + len(expression)]) == expression:
                yield expression, words[start]


def sparse(weights: Mapping[str, float]) -> tuple[npt.NDArray[np.uint32], Array]:
    """Stems with weights as a sparse vector: ids (uint32, ascending) and weights (float32)."""
    by_id: dict[int, float] = {}
    for stem, weight in weights.items():
        number = word_id(stem)
        # Two words share an id about once in 100,000 words; the heavier one stands for both.
        by_id[number] = max(weight, by_id.get(number, 0.0))
    ids = np.fromiter(sorted(by_id), np.uint32, len(by_id))
    return ids, np.fromiter((by_id[int(number)] for number in ids), np.float32, len(by_id))


@lru_cache(1 << 17)
def word_id(stem: str) -> int:
    """The dimension of a stem, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(stem.encode(), digest_size=4).digest(), "big")
