"""Pictures with names of people in every place of their files where something other than pixels can be.

Every name has the same rare beginning, so one search finds any of them: as it is, in other cases and encodings, and packed.
"""

import base64
import gzip
import io
import itertools
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pydicom
from PIL import Image, ImageCms
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

STEM = "Qzyvorn"
UID_STEM = "1.2.826.0.1.3680043.9.7777"
DATE = "19270413"
_COUNTER = itertools.count()


def name() -> str:
    """Another name each time."""
    return f"{STEM}{next(_COUNTER):05}"


def uid() -> str:
    """Another identifier each time, which leads to a patient's study."""
    return f"{UID_STEM}.{next(_COUNTER) + 1}"


def _needles() -> tuple[bytes, ...]:
    lower = STEM.lower()
    spread = [lower.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    hexed = STEM.encode().hex().encode()
    return (*spread, hexed, UID_STEM.encode(), DATE.encode(), b"1927:04:13", b"planted^label")


NEEDLES = _needles()
# Base64 of the stem, at each of the three places where it can begin; without the letters that depend on what is around it.
BASE64 = tuple(base64.b64encode(b"\0" * shift + STEM.encode())[2 * (shift > 0) + shift : 8] for shift in range(3))


def traces(data: bytes) -> set[bytes]:
    """What of a person is in some bytes, also where they are a gzip, a tar or a zlib stream."""
    lower = data.lower()
    found = {needle for needle in NEEDLES if needle in lower}
    found |= {needle for needle in BASE64 if needle in data}
    if data[:2] == b"\x1f\x8b":
        found |= traces(gzip.decompress(data))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                found |= traces(member.name.encode()) | (traces(content.read()) if content else set())
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        found |= {needle for kind, content in png_chunks(data) if kind != b"IDAT" for needle in _packed(content)}
    return found


def _packed(content: bytes) -> set[bytes]:
    found: set[bytes] = set()
    start = content.find(b"\x78")
    while start >= 0:
        with suppress(zlib.error):
            found |= traces(zlib.decompressobj().decompress(content[start:], 2**20))
        start = content.find(b"\x78", start + 1)
    return found


def traces_on_disk(*folders: Path) -> dict[str, set[bytes]]:
    """What of a person is in the names and bytes of all files below some folders."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            there = traces(str(path.relative_to(folder)).encode())
            if path.is_file() and not path.is_symlink():
                there |= traces(path.read_bytes())
            if there:
                found[str(path)] = there
    return found


def extras(data: bytes) -> set[str]:
    """Parts of an image file that hold anything else than pixels and what showing them needs."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        kinds = {kind.decode("latin-1") for kind, _ in png_chunks(data)}
        end = data.find(b"IEND") + 8
        return kinds - {"IHDR", "PLTE", "IDAT", "IEND", "tRNS", "sRGB"} | ({"trailer"} if data[end:] else set())
    if data[:2] == b"\xff\xd8":
        return _jpeg_extras(data)
    if data[8:12] == b"WEBP":
        size = int.from_bytes(data[4:8], "little") + 8
        kinds = {kind.decode("latin-1") for kind, _ in webp_chunks(data)}
        return kinds - {"VP8 ", "VP8L", "VP8X", "ALPH"} | ({"trailer"} if data[size:] else set())
    return {"an unknown format"}


def _jpeg_extras(data: bytes) -> set[str]:
    found: set[str] = set()
    start = 2
    while start < len(data):
        if data[start] != 0xFF:
            found.add(f"byte {data[start]:02x} between segments")
            return found
        marker = data[start + 1]
        if marker == 0xD9:
            return found | ({"trailer"} if data[start + 2 :] else set())
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        content = data[start + 4 : start + 2 + length]
        plain = marker in (0xDB, 0xC4, 0xDD, 0xDA) or 0xC0 <= marker <= 0xCF
        jfif = marker == 0xE0 and content[:5] == b"JFIF\0" and len(content) == 14
        adobe = marker == 0xEE and content[:5] == b"Adobe" and len(content) == 12
        if not (plain or jfif or adobe):
            found.add(f"marker {marker:02x}")
        start += 2 + length
        if marker == 0xDA:
            while data[start : start + 1] != b"\xff" or data[start + 1 : start + 2] in [
                b"\0",
                *(bytes([0xD0 + n]) for n in range(8)),
            ]:
                start += 1
                if start >= len(data):
                    return found
    return found


# Pixels.


def picture(seed: int, mode: str = "RGB", side: int = 64) -> Image.Image:
    """A picture that no other seed gives, as large as a small section; medical enough for the gate is not asked for."""
    chance = np.random.default_rng(seed)
    small = Image.fromarray(chance.integers(0, 255, (5, 5, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC).convert(mode)


def _profile() -> bytes:
    """A colour profile whose texts have a name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    offset = next(
        int.from_bytes(profile[start + 4 : start + 8], "big")
        for start in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)
        if profile[start : start + 4] == b"desc"
    )
    text = name().encode("utf-16-be")
    changed = bytearray(profile)
    changed[offset + 28 : offset + 28 + len(text)] = text
    return bytes(changed)


def _exif() -> bytes:
    """EXIF in which every tag that takes a text has a name, in each of its parts, with a place, a time and a thumbnail."""
    texts = (0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x013B, 0x013C, 0x8298)
    wide = (0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F)  # the titles and authors of Windows
    inner = (0xA430, 0xA431, 0xA433, 0xA434, 0xA435, 0xA420, 0x8824, 0xA004)
    small = io.BytesIO()
    picture(1, side=16).save(small, "JPEG", comment=name().encode())
    parts: list[tuple[str, list[tuple[int, int, bytes]]]] = [
        (
            "main",
            [
                *((tag, 2, name().encode() + b"\0") for tag in texts),
                (0x0132, 2, b"1927:04:13 00:00:00\0"),
                *((tag, 1, name().encode("utf-16-le")) for tag in wide),
            ],
        ),
        (
            "exif",
            [
                *((tag, 2, name().encode() + b"\0") for tag in inner),
                (0x9286, 7, b"ASCII\0\0\0" + name().encode()),
                (0x927C, 7, name().encode()),
            ],
        ),
        (
            "place",
            [
                (1, 2, b"N\0"),
                (2, 5, struct.pack("<6I", 48, 1, 8, 1, 14, 1)),
                (3, 2, b"E\0"),
                (4, 5, struct.pack("<6I", 11, 1, 34, 1, 31, 1)),
                (27, 7, name().encode()),
                (28, 7, name().encode()),
                (29, 2, b"1927:04:13\0"),
            ],
        ),
        ("thumbnail", [(0x0103, 3, struct.pack("<H", 6)), (0x010E, 2, name().encode() + b"\0")]),
    ]
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    links = {"main": 2, "exif": 0, "place": 0, "thumbnail": 2}
    starts: dict[str, int] = {}
    start = 8
    for part, entries in parts:
        starts[part] = start
        start += 2 + 12 * (len(entries) + links[part]) + 4 + sum(len(value) for *_, value in entries if len(value) > 4)
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for part, entries in parts:
        if part == "main":
            entries = [*entries, (0x8769, 4, struct.pack("<I", starts["exif"]))]
            entries += [(0x8825, 4, struct.pack("<I", starts["place"]))]
        if part == "thumbnail":
            entries = [*entries, (0x0201, 4, struct.pack("<I", start))]
            entries += [(0x0202, 4, struct.pack("<I", len(small.getvalue())))]
        at = starts[part] + 2 + 12 * len(entries) + 4
        table, values = struct.pack("<H", len(entries)), b""
        for tag, kind, value in sorted(entries):
            count = len(value) // sizes[kind]
            inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(values))
            table += struct.pack("<HHI", tag, kind, count) + inline
            values += value if len(value) > 4 else b""
        out += table + struct.pack("<I", starts["thumbnail"] if part == "main" else 0) + values
    return b"Exif\0\0" + bytes(out) + small.getvalue()


def _xmp() -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{name()}</dc:creator></x:xmpmeta>'.encode()


def _iptc() -> bytes:
    record = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text
        for number in (5, 25, 80, 90, 105, 116, 120, 122)
        for text in [name().encode()]
    )
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record


# JPEG.


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(seed: int, *, mode: str = "RGB", **options: Any) -> bytes:
    """A JPEG with a name in every kind of segment, between them, in tables that no pixel needs, and after its end."""
    buffer = io.BytesIO()
    picture(seed, mode).save(buffer, "JPEG", quality=85, **options)
    data = buffer.getvalue()
    head = data[:2]
    rest = data[2:]
    if rest[:2] == b"\xff\xe0":
        rest = rest[2 + int.from_bytes(rest[2:4], "big") :]
    planted = [
        _segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0"),
        _segment(0xE0, b"JFXX\0\x10" + name().encode()),
        _segment(0xE1, b"Exif\0\0" + _exif().removeprefix(b"Exif\0\0")),
        _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _xmp()),
        _segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 60, 0) + _xmp()),
        _segment(0xE2, b"ICC_PROFILE\0\1\1" + _profile()),
        _segment(0xE2, b"MPF\0" + name().encode()),
        _segment(0xED, _iptc()),
        *(_segment(0xE0 + number, name().encode()) for number in range(3, 16) if number != 14),
        _segment(0xFE, name().encode()),
        _segment(0xFE, name().encode("utf-16-le")),
        # Tables that no component uses: 64 and 16 + n bytes that can be anything.
        _segment(0xDB, b"\3" + name().encode().ljust(64, b"x")),
        _segment(0xC4, b"\3" + b"\0" * 7 + bytes([len(name())]) + b"\0" * 8 + name().encode()),
    ]
    scan = rest.rindex(b"\xff\xda")
    body, tail = rest[:scan], rest[scan:]
    return head + b"".join(planted) + body + _segment(0xFE, name().encode()) + tail + name().encode() * 3


# PNG.


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk."""
    start = 8
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start + 8 : start + 8 + length]
        start += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(seed: int, mode: str = "RGB") -> bytes:
    """A PNG with a name in every kind of chunk, before and after the pixels, after their stream, and after its end."""
    buffer = io.BytesIO()
    if mode == "I;16":
        values = np.asarray(picture(seed, "L"), np.uint16) * 13
        Image.fromarray(values).save(buffer, "PNG")
    else:
        image = picture(seed, "RGB").quantize(8) if mode == "P" else picture(seed, mode)
        if mode in ("RGBA", "LA"):
            # What is under nothing is not seen, and is there.
            pixels = np.array(image)
            hidden = name().encode()
            pixels[0, : len(hidden), 0] = np.frombuffer(hidden, np.uint8)
            pixels[..., -1] = 255
            pixels[0, : len(hidden), -1] = 0
            image = Image.fromarray(pixels)
        image.save(buffer, "PNG")
    chunks = list(png_chunks(buffer.getvalue()))
    header, others = chunks[0], chunks[1:]
    palette = [(kind, content) for kind, content in others if kind == b"PLTE"]
    if palette:
        # Colours that no pixel has.
        unused = name().encode()
        palette = [(b"PLTE", palette[0][1] + unused + b"\0" * (-len(unused) % 3))]
    pixels_of = b"".join(content for kind, content in others if kind == b"IDAT") + name().encode()
    before: list[tuple[bytes, bytes]] = [
        (b"iCCP", name().encode() + b"\0\0" + zlib.compress(_profile())),
        (b"eXIf", _exif().removeprefix(b"Exif\0\0")),
        (b"pCAL", name().encode() + b"\0" + struct.pack(">iiBB", 0, 255, 0, 2) + name().encode() + b"\x000\x001"),
        (b"sPLT", name().encode() + b"\0\x08" + name().encode()),
        (b"tEXt", b"Author\0" + name().encode("latin-1")),
        (name().encode()[:4].replace(b"Q", b"q"), name().encode()),
    ]
    after: list[tuple[bytes, bytes]] = [
        (b"tEXt", name().encode() + b"\0" + name().encode()),
        (b"zTXt", b"Description\0\0" + zlib.compress(name().encode() * 20)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _xmp()),
        (b"iTXt", b"Comment\0\1\0de\0" + name().encode() + b"\0" + zlib.compress(name().encode() * 20)),
        (b"prVt", name().encode()),
    ]
    body = [header, *before, *palette, (b"IDAT", pixels_of), *after, (b"IEND", b"")]
    if mode == "I;16":
        body = [each for each in body if each[0] not in (b"iCCP",)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in body) + name().encode()


# WebP.


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk."""
    start = 12
    while start + 8 <= len(data):
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        yield kind, data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def webp(seed: int, mode: str = "RGB", *, lossless: bool = False) -> bytes:
    """A WebP with a name in every kind of chunk and after its end."""
    buffer = io.BytesIO()
    picture(seed, mode).save(
        buffer, "WEBP", lossless=lossless, exif=_exif(), xmp=_xmp(), icc_profile=_profile(), quality=80
    )
    data = buffer.getvalue()
    extra = b""
    for kind, content in ((b"NAME", name().encode()), (b"XMP ", _xmp())):
        extra += kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    data += extra
    return b"RIFF" + struct.pack("<I", len(data) - 8) + data[8:] + name().encode()


# DICOM.

_TEXTS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE", "CS", "UR", "UI", "DA", "DT", "AS")
# What says how pixels are coded and shown: with a name in it a file is another picture, or none.
_NEEDED = {
    *("PhotometricInterpretation", "PixelPresentation", "BurnedInAnnotation", "VOILUTFunction", "PresentationLUTShape"),
    *("RecognizableVisualFeatures", "SyntheticData", "SpecificCharacterSet", "SOPClassUID", "TransferSyntaxUID"),
    *("PixelDataProviderURL", "Modality"),
}


def _value(vr: str) -> str:
    match vr:
        case "PN":
            return f"{name()}^{name()}"
        case "UI":
            return uid()
        case "DA":
            return DATE
        case "DT":
            return f"{DATE}000000"
        case "AS":
            return "099Y"
        case "CS" | "AE" | "SH":
            return name().upper()[:16]
        case "UR":
            return f"http://{name()}.example"
    return name()


def _every_element(dataset: Dataset) -> None:
    """Puts a name into every element of the standard that takes a text, and into sequences, private and unknown ones."""
    for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if keyword in _NEEDED or retired or group in (0x0000, 0x0002, 0x7FE0, 0xFFFE, 0x0028) or vr not in _TEXTS:
            continue
        value: Any = _value(vr)
        if vm.startswith("2"):
            value = [value, value]
        dataset.add(DataElement(tag, vr, value))
    # Of how pixels are shown, only what is said in words.
    for keyword in ("WindowCenterWidthExplanation", "RescaleType", "LossyImageCompressionMethod"):
        setattr(dataset, keyword, name().upper()[:16])
    item = Dataset()
    item.PatientName, item.CodeMeaning, item.CodeValue = name(), name(), name()[:16]
    inner = Dataset()
    inner.RequestingPhysician = name()
    item.RequestAttributesSequence = Sequence([inner])
    for keyword in (
        "OtherPatientIDsSequence",
        "ReferencedPatientSequence",
        "AnatomicRegionSequence",
        "SharedFunctionalGroupsSequence",
    ):
        setattr(dataset, keyword, Sequence([item]))
    dataset.add_new(0x00091001, "LO", name())
    dataset.add_new(0x00090010, "LO", name())
    dataset.add_new(0x00091002, "UN", name().encode())
    # An overlay: bits that show something, and words about it.
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 64)
    dataset.add_new(0x60000022, "LO", name())
    dataset.add_new(0x60001500, "LO", name())
    dataset.add_new(0x60003000, "OW", (name().encode() * 8)[:64])
    dataset.add_new(0xFFFCFFFC, "OB", name().encode() + b"\0" * (len(name()) % 2))


def dicom(seed: int, syntax: Any = ExplicitVRLittleEndian, *, frames: int = 1, preamble: bool = True) -> bytes:
    """A 12-bit section (8-bit if it is packed as JPEG) of a patient who is named wherever the standard lets somebody be."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid())
    meta.ImplementationVersionName = name().upper()[:16]
    meta.SourceApplicationEntityTitle = name().upper()[:16]
    meta.PrivateInformationCreatorUID = UID(uid())
    meta.PrivateInformation = name().encode() + b"\0" * (len(name()) % 2)
    file = FileDataset("", {}, file_meta=meta, preamble=name().encode().ljust(128, b"\0"))
    _every_element(file)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.BurnedInAnnotation, file.InstanceNumber = "CT", "NO", seed
    file.SpecificCharacterSet = "ISO_IR 192"
    grey = np.asarray(picture(seed, "L"))
    file.Rows, file.Columns = grey.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    if frames > 1:
        file.NumberOfFrames = frames
    if syntax == JPEGBaseline8Bit:
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit = 7
        file.PixelData = encapsulate([jpeg(seed, mode="L")] * frames)
        file["PixelData"].is_undefined_length = True
    else:
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
        file.RescaleSlope, file.RescaleIntercept = 1, -1024
        file.WindowCenter, file.WindowWidth = 976, 2000
        file.PixelData = (grey.astype("<u2") * 16).tobytes() * frames
        if syntax == RLELossless:
            file.compress(RLELossless)
        if syntax == ExplicitVRBigEndian:
            file.PixelData = (grey.astype(">u2") * 16).tobytes() * frames
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    data = buffer.getvalue()
    return data if preamble else data[132:]


Maker = Callable[[int], bytes]
# By format: makers of files, each with names in all places that its form has.
MAKERS: dict[str, tuple[Maker, ...]] = {
    "jpeg": (
        jpeg,
        lambda seed: jpeg(seed, mode="L"),
        lambda seed: jpeg(seed, progressive=True),
        lambda seed: jpeg(seed, mode="CMYK"),
        lambda seed: jpeg(seed, subsampling=0, optimize=True, restart_marker_blocks=4),
    ),
    "png": tuple(partial(png, mode=mode) for mode in ("RGB", "L", "P", "RGBA", "LA", "I;16", "1")),
    "webp": (
        webp,
        lambda seed: webp(seed, lossless=True),
        lambda seed: webp(seed, "RGBA"),
        lambda seed: webp(seed, "RGBA", lossless=True),
    ),
    "dicom": (
        dicom,
        lambda seed: dicom(seed, ImplicitVRLittleEndian),
        lambda seed: dicom(seed, DeflatedExplicitVRLittleEndian),
        lambda seed: dicom(seed, ExplicitVRBigEndian),
        lambda seed: dicom(seed, RLELossless),
        lambda seed: dicom(seed, JPEGBaseline8Bit),
        lambda seed: dicom(seed, frames=3),
        lambda seed: dicom(seed, preamble=False),
    ),
}


def mutated(data: bytes, chance: Random) -> bytes:
    """The file with a few bytes changed, left out, doubled or moved, as a bad disk or a careless program leaves it."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        if len(changed) < 64:
            break
        start = chance.randrange(len(changed))
        # Mostly where the names are: before the pixels.
        if chance.random() < 0.6:
            start = chance.randrange(min(len(changed), 4096))
        length = min(chance.choice((1, 1, 2, 4, 16, 64, 512)), len(changed) - start)
        match chance.randrange(5):
            case 0:
                changed[start] ^= 1 << chance.randrange(8)
            case 1:
                changed[start : start + length] = chance.randbytes(length)
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = changed[start : start + length]
            case 4:
                piece = bytes(changed[start : start + length])
                del changed[start : start + length]
                at = chance.randrange(len(changed))
                changed[at:at] = piece
    return bytes(changed)


def variants(form: str, count: int, seed: int) -> Iterator[bytes]:
    """Files of a format that are broken in a way each: half of them byte by byte, half with their parts rearranged."""
    chance = Random(f"{form} {seed}")
    whole = [maker(number) for number, maker in enumerate(MAKERS[form], start=1)]
    for number in range(count):
        data = whole[number % len(whole)]
        yield mutated(data, chance) if chance.random() < 0.5 else rearranged(form, data, chance)


def rearranged(form: str, data: bytes, chance: Random) -> bytes:
    """The file with parts left out, doubled, exchanged, or under the names of others; each part is in itself in order."""
    if form == "dicom":
        return _rearranged_dicom(data, chance)
    split = {"jpeg": _jpeg_parts, "png": png_chunks, "webp": webp_chunks}[form]
    parts = list(split(data))
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randrange(len(parts)), chance.randrange(len(parts))
        match chance.randrange(5):
            case 0:
                parts.insert(at, parts[other])
            case 1 if len(parts) > 2:
                del parts[at]
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts[at] = (parts[other][0], parts[at][1])
            case 4:
                # The content of one goes on with that of another.
                parts[at] = (parts[at][0], parts[at][1] + parts[other][1])
    if form == "png":
        return data[:8] + b"".join(_chunk(kind, content) for kind, content in parts)
    if form == "webp":
        body = b"".join(
            kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in parts
        )
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return data[:2] + b"".join(
        _segment(kind[0], content[: 2**16 - 3]) if kind[0] != 0xDA else b"\xff\xda" + content for kind, content in parts
    )


def _jpeg_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 2
    while data[start + 1] != 0xDA:
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        yield data[start + 1 : start + 2], data[start + 4 : start + 2 + length]
        start += 2 + length
    yield b"\xda", data[start + 2 :]


def _rearranged_dicom(data: bytes, chance: Random) -> bytes:
    """Texts that name somebody where the standard has terms, or that are too long, or of another type."""
    if data[128:132] != b"DICM":
        return mutated(data, chance)
    file = pydicom.dcmread(io.BytesIO(data))
    keywords = (
        *(
            "WindowCenterWidthExplanation",
            "RescaleType",
            "Units",
            "VOILUTFunction",
            "PhotometricInterpretation",
            "Modality",
        ),
        *(
            "PresentationLUTShape",
            "PixelPresentation",
            "BodyPartExamined",
            "Laterality",
            "ImageLaterality",
            "ViewPosition",
        ),
        *(
            "LossyImageCompressionMethod",
            "SpecificCharacterSet",
            "ScanningSequence",
            "SequenceVariant",
            "PatientPosition",
        ),
    )
    for keyword in chance.sample(keywords, 3):
        text = chance.choice((name().upper()[:16], f"HU {name()}"[:16], f"{name()}\\{name()}", name() * 20))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(file, keyword, text.split("\\") if "\\" in text else text)
    item = Dataset()
    item.LUTLabel, item.LUTExplanation, item.RealWorldValueSlope, item.RealWorldValueIntercept = (
        name(),
        name(),
        1.0,
        0.0,
    )
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 4095
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = name()[:16], "UCUM", name()
    item.MeasurementUnitsCodeSequence = Sequence([code])
    for element in item:
        if element.VR == "US or SS":
            element.VR = "US"
    file.RealWorldValueMappingSequence = Sequence([item])
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()
