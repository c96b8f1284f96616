"""Measured figures, kept with the collection that they were measured on: the last evaluation of each subject."""

import math
from collections.abc import Iterator

from google.protobuf import json_format
from google.protobuf.message import Message

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_protos.v1.evaluation_pb2 import Evaluation, EvaluationSubject
from mirage_retriever.atlas import Atlas

_log = telemetry.get_logger()

_MOST = {"figures": 500, "series": 32, "hard_cases": 200, "notes": 16, "seeds": 16}
_POINTS_MAX = 256
_FOUND_MAX = 5
_TEXT_CHARS = 300
_BYTES_MAX = 128 * 2**10


async def store(atlas: Atlas, evaluation: Evaluation) -> Evaluation:
    """Keeps an evaluation in place of the one before of its subject; returns it with what the server sets.

    Raises REQUEST_MALFORMED, TOO_MANY_ITEMS, REQUEST_TOO_LARGE, FINGERPRINT_MISMATCH or STORAGE_FULL.
    """
    _check(evaluation)
    if evaluation.fingerprint != atlas.fingerprint:
        raise MirageError(Code.FINGERPRINT_MISMATCH, expected=atlas.fingerprint, given=evaluation.fingerprint)
    kept = Evaluation()
    kept.CopyFrom(evaluation)
    kept.collection = atlas.name
    kept.records = (await atlas.engine.status()).records
    kept.create_time.GetCurrentTime()
    kept.outdated = False
    text = to_text(kept)
    if len(text) > _BYTES_MAX:
        raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=_BYTES_MAX)
    await atlas.engine.keep(_name(kept.subject), text)
    return kept


async def listed(atlas: Atlas) -> list[Evaluation]:
    """Returns the evaluations of a collection in the order of their subjects."""
    records = (await atlas.engine.status()).records
    found = []
    for subject in EvaluationSubject.values()[1:]:
        if text := await atlas.engine.kept(_name(subject)):
            evaluation = Evaluation()
            try:
                json_format.Parse(text, evaluation, ignore_unknown_fields=True)
            except json_format.ParseError:
                _log.error("damaged evaluation ignored", collection=atlas.name, subject=_name(subject))
                continue
            evaluation.outdated = (
                evaluation.fingerprint != atlas.fingerprint
                or abs(records - evaluation.records) > evaluation.records / 4
            )
            found.append(evaluation)
    return found


def to_text(evaluation: Evaluation) -> str:
    """The evaluation as it is kept: JSON."""
    return json_format.MessageToJson(evaluation, indent=None)


def _name(subject: EvaluationSubject.ValueType) -> str:
    return EvaluationSubject.Name(subject).lower()


def _check(evaluation: Evaluation) -> None:
    if evaluation.subject not in EvaluationSubject.values()[1:]:
        raise MirageError(Code.REQUEST_MALFORMED, field="subject")
    for name, most in _MOST.items():
        if (given := len(getattr(evaluation, name))) > most:
            raise MirageError(Code.TOO_MANY_ITEMS, field=name, min=0, max=most, given=given)
    for each in evaluation.series:
        if len(each.x) != len(each.y) or len(each.x) > _POINTS_MAX:
            raise MirageError(Code.REQUEST_MALFORMED, field="series")
    if any(len(each.found_ids) > _FOUND_MAX or not each.kind for each in evaluation.hard_cases):
        raise MirageError(Code.REQUEST_MALFORMED, field="hard_cases")
    for name, value in _values(evaluation):
        if (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, str) and len(value) > _TEXT_CHARS
        ):
            raise MirageError(Code.REQUEST_MALFORMED, field=name)


def _values(message: Message) -> Iterator[tuple[str, object]]:
    """Walks over the values of a message and of those within it."""
    for field, value in message.ListFields():
        if field.name == "seeds":
            yield from ((field.name, name) for name in value)
            continue
        for each in value if field.is_repeated else [value]:
            if isinstance(each, Message):
                yield from _values(each)
            else:
                yield field.name, each
