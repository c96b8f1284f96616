"""Text to tokens and back: special tokens, characters in parts, files that are none."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.prompt import END, RESPONSE, prompt
from mirage_inference.llm.tokenizer import LlmTokenizer, TextStream

TEXTS = ["Axial T1-weighted image of the brain at the level of the thalamus."] * 3 + ["a lesion of 3.5 mm"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([END, "### Instruction:", RESPONSE])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> LlmTokenizer:
    return LlmTokenizer(path, vocabulary=400)


def test_a_text_comes_back_as_it_was(tokenizer: LlmTokenizer) -> None:
    for text in ("Axial T1, 3.5 mm", "Ödem — “ventrikulär” 脳 🧠", " two  spaces\nand a line"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_formats_markers_are_tokens_and_do_not_show_in_the_text(tokenizer: LlmTokenizer) -> None:
    ids = tokenizer.encode(prompt("thalamus", ["Axial T1."]))
    assert tokenizer.id_of(RESPONSE) == ids[-1]
    assert ids.count(tokenizer.id_of("### Instruction:") or -1) == 1
    assert tokenizer.decode([tokenizer.id_of(END) or -1]) == ""
    assert tokenizer.id_of("no such token") is None


def test_a_stream_gives_whole_characters_and_loses_none(tokenizer: LlmTokenizer) -> None:
    text = "Ödem 脳 🧠 of the brain"
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) + stream.finish() == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces


def test_a_stream_that_ends_within_a_character_says_so(tokenizer: LlmTokenizer) -> None:
    stream = TextStream(tokenizer)
    for token in tokenizer.encode("🧠")[:-1]:
        assert stream.push(token) == ""
    assert "\ufffd" in stream.finish()
    assert stream.finish() == ""


def test_a_file_that_is_no_tokenizer_or_knows_more_than_the_decoder_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for broken, vocabulary in ((tmp_path / "tokenizer.json", 400), (tmp_path / "absent.json", 400), (path, 300)):
        with pytest.raises(MirageError) as caught:
            LlmTokenizer(broken, vocabulary=vocabulary)
        assert caught.value.code is Code.BUNDLE_INVALID
