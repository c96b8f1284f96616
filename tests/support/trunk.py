"""A small trunk of known anatomy: values, label map and names, as NIfTI in any orientation and as a DICOM series.

In the axes of `mirage_atlas.demo.volumes` (x to the left, y to the back, z to the head): 40 x 30 x 50 voxels of 5 x 5 x 4 mm.
The liver is on the right, spleen and stomach on the left, both lungs above, the spine with its cord at the back.
"""

import io

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SHAPE = (40, 30, 50)
SPACING = (5.0, 5.0, 4.0)
NAMES = {
    1: "liver",
    2: "spleen",
    3: "stomach",
    4: "lung_lower_lobe_right",
    5: "lung_lower_lobe_left",
    6: "spinal_cord",
    7: "aorta",
    8: "vertebrae_T12",
    9: "vertebrae_T11",
    10: "vertebrae_T10",
    11: "rib_right_9",
    12: "kidney_left",
}
_BOXES = {
    1: ((4, 16), (6, 20), (8, 24)),
    2: ((30, 36), (16, 24), (10, 22)),
    3: ((22, 29), (6, 14), (10, 22)),
    4: ((4, 17), (6, 22), (26, 48)),
    5: ((23, 36), (6, 22), (26, 48)),
    7: ((21, 24), (17, 20), (0, 50)),
    8: ((17, 23), (20, 24), (2, 16)),
    9: ((17, 23), (20, 24), (18, 32)),
    10: ((17, 23), (20, 24), (34, 48)),
    6: ((19, 21), (24, 26), (0, 50)),
    11: ((2, 4), (8, 22), (20, 26)),
}
_VALUES = {0: -1000, 1: 60, 2: 50, 3: 30, 4: -850, 5: -850, 6: 40, 7: 45, 8: 300, 9: 300, 10: 300, 11: 500}


def label_map() -> NDArray[np.uint8]:
    """The map; the process of T11 reaches down behind the body of T12."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, ((x0, x1), (y0, y1), (z0, z1)) in _BOXES.items():
        labels[x0:x1, y0:y1, z0:z1] = number
    labels[19:21, 26:29, 8:24] = 9
    return labels


def values(labels: NDArray[np.uint8], *, aorta: int = 45) -> NDArray[np.int16]:
    """Hounsfield units: the structures in a trunk of fat, air outside."""
    table = np.zeros(256, np.int16)
    for number, value in _VALUES.items():
        table[number] = value
    table[7] = aorta
    shown = table[labels]
    x, y = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    body = ((x - 19.5) / 19) ** 2 + ((y - 14.5) / 14.5) ** 2 <= 1
    shown[(labels == 0) & body[..., None]] = -100
    return shown


def affine(axes: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the arrays above are turned into these axes, and the affine that says so."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("L", "P", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    base = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    base[:3, 3] = (100.0, 80.0, -200.0)
    return turn, base @ nib.orientations.inv_ornt_aff(turn, SHAPE)


def nifti(
    array: NDArray[np.generic], axes: str = "LPS", *, slope: float = 1.0, inter: float = 0.0, moved_mm: float = 0.0
) -> bytes:
    """The bytes of a NIfTI file with these axes."""
    turn, place = affine(axes)
    place[0, 3] += moved_mm
    image = nib.Nifti1Image(nib.orientations.apply_orientation(array, turn), place)
    image.header.set_slope_inter(slope, inter)
    return bytes(image.to_bytes())


def dicom_series(array: NDArray[np.int16]) -> list[bytes]:
    """A file for each axial section, in no order, with a patient's name that nobody may read."""
    files = []
    for z in range(SHAPE[2]):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = generate_uid()
        slice_.PatientName, slice_.InstitutionName, slice_.StudyDate = "Secret^Person", "Secret House", "20200102"
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [-100.0, -80.0, -200.0 + SPACING[2] * z]
        slice_.PixelSpacing = [SPACING[1], SPACING[0]]
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.Rows, slice_.Columns = SHAPE[1], SHAPE[0]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
        slice_.PixelData = (array[:, :, z].T + 1024).astype("<u2").tobytes()
        file = io.BytesIO()
        slice_.save_as(file, enforce_file_format=True)
        files.append(file.getvalue())
    return files[1::2] + files[::2]
