"""Measured figures that are kept with a collection."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_protos.v1.evaluation_pb2 import (
    EVALUATION_SUBJECT_ARITHMETIC,
    EVALUATION_SUBJECT_RETRIEVAL,
    HARD_CASE_KIND_HUB,
    HARD_CASE_KIND_UNSPECIFIED,
    Evaluation,
    EvaluationSubject,
    Figure,
    HardCase,
    Series,
)
from mirage_retriever import evaluations
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES

FINGERPRINT = "a" * 64


@pytest.fixture
async def atlas(tmp_path: Path) -> AsyncIterator[Atlas]:
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)
    atlas = Atlas(EdgeEngine(tmp_path, facets=NAMES, policy=policy), name="measured")
    await atlas.open()
    await atlas.make(Collection("measured", 4, FINGERPRINT))
    yield atlas
    await atlas.engine.close()


def evaluation(subject: EvaluationSubject.ValueType = EVALUATION_SUBJECT_RETRIEVAL, value: float = 0.5) -> Evaluation:
    return Evaluation(
        subject=subject,
        fingerprint=FINGERPRINT,
        seeds={"samples": 7},
        figures=[Figure(name="recall@10", group="text to image", value=value, low=0.4, high=0.6, chance=0.1, count=90)],
        series=[Series(name="distribution", x=[0, 1], y=[0.25, 0.75])],
        hard_cases=[HardCase(kind=HARD_CASE_KIND_HUB, id="one", text="A hub.", count=40)],
    )


async def test_the_last_one_of_each_subject_is_kept(atlas: Atlas) -> None:
    await evaluations.store(atlas, evaluation())
    await evaluations.store(atlas, evaluation(EVALUATION_SUBJECT_ARITHMETIC))
    kept = await evaluations.store(atlas, evaluation(value=0.75))
    assert (kept.collection, kept.records) == ("measured", 0)
    assert kept.create_time.seconds > 0
    found = await evaluations.listed(atlas)
    assert [each.subject for each in found] == [EVALUATION_SUBJECT_RETRIEVAL, EVALUATION_SUBJECT_ARITHMETIC]
    assert found[0] == kept
    assert not found[0].outdated


async def test_many_evaluations_take_the_room_of_one(atlas: Atlas, tmp_path: Path) -> None:
    for number in range(10_000):
        await evaluations.store(atlas, evaluation(value=number / 10_000))
    assert len(await evaluations.listed(atlas)) == 1
    assert sum(name.startswith("kept-") for name in os.listdir(tmp_path)) == 1


BAD: list[tuple[Callable[[Evaluation], object], Code]] = [
    (lambda each: each.ClearField("subject"), Code.REQUEST_MALFORMED),
    (lambda each: setattr(each, "fingerprint", "b" * 64), Code.FINGERPRINT_MISMATCH),
    (lambda each: setattr(each.figures[0], "value", float("nan")), Code.REQUEST_MALFORMED),
    (lambda each: setattr(each.figures[0], "high", float("inf")), Code.REQUEST_MALFORMED),
    (lambda each: setattr(each.figures[0], "name", "x" * 301), Code.REQUEST_MALFORMED),
    (lambda each: each.figures.extend([Figure(name="x")] * 500), Code.TOO_MANY_ITEMS),
    (lambda each: each.series[0].x.append(2), Code.REQUEST_MALFORMED),
    (lambda each: each.series[0].x.append(float("nan")), Code.REQUEST_MALFORMED),
    (lambda each: setattr(each.hard_cases[0], "kind", HARD_CASE_KIND_UNSPECIFIED), Code.REQUEST_MALFORMED),
    (lambda each: each.hard_cases[0].found_ids.extend("abcdef"), Code.REQUEST_MALFORMED),
    (lambda each: each.figures.extend([Figure(name="x" * 300, group="y" * 300)] * 400), Code.REQUEST_TOO_LARGE),
]


async def test_bad_ones_are_refused_and_the_one_before_stays(atlas: Atlas) -> None:
    await evaluations.store(atlas, evaluation())
    for change, code in BAD:
        bad = evaluation(value=0.9)
        change(bad)
        with pytest.raises(MirageError) as refused:
            await evaluations.store(atlas, bad)
        assert refused.value.code is code
    assert [each.figures[0].value for each in await evaluations.listed(atlas)] == [0.5]


async def test_one_of_another_model_or_of_far_fewer_records_is_outdated(atlas: Atlas) -> None:
    await evaluations.store(atlas, evaluation())
    other = evaluation()
    other.fingerprint, other.records = "b" * 64, 100
    await atlas.engine.keep("evaluation_subject_retrieval", evaluations.to_text(other))
    assert [each.outdated for each in await evaluations.listed(atlas)] == [True]
    other.fingerprint = FINGERPRINT
    await atlas.engine.keep("evaluation_subject_retrieval", evaluations.to_text(other))
    assert [each.outdated for each in await evaluations.listed(atlas)] == [True]


async def test_a_damaged_one_is_left_out(atlas: Atlas) -> None:
    await evaluations.store(atlas, evaluation())
    await evaluations.store(atlas, evaluation(EVALUATION_SUBJECT_ARITHMETIC))
    await atlas.engine.keep("evaluation_subject_retrieval", "{not JSON")
    assert [each.subject for each in await evaluations.listed(atlas)] == [EVALUATION_SUBJECT_ARITHMETIC]
