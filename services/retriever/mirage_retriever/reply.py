"""The answer to a search or a comparison, and answers that are there already."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from mirage_retriever.algebra import Combination
from mirage_retriever.atlas import Atlas
from mirage_retriever.hybrid import Found
from mirage_retriever.match import Match
from mirage_retriever.query import Query
from mirage_retriever.terms import Resolved
from mirage_retriever.words.lexicon import Named
from mirage_retriever.words.queries import Corrected, WordQuery


@dataclass(frozen=True)
class Wording:
    """The reading of a text: other expressions that were searched too, by what was typed, and corrected words.

    `named` are labels that the query names and none of the first results has: filters to offer.
    """

    expanded: Mapping[str, tuple[str, ...]]
    corrected: tuple[Corrected, ...]
    named: tuple[Named, ...] = ()


@dataclass(frozen=True, eq=False)
class Reply:
    """The answer to a search; times in milliseconds. `match_pending` if it will be judged once likeness was measured."""

    results: tuple[Found, ...]
    match: Match
    terms: tuple[Resolved, ...]
    query: Combination | None
    next_page_token: str
    fingerprint: str
    search_ms: float
    total_ms: float
    cached: bool = False
    words: Wording | None = None
    # The names by which regions of a result are chosen.
    naming: WordQuery | None = None
    # Records that pass the filter, of a reply without a query.
    total: int | None = None
    match_pending: bool = False


@dataclass(frozen=True, eq=False)
class Answered:
    """A query of one text, answered ahead: the term with its vector, and the best records, more than any page shows."""

    term: Resolved
    combination: Combination
    found: tuple[Found, ...]
    words: WordQuery

    def as_asked(self, text: str) -> "Answered":
        """The same under the words that are asked now, at no cost of the encoder's."""
        return replace(self, term=replace(self.term, label=text, queue_ms=0.0, inference_ms=0.0))


class Common(Protocol):
    """Answers that are there already."""

    def answer(self, query: Query, atlas: Atlas) -> Answered | None:
        """Returns the answer, or None if the query must be searched."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Two replies and the cosine between their queries."""

    base: Reply
    shifted: Reply
    shift: float
