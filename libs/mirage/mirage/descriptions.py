"""An explanation as it comes from the gateway: events, and the whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from mirage.fields import Fields
from mirage.replies import SearchReply, SearchResult


@dataclass(frozen=True)
class DescribeOptions:
    """Options of a description.

    None and () are the server's defaults. The server checks every limit (`DescribeOptions` of description.proto).
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields of the body that are set."""
        given = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Retrieval:
    """First: what was found, and is written from."""

    reply: SearchReply


@dataclass(frozen=True)
class Started:
    """The model begins: ids of the captions in its prompt, and of those that did not fit."""

    used_ids: tuple[str, ...]
    dropped_ids: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True)
class Token:
    """Text to be appended."""

    text: str


@dataclass(frozen=True)
class Citation:
    """The `sentence`-th sentence is text[start:end]; `ids` name the records whose captions support it, if any."""

    sentence: int
    start: int
    end: int
    ids: tuple[str, ...]
    supported: bool

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.integer_or("sentence"),
            fields.integer_or("start"),
            fields.integer_or("end"),
            fields.strings("ids"),
            fields.truth("supported"),
        )


@dataclass(frozen=True)
class Ranking:
    """Ids by the query, records by the description, and the id that fits both best."""

    first: tuple[str, ...]
    second: tuple[SearchResult, ...]
    best: str
    sentences: int = 0
    truncated: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.strings("first"),
            tuple(map(SearchResult.parse, fields.children("second"))),
            fields.text_or("best"),
            fields.integer_or("sentences"),
            fields.truth("truncated"),
        )


@dataclass(frozen=True)
class Done:
    """The last event: `text` and `citations` replace all earlier ones. `source` is "model", "extractive", or empty if
    it was declined.

    `finish` is "stop", "length", "no_match", "not_medical" or "too_slow"; `notice` is for the reader.
    """

    text: str
    citations: tuple[Citation, ...]
    source: str
    finish: str
    notice: str
    tokens: int = 0
    first_token_ms: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            text=fields.text_or("text"),
            citations=tuple(map(Citation.parse, fields.children("citations"))),
            source=fields.text_or("source"),
            finish=fields.text_or("finish"),
            notice=fields.text_or("notice"),
            tokens=fields.integer_or("tokens"),
            first_token_ms=fields.number_or("first_token_ms"),
            timings=fields.numbers("timings"),
        )


DescriptionEvent: TypeAlias = Retrieval | Started | Token | Citation | Ranking | Done


@dataclass(frozen=True)
class Description:
    """A whole description. Without a text to rank by, `ranking` is None."""

    retrieval: SearchReply
    done: Done
    ranking: Ranking | None
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "description")
        return cls(
            SearchReply.parse(fields.child("retrieval").raw),
            Done.parse(fields),
            None if value.get("ranking") is None else Ranking.parse(fields.child("ranking")),
            value,
        )


def parse_event(name: str, data: Mapping[str, Any]) -> DescriptionEvent | None:
    """The event; None for one of a name that this client does not know, as a newer server may send."""
    fields = Fields(data, name)
    match name:
        case "retrieval":
            return Retrieval(SearchReply.parse(data))
        case "start":
            return Started(fields.strings("used_ids"), fields.strings("dropped_ids"), fields.integer_or("seed"))
        case "token":
            return Token(fields.text("text"))
        case "citation":
            return Citation.parse(fields)
        case "ranking":
            return Ranking.parse(fields)
        case "done":
            return Done.parse(fields)
        case _:
            return None
