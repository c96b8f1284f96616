"""A client of MIRAGE's gateway, over HTTP.

with Client() as mirage:
    for result in mirage.search("axial T1 through the lateral ventricles").results:
        print(result.score, result.caption)
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from mirage.fields import Fields
from mirage.queries import Query, Term
from mirage.replies import (
    Collection,
    Comparison,
    Facet,
    Flag,
    Image,
    Model,
    Record,
    SearchReply,
    UpsertOutcome,
)
from mirage.transport import Transport, default_url, segment
from mirage.uploads import Upload, multipart

Where = Mapping[str, Sequence[str]]
Phrases = str | Sequence[str]


class Client:
    """Calls one gateway. May be used from several threads. Every method raises `mirage.errors.ClientError`.

    `url` defaults to MIRAGE_URL or http://localhost:8080, `api_key` to MIRAGE_API_KEY; `transport` swaps the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        key = api_key or os.environ.get("MIRAGE_API_KEY")
        self._transport = Transport(url or default_url(), api_key=key, timeout_s=timeout_s, inner=transport)

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

    def record(self, record_id: str) -> Record:
        """One record."""
        return Record.parse(self._transport.json("GET", f"/v1/records/{segment(record_id)}"))

    def image(self, record_id: str, *, variant: Literal["display", "original", "thumbnail"] = "display") -> Image:
        """A record's image: what a browser can show, the file as stored, or a WebP of at most 256 pixels a side."""
        path = f"/v1/images/{segment(record_id)}" + ("/thumbnail" if variant == "thumbnail" else "")
        params = {"original": "1"} if variant == "original" else None
        response = self._transport.send("GET", path, params=params)
        return Image(response.headers.get("content-type", "application/octet-stream"), response.content)

    def facets(self, *, where: Where | None = None) -> tuple[Facet, ...]:
        """The facets with their counts, under a filter."""
        reply = Fields(self._transport.json("GET", "/v1/facets", params=_where_params(where)), "facets")
        return tuple(map(Facet.parse, reply.children("facets")))

    def upsert(self, uploads: Iterable[Upload]) -> tuple[UpsertOutcome, ...]:
        """Stores 1 to 64 records; one that is refused does not keep the others out. Idempotent."""
        reply = self._transport.json("POST", "/v1/records", **multipart(uploads))
        return tuple(map(UpsertOutcome.parse, Fields(reply, "outcomes").children("outcomes")))

    def delete(self, record_id: str) -> bool:
        """Removes a record; False where there was none."""
        reply = self._transport.json("DELETE", f"/v1/records/{segment(record_id)}")
        return Fields(reply, "reply").integer_or("deleted") > 0

    def flag(self, record_id: str, reason: str, *, comment: str = "") -> Flag:
        """Marks a record: "wrong-caption", "wrong-image", "licence", "privacy" or "other"."""
        body = {"reason": reason, "comment": comment}
        return Flag.parse(self._transport.json("POST", f"/v1/records/{segment(record_id)}/flags", body=body))

    def models(self) -> tuple[Model, ...]:
        """The models in use."""
        return tuple(map(Model.parse, Fields(self._transport.json("GET", "/v1/models"), "models").children("models")))

    def collection(self) -> Collection:
        """The collection in use."""
        return Collection.parse(self._transport.json("GET", "/v1/collection"))


def _where_params(where: Where | None) -> list[tuple[str, str]]:
    return [("where", f"{facet}={value}") for facet, values in (where or {}).items() for value in values]
