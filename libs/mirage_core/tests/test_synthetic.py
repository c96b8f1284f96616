import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mirage_core.synthetic import is_marked

TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>'
)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def saved(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, form, **options)
    return buffer.getvalue()


def with_text(keyword: str, text: str, *, packed: bool = False, international: bool = False) -> bytes:
    said = PngImagePlugin.PngInfo()
    if international:
        said.add_itxt(keyword, text, zip=packed)
    else:
        said.add_text(keyword, text, zip=packed)
    return saved("PNG", pnginfo=said)


def exif(text: str) -> Image.Exif:
    said = Image.Exif()
    said[0x010E] = text  # ImageDescription
    return said


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def extended_xmp(text: str) -> bytes:
    """A JPEG whose long XMP packet is cut amid its words, as Adobe's format has it."""
    jpeg, packet = saved("JPEG"), text.encode()
    cut = packet.index(b"trained") + 3
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32
    parts = [
        segment(0xE1, head + struct.pack(">II", len(packet), start) + packet[start:end])
        for start, end in ((0, cut), (cut, len(packet)))
    ]
    return jpeg[:2] + b"".join(parts) + jpeg[2:]


MARKED = {
    "png text": with_text("ai_generated", "true"),
    "png packed text": with_text("ai_generated", "true", packed=True),
    "png international text": with_text("ai_generated", "true", international=True),
    "png packed international text": with_text("ai_generated", "true", international=True, packed=True),
    "png xmp": with_text("XML:com.adobe.xmp", XMP.format(TERM), international=True),
    "png packed xmp": with_text("XML:com.adobe.xmp", XMP.format(TERM), international=True, packed=True),
    "png exif": saved("PNG", exif=exif("ai_generated=true")),
    "png text behind the pixels": saved("PNG")[:-12]
    + struct.pack(">I4s", 17, b"tEXt")
    + b"ai_generated\0true"
    + struct.pack(">I", zlib.crc32(b"tEXtai_generated\0true"))
    + saved("PNG")[-12:],
    "jpeg xmp": saved("JPEG", xmp=XMP.format(TERM).encode()),
    "jpeg extended xmp": extended_xmp(XMP.format(TERM)),
    "jpeg comment": saved("JPEG", comment=b"ai_generated: true"),
    "jpeg exif": saved("JPEG", exif=exif("ai_generated: true")),
    "jpeg iim": saved("JPEG")[:2] + segment(0xED, b"Photoshop 3.0\0" + TERM.encode()) + saved("JPEG")[2:],
    "webp xmp": saved("WEBP", xmp=XMP.format(TERM).encode()),
    "webp lossless xmp": saved("WEBP", lossless=True, xmp=XMP.format(TERM).encode()),
    "webp exif": saved("WEBP", exif=exif("ai_generated: true")),
    "partly generated": with_text(
        "XML:com.adobe.xmp", XMP.format(TERM.replace("trained", "compositeWithTrained")), international=True
    ),
    "two bytes a character": saved("JPEG", comment="ai_generated: true".encode("utf-16-le")),
}
PLAIN = {
    "png": saved("PNG"),
    "jpeg": saved("JPEG", comment=b"a photograph"),
    "webp": saved("WEBP"),
    "not generated": with_text("ai_generated", "false"),
    "another source": with_text("XML:com.adobe.xmp", XMP.format(TERM.replace("trained", "")), international=True),
    "a camera": saved("JPEG", xmp=XMP.format(TERM.replace("trainedAlgorithmicMedia", "digitalCapture")).encode()),
    "a word in a caption": with_text("Description", "no ai_generated picture, true to life"),
    "no picture": b"ai_generated\0true",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MARKED)
def test_a_mark_is_found_whatever_holds_it(name: str) -> None:
    assert is_marked(MARKED[name])
    Image.open(io.BytesIO(MARKED[name])).load()


@pytest.mark.parametrize("name", PLAIN)
def test_what_has_no_mark_is_not_taken_for_marked(name: str) -> None:
    assert not is_marked(PLAIN[name])


@pytest.mark.parametrize("name", MARKED)
def test_a_file_that_is_cut_off_anywhere_is_searched_as_far_as_it_goes(name: str) -> None:
    data = MARKED[name]
    for end in range(0, min(len(data), 2000)):
        is_marked(data[:end])


def test_texts_that_unpack_to_very_much_are_searched_in_part() -> None:
    packed = b"k\0\0" + zlib.compress(bytes(8 * 2**20), 9)
    bomb = struct.pack(">I4s", len(packed), b"zTXt") + packed + b"\0\0\0\0"
    data = saved("PNG")
    assert not is_marked(data[:33] + bomb * 200 + data[33:])
    assert is_marked(data[:33] + bomb * 200 + MARKED["png text"][33:])
