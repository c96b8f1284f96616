"""Continuing a text, token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mirage_inference.llm.decoder import CancelledError, ContextFullError
from mirage_inference.llm.sampling import Sampler, Sampling

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mirage_inference.llm.copying import CopiedText
    from mirage_inference.llm.decoder import Cancelled, Decoder, Prefix, TextSession
    from mirage_inference.llm.word_constraint import ConstrainedText


@dataclass(frozen=True)
class Continuation:
    """Options of a continuation: at most `max_tokens`, up to one of `end_ids` (which is not yielded)."""

    max_tokens: int
    end_ids: Collection[int]
    sampling: Sampling = field(default_factory=Sampling)


def generate(
    session: TextSession,
    ids: Sequence[int],
    continuation: Continuation,
    *,
    constraint: ConstrainedText | None = None,
    copied: CopiedText | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[int]:
    """Yields the tokens that follow the session's text and `ids`, of those that `constraint` allows if given; `copied`
    favours some.

    Ends at an end token, after `max_tokens`, when the context is full or no token is allowed. Calls `cancelled` before
    each token and raises CancelledError if it returns True. Raises ContextFullError if `ids` fill the context, and
    MODEL_FAILED.
    """
    sampler = Sampler(continuation.sampling)
    logits = session.prefill(ids, cancelled=cancelled)
    for number in range(continuation.max_tokens):
        if cancelled is not None and cancelled():
            raise CancelledError
        if copied is not None:
            logits = copied.favour(logits)
        if constraint is not None:
            allowed = constraint.allowed()
            if not allowed.any():
                return
            logits = np.where(allowed, logits, np.float32(-np.inf))
        token = sampler.pick(logits)
        if token in continuation.end_ids:
            return
        if constraint is not None:
            constraint.push(token)
        if copied is not None:
            copied.push(token)
        yield token
        if number + 1 < continuation.max_tokens:
            try:
                logits = session.step(token)
            except ContextFullError:
                return


class PrefixCache:
    """The cache of the one prefix that texts usually begin with, computed once."""

    def __init__(self, decoder: Decoder, ids: Sequence[int]) -> None:
        self._decoder = decoder
        self._prefix: Prefix | None = None
        if ids:
            session = decoder.open(capacity=len(ids))
            session.prefill(ids)
            self._prefix = session.keep()

    def begin(self, ids: Sequence[int], *, capacity: int | None = None) -> tuple[TextSession, list[int]]:
        """Returns a session for a text of `ids`, and the ids that are still to be run: at least the last.

        If the text does not begin with the whole prefix, the shared part is reused.
        """
        prefix = self._prefix
        if prefix is None:
            return self._decoder.open(capacity=capacity), list(ids)
        shared = _shared(prefix.ids, ids[:-1])
        room = self._decoder.context_length if capacity is None else capacity
        if shared == 0 or room < len(prefix.ids):
            return self._decoder.open(capacity=capacity), list(ids)
        session = self._decoder.open(prefix=prefix, capacity=capacity)
        session.rewind(shared)
        return session, list(ids[shared:])


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
