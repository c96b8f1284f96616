"""The job: a question and captions to a description, piece by piece, each sentence with what supports it."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Protocol

from mirage_core import telemetry, tracing
from mirage_core.describe_options import SEED_MAX
from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor
from mirage_core.extractive import extract
from mirage_core.sentences import Sentence, split_sentences
from mirage_inference.llm.citations import supporting
from mirage_inference.llm.decoder import CancelledError
from mirage_inference.llm.domain import MedicalCheck
from mirage_inference.llm.model import Begun, Finished, LlmModel, Written, Wrote
from mirage_inference.llm.request import Caption, Match, Question
from mirage_llm.events import Cited, Ended, Event, Finish, Piece, Source, Started

_log = telemetry.get_logger()
_outcomes = telemetry.counter("llm_descriptions_total", "Descriptions by source and finish.", ("source", "finish"))
_tokens = telemetry.counter("llm_tokens_total", "Tokens that the model wrote.")
_writing = telemetry.gauge("llm_writing", "Descriptions that the model is writing.")

NO_MATCH = "No image of the atlas answers this well, so nothing was written."
WEAK_MATCH = "The images found answer this only weakly, so nothing was written."
NOT_MEDICAL = "This does not seem to be a question about medicine, so nothing was written."
NOT_LOADED = "The language model is not loaded: these sentences are taken from the captions."
FAILED = "The language model failed: these sentences are taken from the captions."
SILENT = "The language model wrote nothing: these sentences are taken from the captions."
TOO_SLOW = "The language model was too slow: these sentences are taken from the captions."
BY_WORDS = "Sources were matched by words alone, because the encoder does not answer."


class Similarity(Protocol):
    """Similarity in meaning of a description's sentences and its captions."""

    @property
    def failed(self) -> bool:
        """True once the encoder has not answered."""
        ...

    async def cosines(self, sentence: str) -> list[float] | None:
        """Returns a cosine per caption, or None without an encoder. Never raises MirageError."""
        ...


@dataclass(frozen=True)
class DescriberOptions:
    """`slots` descriptions at once, `queue` waiting.

    `first_token_s` and `total_s` after arrival the answer is an extract.
    """

    slots: int = 1
    queue: int = 8
    first_token_s: float = 20.0
    total_s: float = 90.0


@dataclass
class _Draft:
    """The state of a description while it is written."""

    question: Question
    arrived: float
    similarity: Similarity | None
    seed: int = 0
    used: tuple[Caption, ...] = ()
    started: bool = False
    sent: bool = False
    text: str = ""
    tokens: int = 0
    first_token_ms: float = 0.0
    queue_ms: float = 0.0
    begun_at: float = 0.0
    citing: list[asyncio.Task[Cited]] = field(default_factory=list)
    told: int = 0
    # Until the first token the prompt is read, from then on the answer is written.
    span: tracing.Span = field(default_factory=lambda: tracing.open_span("describe.read"))

    def ms(self) -> float:
        """Since arrival."""
        return (time.perf_counter() - self.arrived) * 1000


class _Running:
    """The thread has taken the description up."""


class Describer:
    """Describes with the model that `use` gave it; before that, and if the model fails or is late, with extracts."""

    def __init__(
        self,
        options: DescriberOptions,
        *,
        medical: MedicalCheck = lambda _, __: True,
        similarity: Callable[[tuple[Caption, ...]], Similarity] | None = None,
    ) -> None:
        self._options, self._medical, self._similarity = options, medical, similarity
        self._executor = BoundedExecutor(
            workers=options.slots, queue_limit=options.queue, name="describe", typical_ms=2000.0
        )
        self._model: LlmModel | None = None

    def use(self, model: LlmModel) -> None:
        """From now on this model writes."""
        self._model = model

    @property
    def model(self) -> LlmModel | None:
        """The model in use; None until one is loaded."""
        return self._model

    async def describe(self, question: Question) -> AsyncGenerator[Event]:
        """The events of one description. Closing the generator stops the model within one token and frees its slot.

        Raises the catalogue's errors for what passes a limit, and QUEUE_FULL; both before the first event.
        """
        arrived = time.perf_counter()
        question.check()
        if declined := self._declined(question):
            finish, notice = declined
            yield self._end(Ended("", Source.NONE, finish, notice=notice, total_ms=_ms_since(arrived)))
            return
        draft = _Draft(question, arrived, None, used=question.captions)
        if self._model is None:
            async for event in self._extracted(draft, Finish.NO_MODEL, NOT_LOADED):
                yield event
            return
        draft.seed = _seed(question)
        written = self._written(self._model, draft)
        try:
            async with aclosing(written):
                async for event in written:
                    yield event
        finally:
            draft.span.set(tokens=draft.tokens)
            draft.span.end()
            for task in draft.citing:
                task.cancel()

    async def close(self) -> None:
        """Drops what waits; what runs ends with its last token. The model stays open: it is the caller's."""
        self._executor.close()

    def _declined(self, question: Question) -> tuple[Finish, str] | None:
        if not self._medical(question.query, [caption.text for caption in question.captions]):
            return Finish.NOT_MEDICAL, NOT_MEDICAL
        if question.match is Match.NONE:
            return Finish.NO_MATCH, NO_MATCH
        if question.match is Match.WEAK:
            return Finish.NO_MATCH, WEAK_MATCH
        return None

    async def _written(self, model: LlmModel, draft: _Draft) -> AsyncGenerator[Event]:
        """The model's description, or an extract in its place."""
        finish, notice = Finish.NO_MODEL, FAILED
        thread = self._thread(model, draft)
        try:
            async with aclosing(thread):
                async for item in thread:
                    if isinstance(item, Finished):
                        finish, notice = (Finish.STOP if item.complete else Finish.LENGTH), SILENT
                    for event in self._advance(draft, item):
                        yield event
        except TimeoutError:
            finish, notice, draft.text = Finish.TOO_SLOW, TOO_SLOW, ""
            draft.span.fail(Finish.TOO_SLOW.name)
        except MirageError as error:
            if error.code is Code.QUEUE_FULL:
                raise
            _log.error("the model failed", code=error.code, exc_info=error)
            draft.span.fail(error)
            draft.text = ""
        if not draft.text:
            async for event in self._extracted(draft, finish, notice):
                yield event
            return
        self._cite(draft, split_sentences(draft.text))
        for task in draft.citing[draft.told :]:
            yield await task
        draft.told = len(draft.citing)
        yield self._end(
            self._timed(
                draft,
                Ended(
                    draft.text,
                    Source.MODEL,
                    finish,
                    tuple(task.result() for task in draft.citing),
                    notice=BY_WORDS if draft.similarity and draft.similarity.failed else "",
                ),
            )
        )

    def _advance(self, draft: _Draft, item: Written | _Running) -> list[Event]:
        events: list[Event] = []
        match item:
            case _Running():
                draft.queue_ms, draft.begun_at = draft.ms(), time.perf_counter()
                draft.span.set(queue_ms=draft.queue_ms)
            case Begun(fitted=fitted, cached_tokens=cached):
                draft.used, draft.started = fitted.used, True
                draft.similarity = self._similarity(fitted.used) if self._similarity else None
                used, dropped = (tuple(each.id for each in captions) for captions in (fitted.used, fitted.dropped))
                draft.span.set(captions=len(used), prompt_tokens=len(fitted.ids), cached_tokens=cached)
                events.append(Started(used, dropped, len(fitted.ids), cached, draft.seed, fitted.shortened))
            case Wrote(text=text, tokens=tokens):
                if draft.tokens == 0:
                    draft.first_token_ms = draft.ms()
                    draft.span.end()
                    draft.span = tracing.open_span("describe.write")
                draft.tokens = tokens
                if text:
                    draft.text, draft.sent = draft.text + text, True
                    events.append(Piece(text))
                    self._cite(draft, split_sentences(draft.text)[:-1])
        while draft.told < len(draft.citing) and draft.citing[draft.told].done():
            events.append(draft.citing[draft.told].result())
            draft.told += 1
        return events

    async def _thread(self, model: LlmModel, draft: _Draft) -> AsyncGenerator[Written | _Running]:
        """Yields the model's text from a thread of the executor; raises TimeoutError if it is late."""
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Written | _Running | None] = asyncio.Queue()
        gone = threading.Event()

        def put(item: Written | _Running | None) -> None:
            # A closed loop has no reader.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(items.put_nowait, item)

        def write() -> None:
            put(_Running())
            try:
                with _writing.track_inprogress(), suppress(CancelledError):
                    for item in model.write(draft.question, seed=draft.seed, cancelled=gone.is_set):
                        if isinstance(item, Wrote):
                            _tokens.inc()
                        put(item)
            except MirageError:
                raise
            except Exception as error:  # the reader gets an extract after any error
                raise MirageError(Code.MODEL_FAILED) from error

        running = asyncio.create_task(self._executor.run(write))
        running.add_done_callback(lambda _: items.put_nowait(None))
        start = loop.time() - (time.perf_counter() - draft.arrived)
        try:
            while True:
                limit = (
                    self._options.total_s if draft.tokens else min(self._options.first_token_s, self._options.total_s)
                )
                async with asyncio.timeout_at(start + limit):
                    item = await items.get()
                if item is None:
                    break
                yield item
            await running
        finally:
            # A thread that computes a token sees this after it and frees its slot; this does not wait for it.
            gone.set()
            running.cancel()
            if running.done() and not running.cancelled():
                running.exception()

    def _cite(self, draft: _Draft, sentences: tuple[Sentence, ...]) -> None:
        for number in range(len(draft.citing), len(sentences)):
            draft.citing.append(asyncio.create_task(self._cited(draft, number, sentences[number])))

    async def _cited(self, draft: _Draft, number: int, sentence: Sentence) -> Cited:
        cosines = await draft.similarity.cosines(sentence.text) if draft.similarity else None
        found = supporting(sentence.text, [caption.text for caption in draft.used], cosines)
        return Cited(number, sentence.start, sentence.end, tuple(draft.used[index].id for index in found))

    async def _extracted(self, draft: _Draft, finish: Finish, notice: str) -> AsyncIterator[Event]:
        """An extract; where words of the model were sent already, only in the end, which replaces them."""
        question = draft.question
        made = extract([(caption.id, caption.text) for caption in question.captions], query=question.query)
        citations = tuple(Cited(each.sentence, each.start, each.end, each.ids) for each in made.citations)
        if not draft.started:
            yield Started(tuple(caption.id for caption in question.captions), (), 0, 0, draft.seed, False)
        if not draft.sent:
            yield Piece(made.text)
            for cited in citations:
                yield cited
        ended = Ended(made.text, Source.EXTRACTIVE, finish, citations, notice=notice)
        yield self._end(self._timed(draft, ended))

    def _timed(self, draft: _Draft, ended: Ended) -> Ended:
        return Ended(
            ended.text,
            ended.source,
            ended.finish,
            ended.citations,
            draft.tokens,
            draft.first_token_ms or draft.ms(),
            draft.queue_ms,
            (time.perf_counter() - draft.begun_at) * 1000 if draft.begun_at else 0.0,
            draft.ms(),
            ended.notice,
        )

    def _end(self, ended: Ended) -> Ended:
        _outcomes.labels(ended.source.name.lower(), ended.finish.name.lower()).inc()
        return ended


def _seed(question: Question) -> int:
    writing = question.writing
    if writing.temperature == 0:
        return 0
    return secrets.randbelow(SEED_MAX) if writing.seed is None else writing.seed


def _ms_since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000
