"""Images on their way in and out: many small ones by one call, drafts of thumbnails, and files that spoil no others."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_core.decoders import DecoderPool
from mirage_core.errors import Code, MirageError
from mirage_core.image_store import FOLDER, IMAGES, THUMBNAILS, ImageStore, StagedImage, is_draft
from mirage_retriever.images import Images


def png(number: int, side: int = 64) -> bytes:
    small = Image.fromarray(np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((side, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
async def pool() -> AsyncIterator[DecoderPool]:
    made = DecoderPool(2, 64, 30, 128, "images-test", preload=("mirage_core.image_store",))
    yield made
    await made.close()


@pytest.fixture
def images(tmp_path: Path, pool: DecoderPool) -> Images:
    return Images(ImageStore(tmp_path), pool, places=3)


async def kept(images: Images, data: bytes, *, draft: bool = False) -> StagedImage:
    staged = await images.take_in([data], None, draft=draft)
    images.store.keep([staged])
    return staged


async def read(images: Images, part: str, sha256: str) -> bytes:
    return b"".join([piece async for _, piece in images.read(part, sha256)])


async def test_many_at_the_same_time_each_get_their_own_image(images: Images) -> None:
    sent = {number: png(number) for number in range(50)}
    staged = await asyncio.gather(*(images.take_in([data[:40], data[40:]], None) for data in sent.values()))
    images.store.keep(staged)
    for (_, data), each in zip(sent.items(), staged, strict=True):
        shown = Image.open(io.BytesIO(await read(images, IMAGES, each.stored.image_sha256))).convert("RGB")
        assert shown.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()
        assert (await read(images, THUMBNAILS, each.stored.image_sha256)).startswith(b"RIFF")


async def test_a_file_that_is_wrong_is_refused_and_its_neighbours_are_not(images: Images) -> None:
    sent = [png(1), b"\x89PNG\r\n\x1a\n" + bytes(100), png(2)[:200], png(3), b"", png(4, side=8), png(5)]
    answers = await asyncio.gather(*(images.take_in([data], None) for data in sent), return_exceptions=True)
    codes = [answer.code if isinstance(answer, MirageError) else "" for answer in answers]
    assert codes == ["", Code.IMAGE_UNREADABLE, Code.IMAGE_UNREADABLE, "", Code.IMAGE_EMPTY, Code.IMAGE_TOO_SMALL, ""]


async def test_a_file_that_needs_too_much_ends_nobody_elses(images: Images) -> None:
    """It takes more memory than the decoder of this test has; a picture of one colour is a small file."""
    flat = io.BytesIO()
    Image.new("RGB", (5000, 5000), (9, 9, 9)).save(flat, "PNG")
    sent = [png(1), flat.getvalue(), png(2), png(3)]
    answers = await asyncio.gather(*(images.take_in([data], None) for data in sent), return_exceptions=True)
    assert isinstance(answers[1], MirageError)
    assert answers[1].code is Code.IMAGE_TOO_COSTLY
    assert [isinstance(answer, StagedImage) for answer in answers] == [True, False, True, True]


async def test_who_goes_away_leaves_no_file(images: Images, tmp_path: Path) -> None:
    gone = asyncio.create_task(images.take_in([png(1)], None))
    stays = asyncio.create_task(images.take_in([png(2)], None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    staged = await stays
    await asyncio.gather(gone, return_exceptions=True)
    images.store.keep([staged])
    # A later one is answered after the call of the two has ended.
    (await images.take_in([png(3)], None)).drop()
    assert left_behind(tmp_path) == []


def left_behind(data: Path) -> list[str]:
    """Names of files that are on their way into the store."""
    return [path.name for path in (data / FOLDER / "incoming").iterdir()]


@pytest.mark.parametrize("side", [40, 256, 300, 448, 1000])
async def test_a_thumbnail_of_a_bulk_is_made_of_its_draft_when_it_is_asked_for(
    images: Images, tmp_path: Path, side: int
) -> None:
    whole, draft = png(7, side), png(8, side)
    expected = await kept(images, whole)
    staged = await kept(images, draft, draft=True)
    sha256 = staged.stored.image_sha256
    file = tmp_path / FOLDER / THUMBNAILS / sha256[:2] / sha256
    assert is_draft(file.read_bytes())
    assert not images.store.has_thumbnail(sha256)
    # The draft is enough: the image itself is not decoded for it.
    (tmp_path / FOLDER / IMAGES / sha256[:2] / sha256).unlink()
    made = await asyncio.gather(*(read(images, THUMBNAILS, sha256) for _ in range(5)))
    assert len(set(made)) == 1
    thumbnail = Image.open(io.BytesIO(made[0]))
    assert thumbnail.format == "WEBP"
    size = Image.open(io.BytesIO(await read(images, THUMBNAILS, expected.stored.image_sha256))).size
    assert max(thumbnail.size) <= 256
    assert 0.66 * max(size) <= max(thumbnail.size)
    small = np.asarray(thumbnail.convert("RGB").resize((8, 8), Image.Resampling.BOX), np.int16)
    like = np.asarray(Image.open(io.BytesIO(draft)).convert("RGB").resize((8, 8), Image.Resampling.BOX), np.int16)
    assert np.abs(small - like).mean() < 4
    assert images.store.has_thumbnail(sha256)


async def test_a_thumbnail_that_was_lost_is_made_again(images: Images, tmp_path: Path) -> None:
    staged = await kept(images, png(7, 500))
    sha256 = staged.stored.image_sha256
    before = await read(images, THUMBNAILS, sha256)
    file = tmp_path / FOLDER / THUMBNAILS / sha256[:2] / sha256
    for spoil in (lambda: file.write_bytes(b""), file.unlink):
        spoil()
        assert await read(images, THUMBNAILS, sha256) == before
    images.store.remove_image(sha256)
    for part in (THUMBNAILS, IMAGES):
        with pytest.raises(MirageError) as caught:
            await read(images, part, sha256)
        assert caught.value.code is Code.RECORD_NOT_FOUND
