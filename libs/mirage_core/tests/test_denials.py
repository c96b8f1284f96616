"""What a text says is not there."""

import pytest

from mirage_core.denials import denied_spans


def denied(text: str) -> list[str]:
    return [text[start:end] for start, end in denied_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No pneumothorax.", "pneumothorax"),
        ("No evidence of pleural effusion. Cardiomegaly.", "evidence of pleural effusion"),
        ("No focal consolidation, effusion or pneumothorax", "focal consolidation , effusion or pneumothorax"),
        ("Negative for fracture", "for fracture"),
        ("The lungs are free of nodules.", "of nodules"),
        ("Absence of the left kidney", "of the left kidney"),
        ("Pneumothorax is not seen.", "Pneumothorax is seen"),
        ("The gallbladder is absent", "The gallbladder is"),
        ("CT without contrast", "contrast"),
        ("No fracture. Lung mass", "fracture"),
        ("No fracture\nLung mass", "fracture"),
        ("No fracture but a lung mass", "fracture"),
        ("No fracture, the lung has a mass", "fracture"),
        ("Sin derrame pleural", "derrame pleural"),
    ],
)
def test_what_is_denied_is_found(text: str, expected: str) -> None:
    assert " ".join(denied(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Free fluid in the pelvis",
        "Free intraperitoneal air",
        "A negative contrast agent",
        "Pneumothorax cannot be excluded.",
        "Fracture not excluded",
        "We cannot exclude a mass",
        "Not only a mass",
        "Nodule of the left lung.",
        "",
    ],
)
def test_what_only_looks_like_a_denial_is_none(text: str) -> None:
    assert denied(text) == []


def test_a_change_that_is_denied_leaves_what_would_change() -> None:
    assert denied("No interval change of the right pleural effusion") == ["interval", "change"]
