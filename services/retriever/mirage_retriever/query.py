"""A search as the domain sees it, and the checks that it must pass."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_api.limits import SEED_MAX
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_retriever.algebra import check_weights
from mirage_retriever.engines.base import Filter
from mirage_retriever.facets import check_where


class Mode(StrEnum):
    """The data that a query is compared with: texts first and then images, texts alone, image or caption vectors, or both.

    The first two are for a query of one text; any other is compared with images instead of HYBRID.
    """

    HYBRID = "hybrid"
    WORDS = "words"
    IMAGES = "images"
    CAPTIONS = "captions"
    FUSED = "fused"


@dataclass(frozen=True)
class Text:
    """A phrase."""

    text: str


@dataclass(frozen=True)
class Image:
    """An encoded image file."""

    data: bytes


@dataclass(frozen=True)
class Id:
    """A record of the collection."""

    id: str


@dataclass(frozen=True, eq=False)
class Given:
    """A vector from the caller, float32, not yet checked."""

    vector: npt.NDArray[np.float32]


Value: TypeAlias = Text | Image | Id | Given


@dataclass(frozen=True)
class Term:
    """One weighted term; None for a value that the caller left out."""

    value: Value | None
    weight: float = 1.0


class Order(StrEnum):
    """An order of records without a query."""

    NEWEST = "newest"
    CASE = "case"
    RANDOM = "random"


@dataclass(frozen=True)
class Query:
    """A search; fields as in protos/mirage/v1/query.proto. One without terms and examples lists what passes the filter."""

    terms: tuple[Term, ...]
    mode: Mode = Mode.HYBRID
    k: int = limits.K_DEFAULT
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_score: float | None = None
    page_token: str = ""
    exclude_ids: tuple[str, ...] = ()
    where_not: Mapping[str, Sequence[str]] = field(default_factory=dict)
    by_case: bool = False
    order: Order | None = None
    seed: int | None = None
    variety: bool = False
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """False if it only filters."""
        return bool(self.terms or self.positive or self.negative)

    @property
    def filter(self) -> Filter:
        """The filter that its results must pass."""
        return Filter(
            where={name: tuple(values) for name, values in self.where.items()},
            where_not={name: tuple(values) for name, values in self.where_not.items()},
            exclude=self.exclude_ids,
        )

    @property
    def text(self) -> str | None:
        """The text of a query that is nothing but one text; None for any other."""
        [first, *others] = self.terms or (None,)
        if first is None or others or first.weight != 1.0 or not isinstance(first.value, Text):
            return None
        return first.value.text

    def digest(self) -> bytes:
        """16 bytes that differ for a query that differs in anything but its page token and k."""
        state = hashlib.blake2b(digest_size=16)
        for term in self.terms:
            match term.value:
                case Text(text):
                    content = text.encode()
                case Image(data):
                    content = data
                case Id(id_):
                    content = id_.encode()
                case Given(vector):
                    content = vector.tobytes()
                case None:
                    content = b""
            state.update(_framed(type(term.value).__name__.encode(), content, repr(term.weight).encode()))
        state.update(_framed(self.mode.encode(), repr(self.min_score).encode(), *map(str.encode, self.exclude_ids)))
        for where in (self.where, self.where_not):
            state.update(_framed(str(len(where)).encode()))
            for name, values in sorted(where.items()):
                state.update(_framed(name.encode(), *(value.encode() for value in sorted(values))))
        # The seed is in the page token.
        state.update(_framed(repr((self.by_case, self.order, self.variety, self.positive, self.negative)).encode()))
        return state.digest()


def _framed(*parts: bytes) -> bytes:
    # Lengths in front, so that two lists of parts never run together into the same bytes.
    return struct.pack(f">{len(parts) + 1}Q", len(parts), *map(len, parts)) + b"".join(parts)


def check_query(query: Query) -> Query:
    """Returns the query with its filter in order; raises the catalogue error of the first fault.

    Vectors are checked where they are resolved, images by the encoder, which decodes them; here only their size.
    """
    if query.positive or query.negative:
        _check_examples(query)
    elif query.terms:
        check_terms(query.terms)
    if query.asks and (query.order is not None or query.seed is not None):
        raise MirageError(Code.REQUEST_MALFORMED, field="order, seed: only without a query")
    if not query.asks:
        _check_listing(query)
    elif query.mode is Mode.WORDS and query.text is None:
        raise MirageError(Code.REQUEST_MALFORMED, field="mode: words takes one text")
    check_k(query.k, field="k", maximum=limits.K_MAX)
    if query.min_score is not None and not -1 <= query.min_score <= 1:
        raise MirageError(Code.MIN_SCORE_OUT_OF_RANGE)
    if len(query.exclude_ids) > limits.EXCLUDE_MAX:
        raise MirageError(
            Code.TOO_MANY_ITEMS, field="exclude_ids", min=0, max=limits.EXCLUDE_MAX, given=len(query.exclude_ids)
        )
    for id_ in query.exclude_ids:
        limits.check_id(id_)
    if not (query.where or query.where_not):
        return query
    return replace(query, where=check_where(query.where), where_not=check_where(query.where_not))


def _check_examples(query: Query) -> None:
    """Raises REQUEST_MALFORMED for examples next to what they cannot be combined with, TOO_MANY_ITEMS and ID_INVALID."""
    if query.terms:
        raise MirageError(Code.REQUEST_MALFORMED, field="positive, negative: in place of other terms")
    if query.mode in (Mode.WORDS, Mode.FUSED):
        raise MirageError(Code.REQUEST_MALFORMED, field="positive, negative: compared with images or captions")
    if query.min_score is not None:
        raise MirageError(Code.REQUEST_MALFORMED, field="min_score: not with positive and negative")
    for name, ids, least in (("positive", query.positive, 1), ("negative", query.negative, 0)):
        if not least <= len(ids) <= limits.EXAMPLES_MAX:
            raise MirageError(Code.TOO_MANY_ITEMS, field=name, min=least, max=limits.EXAMPLES_MAX, given=len(ids))
        for id_ in ids:
            limits.check_id(id_)


def _check_listing(query: Query) -> None:
    """Raises REQUEST_MALFORMED for what only a query can have, and OPTION_OUT_OF_RANGE for a seed."""
    if query.mode is not Mode.HYBRID or query.min_score is not None or query.variety:
        raise MirageError(Code.EMPTY_QUERY)
    check_seed(query.order, query.seed)


def check_listing(query: Query, *, vectors: bool) -> Query:
    """Returns the query of a page of records, with its filter in order; raises as `check_query`."""
    if vectors and query.order is not None:
        raise MirageError(Code.REQUEST_MALFORMED, field="vectors: not with an order")
    return check_query(query)


def check_seed(order: Order | None, seed: int | None) -> None:
    """Raises OPTION_OUT_OF_RANGE for a seed beyond its range, REQUEST_MALFORMED for one that the order does not use."""
    if seed is None:
        return
    if order is not Order.RANDOM:
        raise MirageError(Code.REQUEST_MALFORMED, field="seed: only with the order random")
    if not 0 <= seed <= SEED_MAX:
        raise MirageError(Code.OPTION_OUT_OF_RANGE, field="seed", range=f"0 to {SEED_MAX}", given=seed)


def check_k(value: int, *, field: str, maximum: int) -> int:
    """The number; raises K_OUT_OF_RANGE unless it is between 1 and the maximum."""
    if not 1 <= value <= maximum:
        raise MirageError(Code.K_OUT_OF_RANGE, field=field, min=1, max=maximum, given=value)
    return value


def check_terms(terms: Sequence[Term]) -> None:
    """Raises EMPTY_QUERY, TOO_MANY_TERMS, TERM_EMPTY, TEXT_TOO_LONG, IMAGE_*, ID_INVALID or WEIGHT*."""
    if not terms:
        raise MirageError(Code.EMPTY_QUERY)
    if len(terms) > limits.TERMS_MAX:
        raise MirageError(Code.TOO_MANY_TERMS, max=limits.TERMS_MAX, given=len(terms))
    for term in terms:
        _check_value(term.value)
    check_weights([term.weight for term in terms])


def _check_value(value: Value | None) -> None:
    match value:
        case None:
            raise MirageError(Code.TERM_EMPTY)
        case Text(text):
            if not text.strip():
                raise MirageError(Code.TERM_EMPTY)
            if len(text) > limits.TEXT_CHARS:
                raise MirageError(Code.TEXT_TOO_LONG, max=limits.TEXT_CHARS, given=len(text))
        case Image(data):
            if not data:
                raise MirageError(Code.IMAGE_EMPTY)
            if len(data) > limits.IMAGE_BYTES:
                raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES, given=len(data))
        case Id(id_):
            limits.check_id(id_)
        case Given(vector):
            if not vector.size:
                raise MirageError(Code.TERM_EMPTY)
