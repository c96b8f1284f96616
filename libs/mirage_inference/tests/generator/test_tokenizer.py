"""Prompts to tokens."""

from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.generator.tokenizer import PromptTokenizer
from tests.support.oracle_generator import PROMPT


def test_a_prompt_is_filled_up_to_the_whole_context(tokenizer_file: Path) -> None:
    tokens = PromptTokenizer(tokenizer_file, PROMPT).tokenize("Axial brain")
    assert tokens.ids.tolist() == [[0, 3, 4, 1, 1, 1, 1, 1]]
    assert tokens.count == 4
    assert not tokens.truncated


def test_an_empty_prompt_is_a_prompt(tokenizer_file: Path) -> None:
    assert PromptTokenizer(tokenizer_file, PROMPT).tokenize("").ids.tolist() == [[0, 1, 1, 1, 1, 1, 1, 1]]


def test_a_prompt_that_just_fits_is_whole_and_a_longer_one_is_cut_and_says_so(tokenizer_file: Path) -> None:
    tokenizer = PromptTokenizer(tokenizer_file, PROMPT)
    fits, longer = tokenizer.tokenize("brain " * 6), tokenizer.tokenize("brain " * 7)
    assert not fits.truncated
    assert longer.truncated
    assert longer.count == 9
    assert longer.ids.tolist() == [[0, 4, 4, 4, 4, 4, 4, 1]]


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MirageError) as refusal:
        PromptTokenizer(tmp_path / "tokenizer.json", PROMPT)
    assert refusal.value.code is Code.BUNDLE_INVALID
