"""Transfer syntaxes: what is coded without loss comes back exactly, what is not read is named, and sizes are checked first."""

import base64
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image
from tests.support import dicom_builder as build
from tests.support.dicom_builder import dicom, encapsulated, jpeg_lossless, run_lengths

RNG = np.random.default_rng(11)
TWELVE = (np.add.outer(np.arange(24) * 97, np.arange(20) * 31) % 4096).astype(np.uint16)
SIGNED = (TWELVE.astype(np.int32) - 2048).astype(np.int16)
EIGHT = (TWELVE >> 4).astype(np.uint8)
RGB = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
# High-Throughput JPEG 2000 of 16 bits: numbers of TWELVE, coded by OpenJPH.
HTJ2K = base64.b85decode(
    "|4;u>04YEK0000K0000O00000000000000K0000O0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&kdTmwh=~7W02crO"
    "PjF>!N>E53R%LP^FfKASE;BCwkN^q*00000qyPc`lfVEbzxM?PbO68r62Jfx0Qv$4bO8MP0|#^fzyK3K022T){s7B#0PXewA~XQN029Cf6+jX310%w90Cdw$_rO8"
    "{{<Z+X02QzR1!#&2g`z_7*e}=N3wHprWo2b$^bAHZf$X>dzyK{M00pd^bIv*EoOAx~`g(eLdT;`I0Kh;X5C{YUfx!Pz1U-mAd-fp#?7aa0*#"
)


def values(data: bytes) -> np.ndarray:
    """The values that the 16-bit copy means."""
    clean = clean_image(data)
    assert clean.pixels_data is not None
    assert clean.pixels is not None
    return np.asarray(Image.open(io.BytesIO(clean.pixels_data))) * clean.pixels.slope + clean.pixels.intercept


def compressed(
    pixels: np.ndarray, frames: list[bytes], syntax: str, *, parts: int = 1, offsets: bool = True, **more: Any
) -> bytes:
    """A compressed file whose elements fit the pixels."""
    fields: dict[str, Any] = {"BitsStored": 12, "HighBit": 11} if pixels.dtype.itemsize == 2 else {}
    if len(frames) > 1:
        fields["NumberOfFrames"] = len(frames)
    return dicom(pixels, syntax=syntax, fragments=encapsulated(frames, parts=parts, offsets=offsets), **fields | more)


def planes(pixels: np.ndarray) -> list[bytes]:
    """Planes of bytes, most significant first, of each sample in turn."""
    samples = pixels[..., None] if pixels.ndim == 2 else pixels
    big = samples.astype(samples.dtype.newbyteorder(">"))
    wide = big.dtype.itemsize
    split = big.view(np.uint8).reshape(*samples.shape, wide)
    return [split[..., sample, byte].tobytes() for sample in range(samples.shape[-1]) for byte in range(wide)]


def jpeg_2000(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 95, "subsampling": 0} | options)
    return buffer.getvalue()


LOSSLESS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "RLE": (build.RLE, lambda p: run_lengths(planes(p))),
    "JPEG Lossless": (build.JPEG_LOSSLESS, lambda p: jpeg_lossless(p, precision=12)),
    "JPEG Lossless, first-order": (build.JPEG_LOSSLESS_SV1, lambda p: jpeg_lossless(p, precision=12)),
    "JPEG Lossless, 16 bits": (build.JPEG_LOSSLESS_SV1, lambda p: jpeg_lossless(p, precision=16)),
    "JPEG-LS": (build.JPEG_LS, lambda p: bytes(jpeg_ls.encode_array(p))),
    "JPEG 2000": (build.JPEG_2000_LOSSLESS, jpeg_2000),
    "HTJ2K": (build.HTJ2K_LOSSLESS, lambda _: HTJ2K),
    "not compressed, encapsulated": ("1.2.840.10008.1.2.1.98", lambda p: p.astype("<u2").tobytes()),
    "deflated frames": (
        "1.2.840.10008.1.2.8.1",
        lambda p: (d := zlib.compressobj(wbits=-15)).compress(p.astype("<u2").tobytes()) + d.flush(),
    ),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_twelve_bits_without_loss_come_back_exactly(name: str) -> None:
    syntax, encode = LOSSLESS[name]
    assert np.array_equal(values(compressed(TWELVE, [encode(TWELVE)], syntax)), TWELVE)


@pytest.mark.parametrize("name", [name for name in LOSSLESS if name != "HTJ2K"])
def test_signed_values_without_loss_come_back_exactly(name: str) -> None:
    # Codestreams that have no sign hold the twelve bits of the two's complement.
    syntax, encode = LOSSLESS[name]
    bits = (SIGNED.astype(np.int32) & 0xFFF).astype(np.uint16)
    assert np.array_equal(values(compressed(SIGNED, [encode(bits)], syntax)), SIGNED)


def test_a_signed_codestream_of_jpeg_2000_comes_back_exactly() -> None:
    data = bytearray(jpeg_2000((SIGNED.astype(np.int32) + 32768).astype(np.uint16)))
    # Samples are shifted by half the range before they are coded, signed ones are not: so this is a signed file of SIGNED.
    at = data.index(b"\xff\x51") + 40
    assert data[at] == 15
    data[at] |= 0x80
    file = compressed(SIGNED, [bytes(data)], build.JPEG_2000_LOSSLESS, BitsStored=16, HighBit=15)
    assert np.array_equal(values(file), SIGNED)


@pytest.mark.parametrize(
    ("name", "parts", "offsets"),
    [
        (name, parts, offsets)
        for name in ("RLE", "JPEG Lossless", "JPEG-LS", "JPEG 2000")
        for parts in (1, 3)
        for offsets in (True, False)
        # RLE has no end mark, and the standard forbids more than one fragment a frame.
        if name != "RLE" or parts == 1 or offsets
    ],
)
def test_frames_are_found_with_and_without_offsets_in_one_or_more_fragments(
    name: str, parts: int, offsets: bool
) -> None:
    syntax, encode = LOSSLESS[name]
    frames = [TWELVE, TWELVE[::-1].copy(), TWELVE[:, ::-1].copy()]
    file = compressed(TWELVE, [encode(frame) for frame in frames], syntax, parts=parts, offsets=offsets)
    for number, frame in enumerate(frames):
        clean = clean_image(file, frame=number)
        assert clean.pixels_data is not None
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(clean.pixels_data))), frame)


def test_an_extended_offset_table_finds_frames() -> None:
    frames = [run_lengths(planes(each)) for each in (TWELVE, TWELVE[::-1].copy())]
    starts = [0, 8 + len(frames[0])]
    file = compressed(
        TWELVE, frames, build.RLE, offsets=False, NumberOfFrames=2,
        ExtendedOffsetTable=("OV", struct.pack("<2Q", *starts)),
        ExtendedOffsetTableLengths=("OV", struct.pack("<2Q", *map(len, frames))),
    )  # fmt: skip
    clean = clean_image(file, frame=1)
    assert clean.pixels_data is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(clean.pixels_data))), TWELVE[::-1])


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (build.RLE, lambda p: run_lengths(planes(p))),
        (build.JPEG_LOSSLESS_SV1, lambda p: jpeg_lossless(p, precision=8)),
        (build.JPEG_LS, lambda p: bytes(jpeg_ls.encode_array(p, interleave_mode=2))),
        (build.JPEG_LS, lambda p: bytes(jpeg_ls.encode_array(p, interleave_mode=1))),
        (
            build.JPEG_LS,
            lambda p: bytes(jpeg_ls.encode_array(np.ascontiguousarray(p.transpose(2, 0, 1)), interleave_mode=0)),
        ),
        (build.JPEG_2000_LOSSLESS, jpeg_2000),
    ],
)
def test_colours_without_loss_come_back_exactly(syntax: str, encode: Any) -> None:
    file = compressed(RGB, [encode(RGB)], syntax, PlanarConfiguration=1 if syntax == build.RLE else 0)
    assert np.array_equal(np.asarray(decode_image(file).image), RGB)


def test_rle_of_ybr_is_turned_into_rgb() -> None:
    ybr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    file = compressed(ybr, [run_lengths(planes(ybr))], build.RLE, PhotometricInterpretation="YBR_FULL")
    assert np.array_equal(
        np.asarray(decode_image(file).image), np.asarray(Image.fromarray(ybr, "YCbCr").convert("RGB"))
    )


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT"])
def test_the_transforms_of_jpeg_2000_are_undone_by_its_decoder(photometric: str) -> None:
    frame = jpeg_2000(RGB, irreversible=photometric == "YBR_ICT", mct=1, quality_mode="rates", quality_layers=[1])
    file = compressed(RGB, [frame], build.JPEG_2000, PhotometricInterpretation=photometric)
    assert np.abs(np.asarray(decode_image(file).image).astype(int) - RGB).max() <= (
        0 if photometric == "YBR_RCT" else 6
    )


def test_near_lossless_jpeg_ls_is_off_by_no_more_than_it_allows() -> None:
    frame = bytes(jpeg_ls.encode_array(TWELVE, lossy_error=3))
    assert np.abs(values(compressed(TWELVE, [frame], build.JPEG_LS_NEAR)) - TWELVE).max() <= 3


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_of_eight_bits_is_what_its_decoder_makes_of_it(progressive: bool) -> None:
    frame = jpeg(EIGHT, progressive=progressive)
    file = compressed(EIGHT, [frame], build.JPEG_BASELINE, WindowCenter=128, WindowWidth=256)
    expected = np.asarray(Image.open(io.BytesIO(frame)))
    assert np.array_equal(np.asarray(decode_image(file).image)[..., 0], expected)


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL"])
def test_jpeg_of_colour_is_turned_into_rgb(photometric: str) -> None:
    frame = jpeg(RGB)
    file = compressed(RGB, [frame], build.JPEG_BASELINE, PhotometricInterpretation=photometric)
    assert np.array_equal(np.asarray(decode_image(file).image), np.asarray(Image.open(io.BytesIO(frame))))


def test_jpeg_that_says_rgb_and_has_no_marker_is_not_turned() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", quality=100, subsampling=0, keep_rgb=True)
    marked = buffer.getvalue()
    at = marked.index(b"\xff\xee")
    bare = marked[:at] + marked[at + 2 + int.from_bytes(marked[at + 2 : at + 4], "big") :]
    # Component numbers 1, 2, 3 say nothing either.
    bare = bare.replace(b"R\x11\0G\x11\0B\x11\0", b"\1\x11\0\2\x11\0\3\x11\0").replace(
        b"\x03R\0G\0B\0", b"\x03\1\0\2\0\3\0"
    )
    file = compressed(RGB, [bare], build.JPEG_BASELINE, PhotometricInterpretation="RGB")
    assert np.abs(np.asarray(decode_image(file).image).astype(int) - RGB).max() <= 3


def test_jpeg_of_twelve_bits_is_read() -> None:
    # pydicom's own sample, and the values that its documentation gives for it.
    data = Path(str(get_testdata_file("JPGExtended.dcm", download=False))).read_bytes()
    found = values(data)
    assert (found[420, 140], found[230, 120]) == (244, 95)


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"])
def test_clinical_samples_have_the_values_of_the_original(name: str) -> None:
    original = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    data = Path(str(get_testdata_file(name, download=False))).read_bytes()
    assert np.array_equal(values(data), original)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.3.4.5.6.7", "an unknown transfer syntax"),
        ("Mustermann^Erika", "an unknown transfer syntax"),
    ],
)
def test_a_syntax_that_is_not_read_is_named(syntax: str, name: str) -> None:
    for function in (decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(compressed(TWELVE, [b"\1\2\3\4"], syntax))
        assert caught.value.code is Code.IMAGE_CODING_UNSUPPORTED
        assert name in caught.value.message
        assert "Mustermann" not in str(caught.value.metadata)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"BitsAllocated": 12}, "12 bits"), ({"SamplesPerPixel": 4}, "4 samples"), ({"BitsAllocated": 24}, "24 bits")],
)
def test_pixels_that_are_not_read_are_named(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(MirageError) as caught:
        decode_image(dicom(TWELVE, **fields))
    assert caught.value.code is Code.IMAGE_CODING_UNSUPPORTED
    assert word in caught.value.message


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("damage", ["half", "nothing", "zeros", "other size", "noise"])
def test_a_damaged_frame_is_unreadable(name: str, damage: str) -> None:
    syntax, encode = LOSSLESS[name]
    frame = encode(TWELVE)
    broken = {
        "half": frame[: len(frame) // 2],
        "nothing": b"",
        "zeros": bytes(len(frame)),
        "other size": encode(TWELVE),
        "noise": frame[:40] + RNG.bytes(len(frame) - 40),
    }[damage]
    more: dict[str, Any] = {"Rows": 30} if damage == "other size" else {}
    code: Code | None = None
    try:
        clean_image(compressed(TWELVE, [broken], syntax, **more))
    except MirageError as error:
        code = error.code
    # Noise may decode.
    assert code in (Code.IMAGE_UNREADABLE, Code.IMAGE_TOO_COSTLY) or (
        code is None and damage in ("noise", "half", "zeros")
    )


def test_the_codecs_are_loaded_when_a_file_needs_them() -> None:
    code = (
        "import io, sys; from PIL import Image; from mirage_core.imaging import clean_image; b = io.BytesIO();"
        "Image.new('L', (20, 20)).save(b, 'PNG'); clean_image(b.getvalue()); names = {'pydicom', 'gdcm', 'jpeg_ls'};"
        "before = names & set(sys.modules); clean_image(sys.stdin.buffer.read()); print(before, 'gdcm' in sys.modules)"
    )
    file = compressed(TWELVE, [jpeg_lossless(TWELVE, precision=12)], build.JPEG_LOSSLESS_SV1)
    ran = subprocess.run([sys.executable, "-c", code], input=file, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == "set() True"
