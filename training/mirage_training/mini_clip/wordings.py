"""Texts about an image's facts in many wordings: words that different people use, in orders and sentences of theirs, with typos.

The evaluation's phrasings are written by hand in `phrasings/` and are not made from these lists.
"""

from __future__ import annotations

import re

import numpy as np

from mirage_atlas.demo.captions import choose, level_names, visible_names
from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip.claims import Claim
from mirage_training.mini_clip.facts import Facts, Item, Text
from mirage_training.mini_clip.queries import (
    LOBE_ADJECTIVES,
    PLURAL,
    landmark_part,
    level_part,
    middle_range,
    structure_part,
)

Rng = np.random.Generator


def _words(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split("|"))


MODALITY: dict[str, tuple[str, ...]] = {
    "x-ray": _words("X-ray|X-ray|radiograph|x ray|xray|plain film|plain radiograph|X-ray image|radiography|film|X-ray picture"),
    "ct": _words("CT|CT|CT scan|computed tomography|CT image|CT slice|CAT scan|computed tomography scan|CT section|CT picture"),
    "mr": _words("MRI|MRI|MR|MRI scan|magnetic resonance image|MR image|MRI slice|magnetic resonance imaging|MR scan|MR imaging|"
                 "MRI picture|MRI section|magnetic resonance scan"),
    "us": _words("ultrasound|ultrasound image|sonogram|sonography|ultrasound scan|echo|US|ultrasonography|ultrasound picture"),
    "dermoscopy": _words("dermoscopy|dermoscopic image|dermatoscopy|dermatoscope picture|dermoscopy photo|skin photograph|close-up"),
    "microscopy": _words("microscopy|micrograph|microscope image|blood smear|smear|light microscopy|microscope picture|blood film"),
    "fundus": _words("fundus photograph|fundus image|retinal photograph|fundoscopy|retina photo|fundus photo|retinal image|"
                     "ophthalmoscopy"),
    "histology": _words("histology|histology slide|tissue section|pathology slide|stained tissue|histopathology|H&E slide|"
                        "microscope slide"),
    "nm": _words("bone scan|scintigraphy|bone scintigraphy|nuclear medicine scan|nuclear scan|scintigram|isotope scan"),
}  # fmt: skip
PLANE: dict[str, tuple[str, ...]] = {
    "axial": _words(
        "axial|axial|axial|axial|transverse|transversal|horizontal|cross-sectional|ax|axially cut|transaxial"
    ),
    "coronal": _words("coronal|coronal|coronal|coronal|frontal plane|cor|coronally cut"),
    "sagittal": _words("sagittal|sagittal|sagittal|sagittal|lateral plane|sag|sagittally cut|side-on sagittal"),
    "frontal": _words("frontal|frontal|front|PA or AP|front view"),
}
SEQUENCE: dict[str, tuple[str, ...]] = {
    "t1": _words("T1|T1|T1-weighted|T1 weighted|T1w|T1 sequence|T1WI|T1-w|t one weighted|T1 image|"
                 "T1 weighting"),
    "t2": _words("T2|T2|T2-weighted|T2 weighted|T2w|T2 sequence|T2WI|T2-like|simulated T2|T2-w|t two weighted|T2 image|T2 weighting"),
    "flair": _words("FLAIR|FLAIR|flair|FLAIR sequence|T2 FLAIR|T2-FLAIR|fluid-attenuated inversion recovery|FLAIR-like|"
                    "simulated FLAIR|FLAIR image|fluid attenuated|FLAIR weighted|dark fluid"),
    "molli": ("inversion recovery",),
}  # fmt: skip
BODY: dict[str, tuple[str, ...]] = {
    "brain": _words("brain|brain|brain|head|cerebrum|skull and brain|brains|cranial|intracranial|neuro"),
    "head": _words("head|head|skull|cranium|brain"),
    "chest": _words("chest|chest|chest|thorax|lungs|thoracic|lung|upper body"),
    "abdomen": _words("abdomen|abdomen|belly|abdominal|upper abdomen|tummy|stomach area"),
    "pelvis": _words("pelvis|pelvis|pelvic|lower abdomen and pelvis"),
    "spine": _words("spine|spine|vertebral column|backbone|back|spinal column"),
    "lumbar spine": _words("lumbar spine|lumbar spine|lower back|L-spine|lumbosacral spine"),
    "breast": _words("breast|breast|mamma|breasts|mammary"),
    "blood": _words("blood|blood|peripheral blood|blood cells|haematology|hematology"),
    "teeth": _words("teeth|teeth|jaw|dental|panoramic dental|jaws and teeth|OPG|orthopantomogram|dentition"),
    "skin": _words("skin|skin|skin lesion|mole|cutaneous"),
    "hand": _words("hand|hand|hand and wrist|fingers|child's hand"),
    "eye": _words("eye|eye|retina|back of the eye|ocular"),
    "kidney": _words("kidneys|kidney|renal"),
    "shoulder": _words("shoulder|shoulder|shoulder joint"),
    "heart": _words("heart|heart|cardiac"),
    "lower leg": _words("lower leg|leg|shin|tibia and fibula"),
    "ankle": _words("ankle|ankle joint"),
    "hip": _words("hip|hips|hip joint"),
    "neck": _words("neck|neck|cervical"),
    "colon": _words("colon|large bowel|colonic"),
    "cell": _words("cell|single cell"),
    "whole body": _words("whole body|skeleton|whole skeleton"),
}
FINDING: dict[str, tuple[str, ...]] = {
    "none": _words(
        "no finding|normal|no abnormality|healthy|nothing abnormal|unremarkable|no disease|clear|without findings"
    ),
    "pneumonia": _words("pneumonia|pneumonia|lung infection|chest infection|infected lung|pneumonic infiltrate"),
    "bacterial pneumonia": _words("bacterial pneumonia|pneumonia caused by bacteria|bacterial lung infection"),
    "viral pneumonia": _words("viral pneumonia|pneumonia caused by a virus|viral lung infection"),
    "covid-19": _words("COVID-19|covid|coronavirus|SARS-CoV-2 pneumonia|COVID pneumonia|corona"),
    "pulmonary edema": _words("pulmonary edema|pulmonary oedema|lung edema|fluid on the lungs"),
    "pleural effusion": _words("pleural effusion|fluid around the lung|pleural fluid|effusion"),
    "infiltration": _words("infiltration|infiltrate|infiltrates"),
    "atelectasis": _words("atelectasis|collapsed lung tissue|lung collapse"),
    "cardiomegaly": _words("cardiomegaly|enlarged heart|big heart"),
    "pneumothorax": _words("pneumothorax|air in the pleural space"),
    "consolidation": _words("consolidation|consolidated lung"),
    "lung nodule": _words("lung nodule|pulmonary nodule|nodule"),
    "lung mass": _words("lung mass|pulmonary mass|mass in the lung"),
    "pleural thickening": _words("pleural thickening|thickened pleura"),
    "brain tumor": _words("brain tumor|brain tumour|intracranial tumour|tumor|cerebral neoplasm|brain neoplasm"),
    "glioma": _words("glioma|glial tumour|glioma|glial tumor"),
    "meningioma": _words("meningioma|meningioma|tumour of the meninges|meningeal tumor"),
    "pituitary tumor": _words(
        "pituitary tumor|pituitary tumour|pituitary adenoma|tumor of the pituitary gland|sellar tumour"
    ),
    "lung cancer": _words("lung cancer|lung carcinoma|malignant lung tumour|bronchial carcinoma|cancer of the lung"),
    "benign lung lesion": _words("benign lung lesion|benign nodule|benign lung disease"),
    "breast lesion": _words("breast lesion|breast lump|lump|breast mass"),
    "benign breast lesion": _words(
        "benign breast lesion|benign lump|fibroadenoma or another benign lesion|benign breast mass"
    ),
    "malignant breast lesion": _words("malignant breast lesion|breast cancer|malignant mass|breast carcinoma"),
    "melanocytic nevus": _words("melanocytic nevus|nevus|mole|naevus|benign mole"),
    "melanoma": _words("melanoma|malignant melanoma|black skin cancer|skin cancer"),
    "dental filling": _words("dental filling|fillings|filled teeth|tooth filling"),
    "dental implant": _words("dental implant|implant|implants|tooth implant"),
    "dental caries": _words("dental caries|tooth decay|cavities|carious teeth|cavity"),
    "impacted tooth": _words("impacted tooth|impacted wisdom tooth|impacted teeth|unerupted tooth"),
    "white blood cells": _words("white blood cells|leukocytes|leucocytes|white cells"),
    "red blood cells": _words("red blood cells|erythrocytes|red cells"),
    "platelets": _words("platelets|thrombocytes"),
    "disc bulging": _words("disc bulging|bulging disc|disk bulge"),
    "disc herniation": _words("disc herniation|herniated disc|slipped disc|disk prolapse|prolapsed disc"),
    "hereditary elliptocytosis": _words("hereditary elliptocytosis|elliptocytosis"),
    "thalassemia": _words("thalassemia|thalassaemia"),
    "iron deficiency anemia": _words("iron deficiency anemia|iron deficiency anaemia|iron deficiency"),
    "megaloblastic anemia": _words("megaloblastic anemia|megaloblastic anaemia|B12 deficiency anaemia"),
    "hypochromic red cells": _words("hypochromic red cells|hypochromic cells|pale red cells|hypochromia"),
    "target cells": _words("target cells|codocytes"),
    "teardrop cells": _words("teardrop cells|dacrocytes"),
}
AGE = {
    "child": _words("in a child|of a child|paediatric|pediatric|in a kid|of a young patient"),
    "adult": _words("in an adult|of an adult|adult"),
    "older adult": _words("in an elderly patient|of an older person|in an old patient"),
}
SEX = {
    "male": _words("of a man|in a male patient|male|of a gentleman"),
    "female": _words("of a woman|in a female patient|female"),
}
VIEW = {
    "pa": _words("PA|posteroanterior|PA view|PA projection"),
    "ap": _words("AP|anteroposterior|AP view|AP projection"),
}
WINDOW = {
    "soft tissue": _words("soft tissue window|mediastinal window|standard window|soft-tissue windowing"),
    "lung": _words("lung window|pulmonary window|lung windowing|window for the lungs"),
    "bone": _words("bone window|bony window|bone windowing|bone algorithm"),
}
CONTRAST = {"yes": _words("with contrast|contrast-enhanced|after contrast|post-contrast|enhanced|gadolinium-enhanced")}
EVERYDAY = {
    "urinary bladder": "bladder", "oesophagus": "gullet", "aorta": "main artery", "trachea": "windpipe", "sternum": "breastbone",
    "small intestine": "small bowel", "colon": "large bowel", "left kidney": "kidney", "right kidney": "kidney",
    "inferior vena cava": "IVC", "gallbladder": "gall bladder", "left lung": "lung", "right lung": "lung",
    "suprarenal gland": "adrenal gland", "left femur": "thigh bone", "right femur": "thigh bone",
}  # fmt: skip

NOUN_PHRASES = (
    "{p} {s} {m} of the {b} {x}", "{p} {s} {m} of the {b} {x}", "{p} {s} {b} {m} {x}", "{p} {b} {m} {s} {x}",
    "{s} {p} {m} of the {b} {x}", "{s} {p} {b} {m} {x}", "{s} {b} {m} {p} {x}", "{m} {b} {p} {s} {x}", "{m} {b} {s} {p} {x}",
    "{b} {m} {p} {s} {x}", "{b} {m}, {p}, {s} {x}", "{b} {m} {x}, {p} {s}", "{m} of the {b} {x}, {p} plane, {s}",
    "{s} {m} of the {b} in the {p} plane {x}", "{p} view of the {b} on {s} {m} {x}", "{p} slice of the {b} {x}, {s} {m}",
    "{p} section {x}, {s} {b} {m}", "{b} {x}, {s} {m}, {p}", "{s} {b} {x} {p}", "{p} {s} {x}", "{p} {b} {s} {x}",
    "{m} {s} {b} {x} in {p} orientation", "{b}: {p} {s} {m} {x}", "{m} ({s}, {p}) of the {b} {x}", "{p} cut of the {b}, {s} {x}",
    "the {b} {x} on {p} {s} {m}", "{s} {m} showing the {b} {x} from a {p} perspective", "{b} on {s} {m}, {p} slice {x}",
    "{p} plane {b} {m} with {s} {x}", "{x} {p} {s} {b} {m}", "{x}, {b} {m} {p} {s}", "{x} on {s} {m} of the {b}, {p}",
    "{p}, {s}, {m}, {b} {x}", "{p}-plane {s} {m} {x}", "{s} {x} {p} view", "{b} {s} {p}",
)  # fmt: skip
SENTENCES = (
    *("{}",) * 14,
    "show me {a}", "please show me {a}", "can you show me {a}?", "could I see {a}", "I want to see {a}", "i need {a}", "find {a}",
    "find me {a}", "search for {a}", "looking for {a}", "I am looking for {a}", "give me {a}", "an example of {a}",
    "a typical example of {a}", "example: {}", "do you have {a}?", "is there {a}", "{} please", "{} for my lecture",
    "{} for teaching", "picture of {a}", "image of {a}", "what does {a} look like", "what would {a} look like?",
    "how does {a} look", "let me look at {a}", "open {a}", "pull up {a}", "I'd like {a}", "we need {a} for class",
    "any {}?", "images: {}", "some {} images", "{} example", "{} picture", "{} image", "one {}", "would you have {a} somewhere",
    "display {a}", "where can I find {a}", "how to recognise {a}", "compare with {a}", "help me find {a}", "{} - any good one?",
    "student question: {}", "exam: {}", "quiz me on {a}", "a nice {}", "this should be {a}", "patient had {a}",
)  # fmt: skip
SHOWING = ("showing the {}", "with the {}", "through the {}", "at the level of the {}", "at the {}", "where the {} is seen",
           "in which you can see the {}", "that shows the {}", "including the {}", "with the {} visible", "of the {}", "{}")  # fmt: skip
WITH = ("with {}", "showing {}", "with signs of {}", "suspicious for {}", "demonstrating {}", "of a patient with {}", "{}", "in {}",
        "diagnosis {}", "that shows {}", "consistent with {}", "due to {}")  # fmt: skip
LESION_NOUN = _words("lesion|lesion|focal lesion|simulated lesion|abnormality|spot|focus|mass|lesion")
BRIGHT = {
    "hyperintense": _words("hyperintense|bright|high signal|white|high-signal|light|hyperintense"),
    "hypointense": _words("hypointense|dark|low signal|black|low-signal|hypointense"),
}
NORMAL = _words(
    "without lesion|no lesion|normal|healthy|without any abnormality|with no focal lesion|unremarkable|lesion-free"
)


def about(item: Item, rng: Rng) -> Text:
    """A text about some facts of a real image or of a section of a volume."""
    claimed: set[str] = set()

    def pick(attribute: str, table: dict[str, tuple[str, ...]], chance: float) -> str:
        values = [value for value in item.values(attribute) if value in table]
        if not values or rng.random() >= chance:
            return ""
        value = choose(rng, values)
        claimed.add(f"{attribute}:{value}")
        return choose(rng, table[value])

    rest = []
    findings = item.values("finding")
    if findings and rng.random() < 0.6:
        chosen = [findings[i] for i in rng.permutation(len(findings))[: 1 + int(rng.random() < 0.25)]]
        claimed |= {f"finding:{each}" for each in chosen}
        words = " and ".join(choose(rng, FINDING.get(each, (each,))) for each in chosen)
        rest.append(words if chosen == ["none"] else choose(rng, WITH).format(words))
    structures = item.values("structure")
    if structures and rng.random() < 0.75:
        weights = np.array([_WEIGHT.get(each.split()[-1], 1.0) for each in structures])
        count = min(len(structures), 1 + int(rng.random() < 0.3))
        chosen = [structures[i] for i in rng.choice(len(structures), count, replace=False, p=weights / weights.sum())]
        claimed |= {f"structure:{each}" for each in chosen}
        rest.append(choose(rng, SHOWING).format(" and the ".join(_structure_word(each, rng) for each in chosen)))
    if (levels := item.values("level")) and rng.random() < 0.25:
        claimed.add(f"level:{(level := choose(rng, levels))}")
        rest.append(
            choose(rng, ("at {}", "at the level of {}", "level {}", "at vertebra {}", "through {}")).format(level)
        )
    for attribute, table, chance in (
        ("window", WINDOW, 0.3),
        ("age", AGE, 0.25),
        ("sex", SEX, 0.1),
        ("contrast", CONTRAST, 0.3),
    ):
        if word := pick(attribute, table, chance):
            rest.append(word if attribute != "window" or rng.random() < 0.5 else f"in {word}")
    if view := pick("view", VIEW, 0.35):
        rest.append(view)
    if (sides := item.values("side")) and rng.random() < 0.3:
        claimed.add(f"side:{sides[0]}")
        rest.append(choose(rng, ("{} side", "{}", "on the {}")).format(sides[0]))
    plane = pick("plane", PLANE, 0.6)
    sequence = pick("sequence", SEQUENCE, 0.5)
    modality = pick("modality", MODALITY, 0.8 if rest else 0.95)
    body = pick("body", BODY, 0.65 if rest else 0.9)
    if not (modality or body or rest):
        modality = pick("modality", MODALITY, 1.0) or pick("body", BODY, 1.0)
    text = phrase(plane, sequence, modality, body, " ".join(rest), rng)
    return Text(text, frozenset(claimed))


_WEIGHT = {"ribs": 0.4, "cartilages": 0.3, "proper": 0.3, "medius": 0.4, "minimus": 0.4, "maximus": 0.4, "liver": 2.0, "spleen": 2.0,
           "heart": 2.0, "kidney": 1.6, "stomach": 2.0, "aorta": 1.6, "colon": 1.8, "pancreas": 1.6, "bladder": 1.8}  # fmt: skip


def _structure_word(name: str, rng: Rng) -> str:
    if name in EVERYDAY and rng.random() < 0.3:
        return EVERYDAY[name]
    return name


def phrase(plane: str, sequence: str, modality: str, body: str, rest: str, rng: Rng) -> str:
    """The words in some order, in some sentence, as people type."""
    core = choose(rng, NOUN_PHRASES).format(p=plane, s=sequence, m=modality, b=body or "@", x=rest)
    if not all(word in core for word in (plane, sequence, modality, body, rest) if word):
        missing = [word for word in (plane, sequence, modality, body, rest) if word and word not in core]
        core = f"{core} {' '.join(missing)}"
    core = _tidy(core)
    sentence = choose(rng, SENTENCES)
    article = "an" if core[:1].lower() in "aeiou" else "a"
    text = sentence.format(core, a=f"{article} {core}" if rng.random() < 0.6 else core)
    return typed(text, rng)


def _tidy(text: str) -> str:
    text = re.sub(r"(of the|showing the|the|on|of|with|in) @", "", text).replace("@", "")
    text = re.sub(r"\(\s*,?\s*(.*?)\s*,?\s*\)", lambda found: f"({found[1]})" if found[1] else "", text)
    text = re.sub(r"(in the|in|from a)\s+(plane|orientation|perspective)", "", text)
    text = re.sub(r"\bplane (plane|of the)", r"\1", text)
    text = re.sub(r"\s+([,:?.])", r"\1", re.sub(r"\s+", " ", text))
    text = re.sub(r"([,:])(\s*[,:])+", r"\1", text)
    return text.strip(" ,:-").removesuffix(" with").removesuffix(" on").removesuffix(" of the")


BRITISH = (("tumor", "tumour"), ("edema", "oedema"), ("anemia", "anaemia"), ("gray", "grey"), ("color", "colour"))


def typed(text: str, rng: Rng) -> str:
    """The text as people type: case, spelling, a typo in one of ten."""
    roll = rng.random()
    if roll < 0.45:
        text = text.lower()
    elif roll < 0.5:
        text = text.upper()
    elif roll < 0.8:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.3:
        for american, british in BRITISH:
            text = text.replace(american, british)
    if rng.random() < 0.12:
        text = mistyped(text, rng)
    if rng.random() < 0.1:
        text = text.replace("-", " ") if rng.random() < 0.5 else text.replace(",", "")
    return text + (choose(rng, (".", "?", "!", " ?")) if rng.random() < 0.12 else "")


def mistyped(text: str, rng: Rng) -> str:
    """One letter of a longer word swapped with the next, left out, or doubled."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    index = long[int(rng.integers(len(long)))]
    word = words[index]
    at = int(rng.integers(1, len(word) - 1))
    changed = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    )
    words[index] = choose(rng, changed)
    return " ".join(words)


def about_rendering(item: Item, rng: Rng) -> Text:
    """A text about a rendering of the template: contrast, plane, level, structure or lesion, in everyday English."""
    spec = item.spec
    if spec is None:
        raise ValueError("this is not a rendering")
    claim = Claim()
    claimed: set[str] = set()
    plane = sequence = modality = body = ""
    if rng.random() < 0.7:
        plane, claim = choose(rng, PLANE[spec.plane]), claim.but(plane=spec.plane)
        claimed.add(f"plane:{spec.plane}")
    if rng.random() < 0.65:
        sequence, claim = choose(rng, SEQUENCE[spec.sequence]), claim.but(sequence=spec.sequence)
        claimed.add(f"sequence:{spec.sequence}")
    if rng.random() < 0.7:
        modality = choose(rng, MODALITY["mr"])
        claimed.add("modality:mr")
    if rng.random() < 0.7:
        body = choose(rng, BODY["brain"])
        claimed.add("body:brain")
    rest, narrow = "", False
    roll = rng.random()
    if spec.lesion and roll < 0.75:
        rest, claim = _lesion(spec.lesion, claim, rng)
        narrow = True
    elif roll < 0.55:
        rest, claim = _place(spec, claim, rng)
        narrow = True
    elif not spec.lesion and roll < 0.65:
        rest, claim = choose(rng, NORMAL), claim.but(lesion=False)
        narrow = True
    elif spec.plane == "sagittal" and spec.side and roll < 0.85:
        rest = choose(rng, ("{} side", "{}", "{} hemisphere", "on the {}")).format(spec.side)
        if spec.side == "midline":
            rest = choose(rng, ("midline", "in the midline", "midsagittal", "median"))
        claim = claim.but(side=spec.side)
        narrow = True
    if not (plane or sequence or modality or body or rest):
        sequence, claim = choose(rng, SEQUENCE[spec.sequence]), claim.but(sequence=spec.sequence)
        claimed.add(f"sequence:{spec.sequence}")
    text = phrase(plane, sequence, modality, body, rest, rng)
    # A claim about the brain's anatomy alone is of renderings; plane and contrast are facts that other images share.
    return Text(text, frozenset(claimed), claim if narrow else None)


def _lesion(lesion: Lesion, claim: Claim, rng: Rng) -> tuple[str, Claim]:
    side = lesion.side if rng.random() < 0.75 else ""
    lobe = lesion.lobe if rng.random() < 0.75 else ""
    signal = lesion.signal if rng.random() < 0.45 else ""
    claim = claim.but(lesion=True, side=side or claim.side, lobe=lobe or None, signal=signal or None)
    bright = choose(rng, BRIGHT[signal]) if signal else ""
    noun = choose(rng, LESION_NOUN)
    adjective = LOBE_ADJECTIVES[lobe] if lobe else ""
    where = f"{side} {lobe}".strip()
    forms = [f"{bright} {noun} {where}", f"{side} {adjective} {bright} {noun}", f"{where}: {bright} {noun}"]
    if where:
        forms += [
            f"with a {bright} {noun} in the {where}", f"{bright} {noun} within the {where}", f"{noun} located in the {where}, {bright}",
            f"{noun} affecting the {where} {bright}", f"that has a {bright} {noun} on the {side} in the {lobe}" if side and lobe else "",
            f"{where} {noun} {bright}", f"{bright} {noun} of the {where}",
        ]  # fmt: skip
        if side:
            forms += [
                f"{bright} {noun} on the {side} side {'of the ' + lobe if lobe else ''}",
                f"{side}-sided {bright} {adjective} {noun}",
            ]
    text = " ".join(choose(rng, [form for form in forms if form]).split()).strip(" ,:")
    return text, claim


def _place(spec: SectionSpec, claim: Claim, rng: Rng) -> tuple[str, Claim]:
    plane = spec.plane
    landmarks = level_names(plane, spec.level_mm)
    roll = rng.random()
    if landmarks and roll < 0.4:
        name = choose(rng, landmarks[:3])
        words = choose(rng, ("at the level of the {}", "through the {}", "at the {}", "passing through the {}", "level with the {}",
                             "cut through the {}", "in the middle of the {}")).format(name)  # fmt: skip
        if claim.plane:
            return words, claim.but(levels=((plane, middle_range(PLURAL.get(name, name), plane)),))
        _, claim = landmark_part(name, plane, claim, rng)
        return words, claim
    seen = visible_names(plane, spec.level_mm)
    if seen and roll < 0.85:
        name = choose(rng, seen[:6])
        text, claim = structure_part(name, claim, rng)
        core = re.sub(r"^(showing the|with the|the) ", "", text)
        return choose(rng, SHOWING).format(core), claim
    return level_part(spec, claim, rng)


OTHER_FACTS: Facts = frozenset({"nowhere:nowhere"})
"""Claimed by a text that no image of the training answers."""
