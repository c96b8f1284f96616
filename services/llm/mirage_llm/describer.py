"""The job: a question and captions to a description, of which only sentences that hold are sent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from mirage_core import telemetry, tracing
from mirage_core.describe_options import SEED_MAX
from mirage_core.errors import Code, MirageError
from mirage_core.extractive import extract
from mirage_core.sentences import split_sentences
from mirage_inference.llm.checking import FACTS_MAX, Checked, Checker, Kind, block_of
from mirage_inference.llm.difference import differences
from mirage_inference.llm.domain import MedicalCheck
from mirage_inference.llm.glossary import Glossary
from mirage_inference.llm.model import Begun, Finished, Outside, Written, Wrote
from mirage_inference.llm.request import Caption, Match, Question
from mirage_llm.events import Difference, Ended, Event, Finish, Source, Started
from mirage_llm.writers import Running, Writer

_log = telemetry.get_logger()
_outcomes = telemetry.counter("llm_descriptions_total", "Descriptions by source and finish.", ("source", "finish"))
_sentences = telemetry.counter("llm_sentences_total", "Sentences by origin, or withheld.", ("kind",))

NO_MATCH = "No image of the atlas answers this well, so nothing was written."
WEAK_MATCH = "The images found answer this only weakly, so nothing was written."
NOT_MEDICAL = "This does not seem to be a question about medicine, so nothing was written."
NOT_LOADED = "The language model is not loaded: these sentences are taken from the captions."
FAILED = "The language model failed: these sentences are taken from the captions."
SILENT = "The language model wrote no sentence: these sentences are taken from the captions."
TOO_SLOW = "The language model was too slow: these sentences are taken from the captions."
UNSUPPORTED = "The language model wrote too much that no caption supports: these sentences are taken from the captions."
OUTSIDE = (
    "These captions are unlike those that the language model learnt from: these sentences are taken from the captions."
)
BY_RULES = "What the captions of both sides say, compared by rules: what is not stated may still be there."
NO_DIFFERENCE = "The captions of both sides state no difference."
END_MARKS = (".", "!", "?")
JUDGED = 3
"""If fewer than half of so many first sentences hold, the captions take over."""


@dataclass(frozen=True)
class DescriberOptions:
    """`first_token_s` and `total_s` after arrival the answer is an extract."""

    first_token_s: float = 20.0
    total_s: float = 90.0


@dataclass
class _Draft:
    """The state of a description while it is written."""

    question: Question
    arrived: float
    checker: Checker
    seed: int = 0
    used: tuple[Caption, ...] = ()
    started: bool = False
    text: str = ""
    read: int = 0
    held: int = 0
    withheld: int = 0
    shown: list[Checked] = field(default_factory=list)
    tokens: int = 0
    first_sentence_ms: float = 0.0
    queue_ms: float = 0.0
    begun_at: float = 0.0
    # Until the first token the prompt is read, from then on the answer is written.
    span: tracing.Span = field(default_factory=lambda: tracing.open_span("describe.read"))

    def ms(self) -> float:
        """Since arrival."""
        return (time.perf_counter() - self.arrived) * 1000

    def judge(self, *, ended: bool = False) -> list[Checked]:
        """Checks the sentences that are complete by now; returns those that are to be shown."""
        sentences = split_sentences(self.text)
        new: list[Checked] = []
        for sentence in sentences[self.read : len(sentences) if ended else -1]:
            self.read += 1
            checked = self.checker.check(sentence.text)
            if checked is None:
                self.withheld += 1
            else:
                self.held += 1
                new += self.show(checked)
            if self.strays():
                break
        return new

    def show(self, checked: Checked) -> list[Checked]:
        """Notes a sentence as shown; returns it unless it was shown before."""
        if any(checked.text == each.text for each in self.shown):
            return []
        self.first_sentence_ms = self.first_sentence_ms or self.ms()
        self.shown.append(checked)
        _sentences.labels(checked.kind.name.lower()).inc()
        return [checked]

    def strays(self, *, ended: bool = False) -> bool:
        """True if fewer than half of the first sentences hold, whatever follows."""
        judged = min(self.read, JUDGED) if ended else JUDGED
        return self.read <= JUDGED and 2 * min(self.withheld, judged) > judged


class Describer:
    """Describes with the writer that `use` gave it; before that, and if that fails or is late, with extracts."""

    def __init__(
        self,
        options: DescriberOptions,
        *,
        medical: MedicalCheck = lambda _, __: True,
        glossary: Glossary | None = None,
    ) -> None:
        self._options, self._medical = options, medical
        self._glossary = glossary or Glossary(())
        self._writer: Writer | None = None

    def use(self, writer: Writer) -> None:
        """From now on this one writes."""
        self._writer = writer

    @property
    def writer(self) -> Writer | None:
        """The writer in use; None until it is loaded."""
        return self._writer

    async def describe(self, question: Question) -> AsyncGenerator[Event]:
        """The events of one description. Closing the generator stops the model within one token and frees its slot.

        Raises the catalogue's errors for what passes a limit, and QUEUE_FULL; both before the first event.
        """
        arrived = time.perf_counter()
        question.check()
        if declined := self._declined(question):
            finish, notice = declined
            _outcomes.labels(Source.NONE.name.lower(), finish.name.lower()).inc()
            yield Ended(Source.NONE, finish, notice=notice, total_ms=_ms_since(arrived))
            return
        draft = _Draft(question, arrived, Checker(question.captions, self._glossary), used=question.captions)
        if question.against:
            for event in self._compared(draft):
                yield event
            return
        if self._writer is None:
            for event in self._extracted(draft, Finish.NO_MODEL, NOT_LOADED):
                yield event
            return
        draft.seed = _seed(question)
        written = self._written(self._writer, draft)
        try:
            async with aclosing(written):
                async for event in written:
                    yield event
        finally:
            draft.span.set(tokens=draft.tokens)
            draft.span.end()

    def _declined(self, question: Question) -> tuple[Finish, str] | None:
        if not self._medical(question.query, [caption.text for caption in question.captions]):
            return Finish.NOT_MEDICAL, NOT_MEDICAL
        if question.match is Match.NONE:
            return Finish.NO_MATCH, NO_MATCH
        if question.match is Match.WEAK:
            return Finish.NO_MATCH, WEAK_MATCH
        return None

    async def _written(self, writer: Writer, draft: _Draft) -> AsyncGenerator[Event]:
        """Sentences of the model that hold; of the captions as soon as too few do, or the model fails."""
        finish, notice = Finish.NO_MODEL, FAILED
        try:
            async with aclosing(self._in_time(writer, draft)) as items:
                async for item in items:
                    if isinstance(item, Outside):
                        finish, notice = Finish.OUTSIDE, OUTSIDE
                    if isinstance(item, Finished):
                        finish, notice = (Finish.STOP if item.complete else Finish.LENGTH), ""
                    for event in self._advance(draft, item):
                        yield event
                    if draft.strays():
                        break
        except TimeoutError:
            finish, notice = Finish.TOO_SLOW, TOO_SLOW
            draft.span.fail(Finish.TOO_SLOW.name)
        except MirageError as error:
            if error.code is Code.QUEUE_FULL:
                raise
            _log.error("the model failed", code=error.code, exc_info=error)
            draft.span.fail(error)
        if not notice and not draft.read:
            notice = SILENT
        elif draft.strays(ended=not notice):
            finish, notice = Finish.UNSUPPORTED, UNSUPPORTED
        if notice:
            for event in self._extracted(draft, finish, notice):
                yield event
            return
        for event in self._told(draft):
            yield event
        yield self._end(draft, Source.MODEL, finish)

    def _advance(self, draft: _Draft, item: Written | Running) -> list[Event]:
        match item:
            case Running():
                draft.queue_ms, draft.begun_at = draft.ms(), time.perf_counter()
                draft.span.set(queue_ms=draft.queue_ms)
            case Begun(fitted=fitted, cached_tokens=cached):
                draft.used, draft.started = fitted.used, True
                draft.checker = Checker(fitted.used, self._glossary)
                used, dropped = (tuple(each.id for each in captions) for captions in (fitted.used, fitted.dropped))
                draft.span.set(captions=len(used), prompt_tokens=len(fitted.ids), cached_tokens=cached)
                return [Started(used, dropped, len(fitted.ids), cached, draft.seed, fitted.shortened)]
            case Wrote(text=text, tokens=tokens):
                if draft.tokens == 0:
                    draft.span.end()
                    draft.span = tracing.open_span("describe.write")
                draft.tokens, draft.text = tokens, draft.text + text
                return list(draft.judge()) if text else []
            case Finished(complete=complete):
                # A sentence that was cut off is not shown.
                return list(draft.judge(ended=complete or draft.text.rstrip()[-1:] in END_MARKS))
        return []

    async def _in_time(self, writer: Writer, draft: _Draft) -> AsyncGenerator[Written | Running]:
        """Yields what the writer writes; raises TimeoutError if it is late."""
        start = asyncio.get_running_loop().time() - (time.perf_counter() - draft.arrived)
        options = self._options
        async with aclosing(writer.write(draft.question, draft.seed)) as items:
            while True:
                limit = options.total_s if draft.tokens else min(options.first_token_s, options.total_s)
                async with asyncio.timeout_at(start + limit):
                    item = await anext(items, None)
                if item is None:
                    return
                yield item

    def _extracted(self, draft: _Draft, finish: Finish, notice: str) -> Iterator[Event]:
        """Sentences of the captions, after those of the model that hold."""
        question = draft.question
        if not draft.started:
            yield Started(tuple(caption.id for caption in question.captions), (), 0, 0, draft.seed, False)
        # Look-alikes are not what is seen; they have sentences of their own.
        alike = {record.id for record in question.look_alikes}
        captions = [(caption.id, caption.text) for caption in question.captions if caption.id not in alike]
        for text, ids in extract(captions, query=question.query):
            yield from draft.show(Checked(text, Kind.EXTRACT, block_of(text), ids))
        yield from self._told(draft)
        yield self._end(draft, Source.EXTRACTIVE, finish, notice)

    def _compared(self, draft: _Draft) -> Iterator[Event]:
        """The difference between two sides, by rules: the model takes no part."""
        question = draft.question
        yield Started(tuple(each.id for each in (*question.captions, *question.against)), (), 0, 0, 0, False)
        for sentence in differences(question.captions, question.against):
            draft.show(sentence)
            yield Difference(sentence)
        yield self._end(draft, Source.EXTRACTIVE, Finish.STOP, BY_RULES if draft.shown else NO_DIFFERENCE)

    def _told(self, draft: _Draft) -> Iterator[Event]:
        """General knowledge about what the question names and the best caption shows, and what looks alike."""
        known = sum(checked.kind is Kind.GENERAL for checked in draft.shown)
        for fact in draft.checker.facts(draft.question.query):
            if known >= FACTS_MAX:
                break
            if shown := draft.show(fact):
                known += 1
                yield from shown
        for record in draft.question.look_alikes:
            yield from draft.show(draft.checker.look_alike(record))
            for fact in draft.checker.facts_about(record.title)[:1]:
                yield from draft.show(fact)

    def _end(self, draft: _Draft, source: Source, finish: Finish, notice: str = "") -> Ended:
        _outcomes.labels(source.name.lower(), finish.name.lower()).inc()
        _sentences.labels("withheld").inc(draft.withheld)
        return Ended(
            source,
            finish,
            tuple(draft.shown),
            draft.withheld,
            draft.tokens,
            draft.first_sentence_ms or draft.ms(),
            draft.queue_ms,
            (time.perf_counter() - draft.begun_at) * 1000 if draft.begun_at else 0.0,
            draft.ms(),
            notice,
        )


def _seed(question: Question) -> int:
    writing = question.writing
    if writing.temperature == 0:
        return 0
    return secrets.randbelow(SEED_MAX) if writing.seed is None else writing.seed


def _ms_since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000
