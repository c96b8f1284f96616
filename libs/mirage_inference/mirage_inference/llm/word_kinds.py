"""Says of what kind a word of a sentence or caption is: a term, a finding, a side, one of several opposites."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache

from mirage_inference.llm import words as lists
from mirage_inference.llm.forms import name_of, same_words


def forms_of(text: str) -> frozenset[str]:
    """Returns the words of a text, each as it is and in the form in which it is compared."""
    return frozenset(form for word in text.split() for form in (word, name_of(word)))


def _forms(text: str) -> frozenset[str]:
    return frozenset(map(name_of, text.split()))


@cache
def vocabulary() -> Mapping[str, frozenset[str]]:
    """Returns the groups of medical_words.txt, in the form in which words are compared."""
    return {
        name: frozenset(form for word in group for form in (word, name_of(word)))
        for name, group in lists.vocabulary().items()
    }


_IDLE = forms_of("""
a about after all also an and any appear appearance are area as at be been being between both by can caption clear
clearly contain could demonstrate demonstrated demonstrating depict depicted describe described display do
each evident example figure finding follow for found from given has have here how i identified illustrate image in
indicate indicated into is it its itself just level like likely located may might more most much no none nor not note
noted of on one only or other our out over part patient picture plane position present presence region same scan see
seen section show showing shown side signal simulate simulated simulation slice so some such suggest that the their
them then there these they thing this those through to type under up us use used using very view visible visualised
visualized visualize was we weighted weighting were what when where which while who whole with within would you your
approximately around roughly cut lie near along measuring measure size sized diameter large- sized feature reveal affect
revealing revealed observed case student feet consistent appreciate appreciated sign keeping suggestive suggesting
way look involve involving gland matter system cast accompany accompanied
made taken detected displayed examined last either structure study name named body without but due because cause result produce
remain persist run underlying classic state stated stating mention mentioned description
next adjacent beside alongside come pass absent plain toward towards onto upon across within among off up down anatomic anatomical
form forming content component portion zone site spot aspect kind typical characteristic particular corresponding correspond
representing represent compatible diagnostic diagnosis diagnose evidence photo photograph frame panel obtain acquire perform
make do undergo receive exam examination investigation test however instead still already again moreover additional
additionally further furthermore together respectively throughout while exist find occur happen mark point denote label
highlight outline confirm prove exemplify lead intensity territory old age height where whose another time
include including remarkable significant formation change thing arrow arrowhead contrast had doe did
become develop let hold bear give serve visualize visualise via per depiction seem others else every very less quite rather
even am
""")
"""Words that say nothing about what is seen. `body` is one: "body of the lateral ventricle" keeps the other two."""
_IDLE |= same_words().idle | {"non"}
COUNTS = forms_of("two three four five six seven eight nine ten multiple single")
_DECISIVE = forms_of("""
first second third fourth fifth upper lower middle superior inferior anterior posterior medial lateral proximal distal
dorsal ventral volar palmar plantar ascending descending sigmoid central peripheral apical basal subpleural submucosal
intramural subserosal mild moderate severe mildly moderately severely slight slightly marked markedly well poorly
acute subacute chronic complete incomplete partial completely partially displaced undisplaced intact preserved spared
normal abnormal enlarged thickened dilated narrowed tear rupture benign malignant increased decreased reduced solid
cystic open closed simple complex recent old bilateral unilateral internal external deep superficial early late high
low positive negative hyperintense hypointense hyperdense hypodense collateral cruciate well
""")
"""Words that a picture either bears out or not: where a caption lacks one, it does not support a sentence that has it."""
HEDGES = forms_of(
    "possible possibly probable probably may might suspected suspicious question questionable versus vs concern differential "
    "could presumed presumably presumptive apparently seemingly putative likely suggest suggesting suggestive suggests "
    "concerning worrisome suspect suspicion"
)
_IDLE |= HEDGES
CHANGING = forms_of(
    "removal resection excision removed resected history prior previous post resolution resolved repair "
    "mimicking simulating resembling"
)
"""Words after which a thing is not there, or not now: "resection of a glioma" does not show it."""
_LEVEL = re.compile(r"[ctls]\d{1,2}|[ivx]{2,5}")
OPPOSITES: tuple[frozenset[str], ...] = tuple(
    _forms(group)
    for group in (
        "axial coronal sagittal",
        "t1 t2 flair dwi adc",
        "mr ct xray ultrasound scintigraphy histology endoscopy mammogram fundus pet",
        "hyperintense hypointense isointense",
        "hyperechoic hypoechoic anechoic",
        "hyperdense hypodense isodense",
        "frontal parietal temporal occipital",
        "upper lower middle",
        "superior inferior",
        "anterior posterior",
        "medial lateral",
        "proximal distal",
        "dorsal ventral",
        "benign malignant",
        "acute chronic",
        "increased decreased",
        "dilated narrowed",
        "dilatation narrowing",
        "artery vein",
        "male female man woman",
        "iiiventricle ivventricle",
        "genu splenium",
        "small large",
        "inner outer",
        "true false",
        "diffuse focal",
        "solid cystic",
        "normal abnormal enlarged",
        "intact tear rupture",
        "mild moderate severe",
        "unilateral bilateral",
        "cervical thoracic lumbar",
        "femur tibia fibula humerus radius ulna",
        "cyst abscess tumor hematoma",
        "welldefined illdefined",
        "internal external",
        "contrastagent noncontrast",
        "lytic sclerotic",
        "smooth irregular",
        "smaller larger",
        "homogeneous heterogeneous",
        "red green blue yellow white black gray orange purple pink",
        "circle triangle square asterisk star",
    )
)
SEQUENCES, SIGNALS = OPPOSITES[1], OPPOSITES[3]
_OF_WHOLE = 3
"""The first groups are of the whole image: planes, sequences, modalities."""
PART_OPPOSITES = OPPOSITES[_OF_WHOLE:]
"""Opposites that are said of a part of an image."""
VIEWS = frozenset().union(*OPPOSITES[:_OF_WHOLE]) | forms_of(
    "man woman child newborn before transesophageal transthoracic transvaginal transabdominal endoscopic gadolinium "
    "intravenous simulated midline ap pa contrastagent noncontrast angiogram hrct panoramic doppler echocardiogram "
    "postoperative preoperative"
)
SIDES = ("left", "right")
PLACES: Mapping[str, tuple[int, ...]] = {
    word: tuple(number for number, group in enumerate(OPPOSITES) if word in group)
    for word in _forms(
        "upper lower middle superior inferior anterior posterior medial lateral proximal distal internal external"
    )
}
DEGREES: Mapping[str, tuple[int, ...]] = {
    word: tuple(number for number, group in enumerate(OPPOSITES) if word in group)
    for word in _forms(
        "small large mild moderate severe smaller larger lytic sclerotic solid hyperintense hypointense isointense hyperechoic "
        "hypoechoic anechoic hyperdense hypodense isodense benign malignant acute chronic increased decreased true false "
        "diffuse focal welldefined illdefined homogeneous heterogeneous smooth irregular"
    )
}
COMPARATIVES = forms_of(
    "smaller larger greater bigger higher thicker thinner longer shorter wider narrower brighter darker"
)


def is_finding(term: str) -> bool:
    """Returns True for a finding or a disease."""
    return term in vocabulary()["finding"] or term in vocabulary()["disease"]


def states(term: str) -> bool:
    """Returns True for a term that says something of a structure: a finding, a size, a degree."""
    return is_finding(term) or (term not in VIEWS and any(term in group for group in PART_OPPOSITES))


def decisive(term: str) -> bool:
    """Returns True for what decides whether a sentence is true: findings, diseases, where, how much, which level."""
    return term in _DECISIVE or is_finding(term) or bool(_LEVEL.fullmatch(term))


_NO_TERMS = _IDLE | COUNTS | frozenset(SIDES)


@lru_cache(maxsize=16384)
def is_term(word: str) -> bool:
    """Returns True for a word that says something about what is seen, other than a number or a side."""
    return word.isalnum() and not word[0].isdigit() and word not in _NO_TERMS and len(word) > 1
