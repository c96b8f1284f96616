"""What is composed: words of a query, two rankings, and what stands in where the language model does not answer."""

import pytest

from mirage.v1 import common_pb2 as pb
from mirage_gateway.describing import fuse, query_words


def text(value: str, weight: float | None = None) -> pb.Term:
    return pb.Term(text=value, weight=weight)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([text("pons")], "pons"),
        ([text(" pons ", 0.5)], "pons"),
        ([text("axial T1"), text("axial", -1), text("sagittal", 1)], "axial T1 without axial, with sagittal"),
        ([text("pons"), text("cerebellum")], "pons with cerebellum"),
        ([text("pons"), text("nothing", 0.0)], "pons"),
        ([pb.Term(image=b"x")], ""),
        ([pb.Term(id="r1")], ""),
        ([pb.Term(id="r1"), text("axial", -1), text("sagittal")], "this image without axial, with sagittal"),
        ([text("axial", -1)], "without axial"),
        ([], ""),
    ],
)
def test_a_query_reads_as_words(terms: list[pb.Term], words: str) -> None:
    assert query_words(terms) == words


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (["a", "b"], ["b", "c"], "b"),
        (["a", "b", "c", "d"], ["x", "y", "d"], "d"),
        (["a", "b"], ["c", "d"], "a"),
        (["a"], [], "a"),
        ([], ["c"], "c"),
        ([], [], ""),
    ],
)
def test_the_best_stands_in_both_rankings(first: list[str], second: list[str], best: str) -> None:
    assert fuse(first, second) == best
