import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from mirage_core import limits
from mirage_core.dicom import elements
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image, encode_png, encode_thumbnail
from mirage_core.synthetic import is_marked


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    values = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.tile(values, (height, 1))).convert("RGB")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing: a decompression bomb's outside."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def dicom(
    pixels: np.ndarray, *, photometric: str = "MONOCHROME2", frames: int | None = None, **fields: object
) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.PatientName = "Doe^Jane"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if frames:
        dataset.NumberOfFrames = frames
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_pictures_decode_to_rgb(form: str, media_type: str) -> None:
    decoded = decode_image(encoded(gradient(), form))
    assert (decoded.media_type, decoded.image.mode, decoded.width, decoded.height) == (media_type, "RGB", 64, 48)


def test_sixteen_bit_greyscale_keeps_its_range() -> None:
    wide = Image.fromarray(np.linspace(1000, 3000, 32 * 32).reshape(32, 32).astype(np.uint16))
    pixels = np.asarray(decode_image(encoded(wide, "PNG")).image)
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert decode_image(encoded(gradient(64, 48), "JPEG", exif=exif)).image.size == (48, 64)


def test_a_dicom_window_is_applied() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 10, (64, 1))
    pixels = np.asarray(decode_image(dicom(ramp, WindowCenter=100, WindowWidth=100)).image)[:, :, 0]
    assert pixels[0, 4] == 0
    assert pixels[0, 20] == 255
    assert 0 < pixels[0, 10] < 255


def test_monochrome1_is_inverted() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 10, (64, 1))
    pixels = np.asarray(decode_image(dicom(ramp, photometric="MONOCHROME1")).image)[:, :, 0]
    assert pixels[0, 0] == 255
    assert pixels[0, -1] == 0


def test_the_middle_frame_stands_for_a_multi_frame_file() -> None:
    frames = np.zeros((5, 32, 32), np.uint16)
    for index in range(5):
        frames[index, :, : 4 + index] = 100
    data = dicom(frames, frames=5)
    middle, first = decode_image(data), decode_image(data, frame=0)
    assert middle.frames == 5
    assert np.asarray(middle.image)[0, :, 0].astype(bool).sum() == 6
    assert np.asarray(first.image)[0, :, 0].astype(bool).sum() == 4


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "examples_palette.dcm", "JPEG2000.dcm"]
)
def test_clinical_samples_decode(name: str) -> None:
    decoded = decode_image(Path(str(get_testdata_file(name, download=False))).read_bytes())
    assert decoded.media_type == "application/dicom"
    assert np.asarray(decoded.image).std() > 5


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.IMAGE_EMPTY),
        (b"%PDF-1.7 named scan.png", Code.IMAGE_FORMAT_UNSUPPORTED),
        (b"GIF89a" + bytes(100), Code.IMAGE_FORMAT_UNSUPPORTED),
        (encoded(gradient(1, 1), "PNG"), Code.IMAGE_TOO_SMALL),
        (encoded(gradient(15, 400), "PNG"), Code.IMAGE_TOO_SMALL),
        (encoded(gradient(640, 480), "JPEG")[:2000], Code.IMAGE_UNREADABLE),
        (encoded(gradient(), "PNG")[:60], Code.IMAGE_UNREADABLE),
        (png_header(100_000, 100_000), Code.IMAGE_TOO_MANY_PIXELS),
        (png_header(8_000, 6_000), Code.IMAGE_UNREADABLE),
        (bytes(limits.IMAGE_BYTES + 1), Code.IMAGE_TOO_LARGE),
        (bytes(128) + b"DICM" + bytes(64), Code.IMAGE_UNREADABLE),
        (dicom(np.zeros((8, 8), np.uint16)), Code.IMAGE_TOO_SMALL),
        (dicom(np.zeros((32, 32), np.uint16))[:-500], Code.IMAGE_UNREADABLE),
        (dicom(np.zeros((32, 32), np.uint16), Rows=60_000, Columns=60_000), Code.IMAGE_TOO_MANY_PIXELS),
    ],
)
def test_bad_input_gets_its_own_error(data: bytes, code: Code) -> None:
    with pytest.raises(MirageError) as caught:
        decode_image(data)
    assert caught.value.code is code
    assert decode_image(encoded(gradient(), "PNG")).width == 64


def test_no_patient_field_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pydicom.Dataset] = []
    real = read_dataset

    def spy(*args: Any, **kwargs: Any) -> pydicom.Dataset:
        seen.append(real(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(elements, "read_dataset", spy)
    decode_image(dicom(np.eye(32, dtype=np.uint16)))
    assert "PixelData" in seen[0]
    assert "PatientName" not in seen[0]


@pytest.mark.parametrize(("said", "expected"), [("YES", True), ("NO", False), (None, False)])
def test_a_dicom_file_may_say_that_it_is_synthetic(said: str | None, expected: bool) -> None:
    fields: dict[str, Any] = {"SyntheticData": said} if said else {}
    data = dicom(np.eye(32, dtype=np.uint16), **fields)
    assert decode_image(data).width == 32
    assert is_marked(data) is expected
    assert not any(is_marked(data[:end]) for end in range(0, 200))


def test_a_thumbnail_fits_its_side_and_a_png_carries_no_metadata() -> None:
    assert max(decode_image(encode_thumbnail(gradient(800, 400))).image.size) == 256
    tagged = decode_image(encoded(gradient(), "JPEG", comment=b"secret")).image
    assert b"secret" not in encode_png(tagged)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("DICOM", "image/png")],
)
def test_a_clean_image_is_the_same_picture_in_a_format_for_browsers(form: str, media_type: str) -> None:
    source = dicom(np.eye(32, dtype=np.uint16)) if form == "DICOM" else encoded(gradient(), form)
    clean = clean_image(source)
    assert clean.media_type == media_type
    before, after = (np.asarray(decode_image(each).image).astype(int) for each in (source, clean.data))
    assert np.abs(before - after).max() <= 2
    assert clean_image(source) == clean


def test_burned_in_annotation_is_refused() -> None:
    with pytest.raises(MirageError) as caught:
        clean_image(dicom(np.eye(32, dtype=np.uint16), BurnedInAnnotation="YES"))
    assert caught.value.code is Code.IMAGE_BURNED_IN
