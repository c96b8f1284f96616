"""Open-i's chest X-rays: reports in XML and as tables give the same records; what is not a report is named."""

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mirage_atlas.readers import detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow, DatasetError

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
 <meta type="rr"/><uId id="CXR1"/><docSource>CXR</docSource>
 <licenseURL>http://creativecommons.org/licenses/by-nc-nd/4.0/</licenseURL>
 <MedlineCitation><Article><Abstract>
  <AbstractText Label="COMPARISON">None.</AbstractText>
  <AbstractText Label="INDICATION">Positive TB test</AbstractText>
  <AbstractText Label="FINDINGS">The heart is enlarged &amp; the lungs are clear.</AbstractText>
  <AbstractText Label="IMPRESSION">Cardiomegaly.</AbstractText>
 </Abstract></Article></MedlineCitation>
 <MeSH><major>Cardiomegaly/borderline</major><automatic>Cardiomegaly</automatic></MeSH>
 <parentImage id="CXR1_1_IM-0001-3001"><caption>Xray Chest PA and Lateral</caption></parentImage>
 <parentImage id="CXR1_1_IM-0001-4001"/>
</eCitation>
"""


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32)).save(path)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology" / "1.xml").write_text(XML)
    for number in ("3001", "4001"):
        picture(tmp_path / "NLMCXR_png" / f"CXR1_1_IM-0001-{number}.png")
    return tmp_path


def read(path: Path) -> list[AtlasRecord | BadRow]:
    name = detect_reader(path)
    assert name == "openi"
    return list(open_reader(name, path).read())


def test_a_report_gives_a_record_for_each_image_and_one_case(collection: Path) -> None:
    first, second = read(collection)
    assert isinstance(first, AtlasRecord)
    assert isinstance(second, AtlasRecord)
    assert (first.id, second.id) == ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")
    assert first.caption == first.impression == "Cardiomegaly."
    assert first.findings == "The heart is enlarged & the lungs are clear."
    assert first.history == "Positive TB test"
    assert first.title == "Cardiomegaly"
    assert first.keywords == ("Cardiomegaly/borderline", "Cardiomegaly")
    assert [(each.case_id, each.position) for each in (first, second)] == [("CXR1", 1), ("CXR1", 2)]
    assert first.labels["modality"] == ("x-ray",)
    assert first.labels["finding"] == ("cardiomegaly",)
    assert first.licence == "CC-BY-NC-ND-4.0"


def test_the_two_tables_give_the_same_with_the_projection(tmp_path: Path) -> None:
    with (tmp_path / "indiana_reports.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"])
        writer.writerow(
            [1, "Cardiomegaly/borderline", "Cardiomegaly", "Xray Chest", "Cough", "None.", "A heart.", "Large."]
        )
        writer.writerow([2, "normal", "normal", "Xray Chest", "", "", "", ""])
        writer.writerow([3, "normal", "normal", "Xray Chest", "", "", "Clear.", ""])
    with (tmp_path / "indiana_projections.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "filename", "projection"])
        writer.writerows([[1, "1_IM-0001-4001.dcm.png", "Frontal"], [1, "1_IM-0001-3001.dcm.png", "Lateral"]])
        writer.writerows([[2, "2_IM-1.dcm.png", "Frontal"], [4, "4.png", "Frontal"]])
    for name in ("1_IM-0001-4001.dcm", "1_IM-0001-3001.dcm", "2_IM-1.dcm"):
        picture(tmp_path / "images" / "images_normalized" / f"{name}.png")
    frontal, lateral, normal, without = read(tmp_path)
    assert isinstance(frontal, AtlasRecord)
    assert isinstance(lateral, AtlasRecord)
    assert isinstance(normal, AtlasRecord)
    assert (frontal.labels["plane"], lateral.labels["plane"]) == (("frontal",), ("lateral",))
    assert (frontal.caption, frontal.history, frontal.case_id) == ("Large.", "Cough", "CXR1")
    assert (normal.caption, normal.title) == ("Normal chest X-ray", "Normal chest X-ray")
    assert "finding" not in normal.labels
    assert without == BadRow(4, "the report has no image", "indiana_reports.csv")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<eCitation><uId", "the report is not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + XML.partition("?>")[2], "the report has a document type definition"),
        ("<other/>", "the file is not a report of Open-i"),
        ("<eCitation/>", "the report has no id"),
        ('<eCitation><uId id="CXR9"/></eCitation>', "the report has no image"),
        (XML.replace("CXR1_1_IM-0001-3001", "../../secret"), "the file lies outside the folder"),
        (XML.replace("CXR1_1_IM-0001-3001", "CXR9_none"), "the image is missing"),
        ("<eCitation>" + "x" * 2**20, "the file is too large"),
        ("<eCitation>" + "<a>" * 100_000, "the report is not XML"),
    ],
)
def test_what_is_wrong_is_named_and_the_others_are_read(collection: Path, text: str, reason: str) -> None:
    (collection / "ecgen-radiology" / "2.xml").write_text(text.replace("IM-0001-4001", "IM-0001-4002"))
    picture(collection / "NLMCXR_png" / "CXR1_1_IM-0001-4002.png")
    found = read(collection)
    assert reason in [each.reason for each in found if isinstance(each, BadRow)]
    assert sum(isinstance(each, AtlasRecord) for each in found) >= 2


@pytest.mark.parametrize("files", [{}, {"indiana_reports.csv": "uid\n1\n"}, {"a.xml": "<x/>"}])
def test_a_folder_that_is_not_the_collection_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError):
        open_reader("openi", tmp_path)
    assert detect_reader(tmp_path) != "openi"


def test_a_table_without_its_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("uid,findings\n1,x\n")
    (tmp_path / "projections.csv").write_text("uid,name\n1,x\n")
    with pytest.raises(DatasetError, match=r"projections\.csv: the table has no column filename"):
        list(open_reader("openi", tmp_path).read())
