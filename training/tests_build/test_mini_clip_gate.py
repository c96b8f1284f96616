"""The gate's heads: what each image counts for, what a head makes of clusters that it knows and of others, and its figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_atlas.demo.sections import SectionSpec
from mirage_training.mini_clip import classified, gate, heads
from mirage_training.mini_clip.facts import Item


def item(source: str, *facts: str, key: str = "one") -> Item:
    return Item(key, source, frozenset(facts))


@pytest.mark.parametrize(
    ("facet", "shown", "label"),
    [
        ("modality", item("nih", "modality:x-ray"), "|x-ray"),
        ("modality", item("other", "kind:other"), ""),
        ("modality", item("nih"), None),
        ("body_part", item("brain", "body:brain", "body:head"), "|brain"),
        ("body_part", item("chest-ct", "body:chest", "body:abdomen"), None),
        ("body_part", item("chest-ct", "body:chest"), "|chest"),
        ("plane", item("busi", "modality:us"), ""),
        ("plane", item("iqoth", "modality:ct"), None),
        ("plane", item("lumbar", "modality:mr", "plane:sagittal"), "mr|sagittal"),
        ("finding", item("kermany", "finding:none"), "chest|none"),
        ("finding", item("kermany", "finding:pneumonia", "finding:viral pneumonia"), "chest|pneumonia"),
        ("finding", item("busi", "finding:none"), "busi|none"),
        ("finding", item("hannover", "finding:covid-19"), ""),
    ],
)
def test_an_image_counts_for_what_is_known_of_it(facet: str, shown: Item, label: str | None) -> None:
    assert heads.FACETS[facet](shown) == label


def clusters(rng: np.random.Generator, each: int = 200) -> tuple[np.ndarray, list[str]]:
    """Unit vectors about four corners of 16 dimensions: two of a value, one of another, one of none."""
    labels = [name for name in ("a|none", "b|none", "a|lesion", "") for _ in range(each)]
    corners = {name: np.eye(16)[n] for n, name in enumerate(sorted(set(labels)))}
    vectors = np.stack([corners[name] + rng.normal(0, 0.2, 16) for name in labels])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def test_a_head_is_right_and_calibrated_and_leaves_the_rest_to_nothing() -> None:
    vectors, labels = clusters(np.random.default_rng(1))
    items = [item("x", key=f"k{n}") for n in range(len(labels))]
    head, measured = gate.fitted_head(vectors, items, labels)
    values, shares = heads.probabilities(head, clusters(np.random.default_rng(2))[0])
    truth = np.array([label.partition("|")[2] for label in labels])
    assert values == ["lesion", "none"]
    assert (np.array(values)[shares.argmax(axis=1)] == truth)[truth != ""].mean() > 0.97
    assert shares[truth == ""].sum(axis=1).mean() < 0.1
    assert set(head.known_from) == {"lesion", "none"}
    assert measured["calibration_error"] < 0.05


def test_a_value_of_few_images_is_never_known_however_often_each_is_seen() -> None:
    vectors, labels = clusters(np.random.default_rng(1))
    items = [item("x", key=f"k{n % 29 if labels[n] == 'a|lesion' else n}") for n in range(len(labels))]
    head, _ = gate.fitted_head(vectors, items, labels)
    assert set(head.known_from) == {"none"}


def test_labels_that_mean_nothing_are_not_known() -> None:
    rng = np.random.default_rng(3)
    vectors, labels = clusters(rng)
    shuffled = [labels[n] for n in rng.permutation(len(labels))]
    head, _ = gate.fitted_head(vectors, [item("x", key=f"k{n}") for n in range(len(labels))], shuffled)
    _, shares = heads.probabilities(head, vectors)
    assert (shares.max(axis=1) >= min([*head.known_from.values(), 1.0])).mean() < 0.05


def test_a_head_that_is_too_sure_is_calibrated_on_images_that_it_was_not_fitted_on() -> None:
    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        truth = np.array(["lesion", "none"])[rng.integers(0, 2, 900)]
        vectors = np.where(truth[:, None] == "lesion", np.eye(16)[0], np.eye(16)[1]) + rng.normal(0, 0.7, (900, 16))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth

    rows = tuple(heads.row(value, 40 * np.eye(16)[n], 0) for n, value in enumerate(("lesion", "none")))
    head = gate.GateHead(rows=rows, known_from={"lesion": 0.6, "none": 0.6})
    found = heads.calibrated(head, *drawn(1))
    vectors, truth = drawn(2)
    errors, precisions = [], []
    for each in (head, found):
        values, shares = heads.probabilities(each, vectors)
        best, known = heads.best_known(each, vectors)
        assert (best == np.array(values)[shares.argmax(axis=1)]).all()
        errors.append(heads.calibration_error(shares.max(axis=1), best == truth))
        precisions.append((best == truth)[known].mean())
    assert errors[0] > 0.1 > 0.05 > errors[1]
    assert precisions[0] < 0.9 < 0.93 < precisions[1]
    assert set(found.known_from) == {"lesion", "none"}
    crosswise = heads.calibrated_crosswise(head, vectors, truth, np.arange(900) % 2)
    assert crosswise["calibration_error"] < 0.05
    assert crosswise["images"] == 900
    assert crosswise["right_of_known"] > 0.92


def test_findings_of_which_no_choice_is_right_often_enough_are_not_known() -> None:
    rng = np.random.default_rng(5)
    rows = tuple(heads.row(value, 20 * np.eye(16)[n], 0) for n, value in enumerate(("lesion", "none")))
    head = gate.GateHead(rows=rows, known_from={"lesion": 0.5, "none": 0.5})
    vectors = about(rng, 0, 200)
    found = heads.calibrated(head, vectors, np.array(["lesion", "none"])[rng.integers(0, 2, 200)])
    assert found.known_from == {}
    assert not heads.best_known(found, vectors)[1].any()


def test_vector_and_statistics_both_count_for_a_medical_image() -> None:
    rng = np.random.default_rng(4)
    grey = [Image.fromarray(rng.integers(0, 120, (40, 40), np.uint8)).convert("RGB") for _ in range(30)]
    coloured = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(30)]
    vectors = np.repeat(np.eye(4, dtype=np.float32)[:2], 30, axis=0)
    views = np.repeat(np.eye(4, dtype=np.float32)[:2], 50, axis=0)
    items = [item("nih", "modality:x-ray")] * 50 + [item("other", "kind:other")] * 50
    head = gate.fitted_medical(views, items, grey + coloured, vectors, np.arange(60) < 30)
    found = classified.read(
        heads_and(head), vectors, np.stack([gate.picture_statistics(each) for each in grey + coloured])
    )
    assert (found.medical[:30] > 0.9).all()
    assert (found.medical[30:] < 0.1).all()
    swapped = classified.read(
        heads_and(head), vectors[::-1], np.stack([gate.picture_statistics(each) for each in grey + coloured])
    )
    assert (swapped.medical[:30] < found.medical[:30]).all()


def heads_and(medical: gate.MedicalHead) -> gate.ImageGate:
    return gate.ImageGate(medical=medical)


def test_calibration_error_is_the_distance_between_probability_and_share_of_right_answers() -> None:
    sure = np.array([0.95] * 10 + [0.55] * 10, np.float32)
    right = np.array([True] * 10 + [True] * 5 + [False] * 5)
    assert heads.calibration_error(sure, right) == pytest.approx((0.05 + 0.05) / 2, abs=1e-6)


def about(rng: np.random.Generator, corner: int, count: int, width: float = 0.1) -> np.ndarray:
    vectors = np.eye(16)[corner] + rng.normal(0, width, (count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def placed(rng: np.random.Generator) -> tuple[gate.GateHead, np.ndarray]:
    """A head of CT and MR with places of two sources and of renderings, and a vector that it is sure of, far from all of them."""
    spec = SectionSpec("axial", 10, "t1")
    vectors = np.concatenate([about(rng, 0, 100), about(rng, 1, 100), about(rng, 2, 100, 0.2)])
    items = [item("iqoth", "modality:ct") for _ in range(100)] + [item("lumbar", "modality:mr") for _ in range(100)]
    items += [Item("r", "brain", frozenset({"modality:mr"}), frozenset(), spec)] * 100
    rows = (
        heads.row("ct", 30 * np.eye(16)[0] + 30 * np.eye(16)[9], 0),
        heads.row("mr", 30 * (np.eye(16)[1] + np.eye(16)[2]), 0),
    )
    head = gate.GateHead(rows=rows, known_from={"ct": 0.9, "mr": 0.9})
    whole = np.concatenate([about(rng, 0, 100), about(rng, 1, 100)])
    return gate.placed_head("modality", head, vectors, items, whole, items[:200]), np.eye(16, dtype=np.float32)[9]


def test_places_leave_out_a_twentieth_of_training_and_what_is_unlike_it() -> None:
    rng = np.random.default_rng(7)
    head, far = placed(rng)
    assert [place.value for place in head.places] == ["ct", "mr", "mr"]
    # Renderings vary more here, so their own limit is lower than that of both other sources.
    assert head.places[0].near_from == head.places[1].near_from > head.places[2].near_from
    for corner in (0, 1, 2):
        vectors = about(rng, corner, 400, 0.2 if corner == 2 else 0.1)
        best, known = heads.best_known(head, vectors)
        assert known.mean() > 0.97
        assert 0.88 < heads.is_near(head, vectors, best).mean() < 0.99
    best, known = heads.best_known(head, far[None])
    assert (best[0], known[0]) == ("ct", True)
    assert not heads.is_near(head, far[None], best)[0]


def test_without_views_or_pictures_that_are_right_there_are_no_places() -> None:
    head, _ = placed(np.random.default_rng(8))
    wrong = [item("iqoth", "modality:us")] * 5
    assert (
        gate.placed_head(
            "modality", head, np.eye(16, dtype=np.float32)[:5], wrong, np.eye(16, dtype=np.float32)[:5], wrong
        ).places
        == ()
    )
    none = np.zeros((0, 16), np.float32)
    assert gate.placed_head("modality", head, none, [], none, []).places == ()


def test_a_head_of_a_facet_without_places_is_kept_as_it_is() -> None:
    vectors, labels = clusters(np.random.default_rng(1))
    items = [item("nih", "modality:x-ray", "body:chest", key=f"k{n}") for n in range(len(labels))]
    head, _ = gate.fitted_head(vectors, items, labels)
    before = gate.ImageGate(heads={"plane": head, "modality": head})
    after = gate.with_places(before, vectors, items, vectors, items)
    assert after.heads["plane"] == head
    assert after.heads["modality"].rows == head.rows


def test_places_of_a_gate_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    options = [
        "--checkpoint",
        str(tmp_path),
        "--work",
        str(tmp_path),
        "--real",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(FileNotFoundError):
        gate.main(["write", "--gate", str(tmp_path / "none.json"), "--bundle", str(tmp_path)])
    with pytest.raises(SystemExit):
        gate.main(["near", *options])
