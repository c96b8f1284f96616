"""Tables with images: what is read whatever a spreadsheet did to it, and what is refused in one line."""

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from mirage_atlas.readers import count_rows, detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow, DatasetError

Found = list[AtlasRecord | BadRow]
BASIC = "id,file,caption\n1,a.png,für Röntgen\n2,b.png,CT of the chest\n"


def picture(shade: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), shade).save(buffer, "PNG")
    return buffer.getvalue()


def read(path: Path) -> Found:
    return list(open_reader("csv", path).read())


def records(found: Found) -> list[AtlasRecord]:
    return [each for each in found if isinstance(each, AtlasRecord)]


def bad_rows(found: Found) -> list[tuple[int, str]]:
    return [(each.line, each.reason) for each in found if isinstance(each, BadRow)]


def write_table(path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    (path / "images").mkdir(exist_ok=True)
    (path / "images" / "a.png").write_bytes(picture())
    (path / "b.png").write_bytes(picture(1))
    table = path / name
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def test_columns_are_found_by_their_usual_names(tmp_path: Path) -> None:
    table = write_table(
        tmp_path, "\ufeffFile Name;Text;License;URL;Plane;Age\r\na.png;CT of the head;CC BY 4.0;here;axial;77\r\n"
    )
    (record,) = records(read(table))
    assert record.labels["plane"] == ("axial",)
    assert record.labels["modality"] == ("ct",)
    assert (record.licence, record.source) == ("CC-BY-4.0", "here")
    assert "age" not in record.original_labels
    assert (record.file, record.line) == ("table.csv", 2)
    assert detect_reader(tmp_path) == detect_reader(table) == "csv"
    assert count_rows("csv", table) == 1


def test_bad_rows_are_named_and_the_others_read(tmp_path: Path) -> None:
    rows = [
        "id,file,caption",
        "1,a.png,good",
        "2,a.png",
        "3,../b.png,outside",
        "4,/etc/passwd,outside",
        '5,b.png,"a quote" too much',
        "6,b.png,also good",
        "7,b.png,",
        "8,b.png," + "x" * 20_001,
        "\0,b.png,a nul",
        "6,b.png,the id again",
        "",
        "9,b.png," + "y" * 200_000,
        "10,b.png,the last",
    ]
    found = read(write_table(tmp_path, "\n".join(rows) + "\n"))
    assert [each.id for each in records(found)] == ["1", "6", "10"]
    assert bad_rows(found) == [
        (3, "the row has 2 fields, the header 3"),
        (4, "the file lies outside the folder"),
        (5, "the file lies outside the folder"),
        (6, "the row is not CSV (a quote that does not end, or too long a field)"),
        (8, "the caption is missing"),
        (9, "the caption is too long"),
        (10, "the row has bytes that are not text"),
        (11, "the id was used before (line 7)"),
        (13, "the row is not CSV (a quote that does not end, or too long a field)"),
    ]


@pytest.mark.parametrize(
    ("rows", "bad"),
    [
        (['1,a.png,"begun', "2,b.png,CT"], [2]),
        (["1,a.png,CT", '2,"b.png,CT', "3,b.png,MR"], [3]),
        (['1,a.png,"begun'] + [f"{n},b.png,CT" for n in range(2, 40)], [2]),
        (['1,a.png,"two\nlines"', '2,b.png,"begun', '3,b.png,"ended"'], [4]),
    ],
)
def test_a_quote_that_does_not_end_spoils_its_own_line_alone(tmp_path: Path, rows: list[str], bad: list[int]) -> None:
    found = read(write_table(tmp_path, "\n".join(["id,file,caption", *rows]) + "\n"))
    assert [line for line, _ in bad_rows(found)] == bad
    assert len(records(found)) == len(rows) - len(bad)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_line_ends_and_delimiters_of_other_programs(
    tmp_path: Path, encoding: str, ends: str, delimiter: str
) -> None:
    text = BASIC.replace(",", delimiter).replace("\n", ends)
    found = read(write_table(tmp_path, text.encode(encoding)))
    assert [(each.id, each.caption, each.line) for each in records(found)] == [
        ("1", "für Röntgen", 2),
        ("2", "CT of the chest", 3),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_mark_of_utf16_may_be_there_or_not(tmp_path: Path, mark: str, encoding: str) -> None:
    assert len(records(read(write_table(tmp_path, (mark + BASIC).encode(encoding))))) == 2


def test_a_western_character_late_in_a_long_table_is_read(tmp_path: Path) -> None:
    rows = "".join(f"{n},b.png,{'plain ' * 20}\n" for n in range(20_000))
    found = read(write_table(tmp_path, ("id,file,caption\n" + rows + "last,b.png,für Röntgen\n").encode("cp1252")))
    assert records(found)[-1].caption == "für Röntgen"
    assert len(records(found)) == 20_001


def test_a_damaged_row_of_a_unicode_table_is_refused_alone(tmp_path: Path) -> None:
    rows = [f"{n},b.png,für {n}".encode() for n in range(5)]
    rows[3] = b"3,b.png,f\xfcr 3"
    found = read(write_table(tmp_path, b"\n".join([b"id,file,caption", *rows])))
    assert bad_rows(found) == [(5, "the row has bytes that are not text")]
    assert records(found)[0].caption == "für 0"


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;", "\n\nsep=;"])
def test_the_line_that_tells_a_spreadsheet_the_delimiter_is_no_header(tmp_path: Path, first: str) -> None:
    found = read(write_table(tmp_path, f"{first}\r\nfile;caption\r\na.png;CT, MR, US and more, of the chest\r\n"))
    assert [each.caption for each in records(found)] == ["CT, MR, US and more, of the chest"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the table is empty: it has no header"),
        ("\n\n", "the table is empty: it has no header"),
        ("sep=;\n", "the table is empty: it has no header"),
        (",,\n", "the table is empty: it has no header"),
        ("id,caption\n1,x\n", "the table has no column for the file"),
        ("file,finding\na.png,x\n", "the table has no column for the caption"),
        ("1,a.png,without a header\n", "the table has no column for the file"),
        ('"never ended', "the table is empty: it has no header"),
    ],
)
def test_a_table_without_what_every_record_needs_is_refused_at_once(tmp_path: Path, text: str, reason: str) -> None:
    table = write_table(tmp_path, text)
    with pytest.raises(DatasetError, match=reason):
        open_reader("csv", table)


def test_a_header_alone_gives_no_row(tmp_path: Path) -> None:
    assert read(write_table(tmp_path, "id,file,caption\r\n")) == []


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = read(write_table(tmp_path, "file,caption,finding,Finding,name,name\na.png,CT,first,second,Doe,Jane\n"))
    (record,) = records(found)
    assert record.labels["finding"] == ("first",)
    assert record.original_labels["finding_2"] == "second"
    assert "Doe" not in repr(record)
    assert "Jane" not in repr(record)


def test_a_quoted_line_break_and_empty_fields_at_the_end_are_read(tmp_path: Path) -> None:
    text = 'file;caption;;\r\na.png;"two\r\nlines; and a ""quote""";;\r\nb.png;CT;;;;\r\n'
    first, second = records(read(write_table(tmp_path, text)))
    assert first.caption == 'two\r\nlines; and a "quote"'.replace("\r", "")
    assert (second.caption, second.line) == ("CT", 4)


def test_several_tables_are_not_chosen_among(tmp_path: Path) -> None:
    write_table(tmp_path, BASIC, "one.csv")
    two = write_table(tmp_path, BASIC, "two.TSV")
    # Left by a Mac and by a spreadsheet that has the table open.
    (tmp_path / "._one.csv").write_bytes(b"\0\x05\x16\x07")
    (tmp_path / "~$two.csv").write_bytes(b"\0")
    with pytest.raises(DatasetError, match="there are 2 tables: name the one to read"):
        open_reader("csv", tmp_path)
    two.unlink()
    assert len(read(tmp_path)) == 2


def test_labels_and_licences_of_any_length_are_kept(tmp_path: Path) -> None:
    long, lines = "x" * 300, '"All rights\nreserved.\n' + "y" * 100 + '"'
    found = read(
        write_table(
            tmp_path,
            f"file,caption,licence,finding,location,side,body_part\na.png,CT,{lines},{long},{long},{long},{long}\n"
            f'b.png,MR,{long * 20},"a\rb\tc",,,\n',
        )
    )
    first, second = records(found)
    for record in (first, second):
        for values in record.labels.values():
            assert all(0 < len(value) <= 64 and value.isprintable() and value == value.lower() for value in values)
    assert first.original_labels["finding"] == first.original_labels["location"] == long
    assert first.original_labels["licence"] == first.licence == f"All rights reserved. {'y' * 100}"
    assert first.labels["finding"][0].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert second.labels["finding"] == ("a b c",)
    assert len(second.licence) == 2_000


def test_more_columns_than_a_record_may_have_are_named(tmp_path: Path) -> None:
    names = [f"column {n}" for n in range(100)]
    table = write_table(tmp_path, f"file,caption,{','.join(names)}\na.png,CT,{','.join(map(str, range(100)))}\n")
    reader = open_reader("csv", table)
    (record,) = records(list(reader.read()))
    assert len(record.original_labels) <= 64
    assert list(reader.left_out.beyond) == names[56:]


def test_columns_about_people_are_left_out_and_named(tmp_path: Path) -> None:
    header = "file,caption,name,Patient Name,PatientID,MRN,DOB,Referring Physician,Fecha de nacimiento,Structure Name,case_id"
    rows = "a.png,CT,Mustermann,Erika Mustermann,P-4711,4712,1970-01-01,Dr. Doe,01/01/1970,thalamus,7\n"
    reader = open_reader("csv", write_table(tmp_path, f"{header}\n{rows}"))
    (record,) = records(list(reader.read()))
    everything = repr(record)
    for value in ("Mustermann", "4711", "4712", "1970", "Doe"):
        assert value not in everything
    assert record.original_labels == {"structure name": "thalamus", "licence": "not stated"}
    assert record.case_id == "7"
    assert list(reader.left_out.people) == [
        "name", "Patient Name", "PatientID", "MRN", "DOB", "Referring Physician", "Fecha de nacimiento",
    ]  # fmt: skip


def test_an_id_is_that_of_a_column_which_is_called_so(tmp_path: Path) -> None:
    for name in ("ID", "Image ID", "image_id", "UID", "figure-id"):
        (record,) = records(read(write_table(tmp_path, f"{name},file,caption,name\nown,a.png,CT,Doe\n")))
        assert record.id == "own"
    (record,) = records(read(write_table(tmp_path, "name,file,caption\nDoe,a.png,CT\n")))
    assert "doe" not in record.id.lower()
    assert record.made_id


def test_a_million_rows_are_read_in_little_memory(tmp_path: Path) -> None:
    table = write_table(tmp_path, "")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "file", "caption"])
        writer.writerows((n, "none.png", "c") for n in range(1_000_000))
    reader = open_reader("csv", table)
    tracemalloc.start()
    count = 0
    for count, each in enumerate(reader.read(), start=1):
        if count == 20_000:
            break
        assert isinstance(each, BadRow)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 * 2**20
