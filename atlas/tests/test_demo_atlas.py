"""The packaged demonstration atlas: complete, true to its ids, and readable without the build environment."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_atlas.demo.reader import DATA, DemoReader
from mirage_atlas.demo.samples import SAMPLES
from mirage_atlas.records import FACETS, AtlasRecord, BadRow


@pytest.fixture(scope="module")
def records() -> list[AtlasRecord]:
    found = list(DemoReader().read())
    assert [item for item in found if isinstance(item, BadRow)] == []
    return [item for item in found if isinstance(item, AtlasRecord)]


@pytest.fixture(scope="module")
def renderings(records: list[AtlasRecord]) -> list[AtlasRecord]:
    return [record for record in records if "synthetic" in record.labels]


def grey(record: AtlasRecord) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.read_image())).convert("L"), dtype=np.float32)


def test_the_atlas_has_the_promised_size(renderings: list[AtlasRecord]) -> None:
    size = sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file())

    assert 800 <= len(renderings) <= 1500
    assert size <= 12_000_000


def test_every_rendering_says_what_it_is_and_under_which_licence(renderings: list[AtlasRecord]) -> None:
    for record in renderings:
        assert record.labels["synthetic"] == ("template-rendering",)
        assert record.labels["licence"] == ("mni-icbm152",)
        assert "McConnell Brain Imaging Centre" in record.attribution
        assert "MNI ICBM152 2009a" in record.source


def test_planes_contrasts_and_sides_are_balanced(renderings: list[AtlasRecord]) -> None:
    for facet in ("plane", "sequence"):
        counts = Counter(record.labels[facet][0] for record in renderings)
        assert len(counts) == 3
        assert max(counts.values()) < 1.2 * min(counts.values())
    sides = Counter(record.labels["side"][0] for record in renderings if "side" in record.labels)
    assert sides["left"] == sides["right"]


def test_labels_use_the_facet_vocabulary_only(records: list[AtlasRecord]) -> None:
    for record in records:
        assert set(record.labels) <= set(FACETS)
        assert all(value == value.lower() for values in record.labels.values() for value in values)


def test_images_are_the_ones_of_the_captions(renderings: list[AtlasRecord]) -> None:
    for record in renderings[::40]:
        assert hashlib.sha256(record.read_image()).hexdigest() == record.sha256


def test_captions_vary_and_name_their_attributes(renderings: list[AtlasRecord]) -> None:
    assert len({record.caption for record in renderings}) > 0.95 * len(renderings)
    planes = {"axial": ("axial", "transverse"), "coronal": ("coronal",), "sagittal": ("sagittal",)}
    for record in renderings:
        caption = record.caption.lower()
        assert any(word in caption for word in planes[record.labels["plane"][0]])
        assert record.labels["sequence"][0] in caption
        if record.labels["finding"] == ("simulated lesion",):
            assert "simulated" in caption
            assert f"{record.labels['side'][0]} {record.original_labels['lesion_lobe']}" in caption


def test_a_lesion_on_the_left_is_seen_at_image_right_of_axial_and_coronal_sections(
    renderings: list[AtlasRecord],
) -> None:
    by_id = {record.id: record for record in renderings}
    pairs = [(name, name.replace("-left-", "-right-")) for name in by_id if "-left-" in name and "sagittal" not in name]
    assert len(pairs) > 100
    for left, right in pairs[::25]:
        change = np.abs(grey(by_id[left]) - grey(by_id[right]))
        bright = by_id[left].original_labels["lesion_signal"] == "hyperintense"
        signed = (grey(by_id[left]) - grey(by_id[right])) * (1 if bright else -1)
        columns = np.broadcast_to(np.arange(change.shape[1]), change.shape)
        assert columns[signed > 30].mean() > change.shape[1] / 2, left


def test_a_right_sagittal_section_is_the_left_one_seen_from_the_other_side(renderings: list[AtlasRecord]) -> None:
    by_id = {record.id: record for record in renderings}
    left, right = grey(by_id["demo-sagittal-m28-t1"]), grey(by_id["demo-sagittal-p28-t1"])

    # The WebP encoding is not mirror-symmetric to the last grey level.
    assert np.abs(left[:, ::-1] - right).mean() < 2.0
    assert np.abs(left - right).mean() > 10.0


def test_all_clinical_samples_of_the_installed_packages_are_read(records: list[AtlasRecord]) -> None:
    samples = [record for record in records if record.id.startswith("sample-")]

    assert len(samples) == len(SAMPLES)
    assert {record.labels["modality"][0] for record in samples} == {"x-ray", "ct", "mr", "us", "nm"}
    for record in samples:
        image = Image.open(io.BytesIO(record.read_image()))
        assert image.format == "PNG"
        assert min(image.size) >= 64
        assert not image.info
        assert "synthetic" not in record.labels


def test_no_patient_field_leaves_a_sample(records: list[AtlasRecord]) -> None:
    from pydicom import dcmread

    from mirage_atlas.demo.samples import sample_path

    for sample in SAMPLES:
        path = sample_path(sample.file)
        assert path is not None
        (record,) = [r for r in records if r.id == sample.id]
        shown = json.dumps([record.caption, record.labels, record.original_labels, record.source]).lower()
        dataset = dcmread(path, specific_tags=["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"])
        for element in dataset:
            value = str(element.value).strip().lower()
            assert len(value) < 3 or value not in shown, (sample.file, element.keyword)


def test_the_data_folder_holds_nothing_else(renderings: list[AtlasRecord]) -> None:
    files = {path.relative_to(DATA) for path in DATA.rglob("*") if path.is_file()}

    assert files == {Path("captions.jsonl")} | {Path("images") / f"{record.id}.webp" for record in renderings}
