"""Searches at a steady rate, while something is done to the system."""

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Self

import httpx

RATE = 20
QUERIES = (
    "axial T2 thalami",
    "sagittal T1 corpus callosum",
    "coronal FLAIR hippocampi",
    "lesion in the left frontal lobe",
)


@dataclass(frozen=True)
class Outcome:
    """One search under load: when it began, how long it took, and what came of it (status 0: no answer)."""

    begun: float
    seconds: float
    status: int
    code: str = ""
    retry_after: str = ""


@dataclass
class Load:
    """RATE searches a second from threads, each a request of its own, until the block ends."""

    url: str
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number in range(RATE):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def answered(self, *, since: float = 0.0) -> int:
        """Searches that began after that moment and found something."""
        return sum(each.status == 200 and each.begun > since for each in self.outcomes)

    def _run(self, number: int) -> None:
        # One a second each, spread over the second; each phrase is new, so that no cache answers for a part that is gone.
        self._stop.wait(number / RATE)
        for turn in itertools.count():
            begun = time.monotonic()
            self.outcomes.append(self._search(f"{QUERIES[turn % len(QUERIES)]} {number} {turn}", begun))
            if self._stop.wait(max(0.0, 1.0 - (time.monotonic() - begun))):
                return

    def _search(self, text: str, begun: float) -> Outcome:
        try:
            reply = httpx.post(f"{self.url}/v1/search", json={"text": text, "k": 3}, timeout=60)
        except httpx.HTTPError:
            return Outcome(begun, time.monotonic() - begun, 0)
        seconds = time.monotonic() - begun
        if reply.status_code == 200:
            return Outcome(begun, seconds, 200)
        return Outcome(
            begun, seconds, reply.status_code, reply.json().get("code", ""), reply.headers.get("retry-after", "")
        )
