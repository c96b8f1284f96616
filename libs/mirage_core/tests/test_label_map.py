"""Label maps that come in: what is stored of them, and what is refused in which words."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mirage_core.errors import Code, MirageError
from mirage_core.imaging.label_map import encode_label_map, read_label_map
from mirage_core.regions import REGIONS_BYTES, Region, RegionMap, check_legend, default_colour
from tests.support.image_bombs import png_grey_16, png_rgb

LIVER = Region(3, "liver", "digestive organs", "#d98e5f")
AORTA = Region(7, "aorta", "vessels", "#e0627f")
WIDTH, HEIGHT = 60, 40


def numbers() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[5:25, 10:40] = 3
    drawn[30:33, 50:52] = 7
    return drawn


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def problem(png: bytes, *legend: Region, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    with pytest.raises(MirageError) as raised:
        read_label_map(RegionMap(png, legend), *size)
    assert raised.value.code is Code.REGIONS_INVALID
    assert raised.value.message.endswith(".")
    return str(raised.value.metadata["problem"])


def paletted() -> bytes:
    image = Image.fromarray(numbers())
    image.putpalette([9] * 768)
    return saved(image)


def of_four_bits() -> bytes:
    image = Image.fromarray(numbers())
    image.putpalette(list(range(48)))
    return saved(image, bits=4)


@pytest.mark.parametrize("made", [lambda: saved(Image.fromarray(numbers())), paletted, of_four_bits])
def test_each_structure_gets_its_box_and_area(made: Callable[[], bytes]) -> None:
    read = read_label_map(RegionMap(made(), (AORTA, LIVER)), WIDTH, HEIGHT)

    assert [(each.id, each.name, each.box, each.area) for each in read.regions] == [
        (3, "liver", (10, 5, 30, 20), 600),
        (7, "aorta", (50, 30, 2, 3), 6),
    ]


def test_what_is_stored_has_the_numbers_and_colours_and_no_text() -> None:
    image = Image.fromarray(numbers())
    texts = PngInfo()
    texts.add_text("Patient", "Doe, Jane")
    read = read_label_map(RegionMap(saved(image, pnginfo=texts), (LIVER, AORTA)), WIDTH, HEIGHT)

    with Image.open(io.BytesIO(read.png)) as stored:
        assert np.array_equal(np.asarray(stored), numbers())
        assert stored.convert("RGB").getpixel((20, 10)) == (0xD9, 0x8E, 0x5F)
    assert b"Doe" not in read.png


def test_a_reader_without_a_library_finds_the_numbers_by_inflating_alone() -> None:
    png = encode_label_map(numbers(), (LIVER, AORTA))
    place, packed = 8, b""
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        if png[place + 4 : place + 8] == b"IDAT":
            packed += png[place + 8 : place + 8 + length]
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(HEIGHT, WIDTH + 1)

    assert not rows[:, 0].any()
    assert np.array_equal(rows[:, 1:], numbers())


def test_structures_of_the_legend_that_the_image_does_not_show_are_left_out() -> None:
    spleen = Region(9, "spleen", "", "#000000")
    read = read_label_map(RegionMap(paletted(), (LIVER, spleen, AORTA)), WIDTH, HEIGHT)
    assert [each.name for each in read.regions] == ["liver", "aorta"]


def test_a_map_of_another_size_is_refused_before_it_is_unpacked() -> None:
    said = "it has 7000 x 7100 pixels, and its image has 60 x 40"
    assert problem(png_grey_16(), LIVER) == said
    assert problem(png_rgb(), LIVER) == said
    assert "60 x 40 pixels" in problem(paletted(), LIVER, AORTA, size=(HEIGHT, WIDTH))


def test_a_bomb_of_the_right_size_costs_no_more_than_its_image() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compress(bytes(64 * 2**20), 9)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert len(bomb) < REGIONS_BYTES

    assert read_label_map(RegionMap(bomb, (LIVER,)), WIDTH, HEIGHT).regions == ()


def test_files_that_are_not_label_maps_are_refused() -> None:
    deep = saved(Image.fromarray(numbers().astype(np.uint16) * 300))
    assert "with a palette or with 8 bits" in problem(deep, LIVER)
    assert "with a palette or with 8 bits" in problem(saved(Image.fromarray(numbers()).convert("RGB")), LIVER)
    assert problem(b"", LIVER) == problem(b"\xff\xd8\xff", LIVER) == "it is not a PNG file"
    assert "damaged" in problem(paletted()[:200], LIVER)
    assert "bytes" in problem(paletted() + bytes(REGIONS_BYTES), LIVER)


@pytest.mark.parametrize(
    ("legend", "said"),
    [
        ([LIVER], "it has the number 7, which is not in its legend"),
        ([], "it has the number 3, which is not in its legend"),
        ([LIVER, AORTA, Region(7, "spleen", "", "#000000")], "its legend has the number 7 twice"),
        ([Region(0, "air", "", "#000000")], "its legend has a number outside of 1 to 255"),
        ([Region(256, "air", "", "#000000")], "its legend has a number outside of 1 to 255"),
        ([Region(n, "x", "", "#000000") for n in range(1, 70_001)], "its legend has more than 255 structures"),
        ([Region(3, "", "", "#000000")], "the name of number 3 is not one line of 1 to 100 characters"),
        ([Region(3, "x" * 101, "", "#000000")], "the name of number 3 is not one line of 1 to 100 characters"),
        ([Region(3, "a\nb", "", "#000000")], "the name of number 3 is not one line of 1 to 100 characters"),
        ([Region(3, "liver", "g" * 65, "#000000")], "the group of number 3 is not one line of at most 64 characters"),
        (
            [Region(3, "liver", "", "red")],
            'the colour of number 3 is not of the form "#rrggbb" with lower-case digits',
        ),
    ],
)
def test_a_wrong_legend_is_refused_in_a_sentence(legend: list[Region], said: str) -> None:
    assert problem(paletted(), *legend) == said


def test_colours_of_structures_without_one_are_told_apart() -> None:
    colours = [default_colour(number) for number in range(1, 256)]
    for colour in colours:
        check_legend([Region(1, "x", "", colour)])
    assert len(set(colours)) == len(colours)
