"""Archives are fetched by pip from a folder, or by npm from a local registry: checked, kept, and never run."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from mirage_atlas.demo import fetch as fetching
from mirage_atlas.demo.archives import read_members
from mirage_atlas.demo.fetch import FetchError, fetch, fetch_all, find
from mirage_atlas.demo.sources import STANDARD, Source, part_names, sources_of
from tests.support.package_files import sdist, wheel

METADATA = b"Metadata-Version: 2.1\nName: sample-volumes\nVersion: 1.2\n"
TRAP = b"import pathlib, sys\npathlib.Path(%r).touch()\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def source(path: Path, name: str = "sample-volumes") -> Source:
    data = path.read_bytes()
    return Source(name, "1.2", path.name, hashlib.sha256(data).hexdigest(), len(data), "a sample")


def sample_wheel(folder: Path) -> Source:
    info = "sample_volumes-1.2.dist-info"
    files = {
        "sample_volumes/data.bin": b"pixels",
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    return source(wheel(folder / "sample_volumes-1.2-py3-none-any.whl", files))


def sample_sdist(folder: Path, trap: Path) -> Source:
    run = TRAP % str(trap)
    files = {
        "sample_volumes-1.2/PKG-INFO": METADATA,
        "sample_volumes-1.2/setup.py": run,
        "sample_volumes-1.2/own.py": run,
        "sample_volumes-1.2/pyproject.toml": b'[build-system]\nrequires = ["nothing-that-is-there"]\n'
        b'build-backend = "setuptools.build_meta"\n',
        "sample_volumes-1.2/tests/data.bin": b"pixels",
    }
    return source(sdist(folder / "sample_volumes-1.2.tar.gz", files))


def test_a_wheel_is_fetched_once_and_kept(index: Path, tmp_path: Path) -> None:
    wanted = sample_wheel(index)
    kept = tmp_path / "kept"

    assert fetch(wanted, kept) == kept / wanted.file
    assert [each.name for each in kept.iterdir()] == [wanted.file]
    (index / wanted.file).unlink()
    assert fetch(wanted, kept) == kept / wanted.file


def test_a_source_archive_is_fetched_and_none_of_its_code_is_run(index: Path, tmp_path: Path) -> None:
    trap = tmp_path / "code of the archive was run"
    wanted = sample_sdist(index, trap)

    path = fetch(wanted, tmp_path / "kept")

    assert path.read_bytes() == (index / wanted.file).read_bytes()
    assert not trap.exists()


def test_an_archive_of_another_content_is_refused_and_nothing_of_it_is_kept(index: Path, tmp_path: Path) -> None:
    wanted = sample_wheel(index)
    wheel(index / wanted.file, {"sample_volumes/data.bin": b"other pixels"})

    with pytest.raises(FetchError, match="could not download"):
        fetch(wanted, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_damaged_archive_in_the_folder_is_replaced(index: Path, tmp_path: Path) -> None:
    wanted = sample_wheel(index)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / wanted.file).write_bytes(b"0" * wanted.size)

    assert find(wanted, [kept]) is None
    fetch(wanted, kept)
    assert find(wanted, [tmp_path, kept]) == kept / wanted.file


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """A registry of npm that has one package, whose script would leave a file."""
    trap = tmp_path / "code of the archive was run"
    package = {
        "name": "sample-images",
        "version": "1.2.0",
        "scripts": {"prepack": f"touch {trap}", "install": f"touch {trap}"},
    }
    files = {"package/package.json": json.dumps(package).encode(), "package/data.bin": b"pixels"}
    data = sdist(tmp_path / "sample-images-1.2.0.tgz", files).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = f"http://127.0.0.1:{cast('ThreadingHTTPServer', self.server).server_port}"
            integrity = f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"
            stated = {**package, "dist": {"tarball": f"{host}/s.tgz", "integrity": integrity}}
            described = {"name": "sample-images", "dist-tags": {"latest": "1.2.0"}, "versions": {"1.2.0": stated}}
            body = data if self.path == "/s.tgz" else json.dumps(described).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    digest = hashlib.sha256(data).hexdigest()
    yield Source("sample-images", "1.2.0", "sample-images-1.2.0.tgz", digest, len(data), "a sample")
    server.shutdown()
    server.server_close()
    assert not trap.exists()


def test_a_package_of_npm_is_fetched_and_none_of_its_scripts_is_run(registry: Source, tmp_path: Path) -> None:
    path = fetch(registry, tmp_path / "kept")

    assert read_members(path, ["package/data.bin"]) == {"package/data.bin": b"pixels"}
    assert [each.name for each in path.parent.iterdir()] == [registry.file]


def test_a_package_of_npm_of_another_content_is_refused(registry: Source, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not the file that was asked for"):
        fetch(replace(registry, sha256="0" * 64), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_without_npm_it_is_said_that_npm_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = Source("sample-images", "1.2.0", "sample-images-1.2.0.tgz", "0" * 64, 1, "a sample")

    with pytest.raises(FetchError, match="npm is not installed"):
        fetch(absent, tmp_path / "kept")


def test_what_is_missing_does_not_keep_the_others_away(index: Path, tmp_path: Path) -> None:
    there = sample_wheel(index)
    absent = Source("absent-volumes", "1.0", "absent_volumes-1.0-py3-none-any.whl", "0" * 64, 1, "nothing")

    outcomes = dict(fetch_all([absent, there], tmp_path / "kept"))

    assert isinstance(outcomes[absent], FetchError)
    assert outcomes[there] == tmp_path / "kept" / there.file


def test_a_download_that_stands_still_is_given_up(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.01)

    with pytest.raises(FetchError, match="not downloaded within"):
        fetch(sample_wheel(index), tmp_path / "kept")


def test_the_usual_set_downloads_at_most_105_mb_and_each_archive_is_pinned() -> None:
    assert sum(each.size for each in sources_of(STANDARD)) <= 105_000_000
    assert sources_of("brain") == ()
    assert set(sources_of(STANDARD)) < set(sources_of("full"))
    for each in sources_of("full"):
        assert len(each.sha256) == 64
        assert each.is_wheel or each.is_npm or each.file.endswith(".tar.gz")
    assert len(set(part_names("full"))) == len(part_names("full"))
