"""What goes on with a caption is favoured."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from mirage_inference.llm.copying import CopiedText, Copying

_WORDS = "a left right renal cyst mass The first second image shows and"
TEXTS = ["", ".", ",", *(f" {word}" for word in _WORDS.split())]
CAPTIONS = ["Left renal cyst (simple), and a mass.", "CT showing right renal mass. A left cyst"]


def encode(text: str) -> list[int]:
    return [TEXTS.index(piece) for piece in re.findall(r" \w+|[.,]", text) if piece in TEXTS]


def begun(captions: Sequence[str] = CAPTIONS, strength: float = 2.0) -> CopiedText:
    weak = ("a", "the", "first", "second", "image", "shows", "and")
    return Copying(encode, TEXTS, weak, strength).begin(captions)


def favoured(written: str, captions: Sequence[str] = CAPTIONS) -> dict[str, float]:
    text = begun(captions)
    for token in encode(written):
        text.push(token)
    raised = text.favour(np.zeros(len(TEXTS), np.float32))
    return {TEXTS[token].strip(): float(raised[token]) for token in raised.nonzero()[0]}


@pytest.mark.parametrize(
    ("written", "next_"),
    [
        ("", {}),
        (" left", {"renal": 2.0, "cyst": 2.0}),
        (" left renal", {"cyst": 4.0, "mass": 2.0}),
        (" right renal", {"cyst": 2.0, "mass": 4.0}),
        (" left renal cyst", {",": 6.0}),
        # A word of the closed list alone leads nowhere.
        (" a", {}),
        (" and a", {"mass": 4.0}),
        # The same place is not gone over twice in a sentence, but in the next.
        (" left renal cyst, left renal", {"mass": 2.0}),
        (" left renal cyst. left renal", {"cyst": 4.0, "mass": 2.0}),
    ],
)
def test_the_more_tokens_agree_the_more_a_token_is_favoured(written: str, next_: dict[str, float]) -> None:
    assert favoured(written) == next_


@pytest.mark.parametrize(
    ("written", "next_"),
    [
        (" The first image shows left", {"renal": 2.0}),
        (" The second image shows left", {"cyst": 2.0}),
        (" The second image shows left cyst. left", {"renal": 2.0, "cyst": 2.0}),
    ],
)
def test_a_sentence_about_one_image_goes_on_with_its_caption(written: str, next_: dict[str, float]) -> None:
    assert favoured(written) == next_


@pytest.mark.parametrize("captions", [[""], ["()"], ["?"], ["(" * 50], [" "] * 16])
def test_captions_without_words_favour_nothing(captions: list[str]) -> None:
    assert favoured(" left renal", captions) == {}
