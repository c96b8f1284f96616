"""What likeness is worth: measured on collections whose vectors say something, or nothing."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.calibration import CALIBRATION, Calibration, Kind, Recall
from mirage_retriever.calibrator import Calibrator, keep_calibrated, read_off_topic
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.facets import NAMES
from mirage_retriever.match import Match, Thresholds
from mirage_retriever.records import Record
from mirage_retriever.terms import Encoded, EncoderModel
from mirage_retriever.words.documents import to_point
from tests.support.waiting import until_async as until

pytestmark = pytest.mark.asyncio(loop_scope="module")
POLICY = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)
DIMENSION = 32
FINGERPRINT = "f" * 64
KIND = Kind(Recall(100, 0.5, 0.8, 0.7, 0.9, 0.01, 0.1), Thresholds(0.5, 0.25), 0.9, trusted=True)


def chance(seed: str, *, around: np.ndarray | None = None, spread: float = 1.0) -> np.ndarray:
    """A unit vector that the seed alone decides, near another one if that is given."""
    noise = np.random.default_rng([ord(char) for char in seed]).normal(size=DIMENSION).astype(np.float32)
    noise /= np.linalg.norm(noise)
    vector = noise if around is None else around + spread * noise
    return vector / np.linalg.norm(vector)


class ChanceEncoder:
    """Encodes each text as a direction of its own."""

    def __init__(self, fingerprint: str = FINGERPRINT) -> None:
        self.fingerprint = fingerprint
        self.asked: list[str] = []

    async def model(self) -> EncoderModel:
        return EncoderModel("chance", self.fingerprint, DIMENSION, "{}")

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        self.asked += texts
        return [Encoded(chance(text), self.fingerprint) for text in texts]

    async def image(self, data: bytes) -> Encoded:
        raise AssertionError(data)

    async def images(self, files: Sequence[bytes]) -> list[Encoded | MirageError]:
        raise AssertionError(files)


@pytest_asyncio.fixture(loop_scope="module")
async def atlas(tmp_path: Path) -> AsyncIterator[Atlas]:
    async with AsyncExitStack() as stack:
        atlas = Atlas(EdgeEngine(tmp_path, facets=NAMES, policy=POLICY), name="calibration")
        stack.push_async_callback(atlas.engine.close)
        await atlas.open()
        await atlas.make(Collection("calibration", DIMENSION, FINGERPRINT))
        yield atlas


async def fill(atlas: Atlas, records: int, *, says_something: bool, cases: bool = True) -> None:
    """Cases of three images each. Likeness says something where captions, images and cases lie together."""
    points = []
    for number in range(records):
        case = chance(f"case {number // 3}")
        labels = {"modality": ("ct",) if number // 3 % 2 else ("mr",)}
        record = Record(f"r{number:04}", f"Caption {number}.", labels, case_id=f"c{number // 3}" if cases else "")
        image = chance(f"image {number}", around=case if says_something else None, spread=0.3)
        caption = chance(f"caption {number}", around=image if says_something else None, spread=0.3)
        points.append(to_point(record, image, caption))
    await atlas.engine.upsert(points)
    atlas.changed()


async def measured(atlas: Atlas, encoder: ChanceEncoder | None = None) -> Calibration:
    await atlas.lexicon.refresh(atlas.revision)
    calibrator = Calibrator(
        atlas.engine, encoder or ChanceEncoder(), atlas.lexicon, fingerprint=FINGERPRINT, pause=lambda: asyncio.sleep(0)
    )
    return await calibrator.measure()


async def test_likeness_that_finds_what_a_caption_describes_is_trusted(atlas: Atlas) -> None:
    await fill(atlas, 120, says_something=True)
    calibration = await measured(atlas)
    assert calibration.records == 120
    assert {name for name, kind in calibration.kinds.items() if kind.trusted} == {
        "text",
        "caption",
        "image",
        "arithmetic",
    }
    text = calibration.kinds["text"]
    assert text.recall is not None
    assert text.recall.queries == 120
    assert text.recall.at_10 > 0.9
    assert text.recall.low < text.recall.at_10 <= text.recall.high + 1e-9
    # Three of 120 are right.
    assert text.recall.chance_1 == pytest.approx(3 / 120)
    assert text.recall.chance_10 == pytest.approx(1 - math.comb(117, 10) / math.comb(120, 10))
    image = calibration.kinds["image"].recall
    assert image is not None
    assert image.chance_1 == pytest.approx(2 / 119)


async def test_thresholds_let_few_questions_without_an_answer_through(atlas: Atlas) -> None:
    await fill(atlas, 120, says_something=True)
    atlas.calibrated(await measured(atlas))
    stored = (await atlas.engine.walk("", 120, vectors=True)).points
    images = np.stack([point.image for point in stored if point.image is not None])
    assert len(images) == 120
    strange = [float((images @ chance(text)).max()) for text in read_off_topic()]
    good = sum(atlas.judge("text", best) is Match.GOOD for best in strange) / len(strange)
    assert good <= 0.04
    assert atlas.judge("text", 0.95) is Match.GOOD


async def test_likeness_by_chance_is_not_trusted_and_never_good(atlas: Atlas) -> None:
    await fill(atlas, 120, says_something=False)
    calibration = await measured(atlas)
    assert [name for name, kind in calibration.kinds.items() if kind.trusted] == []
    atlas.calibrated(calibration)
    assert {atlas.judge(kind, 0.999) for kind in calibration.kinds} == {Match.WEAK}


async def test_without_cases_only_texts_and_sums_are_measured(atlas: Atlas) -> None:
    await fill(atlas, 60, says_something=True, cases=False)
    assert set((await measured(atlas)).kinds) == {"text", "arithmetic"}


@pytest.mark.parametrize("records", [0, 1, 19])
async def test_too_few_records_are_not_judged(atlas: Atlas, records: int) -> None:
    if records:
        await fill(atlas, records, says_something=True)
    calibration = await measured(atlas)
    assert calibration == Calibration(records, FINGERPRINT)
    atlas.calibrated(calibration)
    assert atlas.judge("text", 0.9) is Match.NOT_JUDGED


async def test_a_judgement_is_awaited_until_likeness_was_measured(atlas: Atlas) -> None:
    assert atlas.awaits_calibration
    await fill(atlas, 5, says_something=True)
    atlas.calibrated(await measured(atlas))
    # Too few to measure anything: nothing to wait for before there are more.
    assert not atlas.awaits_calibration
    await fill(atlas, 30, says_something=True)
    assert atlas.awaits_calibration
    atlas.calibrated(await measured(atlas))
    await fill(atlas, 60, says_something=True)
    assert not atlas.awaits_calibration


async def test_questions_whose_words_occur_in_the_collection_are_not_asked(atlas: Atlas) -> None:
    asked = ChanceEncoder()
    await fill(atlas, 30, says_something=True)
    await atlas.engine.upsert([to_point(Record("beach", "A sunset over the beach."), chance("beach"), chance("beach"))])
    atlas.changed()
    await measured(atlas, asked)
    assert set(asked.asked) == set(read_off_topic()) - {"sunset over a beach"}


async def test_an_encoder_of_another_model_measures_nothing(atlas: Atlas) -> None:
    await fill(atlas, 30, says_something=True)
    with pytest.raises(MirageError) as refused:
        await measured(atlas, ChanceEncoder("e" * 64))
    assert refused.value.code is Code.FINGERPRINT_MISMATCH


@pytest_asyncio.fixture(loop_scope="module")
async def collections(tmp_path: Path) -> AsyncIterator[Collections]:
    """An active collection, and one that is closed as soon as nobody uses it."""
    store = EdgeCollectionStore(
        tmp_path, default="atlas", make=lambda path: EdgeEngine(path, facets=NAMES, policy=POLICY)
    )
    collections = Collections(store, idle_s=0.05)
    await collections.open()
    await collections.adopt(await ChanceEncoder().model())
    await collections.create("next")
    yield collections
    await collections.close()


@asynccontextmanager
async def calibrating(collections: Collections, *, large: int = 1_000, graph_s: float = 3_600) -> AsyncIterator[None]:
    running = asyncio.create_task(
        keep_calibrated(collections, ChanceEncoder(), quiet_s=0.01, look_s=0.01, large=large, graph_s=graph_s)
    )
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("name", ["atlas", "next"])
async def test_a_collection_is_measured_in_the_background_and_keeps_it(collections: Collections, name: str) -> None:
    async with collections.use(name) as atlas, calibrating(collections):
        await fill(atlas, 40, says_something=True)
        await until(lambda: atlas.calibration is not None)
        first = atlas.calibration
        assert first is not None
        await fill(atlas, 60, says_something=True)
        await until(lambda: atlas.calibration is not first)
        assert atlas.calibration is not None
        assert (first.records, atlas.calibration.records) == (40, 60)
        assert Calibration.from_json(await atlas.engine.kept(CALIBRATION)) == atlas.calibration


async def test_a_small_collection_that_hardly_changed_awaits_nothing(collections: Collections) -> None:
    async with collections.use("atlas") as atlas, calibrating(collections):
        await fill(atlas, 10, says_something=True)
        await until(lambda: not atlas.awaits_calibration)
        await fill(atlas, 11, says_something=True)
        assert atlas.awaits_calibration
        await until(lambda: not atlas.awaits_calibration)
        assert atlas.calibration == Calibration(10, FINGERPRINT)


async def test_a_large_collection_waits_for_its_graph_but_not_for_ever(collections: Collections) -> None:
    async with collections.use("atlas") as atlas, collections.use("next") as other:
        await fill(atlas, 40, says_something=True)
        # It is looked at after the first, again and again.
        await fill(other, 20, says_something=True)
        async with calibrating(collections, large=40):
            await until(lambda: other.calibration is not None)
            assert atlas.calibration is None
        async with calibrating(collections, large=40, graph_s=0.2):
            await until(lambda: atlas.calibration is not None)
        assert (await atlas.engine.status()).indexed == 0


async def test_a_collection_that_nobody_uses_is_measured_once_and_closed(
    collections: Collections, tmp_path: Path
) -> None:
    async with collections.use("next") as atlas:
        await fill(atlas, 40, says_something=True)
    await until(lambda: collections.revision_of("next") is None)
    async with calibrating(collections):
        await until((tmp_path / "collections" / "next" / "kept-calibration.json").exists)
        await until(lambda: collections.revision_of("next") is None)
    async with collections.use("next") as atlas:
        assert atlas.calibration is not None
        assert atlas.calibration.records == 40


@pytest.mark.parametrize(
    ("records", "fingerprint", "due"),
    [
        (100, FINGERPRINT, False),
        (125, FINGERPRINT, False),
        (126, FINGERPRINT, True),
        (74, FINGERPRINT, True),
        (100, "e", True),
    ],
)
async def test_it_is_due_again_after_a_quarter_or_with_another_model(records: int, fingerprint: str, due: bool) -> None:
    assert Calibration(100, FINGERPRINT).is_due(records, fingerprint) is due


async def test_a_calibration_reads_as_it_was_written() -> None:
    calibration = Calibration(100, FINGERPRINT, {"text": KIND, "image": Kind()})
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"version": 0}', '{"version": 1, "records": "x", "kinds": {"text": 5}}']
)
async def test_what_is_no_calibration_counts_as_none(text: str) -> None:
    assert Calibration.from_json(text) is None


async def test_settings_go_before_what_was_measured() -> None:
    atlas = Atlas(None, name="settings", overrides={"text": Thresholds(0.9, 0.8)})  # type: ignore[arg-type]  # not asked
    atlas.calibrated(Calibration(100, FINGERPRINT, {"text": KIND, "image": KIND}))
    assert [atlas.judge("text", best) for best in (0.95, 0.85, 0.6)] == [Match.GOOD, Match.WEAK, Match.NONE]
    assert atlas.judge("image", 0.6) is Match.GOOD
    assert atlas.judge("arithmetic", 0.6) is Match.NOT_JUDGED


async def test_questions_are_300_at_least_and_none_twice() -> None:
    assert len(read_off_topic()) == len(set(read_off_topic())) >= 300
