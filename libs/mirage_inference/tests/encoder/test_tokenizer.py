from pathlib import Path

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import TextInput
from mirage_inference.encoder.tokenizer import TextTokenizer, Tokens, clean_text, pad_batch
from tests.support.paths import ROOT

START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """CLIP's own tokenizer, which the mini generator's bundle has."""
    text = TextInput(
        tokenizer="tokenizer.json", cleaning="lower", context_length=77, start_id=START, end_id=END, pad_id=0
    )
    return TextTokenizer(ROOT / "models" / "mini" / "generator" / "bundle" / "tokenizer.json", text)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # As open_clip 3.3 gives them; models/tests_build compares many more with open_clip itself.
        ("a photo of a cat", (START, 320, 1125, 539, 320, 2368, END)),
        ("A PHOTO  of\na cat ", (START, 320, 1125, 539, 320, 2368, END)),
        ("it's", (START, 585, 568, END)),
        ("3.5 mm", (START, 274, 269, 276, 2848, END)),
    ],
)
def test_ids_are_those_of_clip(tokenizer: TextTokenizer, text: str, ids: tuple[int, ...]) -> None:
    assert tokenizer.tokenize(text) == Tokens(ids, len(ids))


def test_a_long_text_is_cut_before_its_end_token_and_says_so(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.tokenize("cat " * 200)
    assert len(tokens.ids) == 77
    assert tokens.ids[-1] == END
    assert tokens.count == 202
    assert tokens.truncated


def test_a_text_that_just_fits_is_not_truncated(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.tokenize("cat " * 75)
    assert tokens.count == len(tokens.ids) == 77
    assert not tokens.truncated


@pytest.mark.parametrize("text", ["", " \t\n", "\u2003", "&nbsp;"])
def test_a_text_of_nothing_is_refused(tokenizer: TextTokenizer, text: str) -> None:
    with pytest.raises(MirageError) as error:
        tokenizer.tokenize(text)
    assert error.value.code is Code.TERM_EMPTY


@pytest.fixture
def wordpieces(tmp_path: Path) -> TextTokenizer:
    """A BERT's tokenizer, from a file that also asks for cutting and filling up."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "axial", "brain", "##s", ",", "é"]
    source = BertWordPieceTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, lowercase=True)
    source.enable_truncation(4)
    source.enable_padding(length=16)
    source.save(str(tmp_path / "tokenizer.json"))
    text = TextInput(
        tokenizer="tokenizer.json", cleaning="whitespace", context_length=8, start_id=2, end_id=3, pad_id=0
    )
    return TextTokenizer(tmp_path / "tokenizer.json", text)


def test_wordpieces_are_framed_and_not_filled_up(wordpieces: TextTokenizer) -> None:
    assert wordpieces.tokenize("Axial  BRAINS,") == Tokens((2, 5, 6, 7, 8, 3), 6)


def test_a_long_text_of_wordpieces_is_cut_by_the_context_alone(wordpieces: TextTokenizer) -> None:
    tokens = wordpieces.tokenize("brain " * 20)
    assert tokens.ids == (2, 6, 6, 6, 6, 6, 6, 3)
    assert tokens.count == 22
    assert tokens.truncated


def test_a_marker_spelled_out_in_a_text_of_wordpieces_is_one_token(wordpieces: TextTokenizer) -> None:
    assert wordpieces.tokenize("axial [SEP] brain").ids == (2, 5, 3, 6, 3)


def test_cleaning_repairs_what_a_web_page_broke() -> None:
    assert clean_text("na\u00c3\u00afve &amp;amp; “T2”\u2003 Brain", "lower") == 'naïve & "t2" brain'
    assert clean_text("T2_flair, (left)", "canonicalize") == "t2 flair left"
    assert clean_text("  Keep  Case ", "whitespace") == "Keep Case"


def test_a_batch_is_filled_up_behind_the_end() -> None:
    assert np.array_equal(pad_batch([(5, 6, 7), (8,)], 0), [[5, 6, 7], [8, 0, 0]])
