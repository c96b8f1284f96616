"""Counts of what descriptions show."""

import sys
from pathlib import Path

import pytest

from mirage_training.trust import shown
from mirage_training.trust.shown import Answer, Sentence, summary

CAPTION = "Axial CT of the abdomen with a cyst of the left kidney."


def answer(*sentences: Sentence, withheld: int = 0, source: str = "model") -> Answer:
    first = 12.0 if sentences else None
    return Answer("a", {"a": CAPTION}, sentences, source, "stop", withheld, 20, first, 30.0)


def test_sentences_of_the_model_are_counted_apart_from_facts_and_extracts() -> None:
    said = Sentence("A cyst of the left kidney.", "caption", "where", ("a",))
    fact = Sentence("A cyst is a closed sac.", "general", "where", ())
    taken = Sentence(CAPTION, "extract", "see", ("a",))
    lines = summary([answer(said, said, fact, withheld=1), answer(taken, source="extractive")], frozenset({"sac"}))
    assert lines[0] == ("2 answers by whom: {'model': 1, 'extractive': 1}; ended: {'stop': 2}; empty: 0")
    assert lines[1].endswith("made-up words: {}")
    assert lines[2] == "the model's: 2 from captions shown, 1 withheld (0.667 shown)"


def test_a_made_up_word_and_an_empty_answer_are_reported() -> None:
    invented = Sentence("A blorptic cyst.", "caption", "see", ("a",))
    lines = summary([answer(invented), answer()], frozenset())
    assert "made-up words: {'blorptic': 1}" in lines[1]
    assert "empty: 1" in lines[0]


def test_no_answers_give_counts_of_zero() -> None:
    assert summary([], frozenset())[2] == "the model's: 0 from captions shown, 0 withheld (0.000 shown)"
    assert shown.sample([], 5) == []


def test_captions_need_a_service_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["shown", "--captions", str(tmp_path / "captions.jsonl")])
    with pytest.raises(SystemExit):
        shown.main()
    assert "--llm and --captions belong together" in capsys.readouterr().err
