"""Captions, keywords and UMLS concepts to facets: what figures of the literature say of themselves.

Concepts are the UMLS identifiers that ROCO and ROCOv2 use for modality, direction and region (Pelka et al. 2018, Rückert et al.
2024); a caption's own words go before them, since ROCO's concepts were found by a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mirage_atlas.records import Labels

CONCEPTS: dict[str, tuple[str, str]] = {
    "C0040405": ("modality", "ct"),  # X-Ray Computed Tomography
    "C0040395": ("modality", "ct"),  # Tomography
    "C0024485": ("modality", "mr"),  # Magnetic Resonance Imaging
    "C0041618": ("modality", "us"),  # Ultrasonography
    "C0013516": ("modality", "us"),  # Echocardiography
    "C1306645": ("modality", "x-ray"),  # Plain x-ray
    "C0043299": ("modality", "x-ray"),  # Diagnostic radiologic examination
    "C0002978": ("modality", "x-ray"),  # Angiography
    "C0024671": ("modality", "x-ray"),  # Mammography
    "C0032743": ("modality", "nm"),  # Positron-Emission Tomography
    "C1699633": ("modality", "nm"),  # PET/CT scan
    "C0034606": ("modality", "nm"),  # Radionuclide Imaging
    "C0817096": ("body_part", "chest"),  # Chest
    "C0000726": ("body_part", "abdomen"),  # Abdomen
    "C0030797": ("body_part", "pelvis"),  # Pelvis
    "C0037303": ("body_part", "head"),  # Bone structure of cranium
    "C0037949": ("body_part", "spine"),  # Vertebral column
    "C0006141": ("body_part", "breast"),  # Breast
    "C1140618": ("body_part", "upper extremity"),  # Upper Extremity
    "C0023216": ("body_part", "lower extremity"),  # Lower Extremity
}
_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "modality": (
        (r"\bpet\b|\bspect\b|scintigra|positron|radionuclide|\bbone scan|gallium|technetium|\bfdg\b", "nm"),
        (r"\bmrcp\b|\bmr[ia]?\b|\bmr imag|magnetic resonance|\bt[12]-?\s?weight|\bt[12]w?i?\b|\bflair\b|"
         r"\bdwi\b|gadolinium", "mr"),
        (r"\b(?:cb|ce)?ct\b|\bmdct\b|\bhrct\b|\bcta\b|computed tomogra|computeri[sz]ed tomogra|\bcat scan", "ct"),
        (r"ultraso|sonogra|echocardio|\becho\b|doppler|\bus\b(?= (?:of|image|scan|show))|\bivus\b|\beus\b|"
         r"apical (?:four|4)|parasternal", "us"),
        (r"x-?\s?rays?\b|radiogra|roentgen|angiogra|fluorosc|mammogra|orthopantomo|\bopg\b|\bopt\b|panoramic|urogra|cystogra|barium|"
         r"venogra|periapical|bitewing|cephalo|cholangiogra|myelogra|\bcxr\b|\bkub\b|arteriogra|plain film|\bap view|"
         r"lateral view", "x-ray"),
        (r"fundus (?:photo|image|auto|fluor)|fundosc|ophthalmosc", "fundus"),
        (r"histolog|histopath|haematoxylin|hematoxylin|immunohisto|photomicro", "histology"),
    ),
    "plane": (
        (r"\baxial|\btransverse\b|\btransaxial", "axial"),
        (r"\bcoronal", "coronal"),
        (r"\bsagittal", "sagittal"),
        (r"antero-?posterior|postero-?anterior|\bap view|\bpa view|\bfrontal (?:view|radio|chest|x)|"
         r"\bap (?:radio|x|pelvi|chest)|\bpa (?:chest|radio)", "frontal"),
        (r"\blateral (?:view|radio|x|project|cephalo|chest)", "lateral"),
        (r"\boblique (?:view|radio|x|project)", "oblique"),
    ),
    "sequence": (
        (r"\bflair\b|fluid.attenuated", "flair"),
        (r"\bt1[\s-]?(?:w|weight)|\bt1\b", "t1"),
        (r"\bt2[\s-]?(?:w|weight)|\bt2\b(?!\s?\*)", "t2"),
        (r"diffusion.weight|\bdwi\b", "dwi"),
        (r"t2\s?\*|gradient.echo|\bgre\b|\bswi\b|susceptib", "t2*"),
    ),
    "body_part": (
        (r"\bbrain\b|cerebr|cerebell|intracran|\bpons\b|hippocamp|ventricles\b", "brain"),
        (r"\bskull|\bhead\b|cranial|sinus(?:es)?\b|temporal bone", "head"),
        (r"\borbit|\bretina|\bocular|\beye\b|\bfundus photo", "eye"),
        (r"\bneck\b|thyroid|laryn|carotid|cervical lymph", "neck"),
        (r"\bchest\b|\blungs?\b|thora(?:x|cic) |pulmon|pleura|mediastin", "chest"),
        (r"\bheart\b|cardiac|ventricular|atri(?:um|al)|mitral|aortic valve|coronary art|echocardio", "heart"),
        (r"\bbreast|mammogra", "breast"),
        (r"\babdom|\bliver\b|hepat|\bspleen|pancrea|gallbladder|\bkidney|renal\b|\bbowel|colon\b|gastric|"
         r"stomach|duoden|ileum|jejun|appendi", "abdomen"),
        (r"\bpelvi|bladder|prostat|uter(?:us|ine)|ovar|\bhips?\b|acetabul|sacr", "pelvis"),
        (r"\bspine|spinal|vertebr|lumbar|intervertebral|cervical spine", "spine"),
        (r"\bshoulder|humer|elbow|wrist|\bhand\b|forearm|radius|ulna|finger|scaphoid|clavic", "upper extremity"),
        (r"\bknee|femur|femoral|tibia|fibul|ankle|\bfoot\b|\bleg\b|metatars|calcane|patell", "lower extremity"),
        (r"\btooth|teeth|dental|mandib|maxill|molar|panoramic|periapical", "jaw"),
    ),
    "side": ((r"\bbilateral", "bilateral"), (r"\bleft\b", "left"), (r"\bright\b", "right")),
}  # fmt: skip
_RULES = {facet: tuple((re.compile(words), value) for words, value in rules) for facet, rules in _WORDS.items()}
_SEVERAL = frozenset({"body_part", "plane", "sequence"})
_MR_ONLY = frozenset({"sequence"})


def facets_of(caption: str, concepts: Iterable[str] = (), keywords: Iterable[str] = ()) -> Labels:
    """Returns the facets that the caption's words name; for a facet that it does not name, those of keywords, then of concepts.

    A side is given only if one is named, a sequence only for MR. Modality is the first that fits in the order of `_WORDS`.
    """
    found: Labels = {}
    listed = " ".join(keywords)
    by_concept: dict[str, list[str]] = {}
    for concept in concepts:
        if concept in CONCEPTS:
            facet, value = CONCEPTS[concept]
            by_concept.setdefault(facet, []).append(value)
    for facet, rules in _RULES.items():
        values = _named(caption.lower(), rules)
        if not values and facet != "side":
            values = _named(listed.lower(), rules)
        if not values:
            # The general "tomography" occurs together with the special modality: the rarer one says more.
            values = tuple(dict.fromkeys(sorted(by_concept.get(facet, ()), key=by_concept.get(facet, []).count)))
        if facet == "side" and len(values) > 1:
            continue
        if values:
            found[facet] = values if facet in _SEVERAL else values[:1]
    if found.get("modality") != ("mr",):
        for facet in _MR_ONLY:
            found.pop(facet, None)
    return found


def _named(text: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> tuple[str, ...]:
    return tuple(value for words, value in rules if words.search(text))
