"""Answers to searches, comparisons and questions about an image, as JSON. The types are the schemas of /openapi.json."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from mirage_gateway.web.records import Labels, image_urls, labels_of
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import image_pb2, query_pb2, timings_pb2


class TermDocument(TypedDict):
    """What one term contributed; the shares of a query add up to 1."""

    label: str
    weight: float
    share: float
    tokens: int
    truncated: bool


class ValueGuessDocument(TypedDict):
    """A value that an image may carry, with its calibrated probability."""

    value: str
    score: float


class FacetGuessDocument(TypedDict):
    """Guesses for one facet, best first; sure where the best is likely enough to narrow a search with."""

    facet: str
    values: list[ValueGuessDocument]
    sure: bool


class GuessDocument(TypedDict):
    """What an image seems to be; medical_score is the calibrated probability that it is a medical image."""

    kind: Literal["medical", "unsure", "not_medical", "unknown"]
    medical_score: float
    facets: list[FacetGuessDocument]


class QueryDocument(TypedDict):
    """How the query was understood; shift is the cosine between the query and its first term."""

    images: NotRequired[list[GuessDocument]]

    tokens: int
    truncated: bool
    shift: float
    terms: list[TermDocument]


class TimingsDocument(TypedDict):
    """Milliseconds: waiting, running the model, searching, and all of it as the gateway saw it."""

    queue_ms: float
    inference_ms: float
    search_ms: float
    total_ms: float
    cached: bool


class ResultDocument(TypedDict):
    """One record found; score is the cosine, with fused vectors the reciprocal-rank score beside the cosine."""

    id: str
    score: float
    cosine: float
    caption: str
    labels: Labels
    licence: str
    source: str
    attribution: str
    image_url: str
    thumbnail_url: str
    image_type: str
    width: int
    height: int
    flags: int


class SearchDocument(TypedDict):
    """The answer to a search; match is null where no thresholds are known for the model and kind of query."""

    results: list[ResultDocument]
    match: Literal["good", "weak", "none"] | None
    query: QueryDocument
    timings: TimingsDocument
    fingerprint: str
    next_page_token: NotRequired[str]


class CompareDocument(TypedDict):
    """Two answers; shift is the cosine of the two queries."""

    base: SearchDocument
    shifted: SearchDocument
    shift: float


class ClassifyDocument(TypedDict):
    """What an image seems to be."""

    guess: GuessDocument
    timings: TimingsDocument


_MATCHES: dict[int, Literal["good", "weak", "none"]] = {
    query_pb2.MATCH_GOOD: "good",
    query_pb2.MATCH_WEAK: "weak",
    query_pb2.MATCH_NONE: "none",
}


_KINDS: dict[int, Literal["medical", "unsure", "not_medical"]] = {
    image_pb2.IMAGE_KIND_MEDICAL: "medical",
    image_pb2.IMAGE_KIND_UNSURE: "unsure",
    image_pb2.IMAGE_KIND_NOT_MEDICAL: "not_medical",
}


def search_document(reply: query_pb2.SearchReply) -> SearchDocument:
    """The answer to a search."""
    report = reply.query
    document: SearchDocument = {
        "results": [result_document(result) for result in reply.results],
        "match": _MATCHES.get(reply.match),
        "query": {
            "tokens": report.tokens,
            "truncated": report.truncated,
            "shift": rounded(report.shift),
            "terms": [_term(term) for term in report.terms],
        },
        "timings": timings_document(reply.timings),
        "fingerprint": reply.fingerprint,
    }
    if report.images:
        document["query"]["images"] = [guess_document(guess) for guess in report.images]
    if reply.next_page_token:
        document["next_page_token"] = reply.next_page_token
    return document


def compare_document(both: retriever_pb2.CompareResponse) -> CompareDocument:
    """The answer to a comparison."""
    return {
        "base": search_document(both.base),
        "shifted": search_document(both.shifted),
        "shift": rounded(both.shift),
    }


def result_document(result: query_pb2.Result) -> ResultDocument:
    """One record found."""
    record = result.record
    image_url, thumbnail_url = image_urls(record)
    return {
        "id": record.id,
        "score": rounded(result.score),
        "cosine": rounded(result.cosine),
        "caption": record.caption,
        "labels": labels_of(record),
        "licence": record.licence,
        "source": record.source,
        "attribution": record.attribution,
        "image_url": image_url,
        "thumbnail_url": thumbnail_url,
        "image_type": record.image_type,
        "width": record.width,
        "height": record.height,
        "flags": record.flags,
    }


def classify_document(found: encoder_pb2.ClassifyImageResponse) -> ClassifyDocument:
    """What an image seems to be."""
    return {"guess": guess_document(found.guess), "timings": timings_document(found.timings)}


def guess_document(guess: image_pb2.ImageGuess) -> GuessDocument:
    """What an image seems to be."""
    return {
        "kind": _KINDS.get(guess.kind, "unknown"),
        "medical_score": rounded(guess.medical_score),
        "facets": [
            {
                "facet": facet.facet,
                "values": [{"value": each.value, "score": rounded(each.score)} for each in facet.values],
                "sure": facet.sure,
            }
            for facet in guess.facets
        ],
    }


def _term(term: query_pb2.TermShare) -> TermDocument:
    return {
        "label": term.label,
        "weight": rounded(term.weight),
        "share": rounded(term.share),
        "tokens": term.tokens,
        "truncated": term.truncated,
    }


def timings_document(timings: timings_pb2.Timings) -> TimingsDocument:
    """Time spent."""
    return {
        "queue_ms": round(timings.queue_ms, 3),
        "inference_ms": round(timings.inference_ms, 3),
        "search_ms": round(timings.search_ms, 3),
        "total_ms": round(timings.total_ms, 3),
        "cached": timings.cached,
    }


def rounded(value: float) -> float:
    """A float32 without the digits that a double shows beyond its seven: they are noise."""
    return round(value, 6)
