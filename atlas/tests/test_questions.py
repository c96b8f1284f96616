"""Measures of answers to the questions of a file, and to images, on replies whose figures are known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirage.errors import InputError
from mirage.queries import Query
from mirage_atlas.quality.questions import Question, ask, names, read_questions, upload


def result(id_: str, title: str = "", **fields: Any) -> SimpleNamespace:
    texts = {"caption": "", "findings": "", "impression": "", "history": "", "keywords": (), "labels": {}}
    return SimpleNamespace(**{"id": id_, "title": title, **texts, **fields})


class Scripted:
    """Answers a text with the reply of its first word, and an image with that of its bytes; keeps the queries."""

    def __init__(self, replies: dict[Any, SimpleNamespace]) -> None:
        self._replies = replies
        self.asked: list[Query] = []

    def search(self, query: Query) -> SimpleNamespace:
        self.asked.append(query)
        [term] = query.terms
        return self._replies[term.text.split()[0] if term.text is not None else term.image]


def quietly(done: int, of: int) -> None:
    assert 1 <= done <= of


def test_a_file_has_questions_with_what_names_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("# ours\n\nbroken hip = hip fracture | fracture of the hip\nsarcoidosis\n! gallium scan\n")
    assert read_questions(path) == [
        Question("broken hip", ("hip fracture", "fracture of the hip")),
        Question("sarcoidosis", ("sarcoidosis",)),
        Question("gallium scan", ("gallium scan",), held=False),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no question"),
        (b"= term\n", "line 1"),
        (b"a\n! b = c\n", "line 2"),
        (b"!\n", "line 1"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "asked.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_questions(path)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": "Hip fractures"}, True),
        ({"caption": "A HIP FRACTURE."}, True),
        ({"keywords": ("hip fracture",)}, True),
        ({"history": "Hip fracture."}, False),
        ({"caption": "Whip fracture."}, False),
    ],
)
def test_a_result_names_a_term_at_the_beginning_of_a_word_outside_of_the_history(
    fields: dict[str, Any], named: bool
) -> None:
    assert names(result("r", **fields), ("hip fracture",)) is named


def test_figures_count_places_that_name_it_and_what_is_called_good() -> None:
    client = Scripted(
        {
            "sarcoidosis": SimpleNamespace(match="good", results=[result("a", "Sarcoidosis"), result("b", "Normal")]),
            "hernia": SimpleNamespace(match="weak", results=[result("c", "Normal")]),
            "gallium": SimpleNamespace(match="good", results=[result("d")]),
            "tulips": SimpleNamespace(match=None, results=[]),
        }
    )
    asked = [Question("sarcoidosis", ("sarcoid",)), Question("hernia", ("hernia",))]
    asked += [Question("gallium scan", held=False), Question("tulips", held=False)]
    found = ask(client, asked, collection="next", mode="words", report=quietly)
    assert (found.naming.value, found.naming.count) == (0.1, 10)
    assert (found.held_good.value, found.false_good.value) == (0.5, 0.5)
    assert [(each.match, each.naming, each.first) for each in found.answers][0::3] == [
        ("good", 1, ("a", "b")),
        ("not judged", 0, ()),
    ]
    assert {(query.collection, query.mode, query.k) for query in client.asked} == {("next", "words", 5)}


def test_an_image_is_wrong_if_the_first_result_has_other_labels() -> None:
    chest = {"modality": ("us",), "body_part": ("chest", "lung")}
    client = Scripted(
        {
            b"right": SimpleNamespace(
                match="good", results=[result("a", labels={"modality": ("us",), "body_part": ("lung",)})]
            ),
            b"other": SimpleNamespace(
                match="good", results=[result("b", labels={"modality": ("mr",), "body_part": ("chest",)})]
            ),
            b"bare": SimpleNamespace(match="weak", results=[result("c")]),
            b"none": SimpleNamespace(match="none", results=[]),
        }
    )
    images = [(name, chest, lambda name=name: name.encode()) for name in ("right", "other", "bare", "none")]
    found = upload(client, images, report=quietly)
    assert (found.good.value, found.wrong_good.value) == (0.5, 0.25)
    assert [each.wrong for each in found.answers] == [
        (),
        ("modality",),
        ("modality", "body_part"),
        ("modality", "body_part"),
    ]
    assert all(query.accept_any_image for query in client.asked)
