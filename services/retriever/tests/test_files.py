"""Images and flags on disk."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import encode_png
from mirage_retriever.flags import FlagStore
from mirage_retriever.images import ImageStore, sha256_of

PNG = encode_png(Image.radial_gradient("L").convert("RGB"))
SHA256 = sha256_of(PNG)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path)
    store.store([(PNG, SHA256, b"small")])
    return store


def test_an_image_comes_back_byte_for_byte(images: ImageStore) -> None:
    assert images.original(SHA256) == PNG
    assert images.thumbnail(SHA256) == b"small"
    assert images.display(SHA256, "image/png") == PNG
    assert images.has(SHA256)


def test_nothing_but_finished_files_is_left(images: ImageStore, tmp_path: Path) -> None:
    images.store([(PNG, SHA256, b"small")])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [SHA256, SHA256]


def test_a_lost_or_torn_thumbnail_is_made_again(images: ImageStore, tmp_path: Path) -> None:
    file = tmp_path / "thumbnails" / SHA256[:2] / SHA256
    file.write_bytes(b"")
    assert images.thumbnail(SHA256)[8:12] == b"WEBP"
    file.unlink()
    assert images.thumbnail(SHA256)[8:12] == b"WEBP"


def test_another_format_is_shown_as_png(images: ImageStore) -> None:
    assert images.display(SHA256, "image/webp")[:4] == b"\x89PNG"


def test_a_removed_image_is_gone(images: ImageStore) -> None:
    images.remove(SHA256)
    images.remove(SHA256)
    assert not images.has(SHA256)
    with pytest.raises(MirageError) as caught:
        images.original(SHA256)
    assert caught.value.code is Code.RECORD_NOT_FOUND


@pytest.mark.parametrize("name", ["../../etc/passwd", "", SHA256.upper(), SHA256 + "0"])
def test_no_name_but_a_digest_reaches_the_disk(images: ImageStore, name: str) -> None:
    with pytest.raises(MirageError) as caught:
        images.original(name)
    assert caught.value.code is Code.INTERNAL


def test_flags_are_listed_newest_first_and_survive_a_restart(tmp_path: Path) -> None:
    store = FlagStore(tmp_path / "flags.jsonl")
    made = [store.add(id_, reason="other", comment="é\n") for id_ in ("a", "b", "a")]
    for each in (store, FlagStore(tmp_path / "flags.jsonl")):
        assert each.listed() == made[::-1]
        assert each.listed(record_id="a", limit=1) == [made[2]]
        assert (each.count("a"), each.count("b"), each.count("c")) == (2, 1, 0)


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "flags.jsonl"
    kept = FlagStore(path).add("a", reason="other", comment="")
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    store = FlagStore(path)
    assert store.listed() == [kept]
    after = store.add("b", reason="privacy", comment="")
    assert FlagStore(path).listed() == [after, kept]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize(
    ("reason", "comment", "field"), [("", "", "reason"), ("spam", "", "reason"), ("other", "a" * 1_001, "comment")]
)
def test_a_flag_needs_a_known_reason_and_a_short_comment(tmp_path: Path, reason: str, comment: str, field: str) -> None:
    with pytest.raises(MirageError) as caught:
        FlagStore(tmp_path / "flags.jsonl").add("a", reason=reason, comment=comment)
    assert caught.value.code is Code.FLAG_INVALID
    assert caught.value.metadata["field"] == field


def test_a_record_takes_only_so_many_flags(tmp_path: Path) -> None:
    store = FlagStore(tmp_path / "flags.jsonl")
    for _ in range(100):
        store.add("a", reason="other", comment="")
    with pytest.raises(MirageError) as caught:
        store.add("a", reason="other", comment="")
    assert caught.value.code is Code.TOO_MANY_ITEMS
