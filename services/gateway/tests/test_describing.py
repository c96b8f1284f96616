"""What is composed: words of a query, two rankings, and what stands in where the language model does not answer."""

import pytest

from mirage_gateway.describing import fuse, look_alikes, query_words
from mirage_protos.v1 import query_pb2, record_pb2


def text(value: str, weight: float | None = None) -> query_pb2.Term:
    return query_pb2.Term(text=value, weight=weight)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([text("pons")], "pons"),
        ([text(" pons ", 0.5)], "pons"),
        ([text("axial T1"), text("axial", -1), text("sagittal", 1)], "axial T1 without axial, with sagittal"),
        ([text("pons"), text("cerebellum")], "pons with cerebellum"),
        ([text("pons"), text("nothing", 0.0)], "pons"),
        ([query_pb2.Term(image=b"x")], ""),
        ([query_pb2.Term(id="r1")], ""),
        ([query_pb2.Term(id="r1"), text("axial", -1), text("sagittal")], "this image without axial, with sagittal"),
        ([text("axial", -1)], "without axial"),
        ([], ""),
    ],
)
def test_a_query_reads_as_words(terms: list[query_pb2.Term], words: str) -> None:
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


def result(record: str, title: str, case: str = "", caption: str = "x") -> query_pb2.Result:
    return query_pb2.Result(record=record_pb2.Record(id=record, title=title, case_id=case, caption=caption))


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ([result("a", "Glioma"), result("b", "glioma "), result("c", "Abscess"), result("d", "abscess")], ["c"]),
        ([result("a", "A", "1"), result("b", "B", "1"), result("c", "C", "2")], ["c"]),
        ([result("a", "A"), *(result(str(n), str(n)) for n in range(5))], ["0", "1"]),
        ([result("a", "A"), result("b", ""), result("c", "C", caption=" ")], []),
        ([result("a", ""), result("b", "B")], []),
        ([], []),
    ],
)
def test_what_looks_alike_has_another_title_and_case(results: list[query_pb2.Result], found: list[str]) -> None:
    assert [each.id for each in look_alikes(results)] == found
