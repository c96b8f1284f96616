"""What comes out: nothing of a stop sequence, no blanks at the ends, whatever the pieces."""

import random

import pytest

from mirage_inference.llm.output import Output


def run(pieces: list[str], stops: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    output = Output(stops)
    out = [output.push(piece) for piece in pieces]
    out.append(output.finish())
    return out, output.stopped


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("One. Two.", (), "One. Two."),
        ("\n One. \n\n", (), "One."),
        ("One. STOP Two.", ("STOP",), "One."),
        ("One. ST", ("STOP",), "One. ST"),
        ("aab", ("ab",), "a"),
        ("STOP", ("STOP",), ""),
        ("The lesion.\n### End\nmore", (), "The lesion."),
        ("The lesion.### Response:\nmore", (), "The lesion."),
        ("a # b ## c", (), "a # b ## c"),
        ("end one two", ("two", "one"), "end"),
        ("a\x00b\x1b[2Jc\u2028d", (), "ab[2Jc d"),
        ("line\nline", (), "line\nline"),
    ],
)
def test_the_text_is_the_same_however_it_is_cut(text: str, stops: tuple[str, ...], expected: str) -> None:
    chance = random.Random(5)
    for _ in range(50):
        pieces, rest = [], text
        while rest:
            size = chance.randint(1, 5)
            pieces.append(rest[:size])
            rest = rest[size:]
        out, _ = run(pieces, stops)
        assert "".join(out) == expected


def test_nothing_is_held_back_longer_than_needed() -> None:
    output = Output(("STOP",))
    assert [output.push(piece) for piece in ("One", " two", " S", "un")] == ["One", " two", "", " Sun"]


def test_after_a_stop_nothing_comes() -> None:
    out, stopped = run(["a STOP b", " c"], ("STOP",))
    assert (out, stopped) == (["a", "", ""], True)
