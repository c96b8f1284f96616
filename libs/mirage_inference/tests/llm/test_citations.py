"""Citations: what a sentence may stand on, and what only looks like it."""

import pytest

from mirage_inference.llm.citations import supporting
from mirage_inference.llm.reading import read
from mirage_inference.llm.words import stem, tokens

AXIAL = "Axial T1-weighted section of the brain; a simulated hyperintense lesion of 20 mm in the left frontal lobe."
CORONAL = "Coronal FLAIR-like section of the brain, showing the putamina and thalami; no focal lesion."
CAPTIONS = (AXIAL, CORONAL)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The first image is an axial section of the brain.", [0]),
        ("The second image is an axial section of the brain.", []),
        ("Image 2 has no lesion.", [1]),
        ("The first image has no lesion.", []),
        ("There is a hyperintense lesion of 20 mm in the left frontal lobe.", [0]),
        ("There is a hyperintense lesion of 2 cm in the left frontal lobe.", [0]),
        ("There is a hyperintense lesion of 21 mm in the left frontal lobe.", []),
        ("There is a hyperintense lesion in the right frontal lobe.", []),
        ("There is a hyperintense lesion in the left temporal lobe.", []),
        ("There is a hypointense lesion in the left frontal lobe.", []),
        ("The putamen and the thalamus are shown.", [1]),
        ("The hippocampus is shown.", []),
        ("Both images are sections of the brain.", [0, 1]),
        ("None of the images has a lesion.", []),
        ("The third image shows the brain.", []),
        ("The first image is axial; the second image is coronal.", [0, 1]),
        ("The first image is axial; the second image is sagittal.", []),
        ("It is shown here.", []),
        ("None of the captions names the genu of the corpus callosum.", [0, 1]),
        ("The captions do not mention a hippocampus.", [0, 1]),
        ("None of the captions names the putamina.", []),
        ("", []),
    ],
)
def test_a_sentence_stands_on_the_captions_that_say_it(sentence: str, expected: list[int]) -> None:
    assert supporting(sentence, CAPTIONS) == expected


def test_a_side_belongs_to_the_nouns_beside_it() -> None:
    captions = ("Chest film with a right-sided pneumothorax and a shift of the mediastinum to the left.",)
    assert supporting("The pneumothorax is on the right.", captions) == [0]
    assert supporting("The mediastinum is shifted to the left.", captions) == [0]
    assert supporting("The pneumothorax is on the left.", captions) == []
    assert supporting("The mediastinum is shifted to the right.", captions) == []


def test_cosines_order_what_supports_equally_and_decide_nothing() -> None:
    captions = ("Axial brain.", "Axial brain.", "Coronal brain.")
    assert supporting("An axial section of the brain.", captions, [0.1, 0.9, 1.0]) == [1, 0]
    assert supporting("An axial section of the brain.", captions) == [0, 1]


def test_synonyms_and_numbers_of_nouns_have_one_form() -> None:
    assert tokens("Transverse T1w MRI, 1.5 cm") == ["axial", "t1", "mr", ",", "15mm"]
    pairs = [("thalami", "thalamus"), ("putamina", "putamen"), ("vertebrae", "vertebra"), ("arteries", "artery")]
    assert all(stem(plural) == singular for plural, singular in pairs)
    assert tokens("oedema of the oesophagus") == tokens("edema of the esophagus")


def test_what_is_denied_is_not_asserted() -> None:
    claims = read("Chest X-ray without pneumothorax or effusion, showing a nodule; fracture is excluded.")
    assert {"pneumothorax", "effusion", "fracture"} <= claims.denied
    assert {"nodule", "xray"} <= claims.terms


@pytest.mark.parametrize("text", ["", "...", "left", "no", "\x00", "1" * 5000, "no " * 2000, "; " * 1000])
def test_nothing_that_is_written_breaks_the_reading(text: str) -> None:
    read(text)
    supporting(text, [text or "x"])
