"""The vocabulary of findings, and the checklists that use it."""

import pytest

from mirage_reader.checklists import checklist_for, checklists
from mirage_reader.findings import Mention, vocabulary
from mirage_reader.kinds import Correction, Look, Medical, kind_of


@pytest.mark.parametrize(
    ("text", "affirmed", "denied"),
    [
        ("There is a left pleural effusion.", {"pleural effusion"}, set()),
        ("No pleural effusion or pneumothorax.", set(), {"pleural effusion", "pneumothorax"}),
        ("Cardiomegaly without pulmonary oedema.", {"cardiomegaly"}, {"pulmonary edema"}),
        ("Pneumonia is absent.", set(), {"pneumonia"}),
        ("Bacterial pneumonia of the right lower lobe.", {"bacterial pneumonia"}, set()),
        ("A normal heart.", set(), set()),
        ("", set(), set()),
    ],
)
def test_a_text_affirms_or_denies_findings(text: str, affirmed: set[str], denied: set[str]) -> None:
    expected = {Mention(each, False) for each in affirmed} | {Mention(each, True) for each in denied}
    assert set(vocabulary().mentions(text)) == expected


@pytest.mark.parametrize(
    ("label", "name"),
    [("Normal", "none"), ("glioblastoma", "glioma"), ("brain tumour", "brain tumor"), ("something else", None)],
)
def test_labels_of_collections_have_one_name_or_none(label: str, name: str | None) -> None:
    assert vocabulary().canonical(label) == name


def test_the_eight_checklists_judge_by_findings_of_the_vocabulary() -> None:
    assert [each.name for each in checklists()] == [
        "abdomen-ct", "bone-x-ray", "brain-mr", "chest-ct", "chest-x-ray", "dermoscopy", "head-ct", "ultrasound"
    ]  # fmt: skip
    for checklist in checklists():
        assert len(checklist.items) >= 5
        assert len({each.id for each in checklist.items}) == len(checklist.items)
        for item in checklist.items:
            assert set(item.findings) <= set(vocabulary().synonyms), (checklist.name, item.id)
            assert item.text.endswith(".")


@pytest.mark.parametrize(
    ("modality", "body_part", "name"),
    [
        ("x-ray", "chest", "chest-x-ray"),
        ("x-ray", "hand", "bone-x-ray"),
        ("mr", "brain", "brain-mr"),
        ("ct", "head", "head-ct"),
        ("us", "breast", "ultrasound"),
        ("dermoscopy", "", "dermoscopy"),
        ("mr", "knee", None),
        ("", "", None),
    ],
)
def test_a_kind_has_its_checklist_or_none(modality: str, body_part: str, name: str | None) -> None:
    kind = kind_of(Look(Medical.YES, 1.0), {}, Correction(modality, body_part))
    found = checklist_for(kind)
    assert (found.name if found else None) == name
