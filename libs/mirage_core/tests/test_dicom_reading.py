"""How a DICOM file is recognised and parsed: preamble, file meta information, codings, and what an unfriendly file may cost."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mirage_core import limits
from mirage_core.dicom.elements import INFLATED_BYTES
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image, sniff_media_type
from mirage_core.synthetic import is_marked
from tests.support import dicom_builder as build
from tests.support.dicom_builder import dicom, element, encapsulated

RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (16, 1))
NATIVE = [build.EXPLICIT, build.IMPLICIT, build.BIG_ENDIAN, build.DEFLATED]


def code_of(data: bytes) -> Code | None:
    try:
        clean_image(data)
    except MirageError as error:
        return error.code
    return None


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("start", ["whole", "no preamble", "DICM alone", "no meta"])
def test_a_file_is_read_with_and_without_preamble_and_meta(syntax: str, start: str) -> None:
    if start == "no meta" and syntax == build.DEFLATED:
        return  # nothing says that it is deflated
    fields: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096, "Modality": "CT", "PatientName": "Doe^Jane"}
    whole = dicom(RAMP, syntax=syntax, **fields)
    data = {
        "whole": whole,
        "no preamble": whole[132:],
        "DICM alone": whole[128:],
        "no meta": dicom(RAMP, syntax=syntax, preamble=None, meta=False, **fields),
    }[start]
    assert sniff_media_type(data) == "application/dicom"
    expected = decode_image(dicom(RAMP, **fields)).image
    assert np.array_equal(np.asarray(decode_image(data).image), np.asarray(expected))
    assert clean_image(data) == clean_image(whole)


@pytest.mark.parametrize("name", ["ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm"])
def test_clinical_samples_without_meta_hold_no_image_or_are_recognised(name: str) -> None:
    data = Path(str(get_testdata_file(name, download=False))).read_bytes()
    holds_an_image = b"\x28\0\x10\0US" in data or b"\0\x28\0\x10US" in data
    try:
        recognised = sniff_media_type(data) == "application/dicom"
    except MirageError:
        recognised = False
    assert recognised is holds_an_image


def test_a_sequence_before_the_image_is_walked_over() -> None:
    item = {"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "ReferencedSOPInstanceUID": "1.2.3"}
    for syntax in (build.EXPLICIT, build.IMPLICIT, build.BIG_ENDIAN):
        data = dicom(RAMP, syntax=syntax, preamble=None, meta=False, ReferencedImageSequence=[item, item])
        assert decode_image(data).width == 64


def test_a_sequence_of_undefined_length_is_walked_over() -> None:
    inner = element(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    sequence = item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = dicom(RAMP, preamble=None, meta=False)
    at = data.index(b"\x28\0\x02\0US")
    data = data[:at] + element(0x00081140, "SQ", sequence, length=0xFFFFFFFF) + data[at:]
    assert decode_image(data).width == 64


NO_DICOM: dict[str, bytes] = {
    "text": b"Patient;Age;Caption\nDoe, Jane;43;Axial CT of the chest\n" * 20,
    "json": b'{"id": "a", "caption": "b"}' * 50,
    "pdf": b"%PDF-1.7\n" + bytes(range(256)) * 10,
    "gif": b"GIF89a" + bytes(500),
    "zip": b"PK\3\4" + bytes(500),
    "bmp": b"BM" + bytes(500),
    "tiff": b"II*\0\x08\0\0\0" + bytes(500),
    "zeros": bytes(5000),
    "ones": b"\1" * 5000,
    "two": b"\2\0" * 3000,
    "group 8": b"\x08\0" * 3000,
    "meta and no more": b"\2\0\0\0UL\4\0\0\0\0\0",
    "meta of another standard": element(0x00020010, "UI", b"1.3.6.1.4.1") + bytes(300),
    "elements without an image": build.dataset(
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "CT", "PatientID": "1"}
    ),
    "elements out of order": build.dataset({"Rows": 64, "Columns": 64}) + build.dataset({"Modality": "CT"}),
    "rows alone": build.dataset({"Modality": "CT", "Rows": 64, "BitsAllocated": 16}),
    "rows of another length": build.dataset({"Modality": "CT", "Rows": [64, 1], "Columns": 64}),
}


@pytest.mark.parametrize("name", NO_DICOM)
def test_other_files_do_not_pass_as_dicom(name: str) -> None:
    for function in (sniff_media_type, decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(NO_DICOM[name])
        assert caught.value.code is Code.IMAGE_FORMAT_UNSUPPORTED


def test_noise_does_not_pass_as_dicom() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        data = rng.bytes(600)
        for head in (b"", b"\x08\0", b"\x08\0\5\0CS", b"\2\0\0\0UL\4\0", b"\2\0\x10\0UI"):
            with pytest.raises(MirageError) as caught:
                sniff_media_type(head + data)
            assert caught.value.code is Code.IMAGE_FORMAT_UNSUPPORTED


@pytest.mark.parametrize("start", ["whole", "no preamble", "no meta"])
def test_the_mark_of_synthetic_data_is_found_without_a_preamble(start: str) -> None:
    for said, expected in (("YES", True), ("NO", False)):
        whole = dicom(RAMP, SyntheticData=said)
        plain = dicom(RAMP, preamble=None, meta=False, SyntheticData=said)
        assert is_marked({"whole": whole, "no preamble": whole[132:], "no meta": plain}[start]) is expected


def test_a_wrong_coding_in_the_meta_information_is_seen_through() -> None:
    body = dicom(RAMP, syntax=build.IMPLICIT, preamble=None, meta=False)
    assert np.array_equal(
        np.asarray(decode_image(build.file(body, syntax=build.EXPLICIT)).image),
        np.asarray(decode_image(dicom(RAMP)).image),
    )


def test_missing_bits_follow_from_the_length() -> None:
    data = dicom(
        RAMP, BitsAllocated=None, BitsStored=None, HighBit=None, PixelRepresentation=None, SamplesPerPixel=None
    )
    assert np.array_equal(np.asarray(decode_image(data).image), np.asarray(decode_image(dicom(RAMP)).image))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Rows": None}, Code.IMAGE_UNREADABLE),
        ({"Columns": None}, Code.IMAGE_UNREADABLE),
        ({"Rows": 17}, Code.IMAGE_UNREADABLE),
        ({"Rows": 15}, Code.IMAGE_TOO_SMALL),
        ({"Rows": 0}, Code.IMAGE_TOO_SMALL),
        ({"Rows": 60_000, "Columns": 60_000}, Code.IMAGE_TOO_MANY_PIXELS),
        ({"NumberOfFrames": "999999999"}, Code.IMAGE_TOO_COSTLY),
        ({"NumberOfFrames": "1000"}, Code.IMAGE_UNREADABLE),
        ({"Rows": ("LO", b"Mustermann")}, Code.IMAGE_TOO_SMALL),
    ],
)
def test_elements_that_do_not_fit_end_in_an_error(fields: dict[str, Any], code: Code) -> None:
    assert code_of(dicom(RAMP, **fields)) in (code, Code.IMAGE_UNREADABLE)
    assert code_of(dicom(RAMP)) is None


def test_a_file_without_pixels_is_unreadable() -> None:
    assert code_of(dicom(None, Rows=64, Columns=64, BitsAllocated=8)) is Code.IMAGE_UNREADABLE
    assert code_of(dicom(b"", Rows=64, Columns=64, BitsAllocated=8)) is Code.IMAGE_UNREADABLE


def test_a_deflated_file_inflates_to_a_bound() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = deflater.compress(struct.pack("<HH", 0x7FE0, 0x10) + b"OW\0\0" + struct.pack("<I", 2 * INFLATED_BYTES))
    start += deflater.flush(zlib.Z_FULL_FLUSH)
    # What comes after a full flush stands for itself, so it can be repeated.
    block = deflater.compress(bytes(2**20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    nothing = zlib.compress(b"", 9, wbits=-15)
    bomb = build.file(b"", syntax=build.DEFLATED)[: -len(nothing)] + start + block * (INFLATED_BYTES // 2**20 + 8)
    assert len(bomb) < 2**20
    assert code_of(bomb) is Code.IMAGE_TOO_COSTLY


def test_a_file_of_very_many_items_is_not_parsed() -> None:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 200_000
    for tag in (0x00081140, 0x52009229):
        body = element(tag, "SQ", items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
        assert code_of(build.file(body)) is Code.IMAGE_TOO_COSTLY


def test_sequences_in_sequences_end_in_an_error() -> None:
    body = b""
    for _ in range(3000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + body + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        body = element(0x52009229, "SQ", item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
    assert code_of(build.file(body)) is Code.IMAGE_UNREADABLE


def test_run_lengths_unpack_to_no_more_than_the_frame() -> None:
    runs = b"\x81\0" * 2**20  # 128 MiB
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + runs
    data = dicom(np.zeros((64, 64), np.uint8), syntax=build.RLE, fragments=encapsulated([frame]))
    assert code_of(data) is None
    short = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0"
    assert (
        code_of(dicom(np.zeros((64, 64), np.uint8), syntax=build.RLE, fragments=encapsulated([short])))
        is Code.IMAGE_UNREADABLE
    )


@pytest.mark.parametrize("segments", [0, 2, 3, 15, 16, 2**32 - 1])
def test_run_lengths_need_a_segment_for_each_byte_of_each_sample(segments: int) -> None:
    frame = struct.pack("<16I", segments, 64, *[0] * 14) + b"\x81\0" * 64
    data = dicom(np.zeros((64, 64), np.uint8), syntax=build.RLE, fragments=encapsulated([frame]))
    assert code_of(data) is Code.IMAGE_UNREADABLE


def jpeg_2000(width: int, height: int, **changes: int) -> bytes:
    """A codestream whose header says what it likes: `tile` (side), `layers`, `levels`, `components`."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG2000", no_jp2=True)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\x51")
    struct.pack_into(">4I", data, at + 6, width, height, 0, 0)
    side = changes.get("tile", 0)
    struct.pack_into(">4I", data, at + 22, side or width, side or height, 0, 0)
    coding = data.index(b"\xff\x52")
    if "layers" in changes:
        struct.pack_into(">H", data, coding + 6, changes["layers"])
    if "levels" in changes:
        data[coding + 9] = changes["levels"]
    return bytes(data)


@pytest.mark.parametrize(
    ("width", "height", "changes"),
    [
        (7000, 7000, {"tile": 16}),
        (7000, 7000, {"tile": 1}),
        (7000, 7000, {"tile": 256, "layers": 65535}),
        (64, 64, {"layers": 65535, "levels": 32}),
    ],
)
def test_a_jpeg_2000_that_asks_for_more_than_it_can_need_is_too_costly(
    width: int, height: int, changes: dict[str, int]
) -> None:
    frame = jpeg_2000(width, height, **changes)
    data = dicom(
        b"", syntax=build.JPEG_2000, fragments=encapsulated([frame]), Rows=height, Columns=width, BitsAllocated=8, BitsStored=8,
        HighBit=7, PixelRepresentation=0,
    )  # fmt: skip
    assert code_of(data) is Code.IMAGE_TOO_COSTLY


def test_a_codestream_of_another_size_is_not_decoded() -> None:
    for frame in (jpeg_2000(7000, 7000), jpeg_2000(64, 65)):
        data = dicom(np.zeros((64, 64), np.uint8), syntax=build.JPEG_2000, fragments=encapsulated([frame]))
        assert code_of(data) is Code.IMAGE_UNREADABLE


@pytest.mark.parametrize("cut", [200, 132, 131, 140, 400, 700])
def test_a_file_that_is_cut_off_ends_in_an_error(cut: int) -> None:
    assert code_of(dicom(RAMP)[:cut]) in (Code.IMAGE_UNREADABLE, Code.IMAGE_FORMAT_UNSUPPORTED)


def test_limits_of_files_hold_for_dicom_too() -> None:
    assert code_of(dicom(RAMP) + bytes(limits.IMAGE_BYTES)) is Code.IMAGE_TOO_LARGE
