"""What a prompt asks for, as it is compared with what the encoder sees."""

from collections.abc import Sequence

import numpy as np
import pytest

from mirage_core.vectors import Array
from mirage_generator.agreement import AgreementCheck, texts_of
from mirage_inference.generator.pipeline import Pixels


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("Axial T1-weighted MRI of the brain", {"modality": "mr", "plane": "axial", "sequence": "t1"}),
        ("T2 FLAIR, transverse", {"plane": "axial", "sequence": "flair"}),
        ("sag t2w head, no lesion", {"plane": "sagittal", "sequence": "t2", "lesion": "no"}),
        (
            "coronal T2 with a hyperintense lesion in the left frontal lobe",
            {"plane": "coronal", "sequence": "t2", "lesion": "yes", "side": "left"},
        ),
        ("healthy brain", {"lesion": "no"}),
        ("chest X-ray", {"modality": "x-ray"}),
        ("axial or coronal", {}),
        ("left and right", {}),
        ("correct axioms", {}),
        ("", {}),
    ],
)
def test_only_what_a_prompt_names_once_is_compared(prompt: str, asked: dict[str, str]) -> None:
    found = texts_of(prompt)
    assert {aspect: value for aspect, (value, _) in found.items()} == asked
    assert all(value in texts and len(texts) > 1 for value, texts in found.values())
    assert all(text for _, texts in found.values() for each in texts.values() for text in each)


def test_the_other_side_differs_in_the_side_alone() -> None:
    _, texts = texts_of("lesion of the LEFT temporal lobe")["side"]
    assert texts == {"left": ("lesion of the left temporal lobe",), "right": ("lesion of the right temporal lobe",)}


def test_without_an_encoder_an_image_is_not_checked() -> None:
    check = AgreementCheck("127.0.0.1:1")
    try:
        assert check.look(np.zeros((64, 64, 3), np.uint8), "axial brain") is None
        assert check.look(np.zeros((64, 64, 3), np.uint8), "a prompt without an aspect") == ()
    finally:
        check.close()


class Mixed(AgreementCheck):
    """A check whose encoder answers with vectors of two models."""

    async def _encode(self, pixels: Pixels, texts: Sequence[str]) -> tuple[Array, list[Array]]:
        return np.ones(4, np.float32), [np.ones(8, np.float32) for _ in texts]


def test_vectors_of_two_models_are_not_compared() -> None:
    check = Mixed("127.0.0.1:1")
    try:
        assert check.look(np.zeros((64, 64, 3), np.uint8), "axial brain") is None
    finally:
        check.close()
