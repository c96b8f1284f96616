"""Reads an image step by step: what it is, what to look at, what similar cases show, and what a model says of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from mirage_core import limits, telemetry
from mirage_core.errors import Code, MirageError
from mirage_inference.llm.findings import Vocabulary, vocabulary
from mirage_reader.atlas import Atlas, Neighbour, Own, Subject
from mirage_reader.checklists import checklist_for
from mirage_reader.context import ContextSource
from mirage_reader.engines.base import DRAFTS_MAX, SUMMARY_MAX, ReadingEngine, StepSource, Study, Summariser
from mirage_reader.engines.composed import ComposedReading
from mirage_reader.events import ChecklistShown, Done, Event, Finish, KindFound, Similar
from mirage_reader.evidence import Evidence, one_a_case, weigh
from mirage_reader.kinds import Correction, Kind, Look, Medical, kind_of
from mirage_reader.labels import Label, label_of, label_of_question
from mirage_reader.steps import Step, by_rules, check, check_summary, supported

_log = telemetry.get_logger()
_ended = telemetry.counter("reader_readings_total", "Readings, by why they ended and who read.", ("finish", "engine"))
_evidence_s = telemetry.histogram("reader_evidence_seconds", "From the request to the evidence of a reading.", ())

SIMILAR = 6
_NO_CHECKLIST = "There is no checklist for this kind of image. Correct the kind if it is not right."
_NO_SUMMARY = "The summariser failed or was too slow; the summary is missing or not complete."
_OUTSIDE = "The reading model is not meant for this kind of image."
Asked = Callable[[str, Sequence[str]], bool]
T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """A request: an image or a record to read, or else a question in words."""

    subject: Subject
    text: str = ""
    correction: Correction = field(default_factory=Correction)
    accept_any_image: bool = False


@dataclass
class _Course:
    """The progress of one reading."""

    started: float = field(default_factory=time.perf_counter)
    evidence_ms: float = 0.0
    shown: int = 0
    withheld: int = 0
    notices: list[str] = field(default_factory=list)
    summariser: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000


class Reader:
    """Makes readings. `engine` is a reading model, None for rules alone; `medical` lets questions about medicine pass.

    `summariser` sums a reading up, None for no summary.
    """

    def __init__(
        self,
        atlas: Atlas,
        context: ContextSource,
        *,
        medical: Asked,
        engine: ReadingEngine | None = None,
        summariser: Summariser | None = None,
        neighbours: int = 20,
        names: Vocabulary | None = None,
    ) -> None:
        self._atlas = atlas
        self._context = context
        self._medical = medical
        self._rules: ReadingEngine = ComposedReading()
        self._engine = engine
        self._summariser = summariser
        self._neighbours = neighbours
        self._names = names or vocabulary()

    @property
    def engine(self) -> ReadingEngine:
        """The engine in use."""
        return self._engine or self._rules

    async def read(self, query: Query) -> AsyncGenerator[Event]:
        """Yields the events of a reading. Close it to stop.

        Raises MirageError: what is wrong with the query before the first event, later only what the collection refuses.
        """
        course = _Course()
        events = self._question(query, course) if query.text else self._image(query, course)
        # It holds the image, which the steps let go of.
        del query
        async with aclosing(events):
            async for event in events:
                yield event

    async def _image(self, query: Query, course: _Course) -> AsyncGenerator[Event]:
        subject = query.subject
        own = await self._atlas.own(subject)
        image = subject.image or await self._atlas.image(subject.record_id, subject.collection)
        look = await self._look(image, subject)
        kind = kind_of(look, own.labels, query.correction)
        checklist = checklist_for(kind)
        yield KindFound(kind, checklist)
        # A record of the collection was taken in by its operator.
        declining = not (query.accept_any_image or subject.record_id)
        del query
        if kind.medical is Medical.NO and declining:
            notice = (
                f"This does not seem to be a medical image (probability {kind.medical_score:.2f}), so it is not read."
            )
            yield self._done(course, Finish.NOT_MEDICAL, notice)
            return
        yield ChecklistShown(checklist, "" if checklist else _NO_CHECKLIST)
        if subject.image:
            subject = Subject(vector=await self._atlas.vector(image), collection=subject.collection)
        if self._engine is None:
            # It is large, and rules do not look at it.
            image = b""
        nearest, evidence = await self._evidence(subject, kind, own, look)
        course.evidence_ms = course.elapsed_ms
        _evidence_s.observe(course.evidence_ms / 1000)
        yield evidence
        if checklist is not None:
            study = Study(image, checklist.name, checklist, evidence)
            async with aclosing(self._steps(study, nearest, course)) as steps:
                async for step in steps:
                    course.steps.append(step)
                    yield step
        label = label_of(evidence, course.steps, self._names)
        yield label
        yield await self._similar(subject, kind, own, nearest, label)
        yield await self._context.about(label.finding, _words(kind, label))
        if checklist is not None and self._summariser is not None:
            async with aclosing(self._summary(self._summariser, checklist.title, nearest, evidence, course)) as summary:
                async for step in summary:
                    yield step
        yield self._done(course, Finish.COMPLETE)

    async def _question(self, query: Query, course: _Course) -> AsyncGenerator[Event]:
        if not self._medical(query.text, ()):
            notice = "This question does not seem to be about medicine, so it is not answered."
            yield self._done(course, Finish.OTHER_TOPIC, notice)
            return
        label = label_of_question(query.text, self._names)
        found = await self._atlas.about(query.text, query.subject.collection)
        yield label
        yield Similar(tuple(one_a_case(found, Own(), SIMILAR)))
        yield await self._context.about(label.finding, ())
        yield self._done(course, Finish.COMPLETE)

    async def _look(self, image: bytes, subject: Subject) -> Look:
        try:
            return await self._atlas.look(image)
        except MirageError:
            # The labels of a record say what it is; an image without a classification is not read.
            if subject.record_id:
                return Look(Medical.NOT_JUDGED, 0.0)
            raise

    async def _evidence(self, subject: Subject, kind: Kind, own: Own, look: Look) -> tuple[list[Neighbour], Evidence]:
        where = kind.where()
        found, counts = await asyncio.gather(
            self._atlas.nearest(subject, where, self._neighbours + len(own.cases)),
            self._atlas.counts(where, subject.collection),
        )
        nearest = one_a_case(found, own, self._neighbours)
        return nearest, weigh(nearest, counts, where, self._names, look.facets, own.structures)

    async def _steps(self, study: Study, nearest: Sequence[Neighbour], course: _Course) -> AsyncGenerator[Step]:
        async with aclosing(self._rules.read(study)) as drafts:
            async for draft in drafts:
                yield by_rules(draft)
        if self._engine is None or self._engine.source is StepSource.RULES:
            return
        if not self._engine.may_read(study.kind):
            course.notices.append(_OUTSIDE)
            return
        checked = _checked(
            self._engine.read(study),
            lambda draft: check(draft, study.evidence, nearest, self._names),
            DRAFTS_MAX,
            course,
        )
        try:
            async with aclosing(checked) as steps:
                async for step in steps:
                    yield step
        except MirageError as error:
            _log.warning("reading model failed", code=error.code)
            course.notices.append(_reason(error))

    async def _summary(
        self,
        summariser: Summariser,
        title: str,
        nearest: Sequence[Neighbour],
        evidence: Evidence,
        course: _Course,
    ) -> AsyncGenerator[Step]:
        # Sentences that the evidence contradicts are not passed on.
        sentences = [each.text for each in supported(course.steps)]
        if not sentences:
            return
        course.summariser = summariser.name
        checked = _checked(
            summariser.summarise(title, sentences),
            lambda text: check_summary(text, course.steps, evidence, nearest, self._names),
            SUMMARY_MAX,
            course,
        )
        try:
            async with aclosing(checked) as steps:
                async for step in steps:
                    yield step
        except MirageError as error:
            _log.warning("summariser failed", code=error.code)
            course.notices.append(_NO_SUMMARY)

    async def _similar(
        self, subject: Subject, kind: Kind, own: Own, nearest: Sequence[Neighbour], label: Label
    ) -> Similar:
        if not label.finding:
            return Similar(tuple(nearest[:SIMILAR]))
        found = await self._atlas.nearest(subject, kind.where(), SIMILAR + len(own.cases), words=label.finding)
        others = [each for each in nearest if each.labels.get("finding") and label.finding not in self._findings(each)]
        return Similar(tuple(one_a_case(found, own, SIMILAR)), tuple(others[:SIMILAR]))

    def _findings(self, record: Neighbour) -> set[str]:
        return {self._names.canonical(each) or each for each in record.labels.get("finding", ())}

    def _done(self, course: _Course, finish: Finish, notice: str = "") -> Done:
        _ended.labels(finish.name.lower(), self.engine.name).inc()
        return Done(
            finish,
            self.engine.name,
            notice or " ".join(course.notices),
            course.shown,
            course.withheld,
            course.evidence_ms,
            course.elapsed_ms,
            course.summariser,
        )


async def _checked(
    drafts: AsyncGenerator[T], judge: Callable[[T], Step | None], most: int, course: _Course
) -> AsyncGenerator[Step]:
    """Yields those of the first `most` drafts that hold, and counts both kinds."""
    async with aclosing(drafts):
        seen = 0
        async for draft in drafts:
            step = judge(draft)
            if step is None:
                course.withheld += 1
            else:
                course.shown += 1
                yield step
            seen += 1
            if seen == most:
                return


def check_query(query: Query) -> None:
    """Raises EMPTY_QUERY, TEXT_TOO_LONG, ID_INVALID or FACET_VALUE_INVALID."""
    given = query.subject.image or query.subject.record_id or query.text.strip()
    if not given:
        raise MirageError(Code.EMPTY_QUERY)
    if len(query.text) > limits.TEXT_CHARS:
        raise MirageError(Code.TEXT_TOO_LONG, max=limits.TEXT_CHARS, given=len(query.text))
    if query.subject.record_id:
        limits.check_id(query.subject.record_id)
    correction = query.correction
    for facet, value in (
        ("modality", correction.modality),
        ("body_part", correction.body_part),
        ("plane", correction.view),
    ):
        if value != limits.facet_value(value):
            reason = f"takes a lower-case value of at most {limits.FACET_CHARS} characters on one line"
            raise MirageError(Code.FACET_VALUE_INVALID, field=facet, reason=reason, max=limits.FACET_CHARS)


def _words(kind: Kind, label: Label) -> list[str]:
    """The words that the glossary is asked besides the finding."""
    of_kind = [each.value for each in (kind.modality, kind.body_part) if each is not None and each.sure]
    return [*(value for facet, value in label.properties if facet != "side"), *of_kind]


def _reason(error: MirageError) -> str:
    match error.code:
        case Code.QUEUE_FULL:
            return "The reading model is busy; this reading is made by rules alone."
        case Code.DEADLINE_EXCEEDED:
            return "The reading model was too slow; what came in time is shown."
        case _:
            return "The reading model failed; this reading is made by rules."
