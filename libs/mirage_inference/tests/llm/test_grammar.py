"""Which texts are fragments."""

import pytest

from mirage_inference.llm.grammar import complete


@pytest.mark.parametrize(
    "text",
    [
        "can",
        "",
        "...",
        "there may represent the fistula tract",
        "The mass is between the bodies of T12.",
        "The disc lies between the liver and.",
        "between the bodies of T12",
        "The image shows can.",
        "The image shows is enlarged.",
        "The lesion may the liver.",
        "In the left kidney.",
        "A cyst of the.",
        "The of the kidney is dilated.",
    ],
)
def test_fragments_are_not_complete(text: str) -> None:
    assert not complete(text)


@pytest.mark.parametrize(
    "text",
    [
        "There may be a fistula tract.",
        "There might still be fluid.",
        "The disc lies between the bodies of T12 and L1.",
        "A fissure between the lobes is thickened.",
        "A coronal section of the brain.",
        "In the left kidney there is a cyst.",
        "In MRI the signal comes from hydrogen nuclei in water and fat.",
        "Between the two lobes lies a fissure.",
        "The vein may drain into the azygos vein.",
    ],
)
def test_sentences_and_noun_phrases_are_complete(text: str) -> None:
    assert complete(text)
