import struct
import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mirage.errors import InputError
from mirage.png import Picture, PngError, read_picture
from mirage.provenance import compare, read_provenance
from mirage_api.provenance import AI_GENERATED, Provenance, digest

WIDTH, HEIGHT = 4, 3
ROWS = bytes(range(WIDTH * HEIGHT * 3))
MADE = Provenance(
    prompt="axial T2, näher\nleft side",
    negative_prompt="",
    seed=2**63 - 1,
    steps=4,
    guidance_scale=1.1,
    width=WIDTH,
    height=HEIGHT,
    bundle="mini",
    fingerprint="a" * 64,
    variant="int8",
    decoder="full",
    engine="onnxruntime 1.32.0",
    threads=2,
    cpu="x86_64 avx2",
    software="MIRAGE 0.1.0",
    job_id="j1",
    create_time="2026-11-24T00:00:00+00:00",
    pixels_sha256=digest(ROWS),
)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def plain(keyword: str, text: str) -> bytes:
    return chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode())


def packed(keyword: str, text: bytes) -> bytes:
    return chunk(b"zTXt", keyword.encode() + b"\0\0" + zlib.compress(text))


def png(texts: Iterable[bytes] = (), *, lines: bytes | None = None, head: bytes | None = None) -> bytes:
    if lines is None:
        stride = WIDTH * 3
        lines = b"".join(b"\0" + ROWS[start : start + stride] for start in range(0, len(ROWS), stride))
    head = head or struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *texts, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def made(provenance: Provenance = MADE, *more: bytes, **changed: str) -> bytes:
    return png([*(plain(key, text) for key, text in {**provenance.texts(), **changed}.items()), *more])


def test_a_file_says_all_that_was_written_into_it() -> None:
    assert read_provenance(made()) == MADE
    marked = replace(MADE, visible_mark=True, guidance_scale=0.1 + 0.2)
    assert read_provenance(made(marked)) == marked


def test_what_no_model_made_has_no_provenance() -> None:
    assert read_provenance(b"") is None
    assert read_provenance(b"\xff\xd8\xff\xe0 no PNG") is None
    assert read_provenance(png()) is None
    assert read_provenance(png([plain("Comment", "one"), plain("Comment", "other")])) is None
    changed: dict[str, Any] = {AI_GENERATED: "false"}
    assert read_provenance(made(**changed)) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (made()[:-20], "cut off"),
        (made()[:60], "cut off"),
        (made()[:9], "cut off"),
        (made().replace(b"axial", b"axiom"), "damaged"),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**32 - 1, b"tEXt"), "cut off"),
        (made(MADE, plain("seed", "7")), "more than one seed"),
        (made(seed="-1"), "seed cannot be right"),
        (made(seed=str(2**63)), "seed cannot be right"),
        (made(seed="9" * 5000), "seed cannot be read"),
        (made(seed="١٢"), "seed cannot be read"),
        (made(steps="four"), "steps cannot be read"),
        (made(guidance_scale="nan"), "guidance_scale cannot be right"),
        (made(width="100000"), "width cannot be right"),
        (made(fingerprint="../../etc"), "fingerprint cannot be right"),
        (made(visible_mark="maybe"), "visible_mark cannot be read"),
        (made(prompt="a" * 2001), "prompt cannot be right"),
        (png([plain(AI_GENERATED, "true")]), "does not say its prompt"),
        (png([packed("prompt", bytes(2**24))]), "unpacks to more"),
        (png([packed("prompt", b"a")[:-6] + b"\0\0" + b"\0\0\0\0"]), "damaged"),
        (png([chunk(b"tEXt", b"no separator")]), "no keyword"),
        (png([chunk(b"iTXt", b"prompt\0\0\0")]), "damaged"),
        (png([chunk(b"iTXt", b"prompt\0\0\0\0\0\xff\xfe")]), "damaged"),
        (png([plain("a", "b")] * 300), "too many texts"),
        (png([plain("a", "b" * (2**20 + 1))]), "too long"),
    ],
)
def test_a_hostile_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_provenance(data)


def test_a_request_of_a_file_asks_for_the_same() -> None:
    request = MADE.request()
    assert request == {
        "prompt": MADE.prompt,
        "seed": 2**63 - 1,
        "steps": 4,
        "guidance_scale": 1.1,
        "width": WIDTH,
        "height": HEIGHT,
        "images": 1,
    }
    assert replace(MADE, negative_prompt="blur").request()["negative_prompt"] == "blur"


def test_two_files_of_one_making_are_the_same() -> None:
    later = made(replace(MADE, create_time="2027-01-01T00:00:00+00:00", job_id="j2"))
    result = compare(made(), later)
    assert result.same_pixels
    assert result.same_making
    # With the label in one of them the pixels without it are compared.
    assert compare(made(), made(replace(MADE, visible_mark=True))).same_pixels


def test_what_differs_is_named() -> None:
    other = replace(MADE, engine="openvino 2026.4", cpu="aarch64", threads=1, pixels_sha256="b" * 64)
    result = compare(made(), made(other))
    assert not result.same_pixels
    assert {each.name for each in result.differences} == {"engine", "cpu", "threads"}
    assert ("x86_64 avx2", "aarch64") in {(each.first, each.second) for each in result.differences}


def test_pixels_that_were_edited_are_not_the_same_whatever_the_texts_say() -> None:
    edited = png([plain(key, text) for key, text in MADE.texts().items()], lines=bytes((WIDTH * 3 + 1) * HEIGHT))
    assert not compare(edited, made()).same_pixels


def test_files_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to repeat"):
        compare(png(), made())
    with pytest.raises(InputError, match="the seed differs"):
        compare(made(), made(replace(MADE, seed=1)))


def test_pixels_are_read_whatever_filter_a_row_has() -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3)).cumsum(0).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert read_picture(buffer.getvalue()) == Picture(24, 40, pixels.tobytes())
    stride = 24 * 3
    for kind in range(5):
        # Filtering by hand what reading has to undo; every row's own bytes and those above, as the filter sees them.
        rows = pixels.reshape(40, stride).astype(int)
        left = np.pad(rows, ((0, 0), (3, 0)))[:, :stride]
        up = np.pad(rows, ((1, 0), (0, 0)))[:40]
        corner = np.pad(rows, ((1, 0), (3, 0)))[:40, :stride]
        guess = left + up - corner
        near = np.where(abs(guess - up) <= abs(guess - corner), up, corner)
        first = (abs(guess - left) <= abs(guess - up)) & (abs(guess - left) <= abs(guess - corner))
        paeth = np.where(first, left, near)
        taken = (np.zeros_like(rows), left, up, (left + up) // 2, paeth)[kind]
        lines = b"".join(bytes([kind]) + row.astype(np.uint8).tobytes() for row in (rows - taken) % 256)
        data = png(lines=lines, head=struct.pack(">IIBBBBB", 24, 40, 8, 2, 0, 0, 0))
        assert read_picture(data).rgb == pixels.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        png(head=struct.pack(">IIBBBBB", 2**31, 2**31, 8, 2, 0, 0, 0)),
        png(head=struct.pack(">IIBBBBB", 0, 3, 8, 2, 0, 0, 0)),
        png(head=struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)),
        png(head=struct.pack(">IIBBBBB", 4, 3, 8, 2, 0, 0, 1)),
        png(head=b"short"),
        png(lines=b"\0" * 5),
        png(lines=bytes(10**6)),
        png(lines=b"\x09" * 39),
    ],
)
def test_pixels_beyond_the_bounds_are_refused(data: bytes) -> None:
    with pytest.raises(PngError):
        read_picture(data)
