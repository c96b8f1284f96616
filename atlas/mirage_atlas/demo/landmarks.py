"""Our table of brain structures: MNI extent in mm and a point inside, with the tissue found there.

Extents are generous boxes of the structure in the ICBM 2009a symmetric template, read off the tissue maps and standard
anatomy; a bilateral structure is given for the right side (x > 0) and mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
Tissue = Literal["grey", "white", "fluid", "brain"]
Range = tuple[int, int]


@dataclass(frozen=True)
class Structure:
    """One structure: box in MNI mm (x of the right one when bilateral), a point inside and the tissue at that point."""

    name: str
    x: Range
    y: Range
    z: Range
    point: tuple[int, int, int]
    tissue: Tissue
    bilateral: bool = True

    def extent(self, plane: Plane) -> Range:
        """Extent in mm along the axis that the plane cuts: z axial, y coronal, x (of the right side) sagittal."""
        return {"axial": self.z, "coronal": self.y, "sagittal": self.x}[plane]

    def crosses(self, plane: Plane, level_mm: float) -> bool:
        """True if a section at this level cuts the structure, at least 2 mm inside it if it is thick enough."""
        low, high = self.extent(plane)
        level = abs(level_mm) if plane == "sagittal" and self.bilateral else level_mm
        margin = 2 if high - low > 8 else 0
        return low + margin <= level <= high - margin


def _pair(name: str, x: Range, y: Range, z: Range, point: tuple[int, int, int], tissue: Tissue) -> Structure:
    return Structure(name, x, y, z, point, tissue)


def _midline(name: str, x: Range, y: Range, z: Range, point: tuple[int, int, int], tissue: Tissue) -> Structure:
    return Structure(name, x, y, z, point, tissue, bilateral=False)


STRUCTURES: tuple[Structure, ...] = (
    _midline("genu of the corpus callosum", (-12, 12), (20, 34), (-6, 18), (0, 28, 6), "white"),
    _midline("body of the corpus callosum", (-14, 14), (-30, 20), (18, 30), (0, -4, 24), "white"),
    _midline("splenium of the corpus callosum", (-14, 14), (-45, -32), (4, 22), (0, -39, 14), "white"),
    _pair("frontal horns of the lateral ventricles", (2, 20), (6, 32), (0, 20), (5, 18, 10), "fluid"),
    _pair("bodies of the lateral ventricles", (2, 20), (-26, 6), (14, 28), (9, -6, 22), "fluid"),
    _pair("atria of the lateral ventricles", (16, 32), (-48, -32), (0, 20), (25, -40, 10), "fluid"),
    _midline("third ventricle", (-3, 3), (-30, 0), (-10, 10), (0, -8, -4), "fluid"),
    _midline("fourth ventricle", (-10, 10), (-50, -38), (-44, -24), (0, -46, -32), "fluid"),
    _pair("thalami", (2, 24), (-34, -4), (-3, 18), (11, -18, 8), "grey"),
    _pair("heads of the caudate nuclei", (6, 19), (4, 24), (-6, 18), (12, 14, 8), "grey"),
    _pair("putamina", (17, 33), (-18, 20), (-12, 14), (26, 4, 2), "grey"),
    _pair("globi pallidi", (12, 26), (-14, 6), (-7, 7), (19, -4, 0), "brain"),
    _pair("insulae", (30, 46), (-24, 24), (-16, 18), (38, 6, 2), "grey"),
    _pair("hippocampi", (16, 38), (-40, -8), (-28, -2), (28, -20, -16), "grey"),
    _pair("amygdalae", (13, 32), (-11, 5), (-28, -12), (23, -4, -20), "grey"),
    _midline("midbrain", (-18, 18), (-36, -12), (-22, -4), (8, -20, -14), "brain"),
    _midline("pons", (-18, 18), (-42, -14), (-46, -20), (4, -28, -32), "brain"),
    _midline("medulla oblongata", (-12, 12), (-52, -32), (-70, -48), (3, -42, -56), "brain"),
    _pair("cerebellar hemispheres", (10, 54), (-90, -40), (-60, -18), (30, -66, -40), "brain"),
    _midline("cerebellar vermis", (-8, 8), (-82, -46), (-42, -4), (1, -66, -26), "grey"),
    _pair("cingulate gyri", (1, 14), (-44, 44), (8, 44), (6, 14, 34), "grey"),
    _pair("precuneus", (1, 18), (-78, -46), (22, 60), (7, -62, 40), "grey"),
    _pair("cuneus", (1, 20), (-98, -72), (4, 36), (7, -84, 22), "grey"),
    _pair("calcarine cortex", (1, 26), (-98, -56), (-4, 14), (10, -76, 6), "grey"),
    _pair("orbitofrontal cortex", (4, 46), (16, 58), (-26, -8), (26, 34, -16), "grey"),
    _pair("frontal poles", (6, 40), (52, 74), (-16, 26), (24, 58, 4), "brain"),
    _pair("superior frontal gyri", (4, 32), (-6, 54), (40, 70), (14, 28, 52), "brain"),
    _pair("precentral gyri", (20, 62), (-26, 8), (20, 70), (44, -8, 48), "brain"),
    _pair("postcentral gyri", (20, 64), (-42, -16), (24, 70), (44, -28, 52), "brain"),
    _pair("superior parietal lobules", (12, 42), (-78, -44), (42, 70), (26, -60, 58), "brain"),
    _pair("superior temporal gyri", (44, 68), (-42, 12), (-14, 16), (56, -16, 2), "brain"),
    _pair("middle temporal gyri", (48, 70), (-62, -2), (-26, 6), (58, -34, -6), "brain"),
    _pair("temporal poles", (24, 52), (4, 24), (-44, -22), (38, 12, -32), "brain"),
    _pair("fusiform gyri", (24, 48), (-74, -20), (-28, -8), (36, -46, -18), "brain"),
    _pair("occipital poles", (6, 36), (-106, -88), (-16, 20), (18, -96, 2), "brain"),
    _pair("supramarginal gyri", (46, 66), (-52, -20), (16, 46), (56, -36, 32), "brain"),
    _pair("centrum semiovale", (16, 38), (-42, 30), (28, 42), (26, -18, 34), "white"),
    _pair("corona radiata", (18, 34), (-30, 24), (16, 30), (26, -12, 24), "white"),
    _pair("posterior limbs of the internal capsules", (14, 28), (-22, 0), (2, 16), (22, -16, 8), "white"),
    _pair("paracentral lobules", (1, 14), (-44, -14), (50, 76), (6, -30, 62), "brain"),
)

SINGULAR: dict[str, str] = {
    "frontal horns of the lateral ventricles": "frontal horn of the lateral ventricle",
    "bodies of the lateral ventricles": "body of the lateral ventricle",
    "atria of the lateral ventricles": "atrium of the lateral ventricle",
    "thalami": "thalamus",
    "heads of the caudate nuclei": "head of the caudate nucleus",
    "putamina": "putamen",
    "globi pallidi": "globus pallidus",
    "insulae": "insula",
    "hippocampi": "hippocampus",
    "amygdalae": "amygdala",
    "cerebellar hemispheres": "cerebellar hemisphere",
    "cingulate gyri": "cingulate gyrus",
    "frontal poles": "frontal pole",
    "superior frontal gyri": "superior frontal gyrus",
    "precentral gyri": "precentral gyrus",
    "postcentral gyri": "postcentral gyrus",
    "superior parietal lobules": "superior parietal lobule",
    "superior temporal gyri": "superior temporal gyrus",
    "middle temporal gyri": "middle temporal gyrus",
    "temporal poles": "temporal pole",
    "fusiform gyri": "fusiform gyrus",
    "occipital poles": "occipital pole",
    "supramarginal gyri": "supramarginal gyrus",
    "posterior limbs of the internal capsules": "posterior limb of the internal capsule",
    "paracentral lobules": "paracentral lobule",
}

GROUPS: dict[str, tuple[str, ...]] = {
    "lateral ventricles": (
        "frontal horns of the lateral ventricles",
        "bodies of the lateral ventricles",
        "atria of the lateral ventricles",
    ),
    "corpus callosum": (
        "genu of the corpus callosum",
        "body of the corpus callosum",
        "splenium of the corpus callosum",
    ),
    "basal ganglia": ("heads of the caudate nuclei", "putamina", "globi pallidi"),
    "cerebellum": ("cerebellar hemispheres", "cerebellar vermis"),
    "brainstem": ("midbrain", "pons", "medulla oblongata"),
    "caudate nuclei": ("heads of the caudate nuclei",),
    "internal capsules": ("posterior limbs of the internal capsules",),
}
"""Structures that students call by one name, with the parts whose presence makes the name true."""

BY_NAME: dict[str, Structure] = {structure.name: structure for structure in STRUCTURES}


def structures_at(plane: Plane, level_mm: float) -> tuple[Structure, ...]:
    """The structures of the table that a section cuts, the ones whose middle is nearest first."""

    def distance(structure: Structure) -> float:
        low, high = structure.extent(plane)
        level = abs(level_mm) if plane == "sagittal" and structure.bilateral else level_mm
        return abs(level - (low + high) / 2) + 0.25 * (high - low)

    return tuple(sorted((s for s in STRUCTURES if s.crosses(plane, level_mm)), key=distance))


def level_range(name: str, plane: Plane) -> Range:
    """Levels in mm over which a structure or a group is cut; sagittal ranges of paired structures are of |x|.

    Raises KeyError for a name that is in neither table.
    """
    parts = [BY_NAME[part] for part in GROUPS[name]] if name in GROUPS else [BY_NAME[name]]
    extents = [part.extent(plane) for part in parts]
    if plane == "sagittal":
        extents = [(max(low, 0), high) for low, high in extents]
    return (min(low for low, _ in extents), max(high for _, high in extents))
