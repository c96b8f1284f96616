"""JPEG: what is copied and what is coded again, colour spaces, orientation, profile, aspect, and files that cost too much."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image, sizes
from tests.support.picture_files import exif, jpeg, segment, segments, with_segments

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"~XYZ").replace(b"bXYZ", b"rXYZ").replace(b"~XYZ", b"bXYZ")  # red and blue exchanged
# What a clean JPEG may consist of, in this order: colour space, tables, frame, tables, scan, its data, end.
KINDS = [0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0, 0xD9]


def photo(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return noise.convert(mode)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def kinds(data: bytes) -> list[int]:
    return [marker for marker, _ in segments(data)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"quality": 100}, {"quality": 30}, {"optimize": True}])
@pytest.mark.parametrize("size", [(40, 24), (17, 19), (64, 64), (65, 16)])
def test_a_plain_file_is_copied_pixel_by_pixel(mode: str, options: dict[str, object], size: tuple[int, int]) -> None:
    data = jpeg(photo(mode, size), **options)
    clean = clean_image(data)
    assert (clean.media_type, clean.width, clean.height) == ("image/jpeg", *size)
    assert np.array_equal(pixels(clean.data), pixels(data))
    assert np.array_equal(np.asarray(decode_image(data).image), pixels(data))
    assert kinds(clean.data) == KINDS
    scan = dict(segments(data))[0]
    assert dict(segments(clean.data))[0] == scan
    assert clean_image(clean.data) == clean


def coded_again(data: bytes) -> Image.Image:
    """The clean picture of a file that must not be copied."""
    clean = clean_image(data)
    image = Image.open(io.BytesIO(clean.data))
    assert image.format == "JPEG"
    assert dict(segments(clean.data))[0] != dict(segments(data)).get(0)
    assert np.abs(pixels(clean.data) - np.asarray(decode_image(data).image)).max() <= 24
    return image


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}])
def test_progressive_files_and_those_with_restarts_are_coded_again(options: dict[str, object]) -> None:
    image = coded_again(jpeg(photo(), **options))
    assert image.size == (40, 24)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "stray", [b"M", b"\0", b"Mu", b"DOE^JANE", b"\xff\0", b"a\xff\0", bytes(20), b"Mustermann" * 5]
)
def test_bytes_behind_the_last_coded_unit_are_not_copied(mode: str, stray: bytes) -> None:
    data = jpeg(photo(mode))
    assert data.endswith(b"\xff\xd9")
    added = data[:-2] + stray + b"\xff\xd9"
    assert np.array_equal(pixels(added), pixels(data))  # they are not part of the picture
    clean = clean_image(added)
    assert not dict(segments(clean.data))[0].endswith(stray)
    assert np.abs(pixels(clean.data) - pixels(data)).max() <= 24


def test_the_numbers_of_components_are_ours() -> None:
    data = jpeg(photo())
    named = data.replace(b"\1\x22\0\2\x11\1\3\x11\1", b"D\x22\0O\x11\1E\x11\1").replace(
        b"\x03\1\0\2\x11\3\x11", b"\x03D\0O\x11E\x11"
    )
    assert b"E\x11" in named
    clean = clean_image(named)
    assert np.array_equal(pixels(clean.data), pixels(named))
    assert np.array_equal(pixels(clean.data), pixels(data))


def test_unused_tables_are_left_out() -> None:
    text = b"Mustermann Erika 1956-03-04 Charite".ljust(64, b".")
    data = with_segments(
        jpeg(photo("L")), segment(0xDB, b"\3" + text) + segment(0xC4, b"\x13" + bytes((1, *[0] * 15)) + b"M")
    )
    clean = clean_image(data)
    assert b"Mustermann" not in clean.data
    assert np.array_equal(pixels(clean.data), pixels(data))
    assert all(content[0] & 15 != 3 for marker, content in segments(clean.data) if marker in (0xDB, 0xC4))


def test_a_table_that_reads_as_a_text_is_not_copied() -> None:
    data = jpeg(photo("L"))
    at = data.index(b"\xff\xdb") + 5
    named = data[:at] + b"MustermannErika1956".ljust(64, b"\x20") + data[at + 64 :]
    clean = clean_image(named)
    assert b"Mustermann" not in clean.data
    assert b"Erika" not in clean.data


def test_a_code_table_with_idle_codes_is_not_copied() -> None:
    """Codes that no 8-bit picture has could spell a name."""
    data = jpeg(photo("L"), optimize=True)
    place = data.index(b"\xff\xc4\0") if b"\xff\xc4\0" in data else data.index(b"\xff\xc4")
    tables = [content for marker, content in segments(data) if marker == 0xC4]
    assert place > 0
    last = tables[-1]
    counts, symbols = bytearray(last[1:17]), last[17:]
    free = next((n for n in range(15, -1, -1) if counts[n] == 0), 15)
    counts[15] += 0
    changed = (
        bytes((last[0],)) + bytes(counts[:free]) + bytes((counts[free] + 0,)) + bytes(counts[free + 1 :]) + symbols
    )
    changed = changed[:16] + bytes((changed[16] + 1,)) + changed[17:] + b"\x4f"  # run 4 of 15 bits
    named = data.replace(segment(0xC4, last), segment(0xC4, changed))
    assert named != data
    clean = clean_image(named)
    assert changed not in clean.data
    assert np.abs(pixels(clean.data) - pixels(named)).max() <= 24


def test_the_spectral_bytes_of_the_scan_are_ours() -> None:
    data = jpeg(photo())
    at = data.index(b"\xff\xda") + 2 + int.from_bytes(data[data.index(b"\xff\xda") + 2 :][:2], "big") - 3
    changed = data[:at] + b"\0\x3f\x7a" + data[at + 3 :]
    assert b"\0\x3f\0" in clean_image(changed).data
    assert b"\0\x3f\x7a" not in clean_image(changed).data


@pytest.mark.parametrize("filler", [b"\xff", b"\xff" * 50])
def test_fillers_in_front_of_markers_are_left_out(filler: bytes) -> None:
    data = jpeg(photo())
    changed = with_segments(data, filler)[:-2] + filler + b"\xff\xd9"
    assert clean_image(changed).data == clean_image(data).data


def test_stray_bytes_between_segments_are_left_out() -> None:
    data = jpeg(photo())
    assert clean_image(with_segments(data, b"Mustermann")).data == clean_image(data).data


@pytest.mark.parametrize("turn", range(2, 9))
def test_orientation_is_applied(turn: int) -> None:
    image = photo(size=(40, 24))
    tag = Image.Exif()
    tag[0x0112] = turn
    data = jpeg(image, exif=tag, quality=100, subsampling=0)
    turned = np.asarray({
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_270), 7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_90),
    }[turn]).astype(int)  # fmt: skip
    clean = clean_image(data)
    assert (clean.height, clean.width) == turned.shape[:2]
    assert np.abs(pixels(clean.data) - turned).max() <= 24
    assert np.abs(np.asarray(decode_image(data).image).astype(int) - turned).max() <= 12


def test_an_orientation_in_either_byte_order_is_read() -> None:
    for order in ("<", ">"):
        data = with_segments(
            jpeg(photo()), segment(0xE1, b"Exif\0\0" + exif(6, order=order, text=b"Mustermann\0")), before=0xDB
        )
        assert decode_image(data).image.size == (24, 40)


def icc(profile: bytes) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0\1\1" + profile)


def test_a_profile_is_applied_and_srgb_leaves_a_file_to_be_copied() -> None:
    red = jpeg(Image.new("RGB", (32, 32), (255, 0, 0)), quality=100, subsampling=0)
    plain = clean_image(red)
    assert clean_image(with_segments(red, icc(SRGB), before=0xDB)).data == plain.data
    swapped = with_segments(red, icc(SWAPPED), before=0xDB)
    assert pixels(clean_image(swapped).data)[0, 0].tolist()[2] > 200
    assert np.asarray(decode_image(swapped).image)[0, 0].tolist()[0] < 60


def test_a_profile_in_several_segments_in_any_order_is_joined() -> None:
    red = jpeg(Image.new("RGB", (32, 32), (255, 0, 0)), quality=100, subsampling=0)
    half = len(SWAPPED) // 2
    parts = [segment(0xE2, b"ICC_PROFILE\0\2\2" + SWAPPED[half:]), segment(0xE2, b"ICC_PROFILE\0\1\2" + SWAPPED[:half])]
    assert pixels(clean_image(with_segments(red, b"".join(parts), before=0xDB)).data)[0, 0].tolist()[2] > 200


@pytest.mark.parametrize("profile", [b"", b"Mustermann" * 50, SRGB[:200], SWAPPED[:128] + bytes(500)])
def test_a_profile_that_is_damaged_changes_nothing(profile: bytes) -> None:
    data = jpeg(photo())
    assert clean_image(with_segments(data, icc(profile), before=0xDB)).data == clean_image(data).data


def test_cmyk_becomes_rgb() -> None:
    # As Adobe writes it: inverted, and said so.
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    data = jpeg(cmyk, quality=100)
    red, green, blue = pixels(clean_image(data).data)[0, 0].tolist()
    assert red > 200 > 60 > max(green, blue)
    assert np.asarray(decode_image(data).image)[0, 0].tolist()[0] > 200


def test_rgb_that_is_stored_as_such_stays_so() -> None:
    image = photo()
    for keep in (True, False):
        data = jpeg(image, keep_rgb=keep, quality=100, subsampling=0)
        clean = clean_image(data)
        assert np.array_equal(pixels(clean.data), pixels(data))
        assert np.abs(pixels(clean.data) - np.asarray(image)).max() <= 8


@pytest.mark.parametrize(
    ("unit", "across", "down", "size"),
    [
        (0, 1, 1, (40, 24)),
        (1, 72, 72, (40, 24)),
        (0, 2, 1, (40, 48)),
        (1, 100, 200, (80, 24)),
        (1, 0, 72, (40, 24)),
        (0, 1000, 1, (40, 24)),
    ],
)
def test_pixels_that_are_not_square_are_stretched(unit: int, across: int, down: int, size: tuple[int, int]) -> None:
    data = bytearray(jpeg(photo()))
    at = data.index(b"JFIF\0")
    struct.pack_into(">BHH", data, at + 7, unit, across, down)
    clean = clean_image(bytes(data))
    assert (clean.width, clean.height) == size
    assert decode_image(bytes(data)).image.size == size


def test_of_several_pictures_the_first_is_read() -> None:
    buffer = io.BytesIO()
    photo().save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 30), "white")], quality=90)
    clean = clean_image(buffer.getvalue())
    assert (clean.width, clean.height, clean.frames) == (40, 24, 1)
    assert clean.data.count(b"\xff\xd8\xff") == 1


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = jpeg(photo("L"), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def test_more_scans_than_any_real_file_has_are_too_costly() -> None:
    assert clean_image(scans(20)).width == 40
    for function in (decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(scans(sizes.SCANS_MAX))
        assert caught.value.code is Code.IMAGE_TOO_COSTLY


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xd8\xff\xd9", Code.IMAGE_UNREADABLE),
        (b"\xff\xd8\xff", Code.IMAGE_UNREADABLE),
        (b"\xff\xd8\xff\xe0\0\1", Code.IMAGE_UNREADABLE),
        (jpeg(photo())[:-2], Code.IMAGE_UNREADABLE),
        (jpeg(photo())[:300], Code.IMAGE_UNREADABLE),
        (
            jpeg(photo()).replace(b"\xff\xc0\0\x11\x08\0\x18\0\x28", b"\xff\xc0\0\x11\x08\xff\xff\xff\xff"),
            Code.IMAGE_TOO_MANY_PIXELS,
        ),
        (
            jpeg(photo()).replace(b"\xff\xc0\0\x11\x08\0\x18\0\x28", b"\xff\xc0\0\x11\x08\0\0\0\x28"),
            Code.IMAGE_UNREADABLE,
        ),
        (jpeg(photo()).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), Code.IMAGE_CODING_UNSUPPORTED),
        (jpeg(photo()).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc3\0\x11\x08"), Code.IMAGE_CODING_UNSUPPORTED),
        (jpeg(photo(size=(16, 15))), Code.IMAGE_TOO_SMALL),
        (with_segments(jpeg(photo()), segment(0xC0, b"\x08\0\x18\0\x28\1\1\x11\0")), Code.IMAGE_UNREADABLE),
        (with_segments(jpeg(photo()), segment(0xE5, b"") * 11_000), Code.IMAGE_TOO_COSTLY),
    ],
)
def test_a_file_that_is_not_sound_ends_in_an_error(data: bytes, code: Code) -> None:
    for function in (decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(data)
        assert caught.value.code is code
