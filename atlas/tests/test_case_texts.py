"""Texts besides the caption are read by the usual names of their columns, and captions that say nothing are known as such."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from mirage_atlas.case_texts import CaseTexts, case_texts, is_placeholder, row_value, with_topic
from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord, BadRow


@pytest.mark.parametrize(
    "text",
    [
        "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.",
        "IN PROGRESS",
        "In progress.",
        "Figure 3",
        "fig. 2b",
        "Image",
        "img_0042",
        "12",
        "(3)",
        "scan_final.PNG",
        "N/A",
        "TBD",
        "no caption",
        "Insert caption here",
        " - ",
        "Lorem ipsum dolor sit amet",
    ],
)
def test_a_text_that_says_nothing_is_a_placeholder(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        "CT image 1",
        "Axial FLAIR",
        "pelvis",
        "Figure 3 shows a mass",
        "Image of the liver",
        "T2",
        "L4-L5",
        "None of the lobes is enlarged",
        "Work in progress of the disease",
        "Test of the valve",
    ],
)
def test_a_short_text_that_says_something_is_not(text: str) -> None:
    assert not is_placeholder(text)


def test_the_name_of_the_images_own_file_is_a_placeholder() -> None:
    assert is_placeholder("MPX1009 synpic46283", "images/mpx1009 synpic46283.webp")
    assert not is_placeholder("thalamus", "images/mpx1009.webp")


def test_usual_columns_become_fields() -> None:
    row = {
        "diagnosis": "Bladder\n diverticulum",
        "findings": "A wall that is thick.\nA diverticulum.",
        "indication": "Haematuria",
        "impression": "IN PROGRESS",
        "mesh": "Urinary Bladder/diagnosis;Diverticulum;;Diverticulum",
        "case_id": 1009,
        "image_number": "3",
    }
    assert case_texts(row_value(row)) == CaseTexts(
        title="Bladder diverticulum",
        findings="A wall that is thick.\nA diverticulum.",
        history="Haematuria",
        keywords=("Urinary Bladder/diagnosis", "Diverticulum"),
        case_id="1009",
        position=3,
    )


@pytest.mark.parametrize("odd", [True, 7.5, {"a": 1}, [], [[1]], "\x00", "x" * 30_000])
def test_odd_content_is_left_out_or_cut(odd: object) -> None:
    texts = case_texts(lambda _: odd)
    assert len(texts.title) <= 500
    assert len(texts.findings) <= 20_000
    assert len(texts.case_id) <= 128
    assert all(len(word) <= 200 for word in texts.keywords)
    assert texts.position == 0


def test_a_topic_is_a_keyword_unless_it_is_the_title() -> None:
    texts = CaseTexts(title="Bladder Diverticulum")
    assert with_topic(texts, "bladder diverticulum") == texts
    assert with_topic(texts, "Diverticula").keywords == ("Diverticula",)
    assert with_topic(texts, None) == texts


def folder(path: Path, *rows: Mapping[str, object]) -> Path:
    (path / "images").mkdir()
    Image.new("L", (32, 32)).save(path / "images" / "a.png")
    (path / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_placeholder_gives_way_to_another_text_and_is_noted(tmp_path: Path) -> None:
    row = {"id": "1", "file": "images/a.png", "caption": "Replace this - DESCRIPTION", "diagnosis": "Lipoma"}
    reader = open_reader("captions", folder(tmp_path, row, row | {"id": "2", "diagnosis": ""}))
    found = list(reader.read())
    assert isinstance(found[0], AtlasRecord)
    assert (found[0].caption, found[0].title) == ("Lipoma", "Lipoma")
    assert found[1] == BadRow(2, "the caption is a placeholder, and the row has no other text", "captions.jsonl")
    assert list(reader.left_out.placeholders) == ["captions.jsonl line 1"]


def test_the_fields_of_a_line_and_of_a_table_are_the_same(tmp_path: Path) -> None:
    row = {
        "id": "1",
        "file": "images/a.png",
        "caption": "A mass",
        "diagnosis": "Lipoma",
        "topic": "Fat",
        "history": "Lump",
        "case_id": "7",
    }
    lines = folder(tmp_path, row)
    (from_lines,) = open_reader("captions", lines).read()
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "t.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    (from_table,) = open_reader("csv", tmp_path).read()
    assert isinstance(from_lines, AtlasRecord)
    assert isinstance(from_table, AtlasRecord)
    for record in (from_lines, from_table):
        assert (record.title, record.history, record.keywords, record.case_id) == ("Lipoma", "Lump", ("Fat",), "7")
        assert "diagnosis" not in record.original_labels


def test_a_table_without_captions_is_read_by_its_titles(tmp_path: Path) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,title,colour\na.png,Lipoma,grey\n")
    (record,) = open_reader("csv", tmp_path).read()
    assert isinstance(record, AtlasRecord)
    assert (record.caption, record.title, record.original_labels["colour"]) == ("Lipoma", "Lipoma", "grey")
