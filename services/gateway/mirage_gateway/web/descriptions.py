"""The events of a description as JSON. The types are the schemas of /openapi.json."""

from typing import Literal

from typing_extensions import TypedDict

from mirage_gateway.web.answers import (
    ResultDocument,
    SearchDocument,
    TimingsDocument,
    result_document,
    rounded,
    search_document,
    timings_document,
)
from mirage_gateway.web.problems import ProblemDocument
from mirage_protos.v1 import description_pb2, mirage_service_pb2

Source = Literal["model", "extractive"]
Finish = Literal["stop", "length", "no_match", "not_medical", "too_slow"]


class StartDocument(TypedDict):
    """A description begins: ids of the captions in the prompt and of those that did not fit; seed is 0 at temperature 0."""

    used_ids: list[str]
    dropped_ids: list[str]
    shortened: bool
    prompt_tokens: int
    cached_tokens: int
    seed: int
    fingerprint: str


class TokenDocument(TypedDict):
    """Text to be appended."""

    text: str


class CitationDocument(TypedDict):
    """The sentence from `start` up to `end` (Unicode code points of the text) and ids of the captions that support it."""

    sentence: int
    start: int
    end: int
    ids: list[str]
    supported: bool


class RankingDocument(TypedDict):
    """Both rankings, best first: ids by the query, and records by the description; best is what fits both best."""

    first: list[str]
    second: list[ResultDocument]
    best: str
    sentences: int
    truncated: bool


class DoneDocument(TypedDict):
    """The whole description; `text` and `citations` replace what came before. source is null where it was declined."""

    text: str
    citations: list[CitationDocument]
    source: Source | None
    finish: Finish | None
    notice: str
    tokens: int
    first_token_ms: float
    timings: TimingsDocument


class FailedDocument(TypedDict):
    """The description broke off."""

    problem: ProblemDocument


class DescriptionDocument(DoneDocument):
    """A description in one piece; start is null where nobody began to write, ranking where there is no text to rank by."""

    retrieval: SearchDocument
    start: StartDocument | None
    ranking: RankingDocument | None


EVENTS = {
    "retrieval": SearchDocument,
    "start": StartDocument,
    "token": TokenDocument,
    "citation": CitationDocument,
    "ranking": RankingDocument,
    "done": DoneDocument,
    "error": FailedDocument,
}

_SOURCES: dict[int, Source] = {
    description_pb2.DESCRIPTION_SOURCE_MODEL: "model",
    description_pb2.DESCRIPTION_SOURCE_EXTRACTIVE: "extractive",
}
_FINISHES: dict[int, Finish] = {
    description_pb2.DESCRIPTION_FINISH_STOP: "stop",
    description_pb2.DESCRIPTION_FINISH_LENGTH: "length",
    description_pb2.DESCRIPTION_FINISH_NO_MATCH: "no_match",
    description_pb2.DESCRIPTION_FINISH_NOT_MEDICAL: "not_medical",
    description_pb2.DESCRIPTION_FINISH_TOO_SLOW: "too_slow",
}


def event_document(event: mirage_service_pb2.DescribeResponse) -> tuple[str, object]:
    """An event's name and its data."""
    match event.WhichOneof("event"):
        case "retrieval":
            return "retrieval", search_document(event.retrieval)
        case "start":
            return "start", start_document(event.start)
        case "token":
            token: TokenDocument = {"text": event.token.text}
            return "token", token
        case "citation":
            return "citation", citation_document(event.citation)
        case "ranking":
            return "ranking", ranking_document(event.ranking)
        case _:
            return "done", done_document(event.done)


def start_document(start: description_pb2.DescribeStart) -> StartDocument:
    """The beginning."""
    return {
        "used_ids": list(start.used_ids),
        "dropped_ids": list(start.dropped_ids),
        "shortened": start.shortened,
        "prompt_tokens": start.prompt_tokens,
        "cached_tokens": start.cached_tokens,
        "seed": start.seed,
        "fingerprint": start.fingerprint,
    }


def citation_document(citation: description_pb2.Citation) -> CitationDocument:
    """A sentence and its sources."""
    return {
        "sentence": citation.sentence,
        "start": citation.start,
        "end": citation.end,
        "ids": list(citation.ids),
        "supported": citation.supported,
    }


def ranking_document(ranking: description_pb2.DescribeRanking) -> RankingDocument:
    """Both rankings."""
    return {
        "first": list(ranking.first),
        "second": [result_document(result) for result in ranking.second],
        "best": ranking.best,
        "sentences": ranking.sentences,
        "truncated": ranking.truncated,
    }


def done_document(end: description_pb2.DescribeDone) -> DoneDocument:
    """The whole."""
    return {
        "text": end.text,
        "citations": [citation_document(citation) for citation in end.citations],
        "source": _SOURCES.get(end.source),
        "finish": _FINISHES.get(end.finish),
        "notice": end.notice,
        "tokens": end.tokens,
        "first_token_ms": rounded(end.first_token_ms),
        "timings": timings_document(end.timings),
    }
