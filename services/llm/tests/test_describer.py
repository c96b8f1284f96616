"""The job with models that do what a test needs: wait amid a token, fail, write nothing. The tiny bundle's is in test_service."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import LlmManifest, load_llm
from mirage_inference.llm.checking import Block, Checked, Kind
from mirage_inference.llm.decoder import CancelledError
from mirage_inference.llm.fitting import Fitted
from mirage_inference.llm.glossary import Fact, Glossary
from mirage_inference.llm.model import Begun, Finished, LlmModel, Written, Wrote
from mirage_inference.llm.request import Caption, Question
from mirage_llm.describer import (
    FAILED,
    NO_DIFFERENCE,
    NOT_LOADED,
    SILENT,
    TOO_SLOW,
    UNSUPPORTED,
    Describer,
    DescriberOptions,
)
from mirage_llm.events import Difference, Ended, Event, Finish, Source, Started
from mirage_llm.writers import BundleWriter
from tests.support.paths import TINY_LLM as TINY

WAIT_S = 30
CAPTIONS = (Caption("a", "Axial T1 section of the brain; no lesion."), Caption("b", "Coronal T2 section of the brain."))
QUESTION = Question("brain", CAPTIONS)


@dataclass
class ScriptedModel:
    """Writes `words`; before the `held`-th it waits to be let go, and before the `broken`-th it fails."""

    words: tuple[str, ...]
    held: int = -1
    broken: int = -1
    complete: bool = True
    error: Exception = field(default_factory=lambda: MirageError(Code.MODEL_FAILED))
    go: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    written: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    manifest: LlmManifest = field(default_factory=lambda: load_llm(TINY))
    variant: str = "int4"
    description: str = "a script"

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
            yield Finished(self.complete, len(self.words))
        finally:
            self.ended.set()


WORDS = ("The first image ", "is an axial section", ". ", "The second image is ", "coronal.")
SAID = (
    Checked("An axial section.", Kind.CAPTION, Block.SEE, ("a",)),
    Checked("This image is coronal.", Kind.CAPTION, Block.SEE, ("b",)),
)
T1 = Fact("contrast", ("t1",), "On T1-weighted images fluid is dark.")


def describer(model: ScriptedModel | None, **options: Any) -> Describer:
    queue = options.pop("queue", 0)
    made = Describer(DescriberOptions(**options), glossary=Glossary([T1]))
    if model is not None:
        made.use(BundleWriter(cast("LlmModel", model), slots=1, queue=queue))
    return made


async def events_of(made: Describer, question: Question = QUESTION) -> list[Event]:
    return [event async for event in made.describe(question)]


def sentences_of(events: list[Event]) -> list[Checked]:
    return [event for event in events if isinstance(event, Checked)]


def end_of(events: list[Event]) -> Ended:
    assert isinstance(events[-1], Ended)
    return events[-1]


GENERAL = Checked(T1.sentence, Kind.GENERAL, Block.WHERE)
EXTRACT = (
    Checked("Axial T1 section of the brain; no lesion.", Kind.EXTRACT, Block.SEE, ("a",)),
    Checked("Coronal T2 section of the brain.", Kind.EXTRACT, Block.SEE, ("b",)),
)


async def test_sentences_that_hold_are_shown_with_their_sources() -> None:
    events = await events_of(describer(ScriptedModel(WORDS)))
    assert sentences_of(events) == [*SAID, GENERAL]
    end = end_of(events)
    assert (end.sentences, end.withheld, end.source) == ((*SAID, GENERAL), 0, Source.MODEL)
    assert end.text == "An axial section. This image is coronal. On T1-weighted images fluid is dark."


async def test_a_sentence_is_shown_before_the_next_is_written() -> None:
    model = ScriptedModel(WORDS, held=4)
    async for event in (running := describer(model).describe(QUESTION)):
        if isinstance(event, Checked):
            break
    assert event == SAID[0]
    model.go.set()
    await running.aclose()


async def test_what_no_caption_says_is_withheld_and_counted() -> None:
    words = (*WORDS, " The first image shows a tumour.", " The first image shows the zorblatum.")
    events = await events_of(describer(ScriptedModel(words)))
    assert sentences_of(events) == [*SAID, GENERAL]
    assert (end_of(events).withheld, end_of(events).source) == (2, Source.MODEL)


async def test_the_captions_take_over_once_too_few_sentences_can_hold() -> None:
    words = ("The first image is sagittal. ", "The second image is axial. ", "It is ", "axial", ".")
    model = ScriptedModel(words, held=4)
    events = await events_of(describer(model))
    end = end_of(events)
    assert sentences_of(events) == [*EXTRACT, GENERAL]
    assert (end.source, end.finish, end.notice) == (Source.EXTRACTIVE, Finish.UNSUPPORTED, UNSUPPORTED)
    assert end.withheld == 2
    # The third could not have saved it: the rest is not waited for.
    assert model.waiting.is_set()
    model.go.set()


async def test_a_short_text_must_hold_in_half() -> None:
    half = await events_of(describer(ScriptedModel((*WORDS[:3], "The second image is sagittal."))))
    assert (end_of(half).source, end_of(half).withheld) == (Source.MODEL, 1)
    none = await events_of(describer(ScriptedModel(("The second image is sagittal.",))))
    assert end_of(none).finish is Finish.UNSUPPORTED
    assert sentences_of(none) == [*EXTRACT, GENERAL]


async def test_a_sentence_that_was_cut_off_is_not_shown() -> None:
    model = ScriptedModel((*WORDS[:3], "The second image"), complete=False)
    events = await events_of(describer(model))
    assert sentences_of(events) == [SAID[0], GENERAL]
    assert (end_of(events).finish, end_of(events).withheld) == (Finish.LENGTH, 0)


async def test_a_fact_of_the_model_is_shown_once_in_the_words_of_the_list() -> None:
    words = (*WORDS, " On t1-weighted images, fluid is dark.")
    assert sentences_of(await events_of(describer(ScriptedModel(words)))) == [*SAID, GENERAL]


async def test_closing_stops_the_model_before_its_next_token_and_frees_the_slot() -> None:
    model = ScriptedModel(WORDS, held=2)
    made = describer(model)
    running = made.describe(QUESTION)
    async for event in running:
        if isinstance(event, Started):
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
    first = ScriptedModel(WORDS, held=0)
    made = describer(first, queue=1)
    running = asyncio.create_task(events_of(made))
    assert await asyncio.to_thread(first.waiting.wait, WAIT_S)
    waiting = asyncio.create_task(events_of(made))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.go.set()
    assert end_of(await running).source is Source.MODEL
    assert first.written == len(WORDS)


@pytest.mark.parametrize("error", [MirageError(Code.MODEL_FAILED), ValueError("a bug")])
@pytest.mark.parametrize("after", [0, 4])
async def test_a_model_that_fails_gives_way_to_the_captions(error: Exception, after: int) -> None:
    events = await events_of(describer(ScriptedModel(WORDS, broken=after, error=error)))
    end = end_of(events)
    assert (end.source, end.notice) == (Source.EXTRACTIVE, FAILED)
    # What was shown holds, and stays.
    assert sentences_of(events) == list(end.sentences) == [*SAID[: after // 4], *EXTRACT, GENERAL]
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


async def test_what_looks_alike_comes_last_with_its_title_and_a_fact() -> None:
    alike = (Caption("c", "Sagittal T1 of the spine. More.", "T1 of the spine"),)
    events = await events_of(describer(ScriptedModel(WORDS)), replace(QUESTION, look_alikes=alike))
    told = Checked("T1 of the spine: Sagittal T1 of the spine.", Kind.EXTRACT, Block.APART, ("c",))
    assert sentences_of(events) == [*SAID, GENERAL, told]


async def test_what_looks_alike_is_not_among_what_is_seen() -> None:
    alike = (replace(CAPTIONS[1], title="Coronal T2 section of the brain"),)
    events = await events_of(describer(None), replace(QUESTION, look_alikes=alike))
    told = Checked("Coronal T2 section of the brain.", Kind.EXTRACT, Block.APART, ("b",))
    assert sentences_of(events) == [EXTRACT[0], GENERAL, told]


async def test_two_sides_are_compared_without_the_model() -> None:
    model = ScriptedModel(WORDS)
    question = replace(QUESTION, captions=CAPTIONS[:1], against=CAPTIONS[1:])
    start, *found, end = await events_of(describer(model), question)
    assert isinstance(start, Started)
    assert start.used == ("a", "b")
    assert [each.sentence.text for each in found if isinstance(each, Difference)] == [
        "Plane: axial in A, coronal in B.",
        "Sequence: T1 in A, T2 in B.",
    ]
    assert (end_of([end]).source, model.written) == (Source.EXTRACTIVE, 0)
    [_, same] = await events_of(describer(model), replace(question, against=CAPTIONS[:1]))
    assert (end_of([same]).text, end_of([same]).notice) == ("", NO_DIFFERENCE)


@pytest.mark.parametrize(
    "changed",
    [
        {"look_alikes": (Caption("c", "x", " "),)},
        {"look_alikes": (Caption("c", "x", "x" * 501),)},
        {"look_alikes": tuple(Caption(str(n), "x", "t") for n in range(5))},
        {"look_alikes": (Caption("c", " ", "t"),)},
        {"against": tuple(Caption(str(n), "x") for n in range(17))},
        {"against": (Caption("../", "x"),)},
    ],
)
async def test_bad_look_alikes_and_sides_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MirageError):
        await events_of(describer(ScriptedModel(WORDS)), replace(QUESTION, **changed))
