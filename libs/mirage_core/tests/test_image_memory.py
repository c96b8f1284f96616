"""The largest images that are allowed, cleaned in a process with the memory that services give to one."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest

from tests.support import dicom_builder as build
from tests.support.dicom_builder import dicom, encapsulated
from tests.support.picture_files import SIGNATURE, chunk

WIDTH, HEIGHT = 7000, 7100
MEMORY = 448 * 2**20  # MIRAGE_RETRIEVER_DECODER_MEMORY_MB
CODE = """
import resource, sys
import mirage_core.dicom.picture
from mirage_core.imaging import clean_image
data = sys.stdin.buffer.read()
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + int(sys.argv[1]),) * 2)
clean = clean_image(data)
print(clean.width, clean.height, clean.pixels is not None)
"""


def png(depth: int, colour: int, channels: int) -> bytes:
    packer = zlib.compressobj(1)
    row = b"\0" + bytes(range(250)) * (WIDTH * channels * depth // 8 // 250)
    rows = b"".join(packer.compress(row) for _ in range(HEIGHT)) + packer.flush()
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def run_lengths() -> bytes:
    pixels = WIDTH * HEIGHT
    runs = b"\x81\1\x81\2" * (pixels // 256) + b"\x81\3\x81\3"
    frame = struct.pack("<16I", 2, 64, 64 + len(runs), *[0] * 13) + runs + runs
    return dicom(
        b"", syntax=build.RLE, fragments=encapsulated([frame]), Rows=HEIGHT, Columns=WIDTH, BitsAllocated=16, BitsStored=12,
        HighBit=11, PixelRepresentation=0,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
@pytest.mark.parametrize(
    ("make", "deep"),
    [(lambda: png(8, 6, 4), False), (lambda: png(16, 4, 2), True), (run_lengths, True)],
    ids=["RGBA", "16 bits with alpha", "DICOM, 16 bits"],
)
def test_fifty_megapixels_are_cleaned_within_what_a_service_gives(make: Callable[[], bytes], deep: bool) -> None:
    command = [sys.executable, "-c", CODE, str(MEMORY)]
    environment = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PATH": ""}
    ran = subprocess.run(command, input=make(), capture_output=True, env=environment, check=False)
    assert ran.stdout.decode().split() == [str(WIDTH), str(HEIGHT), str(deep)], ran.stderr.decode()[-500:]
