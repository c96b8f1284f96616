"""Measures of readings, on outcomes whose figures are known."""

from collections.abc import Generator
from typing import Any

import pytest

from mirage_api.readings import ReadDone, ReadEvidence, ReadKind, ReadLabel
from mirage_atlas.quality.readings import HeldOut, Outcome, auroc, evaluate_readings, summarise, to_findings


def outcome(case: int, truth: str, label: str, **shares: float) -> Outcome:
    return Outcome(str(case), frozenset({truth}), label, shares)


@pytest.mark.parametrize(
    ("with_it", "without", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 1.0),
        ([0.1], [0.9], 0.0),
        ([0.5], [0.5], 0.5),
        ([0.4, 0.6], [0.5], 0.5),
        ([], [0.1], 0.5),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order(with_it: list[float], without: list[float], expected: float) -> None:
    found = [outcome(n, "melanoma", "", melanoma=share) for n, share in enumerate(with_it)]
    found += [outcome(10 + n, "none", "", melanoma=share) for n, share in enumerate(without)]
    assert auroc(found, "melanoma") == expected


def test_precision_recall_and_the_first_three_have_intervals_and_chance() -> None:
    found = [outcome(n, "melanoma", "melanoma" if n < 9 else "", melanoma=0.8) for n in range(12)]
    found += [outcome(20 + n, "none", "melanoma" if n < 3 else "none", none=0.9, melanoma=0.1) for n in range(24)]
    found += [outcome(60, "nevus", "", nevus=0.1)]
    quality = summarise(found, declined=2)
    assert (quality.images, quality.declined, quality.kind) == (37, 2, None)
    # A label is measured from ten images on.
    assert set(quality.labels) == {"melanoma", "none"}
    melanoma = quality.labels["melanoma"]
    assert (melanoma.images, melanoma.named) == (12, 12)
    assert melanoma.precision.value == melanoma.recall.value == 0.75
    assert melanoma.precision.chance == pytest.approx(12 / 37)
    for each in (melanoma.precision, melanoma.recall):
        assert each.low < 0.75 < each.high
    assert melanoma.auroc.value == 1.0
    assert melanoma.beyond_chance
    assert quality.first.value == 1.0


def test_a_label_without_any_skill_is_not_beyond_chance() -> None:
    found = [outcome(n, "melanoma" if n % 2 else "none", "", melanoma=0.1 * (n // 2 % 5)) for n in range(40)]
    measures = summarise(found).labels["melanoma"]
    assert measures.auroc.value == 0.5
    assert not measures.beyond_chance


def test_what_is_kept_with_a_collection_names_each_label_with_its_interval_and_chance() -> None:
    found = [outcome(n, "melanoma" if n % 2 else "none", "", melanoma=0.1 * (n // 2 % 5)) for n in range(40)]
    quality = summarise(found)
    kept = to_findings(quality).measured("f" * 8, "mirage eval read DATASET")
    assert (kept.subject, kept.fingerprint) == ("read", "f" * 8)
    assert kept.notes == ("40 images read, 0 declined.", "The AUROC of these may be chance: melanoma, none.")
    figures = {(each.name, each.group): each for each in kept.figures}
    assert len(figures) == 1 + 3 * len(quality.labels)
    auroc_of = figures["AUROC", "finding melanoma"]
    expected = quality.labels["melanoma"].auroc
    assert (auroc_of.value, auroc_of.low, auroc_of.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-5
    )
    assert (auroc_of.chance, auroc_of.count) == (0.5, 20)


class Scripted:
    """Reads every image as a chest X-ray with pneumonia, except one that it declines."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes | None, str, str]] = []

    def read(self, image: bytes | None = None, *, record_id: str = "", collection: str = "") -> Generator[Any]:
        self.asked.append((image, record_id, collection))
        known = {"modality": {"value": "x-ray", "score": 1, "source": "classified"}}
        yield ReadKind.model_validate({"medical": "medical", **known})
        if image == b"photo":
            yield ReadDone.model_validate({"finish": "not_medical", "disclaimer": "Not for diagnosis."})
            return
        figures = {"cases": 3, "share": 1.0, "low": 0.4, "high": 1.0, "prior": 0.5, "lift": 2.0, "enough": True}
        facet = {"facet": "finding", "labelled": 3, "values": [{"value": "pneumonia", **figures}]}
        yield ReadEvidence.model_validate({"cases": 3, "records": 9, "facets": [facet]})
        yield ReadLabel.model_validate({"state": "named", "finding": "pneumonia", "text": "Pneumonia."})
        raise AssertionError("nothing after the label is needed")


def test_images_are_read_by_their_record_if_the_atlas_has_them() -> None:
    labels = {"modality": ("x-ray",), "finding": ("pneumonia",)}
    items = [HeldOut(str(n), labels, lambda: b"file", "r1" if n == 0 else "") for n in range(11)]
    items.append(HeldOut("photo", {"modality": ("ct",)}, lambda: b"photo"))
    client = Scripted()
    quality = evaluate_readings(client, items, collection="real")
    assert client.asked[:2] == [(None, "r1", "real"), (b"file", "", "real")]
    assert (quality.images, quality.declined) == (11, 1)
    assert quality.labels["pneumonia"].recall.value == 1.0
    # Of those that were read by their file; the part of the body is not known, and not labelled.
    assert quality.kind is not None
    assert quality.kind.value == 1.0


def test_labels_are_compared_by_the_names_of_the_vocabulary() -> None:
    # The reader says "pneumonia", whatever the dataset calls it.
    words = {"lobar collapse": "atelectasis", "Normal": "none", "own word": "own word"}
    items = [HeldOut(f"{word} {n}", {"finding": (word,)}, lambda: b"file") for word in words for n in range(10)]
    quality = evaluate_readings(Scripted(), items)
    assert set(quality.labels) == set(words.values())
    # "Normal" is not a finding.
    assert quality.with_finding == 20
