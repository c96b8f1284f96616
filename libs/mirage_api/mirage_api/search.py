"""Searches, comparisons, facets, and what an image seems to be."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mirage_api import limits
from mirage_api.base import (
    Base64,
    Base64File,
    CollectionName,
    Components,
    Id,
    Milliseconds,
    Omitted,
    Phrases,
    Reply,
    Request,
    Score,
    Text,
    Token,
    Where,
)
from mirage_api.records import Shown

VectorSpace = Literal["image", "caption", "fused"]
SearchMode = Literal["hybrid", "words", "images", "captions"]
GroupBy = Literal["none", "case"]
Order = Literal["newest", "case", "random"]
Match = Literal["good", "weak", "none"]
PageToken = Annotated[
    str, Field(max_length=10_000, description="next_page_token of the reply before, with all else unchanged.")
]


Examples = Annotated[tuple[Id, ...], Field(max_length=limits.EXAMPLES_MAX)]
# JavaScript has no whole numbers beyond 2^53.
Seed = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
    Field(ge=0, le=limits.SEED_MAX),
]


class Term(Request):
    """One weighted term: exactly one of text, image, id and vector."""

    text: Text | None = None
    image: Base64File | None = None
    id: Id | None = None
    vector: Components | None = None
    weight: float = Field(1.0, description="Finite; negative for what is taken away.")


Terms = Annotated[tuple[Term, ...], Field(max_length=limits.TERMS_MAX)]


class Query(Request):
    """The common fields of searches, comparisons and descriptions."""

    text: Text | None = None
    image: Base64File | None = None
    id: Id | None = None
    mode: SearchMode | None = Field(
        None, description="How to compare; hybrid if omitted: records whose text says it, then those that look like it."
    )
    vectors: VectorSpace | None = Field(
        None, description="Which stored vectors to compare with, instead of a mode: one of the two may be given."
    )
    k: int = Field(
        limits.K_DEFAULT,
        description="How many results, 1 to 100.",
        json_schema_extra={"minimum": 1, "maximum": limits.K_MAX},
    )
    where: Where = {}
    min_score: float | None = Field(
        None,
        description="Results whose cosine is lower are left out.",
        json_schema_extra={"minimum": -1, "maximum": 1},
    )
    accept_any_image: bool = Field(False, description="Search also with an image that does not seem to be medical.")
    where_not: Where = Field({}, alias="not", description="Facet to a value or several that a record must not carry.")
    group_by: GroupBy | None = Field(
        None, description="case lists each case once, by its best record; none if omitted."
    )
    variety: bool = Field(False, description="Different results first, among those that are good.")
    collection: CollectionName = ""


class SearchRequest(Query):
    """A search: the sum of text, image, id and terms, each with weight 1 unless a term says otherwise.

    Without any of them it lists the records that pass the filter.
    """

    terms: Terms = Field((), description="Weighted terms, at most 16 in all.")
    page_token: PageToken = ""
    order: Order | None = Field(None, description="Only without a query; newest if omitted.")
    seed: Seed | None = Field(None, description="For the order random: the same one gives the same order.")
    positive: Examples = Field((), description="Ids of records that results are to be like, in place of terms.")
    negative: Examples = Field((), description="Ids of records that results are to be unlike.")


class CompareRequest(Query):
    """A comparison of `q` with `q - minus + plus + terms`; q is the sum of text, image and id. Or of two queries, a and b."""

    minus: Phrases | None = None
    plus: Phrases | None = None
    terms: Terms = Field((), description="Further terms of the shift, with their weights.")
    a: SearchRequest | None = Field(None, description="In place of all else but a collection: the query of one side.")
    b: SearchRequest | None = Field(None, description="The query of the other side.")


class ClassifyRequest(Request):
    """An image to guess about."""

    image: Base64File
    vector: bool = Field(False, description="true for the vector of the image too.")


class TermShare(Reply):
    """The contribution of one term; the shares of a query add up to 1."""

    label: str
    weight: Score = 1.0
    share: Score = 0.0
    tokens: int = 0
    truncated: bool = False


class ValueGuess(Reply):
    """A value that an image may carry, with its calibrated probability."""

    value: str
    probability: Score


class FacetGuess(Reply):
    """Values of one facet, best first; known if the best is likely enough to narrow a search with.

    stated if a DICOM header states the value.
    """

    facet: str
    values: tuple[ValueGuess, ...] = ()
    known: bool = False
    stated: bool = False


class ImageGuess(Reply):
    """A guess about an image; medical_score is the calibrated probability that it is a medical image."""

    kind: Literal["medical", "unsure", "not_medical", "unknown"]
    medical_score: Score = 0.0
    facets: tuple[FacetGuess, ...] = ()


class QueryReport(Reply):
    """The query as the server read it; shift is the cosine between the query and its first term."""

    tokens: int = 0
    truncated: bool = False
    shift: Score = 1.0
    terms: tuple[TermShare, ...] = ()
    images: Annotated[tuple[ImageGuess, ...], Omitted()] = ()


class Timings(Reply):
    """Milliseconds: waiting, running the model, searching, and all of it as the gateway saw it."""

    queue_ms: Milliseconds = 0.0
    inference_ms: Milliseconds = 0.0
    search_ms: Milliseconds = 0.0
    total_ms: Milliseconds = 0.0
    cached: bool = False


class ResultCase(Reply):
    """The case of a result, "" if it has none, and how many of its images pass the filter."""

    id: str
    images: int


class SearchResult(Shown):
    """One record found; score is the cosine, with fused vectors the reciprocal-rank score next to the cosine."""

    score: Score
    cosine: Score | None = Field(0.0, description="null in a search by words alone.")
    case: Annotated[ResultCase | None, Omitted()] = None
    section: Annotated[Literal["words", "likeness"] | None, Omitted()] = None
    matched: Annotated[
        dict[str, tuple[tuple[int, int], ...]],
        Omitted(),
        Field(
            description="Field (title, keywords.0, labels.modality.0, ...) to [start, end] in characters of its text."
        ),
    ] = {}


class ExpandedWord(Reply):
    """A word that was searched in other words too."""

    given: str
    others: tuple[str, ...] = ()


class CorrectedWord(Reply):
    """A word that was searched as another one, since no record has it. In quotes a word is searched as it is typed."""

    given: str
    used: str


class NamedLabel(Reply):
    """A label that the query names and none of the first five results has: a filter to offer."""

    facet: str
    value: str
    count: int


class WordsReport(Reply):
    """The server's reading of a text in a search by words."""

    expanded: tuple[ExpandedWord, ...] = ()
    corrected: tuple[CorrectedWord, ...] = ()
    labels: tuple[NamedLabel, ...] = ()


class SearchReply(Reply):
    """The answer to a search; match is null if it was not judged: the collection was not measured for this kind of query."""

    results: tuple[SearchResult, ...]
    match: Match | None = None
    match_pending: Annotated[
        bool,
        Omitted(),
        Field(
            description="True if match is null because likeness is not measured yet: that takes some seconds after records "
            "were added, and more in a large collection."
        ),
    ] = False
    query: QueryReport
    timings: Timings = Timings()
    fingerprint: str = ""
    words: Annotated[WordsReport | None, Omitted()] = None
    total: int | None = Field(
        None, description="Records that pass the filter, of a listing without a query; else null."
    )
    next_page_token: Token = ""


class CompareReply(Reply):
    """Two answers; shift is the cosine of the two queries."""

    base: SearchReply
    shifted: SearchReply
    shift: Score


class ClassifyReply(Reply):
    """The guess about an image, and its unit vector (little-endian float32 in base64) if it was asked for."""

    guess: ImageGuess
    timings: Timings = Timings()
    fingerprint: str = ""
    vector: Annotated[Base64 | None, Omitted()] = None


class FacetValue(Reply):
    """A value and how many records carry it."""

    value: str
    count: int
    display: str = ""


class RareValues(Reply):
    """Values that fewer than three records of the collection carry, and how many records carry one of them."""

    values: tuple[str, ...]
    count: int


class Facet(Reply):
    """A facet; its most frequent value first. Of more than ten values the rare ones are in `other`."""

    name: str
    values: tuple[FacetValue, ...]
    other: Annotated[RareValues | None, Omitted()] = None


class FacetsReply(Reply):
    """The facets."""

    facets: tuple[Facet, ...]
