"""The checklists, and the vocabulary that they use."""

import pytest

from mirage_inference.llm.findings import vocabulary
from mirage_reader.checklists import checklist_for, checklists
from mirage_reader.kinds import Correction, Look, Medical, kind_of


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
