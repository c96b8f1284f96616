"""The bundle's tokenizer against open_clip's own, id by id."""

import random
import unicodedata
from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer

from mirage_core.errors import MirageError
from mirage_inference.bundles import TextInput
from mirage_inference.encoder.tokenizer import TextTokenizer
from mirage_models.encoder.clip_tokenizer import clip_tokenizer_json

# Unassigned and private code points, and U+0345, are taken another way by the library that open_clip uses.
ASSIGNED = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) not in ("Cs", "Cn", "Co") and character != "\u0345"
]
LATIN = [chr(code) for code in range(32, 0x250)]


@pytest.fixture(scope="module")
def theirs() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def ours(theirs: SimpleTokenizer, tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(clip_tokenizer_json(theirs), "utf-8")
    text = TextInput(
        tokenizer="tokenizer.json",
        cleaning="lower",
        context_length=77,
        start_id=theirs.sot_token_id,
        end_id=theirs.eot_token_id,
        pad_id=0,
    )
    return TextTokenizer(path, text)


def same(ours: TextTokenizer, theirs: SimpleTokenizer, text: str) -> bool:
    content = theirs.encode(text)
    try:
        tokens = ours.tokenize(text)
    except MirageError:
        return not content
    padded = [*tokens.ids, *[0] * (77 - len(tokens.ids))]
    return padded == theirs([text])[0].tolist() and tokens.count == len(content) + 2


@pytest.mark.parametrize(
    "text",
    [
        "Axial T1-weighted MRI, 3.5 mm sections (b=1000); it's the patient's LEFT frontal lobe.",
        "sch\u00c3\u00b6n na\u00efve &amp;amp; &lt;b&gt;",
        "\t a\x1fb\u2003c \x07",
        "\ufb01 \uff21\uff22\uff23 “quoted” ’s",
        "İstanbul ẞ ß 'ſ",
        "٣4½² 日本語テスト 👩‍⚕️ 🧠",
        "a<end_of_text>b !!<end_of_text> <START_OF_TEXT>",
        "x" * 2000,
        "word " * 400,
        "_under_score_ don't we'll they're I'm I'd you've",
    ],
)
def test_texts_chosen_to_be_difficult(ours: TextTokenizer, theirs: SimpleTokenizer, text: str) -> None:
    assert same(ours, theirs, text)


def test_random_texts(ours: TextTokenizer, theirs: SimpleTokenizer) -> None:
    source = random.Random(0)
    for _ in range(4000):
        length = source.randint(1, 40)
        text = "".join(source.choice(LATIN if source.random() < 0.9 else ASSIGNED) for _ in range(length))
        assert same(ours, theirs, text), ascii(text)


def test_every_fiftieth_character_inside_a_word(ours: TextTokenizer, theirs: SimpleTokenizer) -> None:
    for character in ASSIGNED[::50]:
        assert same(ours, theirs, f"a{character}b"), ascii(character)


def test_the_file_is_the_same_every_time(theirs: SimpleTokenizer) -> None:
    assert clip_tokenizer_json(theirs) == clip_tokenizer_json(SimpleTokenizer())
