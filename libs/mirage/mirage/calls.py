"""The gateway's operations: one function for each, which returns the request and how its reply is read.

`Client` and `AsyncClient` send them (mirage.client).
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from mirage.descriptions import DescribeOptions
from mirage.jobs import JobOptions
from mirage.queries import Order, Query, Term
from mirage.uploads import Upload, multipart
from mirage_api.base import Reply
from mirage_api.descriptions import EVENTS as DESCRIBE_EVENTS
from mirage_api.descriptions import DescribeEvent, Description
from mirage_api.jobs import EVENTS as JOB_EVENTS
from mirage_api.jobs import Job, JobEvent, JobsReply
from mirage_api.quality import Evaluation, Measured, QualityReply
from mirage_api.ratings import (
    DeleteSheetReply,
    Item,
    ItemUpload,
    NewSheet,
    Sheet,
    SheetInfo,
    SheetsReply,
)
from mirage_api.readings import EVENTS as READ_EVENTS
from mirage_api.readings import ReadEvent
from mirage_api.records import (
    Case,
    DeleteReply,
    Flag,
    FlagsReply,
    LookupReply,
    Record,
    RecordPresence,
    RecordsReply,
    UpsertOutcome,
    UpsertReply,
)
from mirage_api.search import ClassifyReply, CompareReply, Facet, FacetsReply, ImageGuess, SearchReply
from mirage_api.system import (
    ActivateReply,
    Collection,
    CollectionInfo,
    CollectionsReply,
    CommonQueriesReply,
    DeleteCollectionReply,
    Model,
    ModelsReply,
)

# A little longer than the gateway itself waits. A large model on a busy machine takes minutes for the images of one upsert.
UPSERT_S = 330.0
COLLECTION_S = 90.0

T = TypeVar("T")
E = TypeVar("E", covariant=True)
Where = Mapping[str, Sequence[str]]
Phrases = str | Sequence[str]


@dataclass(frozen=True)
class Image:
    """An image file."""

    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """A request to the gateway. `body` is sent as JSON. `slow_s` is how long a reply may take, if that is longer than usual."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    files: Sequence[Any] = ()
    accept: str = "*/*"
    slow_s: float = 0.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, the model of its reply (None for an image) and what of the reply is returned."""

    request: Request
    reply: type[Reply] | None
    pick: Callable[[Any], T]


@dataclass(frozen=True)
class Stream(Generic[E]):
    """A request whose reply is a stream of events, and their models by name."""

    request: Request
    events: Mapping[str, type[Any]]


def search(query: Query | str, *, k: int | None = None, where: Where | None = None) -> Call[SearchReply]:
    """Finds the records closest to a query; a string is a query of one text. `k` and `where` replace the query's own."""
    query = _query(query)
    query = replace(query, k=query.k if k is None else k, where=query.where if where is None else where)
    return _whole(SearchReply, Request("POST", "/v1/search", query.to_json()))


def compare(
    text: str, *, minus: Phrases = (), plus: Phrases = (), k: int | None = None, like: Query | None = None
) -> Call[CompareReply]:
    """Finds `text` and `text - minus + plus` side by side; filter, space and threshold of both are those of `like`."""
    options = like or Query(())
    body: dict[str, Any] = {"text": text, **replace(options, k=options.k if k is None else k).options_json()}
    for name, given in (("minus", minus), ("plus", plus)):
        if phrases := [given] if isinstance(given, str) else list(given):
            body[name] = phrases
    return _whole(CompareReply, Request("POST", "/v1/compare", body))


def compare_two(first: Query | str, second: Query | str, *, k: int | None = None) -> Call[CompareReply]:
    """Finds two queries side by side: `base` and `shifted` of the reply. `k` replaces that of both."""
    sides = [_query(each) for each in (first, second)]
    bodies = [replace(each, k=each.k if k is None else k).to_json() for each in sides]
    return _whole(CompareReply, Request("POST", "/v1/compare", dict(zip("ab", bodies, strict=True))))


def similar(
    record_id: str, *, k: int = 10, where: Where | None = None, page_token: str | None = None, collection: str = ""
) -> Call[SearchReply]:
    """Finds the records nearest to one record's image, except itself."""
    params = [("k", str(k)), *_where_params(where), *_given(page_token=page_token, collection=collection).items()]
    return _whole(SearchReply, Request("GET", f"/v1/records/{segment(record_id)}/similar", params=params))


def describe(
    query: Query | str,
    options: DescribeOptions | None = None,
    *,
    k: int = 3,
    against: Query | str | None = None,
) -> Stream[DescribeEvent]:
    """Describes what a query finds, from its `k` (1 to 10) best captions, event by event; `DescribeDone` is the last.

    With `against` the text is about the difference to what that query finds. Close the generator, or leave it to be
    collected, and the model stops. `k` replaces the queries' own.
    """
    return Stream(Request("POST", "/v1/describe", _describe_body(query, options, k, against)), DESCRIBE_EVENTS)


def description(
    query: Query | str,
    options: DescribeOptions | None = None,
    *,
    k: int = 3,
    against: Query | str | None = None,
) -> Call[Description]:
    """Returns the same in one piece."""
    body = _describe_body(query, options, k, against)
    return _whole(Description, Request("POST", "/v1/describe", body, accept="application/json"))


def read(
    image: bytes | None = None,
    *,
    record_id: str = "",
    text: str = "",
    collection: str = "",
    kind: Mapping[str, str] | None = None,
    accept_any_image: bool = False,
) -> Stream[ReadEvent]:
    """Reads an image file, or a record's image, or answers a question in words, step by step; `ReadDone` is the last event.

    `kind` corrects the kind of image by `modality`, `body_part` and `view`. It is for education, not for diagnosis.
    """
    body: dict[str, Any] = _given(record_id=record_id, text=text, collection=collection)
    if image is not None:
        body["image"] = base64.b64encode(image).decode("ascii")
    if kind:
        body["kind"] = dict(kind)
    if accept_any_image:
        body["accept_any_image"] = True
    return Stream(Request("POST", "/v1/read", body), READ_EVENTS)


def create_job(prompt: str, options: JobOptions | None = None) -> Call[Job]:
    """Queues a job that makes synthetic images of a prompt; it returns at once."""
    return _whole(Job, Request("POST", "/v1/jobs", {"prompt": prompt, **(options or JobOptions()).to_json()}))


def job(job_id: str) -> Call[Job]:
    """Returns a job as it is now."""
    return _whole(Job, Request("GET", f"/v1/jobs/{segment(job_id)}"))


def jobs(*, limit: int = 20, page_token: str = "", states: Iterable[str] = ()) -> Call[JobsReply]:
    """Returns your jobs, newest first; only those in one of `states`, if given."""
    params = _given(limit=str(limit), page_token=page_token, state=",".join(states))
    return _whole(JobsReply, Request("GET", "/v1/jobs", params=params))


def watch_job(job_id: str, *, previews: bool = False) -> Stream[JobEvent]:
    """Yields the events of one watch of a job."""
    params = {"previews": "true" if previews else "false"}
    return Stream(Request("GET", f"/v1/jobs/{segment(job_id)}/events", params=params), JOB_EVENTS)


def cancel_job(job_id: str) -> Call[Job]:
    """Stops a job: at once while it waits, by the next step while it runs. One that has ended stays as it is."""
    return _whole(Job, Request("POST", f"/v1/jobs/{segment(job_id)}/cancel"))


def job_image(job_id: str, index: int = 0) -> Call[Image]:
    """Returns an image of a job: a PNG file that states its origin in its texts."""
    return Call(Request("GET", f"/v1/jobs/{segment(job_id)}/images/{index}"), None, _same)


def record(record_id: str, *, collection: str = "") -> Call[Record]:
    """Returns one record."""
    return _whole(Record, Request("GET", f"/v1/records/{segment(record_id)}", params=_given(collection=collection)))


def case(case_id: str, *, collection: str = "") -> Call[Case]:
    """Returns a case: its records in the order of their positions."""
    return _whole(Case, Request("GET", f"/v1/cases/{segment(case_id)}", params=_given(collection=collection)))


def image(
    record_id: str,
    *,
    variant: Literal["display", "pixels", "regions", "thumbnail"] = "display",
    collection: str = "",
) -> Call[Image]:
    """Returns a record's image: with 8 bits, as a 16-bit PNG if it has `pixels`, its label map if it has `regions`, or as a
    WebP of at most 256 pixels a side.
    """
    path = f"/v1/images/{segment(record_id)}" + ("" if variant == "display" else f"/{variant}")
    return Call(Request("GET", path, params=_given(collection=collection)), None, _same)


def facets(
    *, where: Where | None = None, where_not: Where | None = None, collection: str = ""
) -> Call[tuple[Facet, ...]]:
    """Returns the facets with their counts, under a filter; a facet's own part of it does not count for it."""
    params = [*_where_params(where), *_where_params(where_not, "not"), *_given(collection=collection).items()]
    request = Request("GET", "/v1/facets", params=params)
    return Call(request, FacetsReply, lambda reply: reply.facets)


def upsert(uploads: Iterable[Upload], *, collection: str = "") -> Call[tuple[UpsertOutcome, ...]]:
    """Stores 1 to 64 records; one that is refused does not keep the others out. Idempotent."""
    params = _given(collection=collection)
    request = Request("POST", "/v1/records", params=params, files=multipart(uploads), slow_s=UPSERT_S)
    return Call(request, UpsertReply, lambda reply: reply.outcomes)


def delete(record_id: str, *, collection: str = "") -> Call[bool]:
    """Removes a record; returns False if it did not exist."""
    request = Request("DELETE", f"/v1/records/{segment(record_id)}", params=_given(collection=collection))
    return Call(request, DeleteReply, lambda reply: reply.deleted > 0)


def flag(record_id: str, reason: str, *, comment: str = "", collection: str = "") -> Call[Flag]:
    """Flags a record: "wrong-caption", "wrong-image", "licence", "privacy", "description" or "other"."""
    body = {"reason": reason, "comment": comment}
    path = f"/v1/records/{segment(record_id)}/flags"
    return _whole(Flag, Request("POST", path, body, params=_given(collection=collection)))


def flags(*, record_id: str = "", limit: int = 100) -> Call[tuple[Flag, ...]]:
    """Returns the flags that readers raised, newest first."""
    request = Request("GET", "/v1/flags", params=_given(limit=str(limit), record_id=record_id))
    return Call(request, FlagsReply, lambda reply: reply.flags)


def classify(image: bytes) -> Call[ImageGuess]:
    """Classifies an image file: medical or not, its modality and body part."""
    body = {"image": base64.b64encode(image).decode("ascii")}
    return Call(Request("POST", "/v1/classify", body), ClassifyReply, lambda reply: reply.guess)


def encode_image(image: bytes) -> Call[ClassifyReply]:
    """Classifies an image file as `classify` does, and returns its unit vector (little-endian float32 in base64) too."""
    body = {"image": base64.b64encode(image).decode("ascii"), "vector": True}
    return _whole(ClassifyReply, Request("POST", "/v1/classify", body))


def look_up(keys: Iterable[tuple[str, str]], *, collection: str = "") -> Call[tuple[RecordPresence, ...]]:
    """Looks up to 1,000 records up, given as (id, SHA-256 of the file that would be sent, or "")."""
    body: dict[str, Any] = {"keys": [{"id": id_, **_given(image_sha256=sha256)} for id_, sha256 in keys]}
    request = Request("POST", "/v1/records/lookup", body | _given(collection=collection))
    return Call(request, LookupReply, lambda reply: reply.records)


def records(
    *,
    limit: int = 100,
    page_token: str = "",
    vectors: bool = False,
    where: Where | None = None,
    where_not: Where | None = None,
    order: Order | None = None,
    seed: int | None = None,
    collection: str = "",
) -> Call[RecordsReply]:
    """Returns a page of the records that pass a filter, with their vectors if wanted (not with an order)."""
    given = _given(
        limit=str(limit),
        vectors="true" if vectors else "false",
        page_token=page_token,
        order=order,
        seed=None if seed is None else str(seed),
        collection=collection,
    )
    params = [*given.items(), *_where_params(where), *_where_params(where_not, "not")]
    return _whole(RecordsReply, Request("GET", "/v1/records", params=params))


def collections() -> Call[tuple[CollectionInfo, ...]]:
    """Returns the collections, by name."""
    return Call(Request("GET", "/v1/collections"), CollectionsReply, lambda reply: reply.collections)


def create_collection(name: str, *, dimension: int = 0, fingerprint: str = "") -> Call[CollectionInfo]:
    """Makes an empty collection for the encoder's model, or for the one named."""
    body = {"name": name, "dimension": dimension, "fingerprint": fingerprint}
    return _whole(CollectionInfo, Request("POST", "/v1/collections", body, slow_s=COLLECTION_S))


def activate_collection(name: str) -> Call[str]:
    """Turns all searches to a collection; returns the name of the one before."""
    request = Request("POST", f"/v1/collections/{segment(name)}/activate", slow_s=COLLECTION_S)
    return Call(request, ActivateReply, lambda reply: reply.previous)


def delete_collection(name: str) -> Call[int]:
    """Removes a collection that is not active; returns how many records were in it."""
    request = Request("DELETE", f"/v1/collections/{segment(name)}", slow_s=COLLECTION_S)
    return Call(request, DeleteCollectionReply, lambda reply: reply.records)


def common_queries(*, collection: str = "") -> Call[tuple[str, ...]]:
    """Returns queries to offer: the operator's, or those that are typical of the collection."""
    request = Request("GET", "/v1/common-queries", params=_given(collection=collection))
    return Call(request, CommonQueriesReply, lambda reply: reply.queries)


def quality(*, collection: str = "") -> Call[tuple[Evaluation, ...]]:
    """Returns what was measured on a collection: at most one evaluation of each subject."""
    request = Request("GET", "/v1/quality", params=_given(collection=collection))
    return Call(request, QualityReply, lambda reply: reply.evaluations)


def store_evaluation(measured: Measured, *, collection: str = "") -> Call[Evaluation]:
    """Keeps an evaluation with its collection, in place of the one before of its subject."""
    body = {"evaluation": measured.model_dump(mode="json"), **_given(collection=collection)}
    return _whole(Evaluation, Request("POST", "/v1/quality", body))


def create_rating_sheet(*, raters: int = 1, collection: str = "") -> Call[NewSheet]:
    """Makes an empty rating sheet; its tokens, one for each rater, cannot be read again."""
    body = {"raters": raters, **_given(collection=collection)}
    return _whole(NewSheet, Request("POST", "/v1/ratings", body))


def add_rating_item(sheet_id: str, item: ItemUpload, image: bytes | None = None) -> Call[Item]:
    """Adds an item to a rating sheet, with an image file of its own if it shows no record."""
    body: dict[str, Any] = {"item": item.model_dump(mode="json")}
    if image is not None:
        body["image"] = base64.b64encode(image).decode("ascii")
    return _whole(Item, Request("POST", f"/v1/ratings/{segment(sheet_id)}/items", body))


def rating_sheets() -> Call[tuple[SheetInfo, ...]]:
    """Returns the rating sheets without their items, newest first."""
    return Call(Request("GET", "/v1/ratings"), SheetsReply, lambda reply: reply.sheets)


def rating_sheet(sheet_id: str) -> Call[Sheet]:
    """Returns a rating sheet with its items and all answers."""
    return _whole(Sheet, Request("GET", f"/v1/ratings/{segment(sheet_id)}"))


def delete_rating_sheet(sheet_id: str) -> Call[int]:
    """Removes a rating sheet; returns how many answers were on it."""
    request = Request("DELETE", f"/v1/ratings/{segment(sheet_id)}")
    return Call(request, DeleteSheetReply, lambda reply: reply.answers)


def models() -> Call[tuple[Model, ...]]:
    """Returns the models in use."""
    return Call(Request("GET", "/v1/models"), ModelsReply, lambda reply: reply.models)


def collection(name: str = "") -> Call[Collection]:
    """Returns a collection; the active one if the name is empty."""
    return _whole(Collection, Request("GET", f"/v1/collections/{segment(name)}" if name else "/v1/collection"))


def segment(value: str) -> str:
    """Returns one path segment, with everything escaped that could leave it."""
    quoted = quote(value, safe="")
    # A segment of dots alone is resolved by clients and proxies, whether escaped or not.
    return quoted.replace(".", "%2E") if not value.strip(".") else quoted


R = TypeVar("R", bound=Reply)


def _whole(reply: type[R], request: Request) -> Call[R]:
    return Call(request, reply, _same)


def _same(value: Any) -> Any:
    return value


def _query(query: Query | str) -> Query:
    return Query((Term(text=query),)) if isinstance(query, str) else query


def _describe_body(
    query: Query | str, options: DescribeOptions | None, k: int, against: Query | str | None
) -> dict[str, Any]:
    def body(one: Query | str) -> dict[str, Any]:
        return replace(_query(one), k=k, page_token=None).to_json()

    asked = body(query) if against is None else {"a": body(query), "b": body(against), "k": k}
    return asked | (options or DescribeOptions()).to_json()


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _where_params(where: Where | None, name: str = "where") -> list[tuple[str, str]]:
    return [(name, f"{facet}={value}") for facet, values in (where or {}).items() for value in values]
