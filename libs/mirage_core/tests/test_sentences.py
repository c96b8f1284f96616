"""Sentences: what ends one, what does not, and that a growing text is split the same way."""

import pytest

from mirage_core.extractive import SENTENCES_MAX, extract
from mirage_core.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("  \n ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("no end mark", ["no end mark"]),
        ("The image is weighted T1. The next one is T2.", ["The image is weighted T1.", "The next one is T2."]),
        ("A lesion of 3.5 mm is seen. It is bright.", ["A lesion of 3.5 mm is seen.", "It is bright."]),
        ("Grey matter, e.g. The cortex, is dark.", ["Grey matter, e.g. The cortex, is dark."]),
        ("See Fig. 3 and Dr. Miller. Good.", ["See Fig. 3 and Dr. Miller.", "Good."]),
        ("Written by J. Smith. Read it.", ["Written by J. Smith.", "Read it."]),
        ("Measured in mm. The size is 12.", ["Measured in mm.", "The size is 12."]),
        ("It is small. approximately.", ["It is small. approximately."]),
        ('He said "no lesion." Then he left.', ['He said "no lesion."', "Then he left."]),
        ("First line\nsecond line", ["First line", "second line"]),
        ("1. The heart. 2. The lung.", ["1. The heart.", "2. The lung."]),
        ("1.\nThe heart", ["1.\nThe heart"]),
        ("Wait... What?", ["Wait...", "What?"]),
        ("Is there one? no. The brain is normal.", ["Is there one?", "no.", "The brain is normal."]),
        ("See no. 3 of the list.", ["See no. 3 of the list."]),
        ("Größe: 5 mm. Über dem Balken.", ["Größe: 5 mm.", "Über dem Balken."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(text)] == sentences


TEXT = 'An axial T1 section, e.g. of 3.5 mm. "A lesion." is seen? No. 3 shows it!  Fig. 2 not.\n2. The end. J. Doe'


def test_places_are_those_of_the_text() -> None:
    for sentence in split_sentences(TEXT):
        assert TEXT[sentence.start : sentence.end] == sentence.text


def test_a_growing_text_keeps_the_sentences_that_another_one_follows() -> None:
    whole = split_sentences(TEXT)
    for length in range(len(TEXT) + 1):
        complete = split_sentences(TEXT[:length])[:-1]
        # The follower may be nothing but an opening mark yet; then its first letter still decides.
        if TEXT[:length].rstrip()[-1:].isalnum():
            assert whole[: len(complete)] == complete


def test_an_extract_says_what_captions_say_and_where() -> None:
    made = extract(
        [
            ("a", "Axial T1. It shows the pons. Nothing about it. The thalamus is seen"),
            ("b", "Axial T1."),
            ("c", "Coronal T2"),
        ],
        query="thalamus",
    )
    assert made == [("Axial T1.", ("a", "b")), ("The thalamus is seen.", ("a",)), ("Coronal T2.", ("c",))]


def test_an_extract_is_bounded_whatever_the_captions() -> None:
    made = extract([(str(n), f"Caption {n} " + "word " * 4000) for n in range(16)])
    assert len(made) == SENTENCES_MAX
    assert max(len(sentence) for sentence, _ in made) < 410
    assert extract([("x", "y" * 20_000)])[0][0].endswith("…")
    assert extract([]) == extract([("x", " \x00 ")]) == []
