"""Events of a description: Started, then the sentences that hold (or Differences), then Ended. A declined one has Ended only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mirage_inference.llm.checking import Checked


class Source(IntEnum):
    """As mirage.v1.DescriptionSource."""

    MODEL = 1
    EXTRACTIVE = 2
    NONE = 3


class Finish(IntEnum):
    """As mirage.v1.DescriptionFinish."""

    STOP = 1
    LENGTH = 2
    NO_MATCH = 3
    NOT_MEDICAL = 4
    TOO_SLOW = 5
    NO_MODEL = 6
    UNSUPPORTED = 7
    OUTSIDE = 8


@dataclass(frozen=True)
class Started:
    """The captions in use (ids, best first), tokens of the prompt, and the seed in use."""

    used: tuple[str, ...]
    dropped: tuple[str, ...]
    prompt_tokens: int
    cached_tokens: int
    seed: int
    shortened: bool


@dataclass(frozen=True)
class Ended:
    """The sentences that were sent, the number withheld, and times in milliseconds from the request's arrival."""

    source: Source
    finish: Finish
    sentences: tuple[Checked, ...] = ()
    withheld: int = 0
    tokens: int = 0
    first_sentence_ms: float = 0.0
    queue_ms: float = 0.0
    inference_ms: float = 0.0
    total_ms: float = 0.0
    notice: str = ""

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(sentence.text for sentence in self.sentences)


@dataclass(frozen=True)
class Difference:
    """A sentence about the difference of two sides."""

    sentence: Checked


Event = Started | Checked | Difference | Ended
