"""Nothing of a file but its pixels leaves: names planted in every place of every format, and files changed at random."""

import io
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jpeg_ls
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary

from mirage_core.errors import MirageError
from mirage_core.imaging import CleanImage, clean_image, decode_image, encode_png, encode_thumbnail
from tests.support import dicom_builder as build
from tests.support.dicom_builder import dicom, element, encapsulated, jpeg_lossless, run_lengths
from tests.support.picture_files import (
    chunk,
    exif,
    extended_webp,
    jpeg,
    png,
    riff,
    segment,
    webp,
    webp_chunks,
    with_segments,
)

NAME = b"Mustermann^Erika"
# As files spell it: as it is, in two bytes a character, and packed.
SPELLED = [NAME, NAME.decode().encode("utf-16-le"), NAME.decode().encode("utf-16-be"), NAME[::-1]]
LONG = NAME * 40
PACKED = zlib.compress(LONG)


def photo(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    rng = np.random.default_rng(5)
    return (
        Image.fromarray(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8))
        .resize(size, Image.Resampling.BICUBIC)
        .convert(mode)
    )


RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (16, 1))


def written(clean: CleanImage) -> Iterator[bytes]:
    """Every byte that leaves, also unpacked and as text."""
    yield clean.data
    yield clean.pixels_data or b""
    yield repr(clean.pixels).encode()
    for data in (clean.data, clean.pixels_data):
        if data and data.startswith(b"\x89PNG"):
            image = Image.open(io.BytesIO(data))
            image.load()
            yield repr(image.info).encode()
            yield image.tobytes()


def assert_clean(data: bytes) -> CleanImage:
    clean = clean_image(data)
    for piece in (*written(clean), encode_thumbnail(decode_image(data).image), encode_png(decode_image(data).image)):
        for name in SPELLED:
            assert name not in piece
        assert NAME[:6].lower() not in piece.lower()
    return clean


def jpegs() -> dict[str, bytes]:
    plain = jpeg(photo())
    turned = photo("L")
    found = {f"APP{number}": with_segments(plain, segment(0xE0 + number, LONG), before=0xDB) for number in range(16)}
    signatures = [
        b"Exif\0\0",
        b"http://ns.adobe.com/xap/1.0/\0",
        b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\2\x80",
        b"MPF\0",
        b"ICC_PROFILE\0\1\1",
        b"Adobe\0\x64\0\0\0\0\1",
        b"JFXX\0\x10",
        b"Ducky\0",
        b"JFIF\0\1\2\0\0\1\0\1\x20\1",
    ]
    for number, signature in enumerate(signatures):
        marker = [0xE1, 0xE1, 0xED, 0xE2, 0xE2, 0xEE, 0xE0, 0xEC, 0xE0][number]
        found[f"signature {number}"] = with_segments(plain, segment(marker, signature + LONG), before=0xDB)
    thumbnail = jpeg(photo(size=(16, 16)), comment=LONG)
    found |= {
        "comment": jpeg(photo(), comment=LONG),
        "EXIF text": with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(1, text=NAME + b"\0")), before=0xDB),
        "EXIF thumbnail": with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(1) + thumbnail), before=0xDB),
        "EXIF that turns": with_segments(plain, segment(0xE1, b"Exif\0\0" + exif(6, text=NAME + b"\0")), before=0xDB),
        "JFIF thumbnail": with_segments(
            plain, segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1" + bytes((16, 1)) + NAME * 3), before=0xDB
        ),
        "behind the end": plain + LONG,
        "a second file": plain + jpeg(photo("L"), comment=LONG),
        "between segments": with_segments(plain, LONG),
        "behind the last unit": plain[:-2] + LONG + b"\xff\xd9",
        "behind the last unit, grey": jpeg(turned)[:-2] + NAME + b"\xff\xd9",
        "an unused table": with_segments(plain, segment(0xDB, b"\3" + LONG[:64])),
        "a used table": jpeg(photo("L")).replace(
            jpeg(photo("L"))[jpeg(photo("L")).index(b"\xff\xdb") + 5 :][:64], LONG[:64]
        ),
        "longer headers": plain.replace(b"\xff\xda\0\x0c\x03", b"\xff\xda\0\x1c\x03").replace(
            b"\x00\x3f\x00", b"\x00\x3f\x00" + NAME, 1
        ),
        "reserved segments": with_segments(
            plain, b"".join(segment(marker, LONG) for marker in (0xF0, 0xF7, 0xFD, 0x02, 0xBF)), before=0xDB
        ),
        "progressive": with_segments(jpeg(photo(), progressive=True), segment(0xFE, LONG), before=0xDB),
        "between scans": with_segments(jpeg(photo(), progressive=True), segment(0xFE, LONG) + NAME),
        "CMYK": with_segments(jpeg(photo("CMYK")), segment(0xFE, LONG), before=0xDB),
        "grey": jpeg(turned, comment=LONG),
    }
    return found


def pngs() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    rgb, deep = rng.integers(0, 256, (16, 20, 3)), rng.integers(0, 4096, (16, 20))
    texts = {
        "tEXt": b"Author\0" + LONG,
        "zTXt": b"Author\0\0" + PACKED,
        "iTXt": b"Author\0\0\0\0\0" + LONG,
        "iTXt packed": b"Author\0\1\0\0\0" + PACKED,
        "eXIf": exif(6, text=NAME + b"\0"),
        "tIME": LONG,
        "prVt": LONG,
        "dSIG": LONG,
        "iCCP": NAME + b"\0\0" + PACKED,
        "sPLT": LONG,
        "hIST": LONG,
        "bKGD": LONG,
        "pHYs": LONG[:9],
        "sBIT": LONG,
        "gAMA": LONG[:4],
        "cHRM": LONG,
        "sRGB": LONG,
        "oFFs": LONG,
        "pCAL": LONG,
        "sCAL": LONG,
        "sTER": LONG,
        "acTL": LONG,
        "fcTL": LONG,
        "fdAT": LONG,
        "tRNS": LONG[:6],
        "caBX": LONG,
        "vpAg": LONG,
    }
    found: dict[str, bytes] = {}
    for name, content in texts.items():
        kind = name[:4].encode()
        found[f"{name} before"] = png(rgb, before=[(kind, content)])
        found[f"{name} after"] = png(rgb, after=[(kind, content)])
        found[f"{name}, 16 bits"] = png(deep, depth=16, before=[(kind, content)])
    alpha = np.dstack([rgb, np.zeros((16, 20))])
    alpha.reshape(-1)[: 4 * 16].reshape(16, 4)[:, :3] = np.frombuffer(NAME * 3, np.uint8).reshape(16, 3)
    table = bytes(range(6)) + LONG[: 250 * 3]
    found |= {
        "behind the end": png(rgb, tail=LONG),
        "another file behind the end": png(rgb, tail=chunk(b"tEXt", b"Author\0" + LONG)),
        "behind the packed pixels": png(rgb, hidden=LONG),
        "the rest of a palette": png(rng.integers(0, 2, (16, 20)), colour=3, palette=table[:768]),
        "a palette that is not used": png(rgb, before=[(b"PLTE", LONG[:300])]),
        "below transparency": png(alpha),
        "bits behind a row": png(np.ones((16, 20)), depth=1),
    }
    return found


def webps() -> dict[str, bytes]:
    found = {}
    for lossless in (False, True):
        for kind, content in (
            (b"EXIF", exif(6, text=NAME + b"\0")),
            (b"XMP ", LONG),
            (b"ICCP", LONG),
            (b"Erik", LONG),
            (b"META", LONG),
        ):
            found[f"{kind!r} {lossless}"] = extended_webp(photo(), lossless=lossless, added=[(kind, content)])
        plain = webp(photo(), lossless=lossless)
        (kind, content), *_ = webp_chunks(plain)
        found |= {
            f"behind the end {lossless}": plain + LONG,
            f"behind the bitstream {lossless}": riff([(kind, content + LONG)]),
            f"an unknown chunk {lossless}": riff([(kind, content), (b"Name", LONG)]),
            f"in front {lossless}": riff([(b"Name", LONG), (kind, content)]),
            f"a second picture {lossless}": riff([(kind, content), (kind, LONG)]),
        }
    frames = webp(photo("RGBA"), lossless=True, save_all=True, append_images=[photo("RGBA").rotate(90)], duration=90)
    parts = webp_chunks(frames)
    found["within a frame"] = riff(
        [(k, c + b"Name" + struct.pack("<I", len(LONG)) + LONG if k == b"ANMF" else c) for k, c in parts]
    )
    found["beside frames"] = riff([*parts, (b"XMP ", LONG), (b"EXIF", LONG)])
    return found


def dicoms() -> dict[str, bytes]:
    texts = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR", "CS", "DA", "AS")
    every: dict[str, Any] = {
        keyword: (kind, NAME if kind in ("UT", "UC", "LT", "ST", "PN", "LO") else NAME[:16])
        for kind, _, _, retired, keyword in DicomDictionary.values()
        if kind in texts
        and keyword
        and not retired
        and keyword not in ("BurnedInAnnotation", "RecognizableVisualFeatures")
    }
    pixel_texts: dict[str, Any] = {
        keyword: (kind, NAME[:16])
        for keyword, kind in (
            ("WindowCenterWidthExplanation", "LO"),
            ("RescaleType", "LO"),
            ("VOILUTFunction", "CS"),
            ("Units", "CS"),
            ("PresentationLUTShape", "CS"),
            ("Modality", "CS"),
            ("PixelPresentation", "CS"),
        )
    }
    item = {"PatientName": NAME, "PatientComments": LONG[:100]}
    overlay: dict[str | int, Any] = {
        0x60000010: ("US", 16),
        0x60000011: ("US", 64),
        0x60000022: ("LO", NAME),
        0x60003000: ("OW", LONG[:128]),
    }
    plain = dicom(RAMP, **pixel_texts, WindowCenter=2048, WindowWidth=4096, RescaleSlope=1, RescaleIntercept=0)
    frame = jpeg(photo("L", (64, 16)), comment=LONG)
    found = {
        "every text of the dictionary": dicom(RAMP, **every),
        "texts that pixels have": plain,
        "implicit": dicom(RAMP, syntax=build.IMPLICIT, PatientName=NAME, PatientID=NAME),
        "big endian": dicom(RAMP, syntax=build.BIG_ENDIAN, PatientName=NAME, PatientID=NAME),
        "deflated": dicom(RAMP, syntax=build.DEFLATED, PatientName=NAME, PatientID=NAME),
        "without preamble": dicom(RAMP, preamble=None, meta=False, PatientName=NAME, PatientID=NAME),
        "preamble": dicom(RAMP, preamble=(NAME * 8)[:128]),
        "meta": build.file(
            dicom(RAMP, preamble=None, meta=False),
            extra=element(0x00020016, "AE", NAME) + element(0x00020102, "OB", LONG),
        ),
        "private": build.file(
            build.dataset({0x00090010: ("LO", NAME), 0x00091001: ("UN", LONG)}) + dicom(RAMP, preamble=None, meta=False)
        ),
        "sequences": dicom(RAMP, ReferencedPatientSequence=[item], OtherPatientIDsSequence=[item] * 3),
        "groups": dicom(
            RAMP,
            SharedFunctionalGroupsSequence=[item | {"FrameVOILUTSequence": [item]}],
            PerFrameFunctionalGroupsSequence=[item],
        ),
        "overlay": plain[: plain.index(b"\xe0\x7f\x10\0OW")]
        + build.dataset(overlay)
        + plain[plain.index(b"\xe0\x7f\x10\0OW") :],
        "behind the pixels": dicom(RAMP) + element(0xFFFCFFFC, "OB", LONG),
        "pixels that are too long": dicom(
            RAMP.tobytes() + LONG, Rows=16, Columns=64, BitsAllocated=16, BitsStored=12, HighBit=11
        ),
        "a lut": dicom(
            RAMP,
            VOILUTSequence=[
                {
                    "LUTDescriptor": ("US", b"\0\1\0\0\x10\0"),
                    "LUTData": ("OW", bytes(range(256)) * 2),
                    "LUTExplanation": NAME,
                }
            ],
        ),
        "in a jpeg": dicom(
            np.zeros((16, 64), np.uint8), syntax=build.JPEG_BASELINE, fragments=encapsulated([frame + LONG])
        ),
        "behind fragments": dicom(
            np.zeros((16, 64), np.uint8), syntax=build.JPEG_BASELINE, fragments=encapsulated([frame, LONG])
        ),
        "profile": dicom(np.zeros((16, 16, 3), np.uint8), ICCProfile=("OB", LONG)),
        "real world units": dicom(
            RAMP,
            RealWorldValueMappingSequence=[
                {
                    "RealWorldValueSlope": 1.0,
                    "LUTLabel": NAME,
                    "MeasurementUnitsCodeSequence": [{"CodeValue": NAME, "CodeMeaning": NAME}],
                }
            ],
        ),
    }
    return found


PLANTED = {
    f"{form}: {name}": data
    for form, make in (("JPEG", jpegs), ("PNG", pngs), ("WebP", webps), ("DICOM", dicoms))
    for name, data in make().items()
}


def test_the_name_is_in_what_comes_in() -> None:
    without = {name for name, data in PLANTED.items() if not any(spelled[:6] in data for spelled in SPELLED)}
    # In these it is packed, in single bits, in every fourth byte, or only its first letters have room.
    assert without == {
        name for name in PLANTED if re.search(r"iTXt packed|zTXt|gAMA|deflated|transparency|behind a row", name)
    }
    assert len(PLANTED) > 150


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_name_never_leaves(name: str) -> None:
    assert_clean(PLANTED[name])


def test_what_pillow_would_write_again_is_not_written() -> None:
    """An image that a caller has from elsewhere carries a profile and texts with it."""
    image = photo()
    image.info |= {"icc_profile": LONG, "comment": LONG, "exif": LONG, "dpi": (3, 5), "Author": NAME.decode()}
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", NAME.decode())
    for data in (encode_png(image), encode_thumbnail(image)):
        assert NAME not in data


def test_errors_quote_nothing_of_a_file() -> None:
    for data in (
        dicom(RAMP, syntax=NAME.decode()),
        dicom(RAMP, PhotometricInterpretation=NAME),
        dicom(RAMP, Rows=("LO", NAME)),
        dicom(RAMP, BurnedInAnnotation="YES", PatientName=NAME),
        jpeg(photo(), comment=LONG)[:-40],
        png(np.zeros((16, 16)), before=[(b"IHDR", LONG)]),
    ):
        try:
            clean_image(data)
        except MirageError as error:
            chain = [repr(error), str(error), repr(error.metadata), repr(error.__cause__)]
            assert not any(NAME.decode()[:6] in text for text in chain)


def sources() -> dict[str, Callable[[], bytes]]:
    rgb = np.asarray(photo(size=(20, 24)))
    twelve = (np.add.outer(np.arange(24) * 97, np.arange(20) * 31) % 4096).astype(np.uint16)

    def coded(pixels: np.ndarray, frame: bytes, syntax: str, **more: Any) -> bytes:
        return dicom(pixels, syntax=syntax, fragments=encapsulated([frame]), PatientName=NAME, **more)

    def saved(form: str, pixels: np.ndarray, **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form, **options)
        return buffer.getvalue()

    text = [
        (b"tEXt", b"Author\0" + LONG),
        (b"eXIf", exif(6, text=NAME + b"\0")),
        (b"pHYs", struct.pack(">IIB", 2, 1, 0)),
    ]
    groups = [
        {"FrameVOILUTSequence": [{"WindowCenter": 5, "WindowWidth": 9, "WindowCenterWidthExplanation": NAME}]}
    ] * 3
    app = segment(0xE1, b"Exif\0\0" + exif(1, text=NAME + b"\0")) + segment(0xFE, LONG)
    return {
        "JPEG": lambda: with_segments(jpeg(photo()), app, before=0xDB),
        "JPEG, grey": lambda: with_segments(jpeg(photo("L")), app, before=0xDB),
        "JPEG, progressive": lambda: with_segments(jpeg(photo(), progressive=True), app, before=0xDB),
        "JPEG, CMYK": lambda: with_segments(jpeg(photo("CMYK")), app, before=0xDB),
        "PNG": lambda: png(rgb, before=text, tail=LONG),
        "PNG, 16 bits": lambda: png(twelve, depth=16, before=text, laced=True),
        "PNG, 16 bits with alpha": lambda: png(np.dstack([twelve, twelve * 16]), depth=16, before=text),
        "PNG, palette": lambda: png(
            rgb[..., 0] // 64, colour=3, depth=2, palette=LONG[:12], before=[*text, (b"tRNS", b"\0\x80")]
        ),
        "WebP": lambda: extended_webp(photo(), added=[(b"EXIF", exif(6, text=NAME + b"\0")), (b"XMP ", LONG)]),
        "WebP, lossless with alpha": lambda: extended_webp(
            photo("RGBA"), lossless=True, flags=0x3C, added=[(b"XMP ", LONG)]
        ),
        "WebP, animated": lambda: webp(photo(), save_all=True, append_images=[photo().rotate(90)], xmp=LONG),
        "DICOM": lambda: dicom(
            twelve, PatientName=NAME, WindowCenter=5, WindowWidth=9, PixelPaddingValue=7, PixelSpacing=["2", "1"]
        ),
        "DICOM, implicit": lambda: dicom(twelve, syntax=build.IMPLICIT, preamble=None, meta=False, PatientName=NAME),
        "DICOM, big endian": lambda: dicom(
            twelve.astype(np.int16), syntax=build.BIG_ENDIAN, PatientName=NAME, RescaleSlope=2
        ),
        "DICOM, deflated": lambda: dicom(twelve, syntax=build.DEFLATED, PatientName=NAME),
        "DICOM, frames": lambda: dicom(
            np.stack([twelve] * 3), PatientName=NAME, PerFrameFunctionalGroupsSequence=groups
        ),
        "DICOM, colours": lambda: dicom(rgb, PatientName=NAME, ICCProfile=("OB", LONG)),
        "DICOM, floating point": lambda: dicom(
            twelve.astype(np.float32), PatientName=NAME, BitsAllocated=None, BitsStored=None
        ),
        "DICOM, RLE": lambda: coded(rgb, run_lengths([rgb[..., n].tobytes() for n in range(3)]), build.RLE),
        "DICOM, JPEG": lambda: coded(
            rgb, saved("JPEG", rgb), build.JPEG_BASELINE, PhotometricInterpretation="YBR_FULL_422"
        ),
        "DICOM, JPEG Lossless": lambda: coded(
            twelve, jpeg_lossless(twelve, precision=12), build.JPEG_LOSSLESS_SV1, BitsStored=12
        ),
        "DICOM, JPEG-LS": lambda: coded(twelve, bytes(jpeg_ls.encode_array(twelve)), build.JPEG_LS, BitsStored=12),
        "DICOM, JPEG 2000": lambda: coded(twelve, saved("JPEG2000", twelve, no_jp2=True), build.JPEG_2000_LOSSLESS),
    }


@pytest.mark.parametrize("form", sources())
def test_of_200_changed_files_each_is_clean_or_ends_in_a_catalogue_error(form: str) -> None:
    original = sources()[form]()
    assert_clean(original)
    outcomes = {"clean": 0, "error": 0}
    said: list[str] = []
    for seed in range(200):
        data = changed(original, random.Random(f"{form} {seed}"))
        try:
            clean = clean_image(data)
        except MirageError as error:
            outcomes["error"] += 1
            said.append(repr(error.metadata))
            continue
        outcomes["clean"] += 1
        for piece in written(clean):
            assert not any(spelled in piece for spelled in SPELLED), seed
        assert decode_image(data).image.size == (clean.width, clean.height)
    assert min(outcomes.values()) > 0, outcomes
    assert not [each for each in said if NAME.decode()[:6] in each]


def changed(data: bytes, chance: random.Random) -> bytes:
    """The file with some bytes changed, taken out, doubled, put in or cut off."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 12])):
        place = chance.randrange(len(out))
        kind = chance.randrange(10)
        if kind < 5:
            out[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif kind == 5:
            del out[place : place + chance.randrange(1, 30)]
        elif kind == 6:
            out[place:place] = out[place : place + chance.randrange(1, 60)]
        elif kind == 7:
            out[place:place] = chance.choice([b"\xff", b"\xff\xd9", bytes(8), chance.randbytes(12)])
        elif kind == 8 and len(out) > 200:
            del out[-chance.randrange(1, 100) :]
        else:
            width = chance.choice([2, 4])
            out[place : place + width] = chance.choice([b"\xff" * width, bytes(width), chance.randbytes(width)])
    return bytes(out)
