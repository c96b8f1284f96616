"""`mirage eval` over a real system: a model that knows the images and one whose vectors are shuffled are told apart."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage.client import Client
from mirage.uploads import Upload
from mirage_api.quality import Figure
from mirage_atlas.quality import arithmetic, calibration, consistency, gallery, generation, retrieval
from mirage_atlas.quality.generation import GENERATED, REAL
from mirage_atlas.quality.report import Findings
from tests.support.waiting import until

GOOD, SHUFFLED = "quality-good", "quality-shuffled"


@pytest.fixture(scope="module")
def client(system: Any) -> Iterator[Client]:
    with gallery.PatientClient(system.http_url) as client:
        yield client


def calibrated(client: Client, name: str) -> object:
    return client.collection(name).calibration


@pytest.fixture(scope="module")
def both(client: Client) -> Iterator[tuple[gallery.Gallery, gallery.Gallery]]:
    """Two collections of the same records: with their own vectors, and with those of others."""
    stored = gallery.load(client)
    images = {record.id: client.image(record.id).data for record in stored.records}
    order = np.random.default_rng(5).permutation(len(stored.records))
    try:
        for name, rows in ((GOOD, np.arange(len(order))), (SHUFFLED, order)):
            client.create_collection(name)
            uploads = [
                Upload(
                    id=record.id,
                    caption=record.caption,
                    image=images[record.id],
                    labels=record.labels,
                    licence=record.licence,
                    source=record.source,
                    case_id=f"case {number // 4}",
                    title=record.caption.partition(",")[0],
                    image_vector=stored.images[rows[number]].tobytes(),
                    caption_vector=stored.captions[number].tobytes(),
                    fingerprint=stored.fingerprint,
                )
                for number, record in enumerate(stored.records)
            ]
            for start in range(0, len(uploads), 32):
                assert {each.state for each in client.upsert(uploads[start : start + 32], collection=name)} == {
                    "created"
                }
        for name in (GOOD, SHUFFLED):
            until(partial(calibrated, client, name))
        yield gallery.load(client, collection=GOOD), gallery.load(client, collection=SHUFFLED)
    finally:
        for name in (GOOD, SHUFFLED):
            client.delete_collection(name)


def figure(findings: Findings, name: str, group: str) -> Figure:
    return next(each for each in findings.figures if (each.name, each.group) == (name, group))


def test_retrieval_tells_a_model_that_knows_the_images_from_one_that_does_not(
    client: Client, both: tuple[gallery.Gallery, gallery.Gallery]
) -> None:
    good, shuffled = (
        retrieval.measure(client, each, limit=60, collection=each.name, report=lambda _done, _all: None)
        for each in both
    )
    for name, group in (
        ("recall@10", "text to image, likeness"),
        ("recall@10", "image to text, likeness"),
        ("mean reciprocal rank", "text to image, likeness"),
        ("mAP by labels", "text to image, likeness"),
        ("nDCG@10 by labels", "image to image, likeness"),
        ("recall@10", "caption to image, likeness, served"),
    ):
        better, worse = figure(good, name, group), figure(shuffled, name, group)
        assert better.low is not None
        assert worse.high is not None
        assert better.low > worse.high, (name, group)
    broken = figure(shuffled, "recall@10", "text to image, likeness")
    assert broken.chance is not None
    assert broken.value < 3 * broken.chance
    assert {each.kind for each in shuffled.hard_cases} >= {"not_found", "confused"}
    again = retrieval.measure(client, both[0], limit=60, collection=GOOD, report=lambda _done, _all: None)
    assert again.figures == good.figures


def test_what_is_computed_here_is_what_the_server_answers(
    client: Client, both: tuple[gallery.Gallery, gallery.Gallery]
) -> None:
    found = retrieval.measure(client, both[0], limit=40, collection=GOOD, report=lambda _done, _all: None)
    here, served = (
        figure(found, "recall@10", f"{task}, likeness{how}")
        for task, how in (("text to image", ""), ("caption to image", ", served"))
    )
    assert served.value == pytest.approx(here.value, abs=0.051)


def test_consistency_and_arithmetic_and_calibration_tell_them_apart(
    client: Client, both: tuple[gallery.Gallery, gallery.Gallery]
) -> None:
    def measured(module: Any) -> list[Findings]:
        return [
            module.measure(client, each, limit=40, collection=each.name, report=lambda _done, _all: None)
            for each in both
        ]

    good, shuffled = measured(consistency)
    better, worse = (
        figure(each, "accuracy of the best threshold", "image and its caption") for each in (good, shuffled)
    )
    assert better.low is not None
    assert worse.high is not None
    assert better.low > worse.high
    name = "caption and its paraphrase"
    assert (
        any(each.startswith(f"Not measured: {name}") for each in good.notes) or figure(good, "AUROC", name).value > 0.8
    )
    good, shuffled = measured(arithmetic)
    better, worse = (figure(each, "first result has the new label and the others", "all") for each in (good, shuffled))
    assert better.low is not None
    assert worse.high is not None
    assert better.low > worse.high
    good, shuffled = measured(calibration)
    assert figure(good, "AUROC of the best cosine", "likeness").value > 0.9


def test_generated_images_are_measured_next_to_real_ones(client: Client) -> None:
    def measured(records: gallery.Gallery) -> Findings:
        return generation.measure(client, records, limit=32, report=lambda _done, _all: None)

    records = gallery.load(client)
    order = np.random.default_rng(5).permutation(len(records.records))
    found, broken = measured(records), measured(dataclasses.replace(records, images=records.images[order]))
    for group in (GENERATED, REAL):
        for name, of in (
            ("prompt margin", group),
            ("nearer to its own prompt than to another", group),
            ("label guessed by the encoder", f"plane: {group}"),
            ("nearest real image has the label", f"plane: {group}"),
        ):
            each = figure(found, name, of)
            assert each.low is not None
            assert each.chance is not None
            assert each.low > each.chance, (name, of)
    for name in ("Fréchet distance", "kernel distance"):
        made, floor = (
            figure(found, f"{name} to held-out real images", group) for group in (GENERATED, f"floor: {REAL}")
        )
        assert made.value > floor.value, name
    # The same seeds make the same images.
    assert figure(broken, "prompt margin", GENERATED) == figure(found, "prompt margin", GENERATED)
    # But if each record has another's vector, the nearest one no longer has the prompt's labels.
    name, of = "nearest real image has the label", f"plane: {GENERATED}"
    better, worse = figure(found, name, of), figure(broken, name, of)
    assert better.low is not None
    assert worse.high is not None
    assert better.low > worse.high


def test_the_command_stores_what_the_api_lists(client: Client, system: Any, tmp_path: Path) -> None:
    out = tmp_path / "evaluation.json"
    run = subprocess.run(
        [
            *system.command_line,
            "eval",
            "retrieval",
            "--limit",
            "20",
            "--store",
            "--json",
            "--out",
            str(out),
            "--url",
            system.http_url,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (printed,) = json.loads(run.stdout)["evaluations"]
    assert json.loads(out.read_text())["evaluations"] == [printed]
    (stored,) = client.quality()
    assert stored.subject == "retrieval"
    assert not stored.outdated
    assert stored.records == client.collection().records
    assert stored.figures == tuple(Figure.model_validate(each) for each in printed["figures"])
    assert stored.command == "mirage eval retrieval --limit 20"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"subject": "luck"}, 400, "REQUEST_MALFORMED"),
        ({"fingerprint": "b" * 64}, 409, "FINGERPRINT_MISMATCH"),
        ({"figures": [{"name": "x", "value": "NaN"}]}, 400, "REQUEST_MALFORMED"),
        ({"figures": [{"name": "x", "value": 1.0}] * 501}, 422, "TOO_MANY_ITEMS"),
        ({"notes": ["x"] * 17}, 422, "TOO_MANY_ITEMS"),
        ({"path": "/etc/passwd"}, 400, "REQUEST_MALFORMED"),
    ],
)
def test_bad_evaluations_are_refused(client: Client, change: dict[str, Any], status: int, code: str) -> None:
    import httpx

    good = {"subject": "speed", "fingerprint": client.collection().fingerprint, "figures": []}
    answer = httpx.post(f"{client.url}/v1/quality", json={"evaluation": good | change})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert all(each.subject != "speed" for each in client.quality())
