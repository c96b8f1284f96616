"""General knowledge about a label: the checked glossary, and the providers that the operator names.

Nothing but a finding of the closed vocabulary is sent to a provider: never an image, a question or a caption. Its images
are fetched by the address that its answer names.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirage_core import telemetry
from mirage_core.errors import MirageError
from mirage_inference.llm.findings import NONE, vocabulary
from mirage_inference.llm.glossary import reviewed

NOTE_CHARS = 600
NOTES_MAX = 6
# Answers of providers; each has at most three images of some 20 KB.
_KEPT_MAX = 128
GLOSSARY = "glossary"
_log = telemetry.get_logger()


@dataclass(frozen=True)
class ImageLink:
    """The address of a note's image, and the name of its file if the provider is a wiki."""

    url: str
    file: str = ""


@dataclass(frozen=True)
class Note:
    """A piece of general knowledge, as its provider gives it: plain text on one line.

    `image` is a small JPEG file, or empty; `link` is where it comes from, and is not shown.
    """

    text: str
    title: str
    provider: str
    url: str = ""
    licence: str = ""
    image: bytes = b""
    image_credit: str = ""
    link: ImageLink | None = None


@dataclass(frozen=True)
class Context:
    """The notes; `sent` is what was sent to providers, empty if nothing was."""

    notes: tuple[Note, ...] = ()
    sent: str = ""
    notice: str = ""


class ContextProvider(Protocol):
    """Looks a finding up. It gets a name of the vocabulary and nothing else."""

    name: str

    async def look_up(self, finding: str) -> Sequence[Note]:
        """Returns at most three notes without images; raises MirageError."""
        ...

    async def illustrate(self, note: Note) -> Note:
        """Returns the note with its image, if it has one; raises MirageError."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


def from_glossary(words: Sequence[str]) -> tuple[Note, ...]:
    """Returns the facts about any of the words or their synonyms, those about the first word first."""
    found: dict[str, Note] = {}
    for word in words:
        names = {word, *vocabulary().synonyms.get(word, ())}
        for fact in reviewed():
            if names & set(fact.terms):
                found.setdefault(fact.sentence, Note(fact.sentence, fact.terms[0], GLOSSARY))
    return tuple(found.values())[:NOTES_MAX]


class ContextSource:
    """The glossary and the providers. What a provider says about a finding is kept, and asked once."""

    def __init__(self, providers: Sequence[ContextProvider] = (), *, timeout_s: float = 3.0) -> None:
        self._providers = providers
        self._timeout_s = timeout_s
        self._kept: dict[tuple[str, str], tuple[Note, ...]] = {}

    async def about(self, finding: str, words: Sequence[str]) -> Context:
        """Returns notes about a finding of the vocabulary (empty: the glossary alone is asked) and about other words."""
        notes = from_glossary([finding, *words] if finding else words)
        if not self._providers or finding not in vocabulary().synonyms or finding == NONE:
            return Context(notes)
        answers = await asyncio.gather(*(self._ask(each, finding) for each in self._providers))
        failed = [each.name for each, answer in zip(self._providers, answers, strict=True) if answer is None]
        notice = f"No answer from {', '.join(failed)}." if failed else ""
        return Context((*notes, *(note for answer in answers for note in answer or ())), finding, notice)

    async def close(self) -> None:
        """Closes the providers."""
        for each in self._providers:
            await each.close()

    async def _ask(self, provider: ContextProvider, finding: str) -> tuple[Note, ...] | None:
        kept = self._kept.get((provider.name, finding))
        if kept is not None:
            return kept
        try:
            async with asyncio.timeout(self._timeout_s):
                notes = tuple(await provider.look_up(finding))
        except (MirageError, TimeoutError) as error:
            _log.warning("context provider failed", provider=provider.name, error=type(error).__name__)
            return None
        # In turn, so that a slow image takes its own time and no note's.
        notes = tuple(await asyncio.gather(*(self._illustrated(provider, note) for note in notes)))
        while len(self._kept) >= _KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[provider.name, finding] = notes
        return notes

    async def _illustrated(self, provider: ContextProvider, note: Note) -> Note:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await provider.illustrate(note)
        except (MirageError, TimeoutError) as error:
            _log.warning("context image failed", provider=provider.name, error=type(error).__name__)
            return note
