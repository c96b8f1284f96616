"""Cleans the model's text on its way out: stop sequences, blanks at its ends, unreadable marks."""

from __future__ import annotations

from collections.abc import Sequence

FORMAT_STOPS = ("### End", "### Instruction", "### Response", "### Input", "\nInput:\n", "Below is an instruction that")
"""A model without the special tokens (or one that strays) goes on with the format itself: its answer is over then."""


class Output:
    """Takes text piece by piece; gives out what can neither become a stop sequence nor be a blank at the end."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = (*stops, *FORMAT_STOPS)
        self._held = ""
        self._begun = False
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is certain by now. After a stop sequence `stopped` is true and nothing comes any more."""
        if self.stopped:
            return ""
        self._held += "".join(map(_readable, text))
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._release(len(self._held[: min(places)].rstrip()))
        return self._release(min(len(self._held.rstrip()), len(self._held) - self._open()))

    def finish(self) -> str:
        """Returns the rest if no stop sequence was found."""
        return "" if self.stopped else self._release(len(self._held.rstrip()))

    def _open(self) -> int:
        """Length of the longest end of the held text that a stop sequence begins with."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _release(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        if not self._begun:
            # The blanks that models begin with are not part of the answer.
            out = out.lstrip()
            self._begun = bool(out)
        # Blanks before a held piece wait with it: they may turn out to be at the end.
        kept = out.rstrip()
        self._held = out[len(kept) :] + self._held if self._begun else self._held
        return kept


def _readable(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return " " if character.isspace() else ""
