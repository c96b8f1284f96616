"""The command line against a whole MIRAGE: every verb, its JSON, and its errors."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mirage.cli.entry import run

Mirage = Callable[..., tuple[int, str, str]]
SAGITTAL = ("--where", "plane=sagittal")


@pytest.fixture
def mirage(system: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mirage:
    """Runs a command line against the system: exit code, standard output, standard error."""
    monkeypatch.setenv("MIRAGE_URL", system.http_url)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes an image of one's own."""

    def write(name: str, shade: int = 90, side: int = 64) -> Path:
        path = tmp_path / name
        Image.radial_gradient("L").resize((side, side)).point(lambda value: value * shade // 255).save(path)
        return path

    return write


def lines(output: str) -> list[list[str]]:
    """The cells of tab-separated output."""
    return [line.split("\t") for line in output.splitlines()]


def test_search_prints_one_line_a_result_best_first(mirage: Mirage) -> None:
    code, output, _ = mirage("search", "axial T1 brain MRI", "-k", "4", "--mode", "images")
    assert code == 0
    found = lines(output)
    assert len(found) == 4
    scores = [float(cells[0]) for cells in found]
    assert scores == sorted(scores, reverse=True)
    assert all(len(cells) == 4 for cells in found)


def test_a_text_is_searched_by_its_words_first(mirage: Mirage) -> None:
    code, output, _ = mirage("search", "axial T1 brain MRI", "-k", "4")
    assert code == 0
    assert [cells[0] for cells in lines(output)] == ["says it"] * 4
    _, output, _ = mirage("search", "axial T1", "-k", "2", "--mode", "words", "--json")
    assert {result["section"] for result in json.loads(output)["results"]} == {"words"}
    code, _, error = mirage("search", "axial T1", "--mode", "words", "--vectors", "image")
    assert (code, "[REQUEST_MALFORMED]" in error) == (1, True)


def test_search_json_is_the_gateways(mirage: Mirage) -> None:
    code, output, _ = mirage("search", "sagittal T2", "-k", "2", *SAGITTAL, "--json")
    reply = json.loads(output)
    assert code == 0
    assert [result["labels"]["plane"] for result in reply["results"]] == [["sagittal"]] * 2
    assert {"match", "query", "timings", "next_page_token"} <= set(reply)


def test_values_of_one_facet_are_alternatives(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "brain", "-k", "100", *SAGITTAL, "-w", "plane=coronal", "--json")
    planes = {plane for result in json.loads(output)["results"] for plane in result["labels"]["plane"]}
    assert planes == {"sagittal", "coronal"}


def test_arithmetic_shows_what_each_term_contributed(mirage: Mirage) -> None:
    code, output, remarks = mirage("search", "axial T1 brain", "--minus", "axial", "--plus", "sagittal", "--json")
    query = json.loads(output)["query"]
    assert code == 0
    assert [term["weight"] for term in query["terms"]] == [1, -1, 1]
    assert sum(term["share"] for term in query["terms"]) == pytest.approx(1, abs=1e-4)
    assert query["shift"] < 1
    _, _, remarks = mirage("search", "axial T1 brain", "--minus", "axial", "--plus", "sagittal")
    assert "shift" in remarks
    assert "minus axial" in remarks


def test_a_search_goes_on_page_by_page(mirage: Mirage) -> None:
    seen: list[str] = []
    token: list[str] = []
    for _ in range(3):
        _, output, _ = mirage("search", "coronal flair", "-k", "5", "--json", *token)
        reply = json.loads(output)
        seen += [result["id"] for result in reply["results"]]
        token = ["--page", reply["next_page_token"]]
    _, output, _ = mirage("search", "coronal flair", "-k", "15", "--json")
    assert seen == [result["id"] for result in json.loads(output)["results"]]


@pytest.mark.parametrize("space", ["image", "caption", "fused"])
def test_every_space_can_be_searched(mirage: Mirage, space: str) -> None:
    code, output, _ = mirage("search", "axial T1 brain MRI", "--vectors", space, "-k", "3")
    assert code == 0
    assert len(lines(output)) == 3


def test_the_threshold_leaves_results_out(mirage: Mirage) -> None:
    likeness = ("search", "axial T1 brain MRI", "--mode", "images")
    _, output, _ = mirage(*likeness, "-k", "3")
    second = float(lines(output)[1][0])
    _, fewer, _ = mirage(*likeness, "-k", "3", "--min-score", str(second + 1e-3))
    assert len(lines(fewer)) == 1
    code, none, remark = mirage(*likeness, "--min-score", "1")
    assert (code, none) == (0, "")
    assert "no results" in remark


def test_an_image_of_the_atlas_finds_itself(mirage: Mirage, tmp_path: Path) -> None:
    _, output, _ = mirage("search", "axial T1 brain MRI", "-k", "1")
    record_id = lines(output)[0][1]
    path = tmp_path / "image"
    assert mirage("image", record_id, "-o", str(path))[0] == 0
    _, output, _ = mirage("search", "--image", str(path), "-k", "1")
    score, found = lines(output)[0][:2]
    assert found == record_id
    assert float(score) > 0.99


def test_a_record_and_a_phrase_can_be_added(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "axial T1 brain MRI", "-k", "1")
    record_id = lines(output)[0][1]
    code, output, _ = mirage("search", "--id", record_id, "--plus", "sagittal", "--json")
    assert code == 0
    assert [term["label"] for term in json.loads(output)["query"]["terms"]] == [record_id, "sagittal"]


def test_compare_shows_both_sides(mirage: Mirage) -> None:
    code, output, remarks = mirage("compare", "axial T1 brain", "--minus", "axial", "--plus", "sagittal", "-k", "3")
    assert code == 0
    assert [cells[0] for cells in lines(output)] == ["base"] * 3 + ["shifted"] * 3
    assert "cosine of the two queries" in remarks
    _, output, _ = mirage("compare", "axial T1 brain", "--minus", "axial", "--plus", "sagittal", "--json")
    assert set(json.loads(output)) == {"base", "shifted", "shift"}


def test_similar_leaves_the_record_itself_out(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "coronal T2 brain", "-k", "1")
    record_id = lines(output)[0][1]
    code, output, _ = mirage("similar", record_id, "-k", "5", *SAGITTAL)
    assert code == 0
    assert len(lines(output)) == 5
    assert record_id not in [cells[1] for cells in lines(output)]


def test_record_shows_where_it_comes_from(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "axial T1 brain MRI", "-k", "1")
    record_id, caption = lines(output)[0][1:3]
    code, output, _ = mirage("record", record_id)
    fields = {cells[0]: cells[1] for cells in lines(output)}
    assert code == 0
    assert (fields["id"], fields["caption"]) == (record_id, caption)
    assert fields["licence"]
    assert fields["source"]


def test_a_record_is_shown_with_and_without_its_verb(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "axial T1 brain MRI", "-k", "1")
    record_id = lines(output)[0][1]
    assert mirage("record", "show", record_id) == mirage("record", record_id)
    assert mirage("record", "show", "--json", record_id) == mirage("record", "--json", record_id)
    assert mirage("record", "--", record_id)[0] == 0


def test_records_are_deleted_by_their_ids_and_what_was_not_there_is_named(mirage: Mirage, dataset: Path) -> None:
    mirage("index", str(dataset))
    code, output, remarks = mirage("record", "delete", "disc-60", "disc-120", "disc-60")
    assert (code, output, remarks) == (0, "deleted: disc-60 disc-120\n", "")
    assert mirage("record", "show", "disc-60", "--json")[0] == 1
    code, output, _ = mirage("record", "delete", "--yes", "--json", "disc-60", "disc-180", "none")
    assert code == 1
    assert json.loads(output) == {"deleted": ["disc-180"], "missing": ["disc-60", "none"]}
    code, output, remarks = mirage("record", "delete", "disc-60", "none")
    assert (code, output, remarks) == (1, "", "not there: disc-60 none\n")
    code, output, remarks = mirage("record", "delete", "disc-60", "--collection", "no-such-one")
    assert (code, output) == (1, "")
    assert "COLLECTION_NOT_FOUND" in remarks
    assert mirage("record", "delete", "a!b")[0] == 1
    assert mirage("record", "delete")[0] == 2


def test_a_refusal_in_the_middle_says_what_is_gone_already(mirage: Mirage, dataset: Path) -> None:
    mirage("index", str(dataset))
    code, output, remarks = mirage("record", "delete", "disc-60", "a!b", "disc-120")
    assert (code, output) == (1, "deleted: disc-60\n")
    assert "ID_INVALID" in remarks
    assert mirage("record", "delete", "disc-120", "disc-180") == (0, "deleted: disc-120 disc-180\n", "")


@pytest.mark.parametrize(("variant", "form"), [("display", {"PNG", "WEBP", "JPEG"}), ("thumbnail", {"WEBP"})])
def test_image_writes_a_file_that_opens(mirage: Mirage, tmp_path: Path, variant: str, form: set[str]) -> None:
    _, output, _ = mirage("search", "sagittal T1", "-k", "1")
    path = tmp_path / "picture"
    code, output, _ = mirage("image", lines(output)[0][1], "-o", str(path), "--variant", variant, "--json")
    assert code == 0
    assert json.loads(output)["bytes"] == path.stat().st_size
    with Image.open(path) as image:
        assert image.format in form
    assert list(tmp_path.iterdir()) == [path]


def test_image_goes_into_a_pipe(mirage: Mirage, system: Any) -> None:
    _, output, _ = mirage("search", "sagittal T1", "-k", "1")
    command = [sys.executable, "-m", "mirage.cli", "image", lines(output)[0][1], "-o", "-", "--url", system.http_url]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    with Image.open(io.BytesIO(data)) as image:
        assert min(image.size) >= 16


def test_facets_count_what_the_filter_passes(mirage: Mirage) -> None:
    code, output, _ = mirage("facets", *SAGITTAL)
    counts = {(cells[0], cells[1]): int(cells[2]) for cells in lines(output)}
    assert code == 0
    _, output, _ = mirage("facets", "--json")
    whole = {facet["name"]: {each["value"]: each for each in facet["values"]} for facet in json.loads(output)["facets"]}
    # The facet's own values stay, so that another can be chosen; those of the others follow.
    sagittal = whole["plane"]["sagittal"]
    assert {value: count for (facet, value), count in counts.items() if facet == "plane"} == {
        value: each["count"] for value, each in whole["plane"].items()
    }
    assert sum(count for (facet, _), count in counts.items() if facet == "modality") == sagittal["count"]
    assert sagittal["display"] == "Sagittal"


def test_records_are_listed_without_a_text(mirage: Mirage) -> None:
    code, output, notes = mirage("search", *SAGITTAL, "--order", "random", "--seed", "3", "-k", "4")
    first = [cells[1] for cells in lines(output)]
    assert (code, len(first)) == (0, 4)
    assert "records" in notes
    _, output, _ = mirage("search", *SAGITTAL, "--order", "random", "--seed", "3", "-k", "4", "--json")
    reply = json.loads(output)
    assert [each["id"] for each in reply["results"]] == first
    assert {each["labels"]["plane"][0] for each in reply["results"]} == {"sagittal"}
    _, output, _ = mirage("search", "--not", "plane=sagittal", "-k", "100", "--json")
    others = json.loads(output)
    assert others["match"] is None
    assert "sagittal" not in {plane for each in others["results"] for plane in each["labels"].get("plane", ())}
    _, output, _ = mirage("facets", "--json")
    planes = next(facet for facet in json.loads(output)["facets"] if facet["name"] == "plane")["values"]
    assert next(each for each in planes if each["value"] == "sagittal")["count"] == reply["total"]


def test_cases_examples_and_two_queries_work_over_the_command_line(mirage: Mirage) -> None:
    _, output, _ = mirage("search", "brain", "--by-case", "-k", "100", "--json")
    results = json.loads(output)["results"]
    cases = [each["case"]["id"] for each in results if each["case"]["id"]]
    assert len(cases) == len(set(cases))
    if cases:
        code, output, _ = mirage("record", "case", cases[0], "--json")
        assert (code, json.loads(output)["id"]) == (0, cases[0])
    code, output, _ = mirage("search", "--like", results[0]["id"], "--unlike", results[-1]["id"], "-k", "3", "--json")
    assert code == 0
    assert not {results[0]["id"], results[-1]["id"]} & {each["id"] for each in json.loads(output)["results"]}
    code, output, _ = mirage("compare", "sagittal brain", "--to", "axial brain", "-k", "2", "--json")
    both = json.loads(output)
    assert (code, len(both["base"]["results"]), len(both["shifted"]["results"])) == (0, 2, 2)
    assert -1 <= both["shift"] < 1
    for verb in (("search", "brain"), ("facets",), ("similar", results[0]["id"]), ("record", results[0]["id"])):
        code, _, error = mirage(*verb, "--collection", "none")
        assert code == 1
        assert "atlas" in error


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["search", "x", "-k", "0"], "K_OUT_OF_RANGE"),
        (["search", "x", "-k", "-5"], "K_OUT_OF_RANGE"),
        (["search", ""], "TERM_EMPTY"),
        (["search", "a" * 10_000], "TEXT_TOO_LONG"),
        (["search", "x", "--minus", "x"], "QUERY_CANCELS_OUT"),
        (["search", "x", "--where", "colour=red"], "FACET_UNKNOWN"),
        (["search", "x", "--min-score", "2"], "MIN_SCORE_OUT_OF_RANGE"),
        (["search", "x", "--min-score", "nan"], "INPUT_INVALID"),
        (["search", "x", "--page", "forged"], "PAGE_TOKEN_INVALID"),
        (["search", "--image", __file__], "IMAGE_FORMAT_UNSUPPORTED"),
        (["search", "--id", "no-such-record"], "RECORD_NOT_FOUND"),
        (["compare", "x", "--plus", "x", "-k", "101"], "K_OUT_OF_RANGE"),
        (["similar", "no-such-record"], "RECORD_NOT_FOUND"),
        (["similar", "no-such-record", "-k", "100"], "K_OUT_OF_RANGE"),
        (["record", "no-such-record"], "RECORD_NOT_FOUND"),
        (["record", "-x"], "ID_INVALID"),
        (["image", "no-such-record", "-o", "unused"], "RECORD_NOT_FOUND"),
        (["facets", "--where", "colour=red"], "FACET_UNKNOWN"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_the_server_refuses_is_an_error_with_its_code(mirage: Mirage, arguments: list[str], code: str) -> None:
    options = ["--json", "--"] if arguments[-1] == "-x" else ["--json"]
    arguments = [*arguments[:1], *options, *arguments[1:]]
    exit_code, output, message = mirage(*arguments)
    assert exit_code == 1
    assert f"[{code}]" in message
    assert json.loads(output)["code"] == code
    assert not Path("unused").exists()


def write_dataset(folder: Path, rows: list[dict[str, Any] | str]) -> None:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "captions.jsonl").write_text(text + "\n")


def row(record_id: str, path: Path, **more: Any) -> dict[str, Any]:
    labels = {"plane": "Axial", "view": "from above"}
    common = {
        "caption": f"a disc called {record_id}",
        "labels": labels,
        "licence": "CC0-1.0",
        "source": "drawn by a test",
    }
    return {"id": record_id, "file": path.name, **common, **more}


@pytest.fixture
def dataset(tmp_path: Path, picture: Callable[..., Path], system: Any) -> Any:
    """Three good rows, and five that are wrong in one way each; removed from the atlas at the end."""
    from mirage.client import Client

    (tmp_path / "not-an-image.png").write_bytes(b"%PDF-1.7\n" + bytes(100))
    good = [row(f"disc-{shade}", picture(f"{shade}.png", shade)) for shade in (60, 120, 180)]
    bad: list[dict[str, Any] | str] = [
        "{not json",
        row("disc-lost", tmp_path / "lost.png"),
        row("disc-out", tmp_path / "x.png", file="../../etc/passwd"),
        row("disc-pdf", tmp_path / "not-an-image.png"),
        row("disc-tiny", picture("tiny.png", side=8)),
    ]
    write_dataset(tmp_path, [*good[:1], *bad, *good[1:]])
    yield tmp_path
    with Client(system.http_url) as client:
        for shade in (60, 90, 120, 180):
            client.delete(f"disc-{shade}")


def test_index_stores_the_good_rows_and_lists_the_others(mirage: Mirage, dataset: Path) -> None:
    code, output, remarks = mirage("index", str(dataset), "--json")
    tally = json.loads(output)
    assert code == 1
    assert (tally["created"], tally["refused"], tally["rows"]) == (3, 5, 8)
    assert (tally["rejected"], tally["bad_rows"]) == (2, 3)
    assert [(complaint["where"], complaint["code"]) for complaint in tally["complaints"]] == [
        ("captions.jsonl line 2", "BAD_ROW"),
        ("captions.jsonl line 3", "BAD_ROW"),
        ("captions.jsonl line 4", "BAD_ROW"),
        ("captions.jsonl line 5", "IMAGE_FORMAT_UNSUPPORTED"),
        ("captions.jsonl line 6", "IMAGE_TOO_SMALL"),
    ]
    assert "captions.jsonl line 5 (disc-pdf): " in remarks
    assert "captions.jsonl line 2: the line is not JSON [BAD_ROW]" in remarks
    _, output, _ = mirage("search", "--image", str(dataset / "120.png"), "-k", "1", "--any-image")
    assert lines(output)[0][1] == "disc-120"
    _, output, _ = mirage("record", "disc-120")
    assert "plane=axial" in output
    assert "view=from above" in output


def test_indexing_again_changes_nothing_and_resuming_sends_only_what_is_new(
    mirage: Mirage, dataset: Path, picture: Callable[..., Path]
) -> None:
    mirage("index", str(dataset))
    _, output, _ = mirage("index", str(dataset), "--json")
    assert (json.loads(output)["skipped"], json.loads(output)["created"]) == (3, 0)
    _, output, _ = mirage("index", str(dataset), "--no-resume", "--json")
    assert (json.loads(output)["unchanged"], json.loads(output)["created"]) == (3, 0)
    with (dataset / "captions.jsonl").open("a") as file:
        file.write(json.dumps(row("disc-90", picture("90.png", 90))) + "\n")
    code, output, _ = mirage("index", str(dataset / "captions.jsonl"), "--resume", "--allow-refused", "--json")
    tally = json.loads(output)
    assert code == 0
    assert (tally["skipped"], tally["created"], tally["unchanged"], tally["refused"]) == (3, 1, 3, 5)


def test_a_dataset_without_one_good_row_is_an_error(mirage: Mirage, tmp_path: Path) -> None:
    write_dataset(tmp_path, ["{", "[]"])
    code, _, message = mirage("index", str(tmp_path))
    assert code == 1
    assert "[NOTHING_STORED]" in message


def test_an_unknown_reader_is_a_usage_error(mirage: Mirage, tmp_path: Path) -> None:
    code, _, message = mirage("index", str(tmp_path), "--reader", "magic")
    assert code == 2
    assert "captions" in message


def test_status_tells_of_every_process(mirage: Mirage, system: Any) -> None:
    code, output, _ = mirage("status", "--data", str(system.data), "--json")
    status = json.loads(output)
    assert code == 0
    assert status["healthy"]
    names = {one["name"] for one in status["processes"]}
    assert names == {"launcher", "encoder", "retriever", "llm", "queue", "generator", "worker", "reader", "gateway"}
    assert {one["health"] for one in status["processes"][1:]} == {"serving"}
    assert status["records"] > 100
    assert status["memory_bytes"] == sum(one["memory_bytes"] for one in status["processes"])


def test_all_processes_stay_within_the_memory_they_may_use(mirage: Mirage, system: Any) -> None:
    """After what the tests before asked of it."""
    _, output, _ = mirage("status", "--data", str(system.data), "--json")
    assert json.loads(output)["memory_bytes"] < 1.5e9


def test_a_second_up_says_where_the_first_is(mirage: Mirage, system: Any) -> None:
    code, output, _ = mirage("up", "--data", str(system.data))
    assert code == 0
    port = system.http_url.rpartition(":")[2]
    assert output.startswith(f"already up at http://localhost:{port}")


def test_a_reader_that_leaves_early_breaks_nothing(system: Any) -> None:
    command = f"{sys.executable} -m mirage.cli search brain -k 100 --json --url {system.http_url} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
