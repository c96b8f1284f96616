"""The command line: what can be wrong with it, without a server."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mirage.cli.entry import VERBS, run
from mirage.cli.output import plain
from mirage.cli.results import match_note
from mirage_api.search import SearchReply


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_the_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n  {verb} " in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {
        "models": ["list", "show", "verify"],
        "flags": ["list", "add"],
        "eval": ["retrieval"],
        "embeddings": ["export", "import"],
        "collections": ["list", "create", "activate", "delete"],
        "jobs": ["list", "get", "watch", "cancel"],
        "record": ["show", "delete"],
        "export": ["site"],
    }
    names = groups.get(verb, [""])
    for name in names:
        assert run([*filter(None, (verb, name)), "--help"]) == 0
        assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["up", "--port", "8080"], "mirage-launcher"),
        (["backup", "--help"], "mirage-launcher"),
        (["index", "folder"], "mirage-atlas"),
        (["models", "list"], "mirage-models"),
    ],
)
def test_a_verb_whose_part_is_not_installed_says_so(
    arguments: list[str], package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    assert run([*arguments, "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["code"] == "PART_MISSING"
    assert f"mirage {arguments[0]} needs the package {package}" in output.err
    assert run(["--help"]) == 0
    assert f"Needs the package {package}" in " ".join(capsys.readouterr().out.split())


def test_a_package_that_a_verb_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mirage_launcher.status", None)
    assert run(["status", "--data", str(tmp_path), "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["code"] == "PART_MISSING"
    assert "mirage status needs the package mirage-launcher" in output.err


def test_the_help_needs_no_http_library() -> None:
    heavy = "{'httpx', 'rich', 'grpc', 'numpy'}"
    code = f"import sys; from mirage.cli.entry import run; run(['--help']); print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["serch", "x"],
        ["search", "x", "--where", "plane"],
        ["search", "x", "--where", "=axial"],
        ["search", "x", "-k", "many"],
        ["search", "x", "--vectors", "other"],
        ["search", "--image", "no-such-file.png"],
        ["search", "--image", "."],
        ["compare", "x"],
        ["compare", "--minus", "x"],
        ["describe"],
        ["describe", "--minus", "x"],
        ["describe", "x", "--max-tokens", "many"],
        ["describe", "x", "--where", "plane"],
        ["similar"],
        ["record"],
        ["image", "x"],
        ["index", "no-such-folder"],
        ["index", ".", "--batch", "65"],
        ["up", "--port", "0"],
        ["up", "--port", "65536"],
        ["up", "--port", "65535"],
        ["up", "--port", "8080", "--grpc-port", "8080"],
        ["models", "grow"],
        ["facets", "--colour"],
    ],
)
def test_a_command_line_that_says_nothing_sensible_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert "Error: " in output.err
    assert output.out == ""


def test_a_usage_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "USAGE"


def test_a_misspelt_verb_is_told_its_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serch"]) == 2
    assert "Did you mean 'search'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "x"],
        ["compare", "x", "--plus", "y"],
        ["describe", "x"],
        ["similar", "x"],
        ["record", "x"],
        ["facets"],
        ["image", "x", "-o", "unused.png"],
    ],
)
def test_a_server_that_is_down_is_said_clearly(
    arguments: list[str], nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--url", nobody, "--json"]) == 1
    output = capsys.readouterr()
    assert f"no MIRAGE at {nobody}" in output.err
    assert "`mirage up`" in output.err
    assert json.loads(output.out)["code"] == "UNREACHABLE"


def test_an_image_that_the_server_would_refuse_is_not_read(
    tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(21 * 2**20)
    assert run(["search", "--image", str(path), "--url", nobody]) == 1
    assert "20 MB" in capsys.readouterr().err


def test_a_folder_that_no_reader_knows_is_refused(
    tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", str(tmp_path), "--url", nobody]) == 1
    shown = capsys.readouterr().err
    assert "not a dataset that a reader knows" in shown
    assert "roco" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models", "list"], ["search", "--json"]])
@pytest.mark.parametrize("output", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], output: str) -> None:
    redirected = ">&-" if output == "closed" else f"> {output}"
    command = f'exec "{sys.executable}" -m mirage.cli {" ".join(arguments)} {redirected}'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "the output cannot be written: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"match": None, "match_pending": True}, "match not judged yet: the collection is still being measured"),
        ({"match": None}, "match not judged: the collection was not measured for this kind of query"),
        ({"match": "weak"}, "match weak"),
        ({"match": "good"}, ""),
        ({"match": None, "total": 1}, ""),
    ],
)
def test_what_the_match_is_worth_is_said(fields: dict[str, Any], said: str) -> None:
    reply = SearchReply.model_validate({"results": [], "query": {"tokens": 1, "truncated": False}, **fields})
    assert match_note(reply).startswith(said)
    assert bool(match_note(reply)) == bool(said)


def test_a_closed_pipe_is_no_error_to_speak_of() -> None:
    command = f'"{sys.executable}" -m mirage.cli --help | true'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_nothing_in_a_caption_reaches_the_terminal_as_a_command() -> None:
    assert plain("a\x1b[2Jb\r\nc\u202ed\x07\u0085 [red]e[/red]") == "a[2Jb cd [red]e[/red]"
