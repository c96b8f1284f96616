"""Descriptions: the request, the events of the stream, and the whole."""

from typing import Literal

from pydantic import Field

from mirage_api import limits
from mirage_api.base import Phrases, Reply, Score, Short
from mirage_api.search import Query, SearchReply, SearchRequest, SearchResult, Terms, Timings
from mirage_api.system import Problem

Source = Literal["model", "extractive"]
Finish = Literal["stop", "length", "no_match", "not_medical", "too_slow", "unsupported", "outside"]
Kind = Literal["caption", "general", "extract"]
Block = Literal["see", "where", "apart"]


class DescribeRequest(Query):
    """A request for a description: `text + image + id - minus + plus + terms`, and how to write."""

    k: int = Field(
        limits.CAPTIONS_DEFAULT,
        description="How many captions to write from, 1 to 10.",
        json_schema_extra={"minimum": 1, "maximum": limits.CAPTIONS_MAX},
    )
    minus: Phrases | None = None
    plus: Phrases | None = None
    terms: Terms = Field((), description="Further terms, with their weights.")
    a: SearchRequest | None = Field(None, description="In place of a query: one side of a comparison; k is that above.")
    b: SearchRequest | None = Field(None, description="The other side: the text is about the difference.")
    max_tokens: int | None = Field(
        None,
        description="Most tokens to write; 128 if omitted.",
        json_schema_extra={"minimum": 1, "maximum": limits.MAX_TOKENS_MAX},
    )
    temperature: float | None = Field(
        None,
        description="0 (or omitted) takes the most likely token each time; at most 2.",
        json_schema_extra={"minimum": 0, "maximum": limits.TEMPERATURE_MAX},
    )
    top_p: float | None = Field(
        None,
        description="Tokens are drawn from the likeliest that together reach this share; 1 if omitted.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
    )
    seed: int | None = Field(
        None,
        description="Chosen and reported if omitted and the temperature is not 0.",
        json_schema_extra={"minimum": 0, "maximum": limits.SEED_MAX},
    )
    stop: tuple[Short, ...] = Field(
        (),
        description=f"Ends the text before the first of these, each of at most {limits.STOP_CHARS_MAX} characters.",
        max_length=limits.STOP_MAX,
    )


class DescribeStart(Reply):
    """A description begins: ids of the captions in the prompt and of those that did not fit; seed is 0 at temperature 0."""

    used_ids: tuple[str, ...]
    dropped_ids: tuple[str, ...] = ()
    shortened: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seed: int = 0
    fingerprint: str = ""


class DescribeSentence(Reply):
    """A sentence that holds, the records whose captions support it, its origin and its part of the description."""

    text: str
    ids: tuple[str, ...] = ()
    kind: Kind | None = None
    block: Block | None = None


class DescribeAgainst(SearchReply):
    """The records of the second query, in a comparison."""


class DescribeDifference(DescribeSentence):
    """A sentence about the difference of both sides; ids are of both."""


class DescribeRanking(Reply):
    """Both rankings, best first: ids by the query, and records by the model's sentences; best is what fits both best."""

    first: tuple[str, ...]
    second: tuple[SearchResult, ...]
    best: str = ""
    sentences: int = 0
    truncated: bool = False


class DescribeDone(Reply):
    """The whole description, and how many sentences of the model were withheld. source is null if it was declined."""

    text: str
    sentences: tuple[DescribeSentence, ...] = ()
    shown: int = 0
    withheld: int = 0
    source: Source | None = None
    finish: Finish | None = None
    notice: str = ""
    tokens: int = 0
    first_sentence_ms: Score = 0.0
    timings: Timings = Timings()


class Failed(Reply):
    """The stream broke off."""

    problem: Problem


class Description(DescribeDone):
    """A description in one piece.

    `against` is null if it is not a comparison, `start` if nothing was written, `ranking` if the model wrote nothing.
    """

    retrieval: SearchReply
    against: SearchReply | None = None
    start: DescribeStart | None = None
    ranking: DescribeRanking | None = None


DescribeEvent = (
    SearchReply
    | DescribeAgainst
    | DescribeStart
    | DescribeSentence
    | DescribeDifference
    | DescribeRanking
    | DescribeDone
)
EVENTS: dict[str, type[DescribeEvent] | type[Failed]] = {
    "retrieval": SearchReply,
    "start": DescribeStart,
    "sentence": DescribeSentence,
    "against": DescribeAgainst,
    "difference": DescribeDifference,
    "ranking": DescribeRanking,
    "done": DescribeDone,
    "error": Failed,
}
