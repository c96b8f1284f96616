"""A data folder as older versions wrote it: the files that came in, by their digest, and records that show those."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from mirage_retriever.engines.base import Array, Collection, CollectionStore, Point

PATIENT = "PLANTED^LABEL^2b9c"


def picture(number: int, side: int = 96) -> Image.Image:
    """Another picture for each number."""
    chance = np.random.default_rng(number)
    small = Image.fromarray(chance.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def png(number: int, name: str = "") -> bytes:
    """A picture with a text in its file."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", name)
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def jpeg(number: int, name: str = "") -> bytes:
    """A picture whose EXIF has a name."""
    exif = Image.Exif()
    exif[0x010E] = name
    buffer = io.BytesIO()
    picture(number).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def transparent(number: int) -> bytes:
    """A black picture on nothing: older versions showed it to the model as black on black."""
    alpha = picture(number).convert("L")
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", alpha.size), alpha)).save(buffer, "PNG")
    return buffer.getvalue()


def dicom(number: int, name: str = "", *, burned_in: str = "NO") -> bytes:
    """A 12-bit section of a patient."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID, file.InstitutionName = name, name, name
    file.Modality, file.BurnedInAnnotation = "CT", burned_in
    values = np.asarray(picture(number).convert("L"), np.uint16) * 16
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.RescaleSlope, file.RescaleIntercept, file.RescaleType = 1, -1024, "HU"
    file.WindowCenter, file.WindowWidth = 976, 2000
    file.PixelData = values.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Old:
    """A record, its file, and its image vector."""

    id: str
    data: bytes
    vector: Array
    media_type: str = "image/png"

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.data).hexdigest()

    def record(self) -> str:
        """As older versions wrote it."""
        fields = {
            **{"id": self.id, "caption": f"Caption of {self.id}.", "labels": {"plane": ["axial"]}},
            **{"original_labels": {"Plane": "TRA", "Patient Name": PATIENT}, "licence": "CC0-1.0", "source": "test"},
            **{"attribution": "", "image_sha256": self.sha256, "image_type": self.media_type},
            **{"width": 96, "height": 96},
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def keep_files(data: Path, files: Sequence[bytes], *, thumbnail: bytes = b"a thumbnail") -> None:
    """Stores files as older versions did."""
    for content in files:
        sha256 = hashlib.sha256(content).hexdigest()
        for folder, stored in (("images", content), ("thumbnails", thumbnail)):
            file = data / folder / sha256[:2] / sha256
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(stored)


async def keep_records(store: CollectionStore, collections: Mapping[Collection, Sequence[Old]]) -> None:
    """Stores records as older versions did: their points hold neither words nor the file that they came from."""
    for newer, records in collections.items():
        collection = replace(newer, schema=1)
        engine = store.engine(collection.name)
        await engine.open()
        await engine.create(collection)
        await engine.upsert(
            [
                Point(
                    id=record.id,
                    image=record.vector,
                    caption=record.vector,
                    record=record.record(),
                    facets={"plane": ("axial",)},
                    image_sha256=record.sha256,
                )
                for record in records
            ]
        )
        await engine.close()
