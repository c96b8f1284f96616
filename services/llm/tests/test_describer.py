"""The job with models that do what a test needs: wait amid a token, fail, write nothing. The tiny bundle's is in test_service."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.decoder import CancelledError
from mirage_inference.llm.fitting import Fitted
from mirage_inference.llm.model import Begun, Finished, LlmModel, Written, Wrote
from mirage_inference.llm.request import Caption, Question
from mirage_llm.describer import BY_WORDS, FAILED, NOT_LOADED, SILENT, TOO_SLOW, Describer, DescriberOptions
from mirage_llm.events import Cited, Ended, Event, Finish, Piece, Source, Started

WAIT_S = 30
CAPTIONS = (Caption("a", "Axial T1 section of the brain; no lesion."), Caption("b", "Coronal T2 section of the brain."))
QUESTION = Question("brain", CAPTIONS)


@dataclass
class ScriptedModel:
    """Writes `words`; before the `held`-th it waits to be let go, and before the `broken`-th it fails."""

    words: tuple[str, ...]
    held: int = -1
    broken: int = -1
    error: Exception = field(default_factory=lambda: MirageError(Code.MODEL_FAILED))
    go: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    written: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def write(self, question: Question, *, seed: int, cancelled: Callable[[], bool]) -> Iterator[Written]:
        try:
            yield Begun(Fitted((1, 2, 3), question.captions, ()), 1)
            for number, word in enumerate(self.words):
                if cancelled():
                    raise CancelledError
                if number == self.broken:
                    raise self.error
                if number == self.held:
                    self.waiting.set()
                    assert self.go.wait(WAIT_S)
                self.written += 1
                yield Wrote(word, number + 1)
            yield Finished(True, len(self.words))
        finally:
            self.ended.set()


WORDS = ("The first image ", "is an axial section", ". ", "The second image is ", "sagittal.")


def describer(model: ScriptedModel | None, **options: Any) -> Describer:
    made = Describer(DescriberOptions(**{"slots": 1, "queue": 0, **options}))
    if model is not None:
        made.use(cast("LlmModel", model))
    return made


async def events_of(made: Describer, question: Question = QUESTION) -> list[Event]:
    return [event async for event in made.describe(question)]


def end_of(events: list[Event]) -> Ended:
    assert isinstance(events[-1], Ended)
    return events[-1]


async def test_sentences_are_cited_as_they_are_complete() -> None:
    events = await events_of(describer(ScriptedModel(WORDS)))
    cited = [event for event in events if isinstance(event, Cited)]
    assert [each.ids for each in cited] == [("a",), ()]
    assert end_of(events).citations == tuple(cited)
    text = end_of(events).text
    assert [text[each.start : each.end] for each in cited] == [
        "The first image is an axial section.",
        "The second image is sagittal.",
    ]
    assert "".join(event.text for event in events if isinstance(event, Piece)) == text


async def test_closing_stops_the_model_before_its_next_token_and_frees_the_slot() -> None:
    model = ScriptedModel(WORDS, held=2)
    made = describer(model)
    running = made.describe(QUESTION)
    async for event in running:
        if isinstance(event, Piece):
            break
    assert await asyncio.to_thread(model.waiting.wait, WAIT_S)
    with pytest.raises(MirageError) as refused:
        await events_of(made)
    assert refused.value.code is Code.QUEUE_FULL
    assert refused.value.retry_after_s
    await running.aclose()
    model.go.set()
    assert await asyncio.to_thread(model.ended.wait, WAIT_S)
    assert model.written == 3
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await events_of(made)
                break
            except MirageError:  # the thread ends on its own
                await asyncio.sleep(0)


async def test_what_waits_and_is_given_up_never_starts() -> None:
    first, second = ScriptedModel(WORDS, held=0), ScriptedModel(WORDS)
    made = describer(first, queue=1)
    running = asyncio.create_task(events_of(made))
    assert await asyncio.to_thread(first.waiting.wait, WAIT_S)
    made.use(cast("LlmModel", second))
    waiting = asyncio.create_task(events_of(made))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.go.set()
    assert end_of(await running).source is Source.MODEL
    assert second.written == 0


@pytest.mark.parametrize("error", [MirageError(Code.MODEL_FAILED), ValueError("a bug")])
@pytest.mark.parametrize("after", [0, 3])
async def test_a_model_that_fails_gives_way_to_the_captions(error: Exception, after: int) -> None:
    events = await events_of(describer(ScriptedModel(WORDS, broken=after, error=error)))
    end = end_of(events)
    assert end.source is Source.EXTRACTIVE
    assert end.notice == FAILED
    assert end.text == "Axial T1 section of the brain; no lesion. Coronal T2 section of the brain."
    assert [each.ids for each in end.citations] == [("a",), ("b",)]
    pieces = "".join(event.text for event in events if isinstance(event, Piece))
    # What was sent is not sent over again: the end replaces it.
    assert pieces == ("".join(WORDS[:after]) if after else end.text)
    assert sum(isinstance(event, Started) for event in events) == 1


async def test_a_model_that_is_late_gives_way_to_the_captions_and_stops() -> None:
    model = ScriptedModel(WORDS, held=3)
    made = describer(model, total_s=0.2)
    end = end_of(await events_of(made))
    assert (end.source, end.finish, end.notice) == (Source.EXTRACTIVE, Finish.TOO_SLOW, TOO_SLOW)
    model.go.set()
    assert await asyncio.to_thread(model.ended.wait, WAIT_S)
    assert model.written == 4


async def test_whoever_waits_too_long_for_a_turn_gets_the_captions() -> None:
    model = ScriptedModel(WORDS, held=0)
    made = describer(model, queue=1, first_token_s=0.2)
    first, second = await asyncio.gather(events_of(made), events_of(made))
    assert end_of(first).finish is end_of(second).finish is Finish.TOO_SLOW
    model.go.set()


async def test_without_a_model_or_its_words_there_are_the_captions() -> None:
    assert end_of(await events_of(describer(None))).notice == NOT_LOADED
    assert end_of(await events_of(describer(ScriptedModel(("", ""))))).notice == SILENT


async def test_an_encoder_that_fails_is_mentioned_and_citations_go_by_words() -> None:
    class Down:
        failed = True

        async def cosines(self, sentence: str) -> list[float] | None:
            return None

    made = Describer(DescriberOptions(), similarity=lambda _: Down())
    made.use(cast("LlmModel", ScriptedModel(WORDS)))
    end = end_of(await events_of(made))
    assert end.notice == BY_WORDS
    assert [each.ids for each in end.citations] == [("a",), ()]
