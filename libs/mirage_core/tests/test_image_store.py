"""Images on disk: what is written of a file that comes in, and how it is kept."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.image_store import (
    FOLDER,
    IMAGES,
    PIXELS,
    THUMBNAILS,
    ImageStore,
    StoredImage,
    TakenIn,
    sha256_of,
    take_in,
    thumbnail_of,
    view_of,
)
from mirage_core.imaging import CleanImage, PixelInfo, encode_png
from mirage_core.synthetic_label import draw_label

GRADIENT = Image.radial_gradient("L").convert("RGB")
PNG = encode_png(GRADIENT)
CLEAN = CleanImage(PNG, "image/png", 256, 256, 1, None, None)
DEEP = CleanImage(PNG, "image/png", 256, 256, 1, b"sixteen bits", PixelInfo(12, 1.0, -1024.0, "HU", ()))
SHA256 = sha256_of(PNG)


def content(path: Path) -> dict[str, int]:
    """Names and modes of all files below a path."""
    return {str(file.relative_to(path)): file.stat().st_mode & 0o777 for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path)


def kept(store: ImageStore, taken: TakenIn) -> StoredImage:
    staged = store.stage(taken)
    store.keep([staged])
    return staged.stored


def read(store: ImageStore, part: str, sha256: str) -> bytes:
    reading, piece = store.read(part, sha256)
    data = piece
    while not reading.is_at_end:
        data += reading.next()
    reading.close()
    assert len(data) == reading.length
    return data


def test_what_is_kept_of_a_file_has_none_of_its_texts() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", "PLANTED")
    buffer = io.BytesIO()
    GRADIENT.save(buffer, "PNG", pnginfo=texts)
    taken = take_in(buffer.getvalue() + b"PLANTED", None)
    for data in (taken.clean.data, taken.thumbnail):
        assert b"PLANTED" not in data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(taken.clean.data)).convert("RGB")), np.asarray(GRADIENT))
    assert Image.open(io.BytesIO(taken.thumbnail)).format == "WEBP"


def test_a_generated_image_is_refused_by_its_texts_and_by_its_label() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("ai_generated", "true")
    marked = io.BytesIO()
    GRADIENT.save(marked, "PNG", pnginfo=texts)
    labelled = encode_png(Image.fromarray(draw_label(np.asarray(GRADIENT))))
    for data in (marked.getvalue(), labelled):
        with pytest.raises(MirageError) as caught:
            take_in(data, None)
        assert caught.value.code is Code.SYNTHETIC_REFUSED


def test_an_image_is_in_the_store_once_it_is_kept(store: ImageStore, tmp_path: Path) -> None:
    staged = store.stage(TakenIn(DEEP, b"small"))
    stored = staged.stored
    assert (stored.image_sha256, stored.pixels_sha256) == (SHA256, sha256_of(b"sixteen bits"))
    assert staged.image() == PNG
    assert not store.has(SHA256)
    store.keep([staged])
    assert store.has(SHA256, stored.pixels_sha256)
    assert not store.has(SHA256, "0" * 64)
    assert store.file(IMAGES, SHA256) == read(store, IMAGES, SHA256) == PNG
    assert read(store, PIXELS, stored.pixels_sha256) == b"sixteen bits"
    assert read(store, THUMBNAILS, SHA256) == b"small"
    staged.drop()
    assert store.has(SHA256, stored.pixels_sha256)
    assert set(content(tmp_path).values()) == {0o600}
    assert len(content(tmp_path)) == 3


def test_an_image_that_is_not_kept_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    store.stage(TakenIn(DEEP, b"small")).drop()
    assert content(tmp_path) == {}


def test_the_same_image_again_is_stored_once(store: ImageStore, tmp_path: Path) -> None:
    images = [store.stage(TakenIn(CLEAN, b"small")) for _ in range(3)]
    store.keep(images)
    assert sorted(content(tmp_path)) == [f"{FOLDER}/{part}/{SHA256[:2]}/{SHA256}" for part in (IMAGES, THUMBNAILS)]


def test_a_torn_thumbnail_counts_as_missing_and_can_be_made_again(store: ImageStore, tmp_path: Path) -> None:
    kept(store, TakenIn(CLEAN, b"small"))
    file = tmp_path / FOLDER / THUMBNAILS / SHA256[:2] / SHA256
    file.write_bytes(b"")
    assert not store.has_thumbnail(SHA256)
    with pytest.raises(MirageError):
        store.read(THUMBNAILS, SHA256)
    store.keep_thumbnail(SHA256, thumbnail_of(store.file(IMAGES, SHA256)))
    assert Image.open(io.BytesIO(read(store, THUMBNAILS, SHA256))).size == (256, 256)


def test_a_file_that_is_removed_while_it_is_sent_is_sent_whole(store: ImageStore) -> None:
    large = CleanImage(bytes(3 * limits.PART_BYTES), "image/png", 16, 16, 1, None, None)
    stored = kept(store, TakenIn(large, b"small"))
    reading, piece = store.read(IMAGES, stored.image_sha256)
    store.remove_image(stored.image_sha256)
    sizes = [len(piece), *(len(reading.next()) for _ in range(3))]
    assert sizes == [limits.PART_BYTES] * 3 + [0]
    reading.close()


def test_a_removed_image_is_gone_with_all_that_belongs_to_it(store: ImageStore, tmp_path: Path) -> None:
    stored = kept(store, TakenIn(DEEP, b"small"))
    assert sorted(store.digests(IMAGES)) == [SHA256]
    for _ in range(2):
        store.remove_image(stored.image_sha256)
        store.remove_pixels(stored.pixels_sha256)
    assert content(tmp_path) == {}
    assert list(store.digests(IMAGES)) == []
    with pytest.raises(MirageError) as caught:
        store.file(IMAGES, SHA256)
    assert caught.value.code is Code.RECORD_NOT_FOUND


@pytest.mark.parametrize("name", ["../../etc/passwd", "", SHA256.upper(), SHA256 + "0"])
def test_no_name_but_a_digest_reaches_the_disk(store: ImageStore, name: str) -> None:
    for call in (lambda: store.file(IMAGES, name), lambda: store.read(PIXELS, name), lambda: store.remove_image(name)):
        with pytest.raises(MirageError) as caught:
            call()
        assert caught.value.code is Code.INTERNAL


def test_what_a_killed_process_left_on_its_way_is_removed_later(store: ImageStore, tmp_path: Path) -> None:
    old, new = store.stage(TakenIn(CLEAN, b"old")), store.stage(TakenIn(CLEAN, b"new"))
    long_ago = time.time() - 24 * 3600
    for part in (IMAGES, THUMBNAILS):
        os.utime(old.file(part), (long_ago, long_ago))
    ImageStore(tmp_path)
    assert not old.file(IMAGES).exists()
    assert new.file(IMAGES).exists()


def test_a_view_for_a_model_is_small_enough_to_be_sent() -> None:
    with Image.open(io.BytesIO(view_of(encode_png(Image.new("RGB", (5000, 1000), (9, 8, 7)))))) as view:
        assert view.size == (2048, 410)
        assert view.getpixel((0, 0)) == (9, 8, 7)


def test_what_is_not_an_image_of_ours_has_no_thumbnail() -> None:
    with pytest.raises(MirageError) as caught:
        thumbnail_of(b"%PDF-1.7")
    assert caught.value.code is Code.IMAGE_UNREADABLE
