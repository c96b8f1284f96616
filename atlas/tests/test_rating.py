"""Rating by experts: agreement, sums, and the results of another search."""

import csv
import io
from pathlib import Path

import pytest

from mirage.errors import InputError
from mirage_api.ratings import Answer, Item, Sheet
from mirage_atlas.quality import rating
from mirage_atlas.quality.agreement import Scale, alpha

# K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units, values missing (0).
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)
UNITS = [[value for value in unit if value] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(("scale", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(scale: Scale, published: float) -> None:
    assert alpha(UNITS, scale) == pytest.approx(published, abs=0.0005)


def test_alpha_of_two_observers_and_two_classes_is_the_published_one() -> None:
    # The same source, example A: ten units, nominal, 0.095.
    first, second = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    assert alpha(list(zip(first, second, strict=True)), "nominal") == pytest.approx(0.095, abs=0.0005)


def test_alpha_is_not_stated_where_nothing_can_disagree() -> None:
    assert alpha([], "nominal") is None
    assert alpha([[1], [2]], "ordinal") is None
    assert alpha([[1, 1], [1, 1]], "ordinal") is None


def sheet() -> Sheet:
    def item(number: int, system: str, *, gone: bool = False) -> Item:
        return Item(number=number, kind="result", query=f"query {number % 2}", system=system, gone=gone)

    return Sheet(
        id="s",
        collection="atlas",
        create_time="",
        raters=2,
        size=5,
        answered=8,
        items=(
            item(1, "mirage"),
            item(2, "mirage"),
            item(3, "=other"),
            item(4, "mirage", gone=True),
            Item(number=5, kind="image", query="query 1", system="generator", origin="generated"),
        ),
        answers=(
            Answer(number=1, rater=1, relevance=3, verdict="correct"),
            Answer(number=1, rater=2, relevance=3, verdict="correct"),
            Answer(number=2, rater=1, relevance=1, verdict="mislabelled"),
            Answer(number=2, rater=2),
            Answer(number=3, rater=1, relevance=0, verdict="misleading"),
            Answer(number=4, rater=1, relevance=0, verdict="misleading"),
            Answer(number=5, rater=1, relevance=2, origin="real"),
            Answer(number=5, rater=2, relevance=2, origin="generated"),
        ),
    )


def test_each_system_has_its_sums_without_deleted_records() -> None:
    summary = rating.summed_up(sheet())
    assert (summary.items, summary.gone) == (4, 1)
    scores = {each.system: each for each in summary.scores}
    own = scores["mirage"]
    assert (own.items, own.answers, own.cannot_tell) == (2, 4, 1)
    assert (own.relevant, own.correct, own.mislabelled, own.misleading) == (2, 2, 1, 0)
    assert own.relevance.value == pytest.approx(7 / 3)
    assert own.relevance.low < own.relevance.value < own.relevance.high
    assert own.as_real is None
    assert (scores["=other"].misleading, scores["=other"].relevance.value) == (1, 0)
    made = scores["generator"].as_real
    assert made is not None
    assert (made.value, made.count) == (0.5, 2)
    # Two units have two values each: one agrees on 3, one on 2.
    assert summary.agreement["relevance"] == 1
    assert summary.agreement["origin"] == pytest.approx(0, abs=1e-9)


def test_a_sheet_without_answers_has_sums_too() -> None:
    summary = rating.summed_up(sheet().model_copy(update={"answers": ()}))
    assert [each.answers for each in summary.scores] == [0, 0, 0]
    assert set(summary.agreement.values()) == {None}


def test_answers_are_rows_without_names_and_without_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(rating.to_csv(sheet()))))
    assert len(rows) == 8
    assert [rows[4][name] for name in ("rater", "system", "verdict")] == ["1", "'=other", "misleading"]
    assert rows[3]["relevance"] == ""
    assert rows[5]["gone"] == "yes"
    assert rows[6]["true_origin"] == "generated"
    assert not [name for name in rows[0] if "name" in name]


def test_there_are_30_conditions_and_a_table_to_fill_in(tmp_path: Path) -> None:
    assert len(set(rating.conditions())) == 30
    path = tmp_path / "other.csv"
    path.write_text(rating.template())
    with pytest.raises(InputError, match="no row with an image"):
        rating.read_others(path)
    (tmp_path / "one.png").write_bytes(b"x")
    path.write_text(rating.template().replace(",,,1,other", ",one.png,,1,other"))
    assert [each.query for each in rating.read_others(path)] == rating.conditions()


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ("a,b\n1,2\n", "needs the columns"),
        ("query,image\n,one.png\n", "line 2: the query is empty"),
        ("query,image\nliver,none.png\n", "there is no file none.png"),
        ("query,image\nliver,../other.png\n", "there is no file"),
        ("query,image\nliver,/etc/passwd\n", "there is no file"),
        ("query,image,rank\nliver,one.png,first\n", "the rank 'first'"),
        ("query,image,rank\nliver,one.png,101\n", "the rank '101'"),
        ("query,image,system\nliver,one.png,mirage\n", "a name of its own"),
        ("query,image\n" + "liver,one.png\n" * 3_001, "more than 3,000 rows"),
        ("\udcff", "not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(tmp_path: Path, rows: str, wrong: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "one.png").write_bytes(b"x")
    (tmp_path / "other.png").write_bytes(b"x")
    path = tmp_path / "set" / "other.csv"
    path.write_bytes(rows.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=wrong):
        rating.read_others(path)
