"""A client of MIRAGE's gateway, over HTTP.

with Client() as mirage:
    for result in mirage.search("axial T1 through the lateral ventricles").results:
        print(result.score, result.caption)
"""

import base64
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from mirage.descriptions import DescribeOptions, Description, DescriptionEvent, parse_event
from mirage.errors import ApiError, ClientError, ReplyError, TimedOutError, UnreachableError
from mirage.fields import Fields
from mirage.jobs import Job, JobEvent, JobOptions, JobPage, parse_job_event
from mirage.queries import Query, Term
from mirage.replies import (
    Collection,
    CollectionInfo,
    Comparison,
    Facet,
    Flag,
    Image,
    ImageGuess,
    Model,
    Presence,
    Record,
    RecordPage,
    SearchReply,
    UpsertOutcome,
)
from mirage.transport import Transport, default_key, default_url, segment
from mirage.uploads import Upload, multipart

Where = Mapping[str, Sequence[str]]
Phrases = str | Sequence[str]
STEADY_WATCH_S = 5.0
"""A watch that held for so long was no part of what went wrong before it."""


class Client:
    """Calls one gateway. May be used from several threads, and in processes that are forked while it is there.

    Every method raises `mirage.errors.ClientError`.

    `url` defaults to MIRAGE_URL or http://localhost:8080, `api_key` to MIRAGE_API_KEY or the content of the file
    that MIRAGE_API_KEY_FILE names; `transport` swaps the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            url or default_url(), api_key=api_key or default_key(), timeout_s=timeout_s, inner=transport
        )

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self._transport.url

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(self, query: Query | str, *, k: int | None = None, where: Where | None = None) -> SearchReply:
        """The records closest to a query; a string is a query of one text. `k` and `where` replace the query's own."""
        if isinstance(query, str):
            query = Query((Term(text=query),))
        query = replace(query, k=query.k if k is None else k, where=query.where if where is None else where)
        return SearchReply.parse(self._transport.json("POST", "/v1/search", body=query.to_json()))

    def compare(
        self, text: str, *, minus: Phrases = (), plus: Phrases = (), k: int | None = None, like: Query | None = None
    ) -> Comparison:
        """`text` and `text - minus + plus` side by side; filter, space and threshold of both are those of `like`."""
        options = like or Query(())
        body: dict[str, Any] = {"text": text, **replace(options, k=options.k if k is None else k).options_json()}
        for name, given in (("minus", minus), ("plus", plus)):
            if phrases := [given] if isinstance(given, str) else list(given):
                body[name] = phrases
        return Comparison.parse(self._transport.json("POST", "/v1/compare", body=body))

    def similar(
        self, record_id: str, *, k: int = 10, where: Where | None = None, page_token: str | None = None
    ) -> SearchReply:
        """The records nearest to one record's image, itself left out."""
        params = [("k", str(k)), *_where_params(where), *([("page_token", page_token)] if page_token else [])]
        return SearchReply.parse(
            self._transport.json("GET", f"/v1/records/{segment(record_id)}/similar", params=params)
        )

    def describe(
        self, query: Query | str, options: DescribeOptions | None = None, *, k: int = 3
    ) -> Generator[DescriptionEvent]:
        """Explains what a query finds, from its `k` (1 to 10) best captions, event by event; `Done` is the last.

        Close the generator, or leave it to be collected, and the model stops. `k` replaces the query's own.
        """
        if isinstance(query, str):
            query = Query((Term(text=query),))
        with closing(self._transport.events("POST", "/v1/describe", body=_describe_body(query, options, k))) as events:
            for name, data in events:
                event = parse_event(name, data)
                if event is not None:
                    yield event

    def description(self, query: Query | str, options: DescribeOptions | None = None, *, k: int = 3) -> Description:
        """The same in one piece."""
        if isinstance(query, str):
            query = Query((Term(text=query),))
        body = _describe_body(query, options, k)
        return Description.parse(self._transport.json("POST", "/v1/describe", body=body, accept="application/json"))

    def create_job(self, prompt: str, options: JobOptions | None = None) -> Job:
        """Queues a job that makes synthetic images of a prompt; it returns at once."""
        body = {"prompt": prompt, **(options or JobOptions()).to_json()}
        return Job.parse(self._transport.json("POST", "/v1/jobs", body=body))

    def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return Job.parse(self._transport.json("GET", f"/v1/jobs/{segment(job_id)}"))

    def jobs(self, *, limit: int = 20, page_token: str = "", states: Iterable[str] = ()) -> JobPage:
        """Returns your jobs, newest first; only those in one of `states`, if given."""
        params = {"limit": str(limit)}
        params |= {name: value for name, value in (("page_token", page_token), ("state", ",".join(states))) if value}
        return JobPage.parse(self._transport.json("GET", "/v1/jobs", params=params))

    def watch_job(self, job_id: str, *, previews: bool = False, patience_s: float = 30.0) -> Generator[JobEvent]:
        """Yields a job now and after each change, until it has ended; the last event is the ended job.

        Reconnects for up to `patience_s` seconds of failures; a job that waits without an event is not a failure.
        Closing it leaves the job alone.
        """
        path = f"/v1/jobs/{segment(job_id)}/events"
        told: tuple[int, int, str] | None = None
        trouble_since: float | None = None
        while True:
            heard: float | None = None
            try:
                with closing(
                    self._transport.events("GET", path, params={"previews": "true" if previews else "false"})
                ) as events:
                    for name, data in events:
                        heard = time.monotonic() if heard is None else heard
                        event = parse_job_event(name, data)
                        if isinstance(event, Job):
                            revision = Fields(data, name).integer_or("revision")
                            news = revision, event.queue_position, _to_the_second(event)
                            # Each watch begins with known events.
                            if news == told and not event.ended:
                                continue
                            told = news
                        if event is not None:
                            trouble_since = None
                            yield event
                        if isinstance(event, Job) and event.ended:
                            return
                broken: ClientError = ReplyError(f"{self.url} ended the watch before the job had ended")
            except (ReplyError, TimedOutError, UnreachableError) as error:
                broken = error
            except ApiError as error:
                if error.status not in (429, 503, 504):
                    raise
                broken = error
            now = time.monotonic()
            # A watch that held for a while ends earlier trouble; one that says what is known and breaks off does not.
            held = heard is not None and now - heard > STEADY_WATCH_S
            trouble_since = now if trouble_since is None or held else trouble_since
            if told is None or now - trouble_since > patience_s:
                raise broken
            time.sleep(0.5)

    def cancel_job(self, job_id: str) -> Job:
        """Stops a job: at once while it waits, by the next step while it runs. One that has ended stays as it is."""
        return Job.parse(self._transport.json("POST", f"/v1/jobs/{segment(job_id)}/cancel"))

    def job_image(self, job_id: str, index: int = 0) -> Image:
        """Returns an image of a job: a PNG file that states its origin in its texts."""
        response = self._transport.send("GET", f"/v1/jobs/{segment(job_id)}/images/{index}")
        return Image(response.headers.get("content-type", "application/octet-stream"), response.content)

    def record(self, record_id: str) -> Record:
        """One record."""
        return Record.parse(self._transport.json("GET", f"/v1/records/{segment(record_id)}"))

    def image(self, record_id: str, *, variant: Literal["display", "pixels", "thumbnail"] = "display") -> Image:
        """A record's image: with 8 bits, as a 16-bit PNG if it has `pixels`, or as a WebP of at most 256 pixels a
        side.
        """
        path = f"/v1/images/{segment(record_id)}" + ("" if variant == "display" else f"/{variant}")
        response = self._transport.send("GET", path)
        return Image(response.headers.get("content-type", "application/octet-stream"), response.content)

    def facets(self, *, where: Where | None = None) -> tuple[Facet, ...]:
        """The facets with their counts, under a filter."""
        reply = Fields(self._transport.json("GET", "/v1/facets", params=_where_params(where)), "facets")
        return tuple(map(Facet.parse, reply.children("facets")))

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        """Stores 1 to 64 records; one that is refused does not keep the others out. Idempotent."""
        params = {"collection": collection} if collection else None
        reply = self._transport.json("POST", "/v1/records", params=params, **multipart(uploads))
        return tuple(map(UpsertOutcome.parse, Fields(reply, "outcomes").children("outcomes")))

    def delete(self, record_id: str) -> bool:
        """Removes a record; returns False if it did not exist."""
        reply = self._transport.json("DELETE", f"/v1/records/{segment(record_id)}")
        return Fields(reply, "reply").integer_or("deleted") > 0

    def flag(self, record_id: str, reason: str, *, comment: str = "") -> Flag:
        """Marks a record: "wrong-caption", "wrong-image", "licence", "privacy", "description" or "other"."""
        body = {"reason": reason, "comment": comment}
        return Flag.parse(self._transport.json("POST", f"/v1/records/{segment(record_id)}/flags", body=body))

    def flags(self, *, record_id: str = "", limit: int = 100) -> tuple[Flag, ...]:
        """The marks that readers made, newest first."""
        params = {"limit": str(limit), **({"record_id": record_id} if record_id else {})}
        reply = Fields(self._transport.json("GET", "/v1/flags", params=params), "flags")
        return tuple(Flag.parse(each.raw) for each in reply.children("flags"))

    def classify(self, image: bytes) -> ImageGuess:
        """Classifies an image file: medical or not, its modality and body part."""
        body = {"image": base64.b64encode(image).decode("ascii")}
        reply = Fields(self._transport.json("POST", "/v1/images/classify", body=body), "reply")
        return ImageGuess.parse(reply.child("guess").raw)

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[Presence, ...]:
        """Looks up to 1,000 records up, given as (id, SHA-256 of the file that would be sent, or "")."""
        body: dict[str, Any] = {
            "keys": [{"id": id_, **({"image_sha256": sha256} if sha256 else {})} for id_, sha256 in keys]
        }
        if collection:
            body["collection"] = collection
        reply = Fields(self._transport.json("POST", "/v1/records/lookup", body=body), "reply")
        return tuple(Presence.parse(each.raw) for each in reply.children("records"))

    def records(
        self, *, limit: int = 100, page_token: str = "", vectors: bool = False, collection: str = ""
    ) -> RecordPage:
        """A page of all records, with their vectors if wanted."""
        params = {"limit": str(limit), "vectors": "true" if vectors else "false"}
        params |= {name: value for name, value in (("page_token", page_token), ("collection", collection)) if value}
        return RecordPage.parse(self._transport.json("GET", "/v1/records", params=params))

    def collections(self) -> tuple[CollectionInfo, ...]:
        """The collections, by name."""
        reply = Fields(self._transport.json("GET", "/v1/collections"), "reply")
        return tuple(CollectionInfo.parse(each.raw) for each in reply.children("collections"))

    def create_collection(self, name: str, *, dimension: int = 0, fingerprint: str = "") -> CollectionInfo:
        """Makes an empty collection for the encoder's model, or for the one named."""
        body = {"name": name, "dimension": dimension, "fingerprint": fingerprint}
        return CollectionInfo.parse(self._transport.json("POST", "/v1/collections", body=body))

    def activate_collection(self, name: str) -> str:
        """Turns all searches to a collection; the name of the one before."""
        reply = self._transport.json("POST", f"/v1/collections/{segment(name)}/activate")
        return Fields(reply, "reply").text_or("previous")

    def delete_collection(self, name: str) -> int:
        """Removes a collection that is not active; how many records were in it."""
        return Fields(self._transport.json("DELETE", f"/v1/collections/{segment(name)}"), "reply").integer_or("records")

    def common_queries(self) -> tuple[str, ...]:
        """The operator's list of queries that are answered from a cache."""
        return Fields(self._transport.json("GET", "/v1/common-queries"), "reply").strings("queries")

    def models(self) -> tuple[Model, ...]:
        """The models in use."""
        return tuple(map(Model.parse, Fields(self._transport.json("GET", "/v1/models"), "models").children("models")))

    def collection(self) -> Collection:
        """The collection in use."""
        return Collection.parse(self._transport.json("GET", "/v1/collection"))


def _describe_body(query: Query, options: DescribeOptions | None, k: int) -> dict[str, Any]:
    body = replace(query, k=k, page_token=None).to_json()
    return body | (options or DescribeOptions()).to_json()


def _to_the_second(job: Job) -> str:
    """The time that is left, as a reader sees it change."""
    return "" if job.eta_s is None else f"{job.eta_s:.0f}"


def _where_params(where: Where | None) -> list[tuple[str, str]]:
    return [("where", f"{facet}={value}") for facet, values in (where or {}).items() for value in values]
