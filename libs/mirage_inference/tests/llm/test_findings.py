"""The closed vocabulary of findings."""

import pytest

from mirage_inference.llm.findings import Mention, vocabulary


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
