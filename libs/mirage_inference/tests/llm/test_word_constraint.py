"""Words that a model may write: those of a closed list and of the captions."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from mirage_inference.llm.glossary import load
from mirage_inference.llm.model import Wrote, load_model
from mirage_inference.llm.request import Caption, Question, Writing
from mirage_inference.llm.word_constraint import ConstrainedText, WordConstraint
from mirage_inference.llm.words import english, english_forms, known
from mirage_models.paths import mini_lm_bundle
from tests.support.paths import TINY_LLM

WORD = re.compile(r"[^\W\d_]{2,}")
TEXTS = [
    *"abcdehilnorst",
    " ",
    " bra",
    " brain",
    "in",
    "ins",
    ".",
    ". A",
    " sto",
    "ne",
    " x-stone",
    "Bra",
    "e in",
    "",
    "é",
]
CAPTION = "Axial T1-weighted section of the brain at the level of the thalami; no lesion."


def constraint(*words: str) -> WordConstraint:
    return WordConstraint(TEXTS, words, vocabulary=len(TEXTS) + 1, end_ids=(TEXTS.index(""),))


def allowed(text: ConstrainedText) -> set[str]:
    return {TEXTS[token] for token in text.allowed().nonzero()[0]}


def written(text: ConstrainedText, pieces: Sequence[str]) -> bool:
    """Returns True if the tokens may follow each other and the text may end there."""
    for piece in (*pieces, ""):
        if piece not in allowed(text):
            return False
        if piece:
            text.push(TEXTS.index(piece))
    return True


@pytest.mark.parametrize(
    ("pieces", "may"),
    [
        ([" brain"], True),
        ([" bra", "in"], True),
        (["Bra", "in", "."], True),
        ([" bra", "i", "n"], True),
        ([" bra", "ins"], False),
        ([" bra"], False),
        ([" brain", "s"], False),
        ([" brain", " brain", ". A"], True),
        ([" sto", "ne"], False),
        ([" x-stone"], False),
        (["é"], False),
        ([], True),
    ],
)
def test_only_listed_words_can_be_written(pieces: list[str], may: bool) -> None:
    assert written(constraint("brain", "a").begin([]), pieces) is may


@pytest.mark.parametrize(
    ("pieces", "may"),
    [([" sto", "ne"], True), ([" sto", "n", "e in"], False), ([" brain"], False), ([" brain", "s"], True)],
)
def test_a_text_may_have_the_words_of_its_captions(pieces: list[str], may: bool) -> None:
    of_list = constraint()
    assert written(of_list.begin(["A STONE; brains."]), pieces) is may
    assert not written(of_list.begin([]), pieces)


def test_a_word_ends_within_a_token_that_goes_on() -> None:
    assert written(constraint("stone", "in").begin([]), [" sto", "n", "e in"])


def test_words_that_the_tokens_cannot_spell_are_never_begun() -> None:
    assert not written(constraint("brainz").begin(["brainz"]), [" bra", "in"])
    assert " bra" not in allowed(constraint("brainz").begin([]))


def test_listed_forms_are_words_that_the_check_of_sentences_knows() -> None:
    forms = english_forms()
    assert english() <= forms
    assert {"thalami", "metastases", "vertebrae", "enhances", "carries", "stopped", "calcified", "slightly"} <= forms
    assert [form for form in forms if not known(form)] == []


@pytest.mark.parametrize("bundle", [mini_lm_bundle(), TINY_LLM], ids=["mini", "random weights"])
def test_a_model_writes_no_word_of_its_own(bundle: Path) -> None:
    model = load_model(bundle, threads=1)
    said, listed = {word.lower() for word in WORD.findall(CAPTION)}, load().words
    found: list[str] = []
    for seed in range(4):
        # So hot that it would write anything.
        question = Question("brain", (Caption("a", CAPTION),), writing=Writing(60, 2.0))
        items = model.write(question, seed=seed, cancelled=lambda: False)
        text = "".join(item.text for item in items if isinstance(item, Wrote))
        # The last word may have been cut off.
        found += WORD.findall(text.lower())[:-1]
    model.close()
    assert len(found) > 20
    assert [word for word in found if word not in said | listed and not known(word)] == []
