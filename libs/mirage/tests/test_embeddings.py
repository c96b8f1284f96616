"""Embeddings in a file: written whole or not at all, read without being held, refused where they are something else."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage.embeddings import Embeddings, save
from mirage.errors import InputError
from mirage_api.records import StoredRecord

FINGERPRINT = "f" * 64


def stored(id_: str, *vectors: np.ndarray) -> StoredRecord:
    packed: list[str | None] = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    packed = packed or [None, None]
    return StoredRecord(id=id_, image_vector=packed[0], caption_vector=packed[1])


def rows(count: int, length: int = 5) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, length)).astype("<f4")


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"ids": np.array(["a", "b"]), "vectors": rows(2), "fingerprint": np.array(FINGERPRINT), **arrays})
    return path


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    images, captions = rows(7), -rows(7)
    file = tmp_path / "e.npz"
    assert save(file, (stored(f"r{n}", images[n], captions[n]) for n in range(7)), fingerprint=FINGERPRINT) == 7
    with Embeddings(file) as embeddings:
        assert (len(embeddings), embeddings.dimension, embeddings.fingerprint) == (7, 5, FINGERPRINT)
        assert isinstance(embeddings.vectors, np.memmap)
        assert embeddings.of("r3") == (images[3].tobytes(), captions[3].tobytes())
        assert embeddings.of("none") is None
    with np.load(file, allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["vectors"], images)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_a_file_of_numpy_is_read_packed_or_not(tmp_path: Path, saver: Any) -> None:
    vectors = rows(2)
    saver(tmp_path / "e.npz", ids=np.array(["a", "b"]), vectors=vectors, fingerprint=np.array(FINGERPRINT))
    with Embeddings(tmp_path / "e.npz") as embeddings:
        assert embeddings.of("b") == (vectors[1].tobytes(), None)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"ids": np.array(["a", "a"])}, "twice"),
        ({"ids": np.array([1, 2])}, "list of texts"),
        ({"ids": np.array(["a"])}, "a row for each id"),
        ({"vectors": rows(2).astype("f8")}, "float32"),
        ({"vectors": rows(2) * np.nan}, "not finite"),
        ({"vectors": rows(2) * 0}, "all zero"),
        ({"caption_vectors": rows(2, 9)}, "caption_vectors"),
        ({"fingerprint": np.array(["a", "b"])}, "one text"),
        ({"vectors": np.asfortranarray(rows(2))}, "is no"),
        ({"ids": np.array(["a", None], dtype=object)}, "is no"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Embeddings(write(tmp_path / "e.npz", **arrays))


def test_a_file_that_is_no_npz_or_lacks_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK not really")
    with pytest.raises(InputError, match="is no"):
        Embeddings(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", ids=np.array(["a"]))
    with pytest.raises(InputError, match="lacks fingerprint, vectors"):
        Embeddings(tmp_path / "y.npz")
    whole = write(tmp_path / "z.npz").read_bytes()
    (tmp_path / "z.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        Embeddings(tmp_path / "z.npz")


def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    for broken in ([], [stored("a")], [stored("a", *rows(2)), stored("b", *rows(2, 9))]):
        with pytest.raises(InputError):
            save(tmp_path / "e.npz", broken, fingerprint=FINGERPRINT)
    assert list(tmp_path.iterdir()) == []
