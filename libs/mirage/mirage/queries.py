"""Queries: a weighted sum of terms, and options for its results."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

VectorSpace = Literal["image", "caption", "fused"]
SearchMode = Literal["hybrid", "words", "images", "captions"]

GroupBy = Literal["none", "case"]
Order = Literal["newest", "case", "random"]


@dataclass(frozen=True)
class Term:
    """One term of a query: exactly one of `text`, `image` (file bytes), `id` and `vector`, and a finite weight."""

    text: str | None = None
    image: bytes | None = field(default=None, repr=False)
    id: str | None = None
    vector: Sequence[float] | None = field(default=None, repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.text, self.image, self.id, self.vector)) != 1:
            raise ValueError("a term is exactly one of text, image, id and vector")

    def to_json(self) -> dict[str, Any]:
        """The term as the gateway reads it."""
        body: dict[str, Any] = {}
        if self.text is not None:
            body["text"] = self.text
        elif self.image is not None:
            body["image"] = base64.b64encode(self.image).decode("ascii")
        elif self.id is not None:
            body["id"] = self.id
        elif self.vector is not None:
            body["vector"] = [float(value) for value in self.vector]
        if self.weight != 1.0:
            body["weight"] = self.weight
        return body


@dataclass(frozen=True)
class Query:
    """A search, or without terms a listing of what passes the filter, in an order.

    One text is searched by words, then by likeness (`mode`, "hybrid" if omitted); any other sum of terms is compared with the
    vectors of one space. `vectors` names that space instead of a mode. The server checks every limit.

    An image that does not seem to be medical is declined unless `accept_any_image`. An empty `collection` is the active one.
    """

    terms: tuple[Term, ...]
    vectors: VectorSpace | None = None
    k: int = 10
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_score: float | None = None
    page_token: str | None = None
    accept_any_image: bool = False
    mode: SearchMode | None = None
    collection: str = ""
    where_not: Mapping[str, Sequence[str]] = field(default_factory=dict)
    group_by: GroupBy | None = None
    order: Order | None = None
    seed: int | None = None
    variety: bool = False
    positive: Sequence[str] = ()
    negative: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The body of POST /v1/search."""
        body: dict[str, Any] = {"terms": [term.to_json() for term in self.terms], **self.options_json()}
        for name in ("page_token", "order", "seed"):
            if (value := getattr(self, name)) not in (None, ""):
                body[name] = value
        for name in ("positive", "negative"):
            if ids := getattr(self, name):
                body[name] = list(ids)
        return body

    def options_json(self) -> dict[str, Any]:
        """Everything but the terms and the page, as search and compare share it."""
        body: dict[str, Any] = {"k": self.k}
        if self.vectors is not None:
            body["vectors"] = self.vectors
        if self.mode is not None:
            body["mode"] = self.mode
        if self.where:
            body["where"] = {facet: list(values) for facet, values in self.where.items()}
        if self.min_score is not None:
            body["min_score"] = self.min_score
        if self.accept_any_image:
            body["accept_any_image"] = True
        if self.collection:
            body["collection"] = self.collection
        if self.where_not:
            body["not"] = {facet: list(values) for facet, values in self.where_not.items()}
        if self.group_by is not None:
            body["group_by"] = self.group_by
        if self.variety:
            body["variety"] = True
        return body


def given_fields(options: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults."""
    return {each.name: value for each in fields(options) if (value := getattr(options, each.name)) != each.default}


def weighted_terms(
    text: str | None = None,
    *,
    images: Iterable[bytes] = (),
    ids: Iterable[str] = (),
    minus: Iterable[str] = (),
    plus: Iterable[str] = (),
) -> tuple[Term, ...]:
    """The terms of `text + images + ids - minus + plus`, in that order."""
    return (
        *([Term(text=text)] if text is not None else []),
        *(Term(image=image) for image in images),
        *(Term(id=id_) for id_ in ids),
        *(Term(text=phrase, weight=-1.0) for phrase in minus),
        *(Term(text=phrase) for phrase in plus),
    )
