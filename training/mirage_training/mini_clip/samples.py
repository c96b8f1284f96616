"""Texts about the clinical samples of the demonstration atlas, for their small share of the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_training.mini_clip.claims import Claim
from mirage_training.mini_clip.queries import Query, framed


@dataclass(frozen=True)
class Topic:
    """Words that mean some of the samples (by file name); `brain` True when rendered sections are meant as well."""

    words: tuple[str, ...]
    samples: frozenset[str]


def _topic(samples: str, *words: str) -> Topic:
    return Topic(words, frozenset(samples.split()))


CHEST, LEG, BONES = "RG1_UNCI.dcm", "RG3_UNCI.dcm", "JPEG2000_UNC.dcm"
CT_HEAD, CT_BASE, CT_PERFUSION = "693_UNCR.dcm", "J2K_pixelrep_mismatch.dcm", "eCT_Supplemental.dcm"
CT_ABDOMEN, CT_SPINE = "explicit_VR-UN.dcm", "CT_small.dcm"
MR_LIVER, MR_SHOULDER = "MR-SIEMENS-DICOM-WithOverlays.dcm", "MR2_UNCI.dcm"
US_PHANTOM, US_NODE, US_ECHO, US_FLOW, US_PELVIS = (
    "OBXXXX1A.dcm", "US1_UNCI.dcm", "color3d_jpeg_baseline.dcm", "color-pl.dcm", "gdcm-US-ALOKA-16.dcm"
)  # fmt: skip
ALL_CT = f"{CT_HEAD} {CT_BASE} {CT_PERFUSION} {CT_ABDOMEN} {CT_SPINE}"
ALL_US = f"{US_PHANTOM} {US_NODE} {US_ECHO} {US_FLOW} {US_PELVIS}"

TOPICS: tuple[Topic, ...] = (
    _topic(
        CHEST,
        "chest x-ray",
        "chest radiograph",
        "x-ray of the chest",
        "frontal chest x-ray",
        "thorax x-ray",
        "PA chest radiograph",
        "xray chest",
        "lungs on x-ray",
    ),
    _topic(
        LEG,
        "x-ray of the lower leg",
        "leg x-ray",
        "non-ossifying fibroma",
        "non-ossifying fibroma of the distal tibia",
        "frontal x-ray of the right lower leg",
        "bone x-ray of the leg",
    ),
    _topic(f"{CHEST} {LEG}", "x-ray", "radiograph", "plain film", "xray", "frontal x-ray"),
    _topic(
        BONES,
        "bone scan",
        "whole body bone scan",
        "nuclear medicine",
        "bone scintigraphy",
        "scintigraphy",
        "whole body scintigraphy",
    ),
    _topic(
        f"{CT_HEAD} {CT_BASE} {CT_PERFUSION}",
        "head CT",
        "CT of the head",
        "CT head",
        "axial CT of the head",
        "cranial CT",
    ),
    _topic(CT_HEAD, "axial CT of the skull", "non-contrast head CT", "skull vault CT"),
    _topic(CT_BASE, "CT of the skull base", "skull base", "axial CT through the skull base", "petrous bone CT"),
    _topic(
        CT_PERFUSION,
        "brain CT",
        "CT of the brain",
        "CT perfusion",
        "CT perfusion map",
        "regional cerebral blood flow",
        "perfusion",
    ),
    _topic(
        CT_ABDOMEN,
        "abdominal CT",
        "CT of the abdomen",
        "pancreas CT",
        "CT of the pancreas",
        "CT of the kidneys",
        "axial CT abdomen",
        "CT of the upper abdomen",
    ),
    _topic(
        CT_SPINE,
        "CT of a vertebra",
        "CT of a thoracic vertebra",
        "vertebra",
        "axial CT of the spine",
        "thoracic vertebra CT",
    ),
    _topic(ALL_CT, "CT", "CT scan", "computed tomography", "axial CT"),
    _topic(
        MR_LIVER,
        "MRI of the abdomen",
        "axial T1 MRI of the liver",
        "liver MRI",
        "abdominal MRI",
        "MRI of the liver",
        "liver lesion",
        "axial T1 of the abdomen",
        "VIBE of the liver",
    ),
    _topic(
        MR_SHOULDER,
        "shoulder MRI",
        "MRI of the shoulder",
        "coronal T1 MRI of the shoulder",
        "coronal T1 shoulder",
        "shoulder",
    ),
    _topic(ALL_US, "ultrasound", "sonography", "ultrasound image", "us scan", "sonogram"),
    _topic(
        US_ECHO,
        "echocardiogram",
        "echocardiography",
        "apical view of the heart",
        "four chamber view",
        "cardiac ultrasound",
    ),
    _topic(f"{US_NODE} {US_FLOW}", "doppler ultrasound", "colour doppler", "color doppler", "blood flow ultrasound"),
    _topic(
        US_NODE, "lymph node ultrasound", "lymph node", "power doppler of a lymph node", "ultrasound of a lymph node"
    ),
    _topic(US_PHANTOM, "obstetric ultrasound", "ultrasound distance measurement"),
    _topic(US_PELVIS, "pelvic ultrasound", "two ultrasound views side by side", "ultrasound dual view"),
)


def sample_query(rng: np.random.Generator) -> Query:
    """Words about one topic of the samples."""
    topic = TOPICS[int(rng.integers(len(TOPICS)))]
    return Query(framed(choose(rng, topic.words), rng), Claim(brain=False, samples=topic.samples))


def sample_names() -> tuple[str, ...]:
    """File names of all samples that have a topic."""
    return tuple(sorted({name for topic in TOPICS for name in topic.samples}))
