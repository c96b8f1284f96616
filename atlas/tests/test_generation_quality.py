"""Measures of generated images, on vectors whose answers are known."""

import base64
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mirage.errors import ApiError
from mirage_api.quality import Figure
from mirage_api.records import StoredRecord
from mirage_api.search import ClassifyReply, ImageGuess
from mirage_atlas.quality import generation
from mirage_atlas.quality.gallery import Gallery
from mirage_atlas.quality.generation import GENERATED, REAL, Images
from mirage_atlas.quality.measures import Floats
from mirage_atlas.quality.report import Findings

RNG = np.random.default_rng(11)
PLANES = ("axial", "coronal", "sagittal", "oblique")
COUNT, DIMENSION = 120, 16
ASKED = list(range(0, COUNT, 3))


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    """Records in four planes, each with its own caption; vectors of one plane are alike."""
    middles = unit(RNG.normal(size=(len(PLANES), DIMENSION)))
    own = unit(middles[np.arange(COUNT) % len(PLANES)] + RNG.normal(0, 0.1, (COUNT, DIMENSION)))
    near = unit(own + RNG.normal(0, 0.05, (COUNT, DIMENSION)))
    records = [
        StoredRecord.model_construct(
            id=f"r{n}", caption=f"caption {n}", case_id="", labels={"plane": (PLANES[n % len(PLANES)],)}
        )
        for n in range(COUNT)
    ]
    return Gallery("real", "f", records, own.astype(np.float32), near.astype(np.float32))


def images(gallery: Gallery, order: Any) -> Images:
    """Images like those of the records in this order, and guesses of their planes."""
    vectors = unit(gallery.images[order].astype(np.float64) + RNG.normal(0, 0.05, (len(order), DIMENSION)))
    return Images(ASKED, vectors, [{"plane": PLANES[row % len(PLANES)]} for row in order])


def measured(gallery: Gallery, made: Images) -> dict[tuple[str, str], Figure]:
    findings = Findings("generation")
    generation.add_prompts(findings, gallery, made, GENERATED)
    generation.add_labels(findings, gallery, made, GENERATED)
    generation.add_nearest(findings, gallery, made, GENERATED)
    real = Images(ASKED, gallery.images[ASKED].astype(np.float64), made.guesses)
    generation.add_distances(findings, gallery, made, real)
    return {(each.name, each.group): each for each in findings.figures}


def test_images_that_follow_their_prompts_are_told_from_those_of_other_prompts(gallery: Gallery) -> None:
    good = measured(gallery, images(gallery, ASKED))
    other = measured(gallery, images(gallery, RNG.permutation(ASKED)))
    for name, group in (
        ("prompt margin", GENERATED),
        ("nearer to its own prompt than to another", GENERATED),
        ("label guessed by the encoder", f"plane: {GENERATED}"),
        ("nearest real image has the label", f"plane: {GENERATED}"),
    ):
        better, worse = good[name, group], other[name, group]
        assert better.low is not None
        assert worse.low is not None
        assert worse.high is not None
        assert worse.chance is not None
        assert better.low > worse.high, name
        assert worse.low <= worse.chance <= worse.high, name


def test_images_that_all_look_the_same_have_little_diversity_and_are_far_from_real_ones(gallery: Gallery) -> None:
    good = measured(gallery, images(gallery, ASKED))
    same = measured(gallery, images(gallery, [ASKED[0]] * len(ASKED)))
    name = "diversity: mean distance of two"
    assert same[name, GENERATED].value < 0.2 < good[name, GENERATED].value
    for distance in ("Fréchet distance to held-out real images", "kernel distance to held-out real images"):
        floor, near, far = good[distance, f"floor: {REAL}"], good[distance, GENERATED], same[distance, GENERATED]
        assert far.low is not None
        assert near.high is not None
        assert floor.high is not None
        assert far.low > max(near.high, floor.high)


def test_copies_of_other_records_are_seen_as_such(gallery: Gallery) -> None:
    copied = Images(ASKED, gallery.images[[row + 1 for row in ASKED]].astype(np.float64), [{}] * len(ASKED))
    found = measured(gallery, copied)
    assert found["nearest real image", GENERATED].value == pytest.approx(1.0, abs=1e-4)
    assert ("label guessed by the encoder", f"plane: {GENERATED}") not in found


def test_captions_that_the_generator_declines_leave_their_places_to_others(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = base64.b64encode(np.ones(DIMENSION, "<f4").tobytes()).decode()
    reply = ClassifyReply.model_construct(vector=vector, guess=ImageGuess.model_construct(kind="medical", facets=()))
    client: Any = SimpleNamespace(encode_image=lambda _: reply)

    def generated(_client: object, caption: str, _seed: int) -> bytes:
        number = int(caption.split()[1])
        if number % 2:
            raise ApiError("PROMPT_OUTSIDE", "declined", status=422)
        if number == 4:
            raise ApiError("QUEUE_FULL", "full", status=429)
        return b""

    monkeypatch.setattr(generation, "generated", generated)
    made, failed = generation.generate(client, gallery, range(COUNT), lambda *_: None, count=5)
    assert made.rows == [0, 2, 6, 8]
    assert failed == {"PROMPT_OUTSIDE": 4, "QUEUE_FULL": 1}
    made, failed = generation.generate(client, gallery, range(1, COUNT, 2), lambda *_: None, count=5)
    assert (made.rows, failed) == ([], {"PROMPT_OUTSIDE": COUNT // 2})
