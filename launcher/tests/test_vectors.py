"""Where `mirage up` has the retriever keep its records: what options and variables say, and what contradicts itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirage_launcher import ports, services, vectors
from mirage_launcher.backups import operations as backups
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

SCRIPTED_QDRANT = Path(__file__).parents[2] / "tests" / "support" / "scripted_qdrant.py"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (vectors.ENGINE, vectors.URL, vectors.PORT, vectors.KEY):
        monkeypatch.delenv(name, raising=False)


def planned(folders: Folders, chosen: vectors.Vectors) -> services.Plan:
    port = ports.any_free()
    other = ports.any_free(taken=frozenset({port}))
    return services.plan(folders, bundle=folders.root, port=port, grpc_port=other, vectors=chosen)


def retriever_of(plan: services.Plan) -> dict[str, str]:
    [environment] = [dict(each.environment) for each in plan.services if each.name == "retriever"]
    return environment


def test_without_options_and_variables_the_data_directory_is_used(tmp_path: Path) -> None:
    plan = planned(Folders.at(tmp_path), vectors.choose())
    assert retriever_of(plan)[vectors.ENGINE] == "edge"
    assert plan.vectors == ""


def test_options_reach_the_retriever_and_the_key_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  secret-key\n")
    plan = planned(Folders.at(tmp_path), vectors.choose("https://a, http://b:7000", file))
    environment = retriever_of(plan)
    assert environment[vectors.ENGINE] == "qdrant"
    assert environment[vectors.URL] == plan.vectors == "https://a:6333,http://b:7000"
    assert (environment[vectors.KEY], environment[f"{vectors.KEY}_FILE"]) == ("", str(file))
    assert "secret-key" not in repr(plan)
    for service in plan.services:
        assert (vectors.KEY in service.environment) is (service.name == "retriever")


def test_the_variables_of_the_retriever_are_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vectors.ENGINE, "qdrant")
    monkeypatch.setenv(vectors.URL, "http://a:6333,http://b:6333")
    monkeypatch.setenv(vectors.PORT, "6400")
    chosen = vectors.choose()
    assert (chosen.urls, chosen.ports) == (("http://a:6333", "http://b:6333"), (6400, 6400))
    assert retriever_of(planned(Folders.at(tmp_path), chosen))[vectors.ENGINE] == "qdrant"
    # The command line comes first.
    assert vectors.choose("http://c:6333").server == "http://c:6333"


def test_what_contradicts_itself_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="goes with --qdrant"):
        vectors.choose(key_file=tmp_path / "key")
    monkeypatch.setenv(vectors.ENGINE, "edge")
    with pytest.raises(LaunchError, match="contradict"):
        vectors.choose("http://a:6333")
    monkeypatch.setenv(vectors.ENGINE, "redis")
    with pytest.raises(LaunchError, match="edge or qdrant"):
        vectors.choose()


@pytest.mark.parametrize("url", ["ftp://a", "http://a/path", "http://user:secret@a"])
def test_what_is_not_an_address_is_refused(url: str) -> None:
    with pytest.raises(LaunchError, match="address of a Qdrant server"):
        vectors.choose(url)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines", b"\xff\xfe"])
def test_a_file_without_a_key_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(LaunchError, match="key file"):
        vectors.choose("http://a:6333", file)


def test_a_variable_that_is_set_to_something_else_is_said_to_be_unused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAGE_RETRIEVER_DATA", "/elsewhere")
    monkeypatch.setenv("MIRAGE_ENCODER_HOST", services.HOST)
    remarks = planned(Folders.at(tmp_path), vectors.choose()).remarks
    assert [remark for remark in remarks if "not used" in remark] == [
        "MIRAGE_RETRIEVER_DATA is not used: `mirage up` sets it itself"
    ]


@pytest.fixture(scope="module")
def qdrant() -> Iterator[str]:
    """The scripted server, with the key "right"."""
    command = [sys.executable, "-W", "ignore", str(SCRIPTED_QDRANT), "0", "--key", "right"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://localhost:{int(process.stdout.readline()) - 1}"
        process.kill()


def key_file(folder: Path, key: str) -> Path:
    file = folder / "key"
    file.write_text(key)
    return file


def test_one_node_that_answers_is_enough(qdrant: str, tmp_path: Path) -> None:
    dead = f"http://localhost:{ports.any_free() - 1}"
    vectors.require_answer(vectors.choose(f"{dead},{qdrant}", key_file(tmp_path, "right")))


def test_a_key_that_is_wrong_is_the_reason(qdrant: str, tmp_path: Path) -> None:
    address = f"localhost:{int(qdrant.rpartition(':')[2]) + 1}"
    for chosen in (vectors.choose(qdrant), vectors.choose(qdrant, key_file(tmp_path, "wrong"))):
        with pytest.raises(LaunchError, match=rf"no Qdrant server can be used at {address} \(unauthenticated\)"):
            vectors.require_answer(chosen)


def test_a_server_that_nothing_answers_for_is_named_with_the_reason() -> None:
    port = ports.any_free()
    with pytest.raises(LaunchError, match=rf"localhost:{port} \(connection refused\)"):
        vectors.require_answer(vectors.choose(f"http://localhost:{port - 1}"))


def test_a_setting_that_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIRAGE_RETRIEVER_QDRANT_CA_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(LaunchError, match="MIRAGE_RETRIEVER_QDRANT_CA_FILE: Path does not point to a file"):
        vectors.require_answer(vectors.choose("https://localhost:6333"))


def test_a_change_between_data_directory_and_server_is_said_once(tmp_path: Path) -> None:
    folders = Folders.at(tmp_path)
    folders.create()
    server = vectors.choose("http://a:6333")
    assert vectors.note(folders, vectors.choose()) == ()
    assert len(vectors.note(folders, server)) == 1
    (folders.atlas / "edge").mkdir()
    (folders.atlas / "edge" / "collection.json").write_text("{}")
    assert vectors.note(folders, server) == ("records and vectors are kept on the Qdrant server at http://a:6333",)
    [remark] = vectors.note(folders, vectors.choose())
    assert "--qdrant http://a:6333" in remark
    assert vectors.note(folders, vectors.choose()) == ()
    assert any(str(folders.atlas) in remark for remark in vectors.note(folders, server))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}'])
def test_a_damaged_note_counts_as_none(tmp_path: Path, content: str) -> None:
    folders = Folders.at(tmp_path)
    folders.create()
    folders.vectors_note.write_text(content)
    assert vectors.noted(folders) == ""


def test_a_backup_says_that_a_server_has_the_records(tmp_path: Path) -> None:
    folders = Folders.at(tmp_path / "data")
    folders.create()
    (folders.atlas / "flags.jsonl").write_text(json.dumps({}) + "\n")
    vectors.note(folders, vectors.choose("http://a:6333"))
    file = tmp_path / "backup.tar.gz"
    outcome = backups.back_up(backups.Place(folders.root), file, report=lambda *_: None)
    assert any("http://a:6333" in remark for remark in outcome.remarks)
    vectors.note(folders, vectors.choose())
    outcome = backups.back_up(backups.Place(folders.root), tmp_path / "other.tar.gz", report=lambda *_: None)
    assert outcome.remarks == ()
