"""Words in one form, however they are written: stems, synonyms of radiology, British and American spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

_ORDINALS = {
    "1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth", "6th": "sixth", "7th": "seventh",
    "8th": "eighth", "9th": "ninth", "10th": "tenth", "11th": "eleventh", "12th": "twelfth",
}  # fmt: skip
_ABBREVIATIONS = {
    "ivc": "inferior vena cava", "svc": "superior vena cava", "sma": "superior mesenteric artery",
    "ica": "internal carotid artery", "mca": "middle cerebral artery", "cbd": "common bile duct",
    "lul": "left upper lobe", "lll": "left lower lobe", "rul": "right upper lobe", "rml": "right middle lobe",
    "rll": "right lower lobe", "cpa": "cerebellopontine angle", "acl": "anterior cruciate ligament",
    "csf": "cerebrospinal fluid",
}  # fmt: skip
_PHRASES: tuple[tuple[str, str], ...] = (
    (r"\bfluid[- ]attenuated inversion[- ]recovery\b|\bflair[- ]like\b", " flair "),
    (r"\bt\s?([12])\s?\*?(?:[- ]?(?:weighted|weighting|like|wi|w))?\b", r" t\1 "),
    (r"\bx[- ]?rays?\b|\bradiographs?\b|\bradiograms?\b|\bcomputed radiography\b", " xray "),
    (r"\bplain (\w+ )?films?\b|\b(\w+ )?films?\b(?= show| without| with| of| demonstrat)", r" \1\2 xray "),
    (r"\bmagnetic resonance(?: imaging| images?| tomography| scans?)?\b|\bmri(?: scans?)?\b|\bmr images?\b", " mr "),
    (r"\b(?:computed|computeri[sz]ed) (?:axial )?tomography\b|\bcat scans?\b|\bct scans?\b", " ct "),
    (r"\bultrasonograph\w*\b|\bsonogra\w*\b|\bultrasounds?\b|\bechograph\w*\b", " ultrasound "),
    (r"\bscintigra\w*\b|\bnuclear medicine(?: scan| image)?s?\b|\bbone scans?\b", " scintigraphy "),
    (r"\bmid-?sagittal\b", " midline sagittal "),
    (r"\bparasagittal\b", " sagittal "),
    (r"\btransverse\b(?! (?:process|colon|sinus|venous|dural))|\btransaxial\b|\bhorizontal\b", " axial "),
    (r"\b(?:high|bright)[- ](t[12] )?signal\b|\bhyperintensit(?:y|ies)\b|\bbright\b", r" hyperintense \1"),
    (r"\b(?:low|dark)[- ](t[12] )?signal\b|\bhypointensit(?:y|ies)\b|\bdark\b", r" hypointense \1"),
    (r"\b(?:increased|elevated)[- ](t[12] )?signal\b", r" hyperintense increased \1"),
    (r"\b(?:decreased|reduced)[- ](t[12] )?signal\b", r" hypointense decreased \1"),
    (r"\b(?:low|decreased)[- ](?:attenuation|density)\b|\bhypo(?:attenuat|densit)\w*", " hypodense "),
    (r"\b(?:high|increased)[- ](?:attenuation|density)\b|\bhyper(?:attenuat|densit)\w*", " hyperdense "),
    (r"\bpost[- ]?(?=contrast\b|gad)", " "),
    (r"\b(?:prior|previous)\s+(?=(?:ct|mri?|xray|ultrasound|scan|stud|exam|film|image)\w*\b)", " "),
    (r"\bnon-(?=[a-z]{4})", " non"),
    (r"\b(?:do|does|did) not enhance\b|\b(?:no|without)(?: contrast)? enhancement\b", " nonenhancing "),
    (r"\bground[- ]glass\b", "groundglass"),
    (r"\b(extra|intra|inter|supra|infra|retro|peri|para|sub)-(?=[a-z]{4})", r"\1"),
    (r"\b(left|right)wards?\b", r" \1 "),
    (r"\brt?\b(?= [a-z])", "right"),
    (r"\blt?\b(?= [a-z])", "left"),
    (r"\bbehind\b", " posterior "),
    (r"\bin front of\b", " anterior "),
    (r"\bbelow\b|\bunderneath\b", " inferior "),
    (r"\babove\b", " superior "),
    (r"\b(?:secondary|owing) to\b|\b(?:because of|caused by|result(?:ing|ant)? (?:of|from))\b", " due to "),
    (r"\bboth\b(?! (?:of the |the )?(?:image|caption|picture|scan|figure|section|slice)s?\b)", " bilateral "),
    *((rf"\b{number}\b", f" {word} ") for number, word in _ORDINALS.items()),
    *((rf"\b{short}\b", f" {name} ") for short, name in _ABBREVIATIONS.items()),
    (r"\b(left|right)[- ](?:sided|hand(?:ed)?)\b", r" \1 "),
    (r"\bas well as\b|\bas well\b|\bwell (?=seen|shown|visible|visuali)", " "),
    (r"\bon both sides\b|\bboth sides\b", " bilateral "),
    (r"\banteroposterior\b|\bap\b", " ap "),
    (r"\bposteroanterior\b|\bpa\b", " pa "),
    (r"\bunremarkable\b|\bnothing abnormal\b|\b(?:no|without)(?: an?y?)? abnormalit(?:y|ies)\b", " normal "),
    (r"\b(?:was|were|is|are|has been) ruled out\b|\bruled out\b", " excluded "),
    (r"(\d)\s?(?:millimet(?:er|re)s?\b|mm\b)", r"\1 mm "),
    (r"(\d)\s?(?:centimet(?:er|re)s?\b|cm\b)", r"\1 cm "),
    (r"\b(?:third|3rd) ventricles?\b", " iiiventricle "),
    (r"\b(?:fourth|4th) ventricles?\b", " ivventricle "),
    (r"\bmain-?stem\b", " main "),
    (r"\b(?:lymph)?adenopathy\b", " enlarged lymph nodes "),
    (r"oedema", "edema"),
    (r"tumour", "tumor"),
    (r"oesoph", "esoph"),
    (r"foet", "fet"),
    (r"haem", "hem"),
    (r"anaem", "anem"),
    (r"ischaem", "ischem"),
    (r"leukaem", "leukem"),
    (r"paed", "ped"),
    (r"orthopaed", "orthoped"),
    (r"gynaec", "gynec"),
    (r"diarrhoea", "diarrhea"),
    (r"\bgrey", "gray"),
    (r"fibre", "fiber"),
    (r"centre", "center"),
    (r"aesthes", "esthes"),
    (r"coeliac", "celiac"),
    (r"caec", "cec"),
    (r"goitre", "goiter"),
)
_COMPILED = tuple((re.compile(pattern), to) for pattern, to in _PHRASES)
_IRREGULAR = {
    "putamina": "putamen",
    "foramina": "foramen",
    "lumina": "lumen",
    "atria": "atrium",
    "media": "media",
    "bodies": "body",
    "feet": "foot",
    "teeth": "tooth",
    "metastases": "metastasis",
    "diagnoses": "diagnosis",
    "vertebrae": "vertebra",
    "cortices": "cortex",
    "vertices": "vertex",
    "apices": "apex",
    "matrices": "matrix",
    "appendices": "appendix",
    "indices": "index",
    "femora": "femur",
    "genera": "genus",
    "pallidus": "pallidus",
    "pallidi": "pallidus",
    "globi": "globus",
    "pelves": "pelvis",
    "testes": "testis",
    "phalanges": "phalanx",
    "meninges": "meninges",
    "larynges": "larynx",
    "thoraces": "thorax",
    "hila": "hilum",
    "septa": "septum",
    "bronchi": "bronchus",
    "ova": "ovum",
    "genua": "genu",
    "lungs": "lung",
    "pons": "pons",
    "lens": "lens",
    "series": "series",
    "diabetes": "diabetes",
    "rabies": "rabies",
    "scabies": "scabies",
    "caries": "caries",
    "herpes": "herpes",
    "mumps": "mumps",
    "measles": "measles",
    "shingles": "shingles",
    "rickets": "rickets",
    "hemorrhoids": "hemorrhoid",
    # A finding has one form, whether it is named or said with a verb.
    **dict.fromkeys(("dilated", "dilatation", "dilation", "widened", "widening", "ectatic", "distended"), "dilated"),
    **dict.fromkeys(("occluded", "occlusion", "occlude", "blocked", "blockage"), "occluded"),
    **dict.fromkeys(
        ("narrow", "narrows", "narrowed", "narrowing", "stenosis", "stenoses", "stenotic", "stenosed"), "narrowed"
    ),
    **dict.fromkeys(("thickened", "thickening", "thick"), "thickened"),
    **dict.fromkeys(("enlarged", "enlargement", "megaly"), "enlarged"),
    **dict.fromkeys(("thin", "thinned", "thinning"), "thin"),
    **dict.fromkeys(("expanded", "expansion", "expansile", "expand", "expands"), "expanded"),
    **dict.fromkeys(("extends", "extending", "extension", "extend", "extended"), "extend"),
    **dict.fromkeys(("absent", "absence", "agenesis", "aplasia"), "absent"),
    # An adjective of a place is its noun.
    **dict.fromkeys(("femoral", "femur", "femora"), "femur"),
    **dict.fromkeys(("renal", "kidney", "kidneys"), "kidney"),
    **dict.fromkeys(("hepatic", "liver"), "liver"),
    **dict.fromkeys(("cardiac", "heart"), "heart"),
    **dict.fromkeys(("gastric", "stomach"), "stomach"),
    **dict.fromkeys(("splenic", "spleen"), "spleen"),
    **dict.fromkeys(("venous", "vein", "veins"), "vein"),
    **dict.fromkeys(("osseous", "bony", "bone", "bones"), "bone"),
    **dict.fromkeys(("hilar", "hila", "hilum"), "hilum"),
    **dict.fromkeys(("calcified", "calcification", "calcifications"), "calcified"),
    **dict.fromkeys(("torn", "tear", "tears"), "tear"),
    **dict.fromkeys(("ruptured", "rupture", "ruptures"), "rupture"),
    **dict.fromkeys(("displaced", "displacement", "displaces", "displacing"), "displaced"),
    **dict.fromkeys(("inflamed", "inflammation", "inflammatory"), "inflamed"),
    **dict.fromkeys(("compressed", "compression", "compresses", "compressing", "compressive"), "compressed"),
    **dict.fromkeys(("fractured", "fracture", "fractures", "broken"), "fracture"),
    **dict.fromkeys(("dislocated", "dislocation"), "dislocated"),
    **dict.fromkeys(("obstructed", "obstruction", "obstructing", "obstructs", "obstruct"), "obstructed"),
    **dict.fromkeys(("infarcted", "infarct", "infarction", "infarcts"), "infarct"),
    **dict.fromkeys(("ischemia", "ischemic"), "ischemia"),
    **dict.fromkeys(("bleed", "bleeding", "hemorrhage", "hemorrhages", "hemorrhagic"), "hemorrhage"),
    **dict.fromkeys(("calculus", "calculi", "stone", "stones"), "stone"),
    **dict.fromkeys(("neoplasm", "tumor", "tumors", "tumorous"), "tumor"),
    **dict.fromkeys(("perforated", "perforation"), "perforation"),
    **dict.fromkeys(("shifted", "shift", "shifts"), "shift"),
    **dict.fromkeys(("invades", "invading", "invasion", "invaded", "invade"), "invasion"),
    **dict.fromkeys(("several", "multiple", "numerous", "many"), "multiple"),
    **dict.fromkeys(("destroyed", "destruction", "destroys", "destroying", "destructive"), "destruction"),
    **dict.fromkeys(("tortuous", "tortuosity"), "tortuous"),
    **dict.fromkeys(("lost", "loss", "losses"), "loss"),
    **dict.fromkeys(("bile", "biliary"), "bile"),
    **dict.fromkeys(("fat", "fatty", "fats"), "fat"),
    **dict.fromkeys(("unenhancing", "nonenhancing"), "nonenhancing"),
    **dict.fromkeys(("deviated", "deviates", "deviating", "deviation"), "deviated"),
    **dict.fromkeys(("mostly", "mainly", "largely", "predominantly"), "predominantly"),
    **dict.fromkeys(("territory", "territories", "distribution"), "territory"),
    **dict.fromkeys(("center", "central", "centrally"), "central"),
    **dict.fromkeys(("periphery", "peripheral", "peripherally"), "peripheral"),
    **dict.fromkeys(("apex", "apices", "apical"), "apex"),
    **dict.fromkeys(("lobulated", "lobulation", "lobulations"), "lobulated"),
    **dict.fromkeys(("hypoplastic", "hypoplasia"), "hypoplasia"),
    **dict.fromkeys(("atrophic", "atrophy", "atrophied"), "atrophy"),
    **dict.fromkeys(("small", "tiny", "little", "diminutive"), "small"),
    **dict.fromkeys(("large", "big", "huge"), "large"),
    **dict.fromkeys(("remains", "remain", "remaining", "persistent", "persists", "persist"), "persist"),
    **dict.fromkeys(("tendon", "tendons", "tendinous"), "tendon"),
    **dict.fromkeys(("muscle", "muscles", "muscular"), "muscle"),
    **dict.fromkeys(("ovary", "ovaries", "ovarian"), "ovary"),
    **dict.fromkeys(("uterus", "uteri", "uterine"), "uterus"),
    **dict.fromkeys(("ventricle", "ventricles", "ventricular"), "ventricle"),
    **dict.fromkeys(("cortex", "cortices", "cortical"), "cortex"),
    **dict.fromkeys(("abdomen", "abdominal"), "abdomen"),
    **dict.fromkeys(("thorax", "thoraces", "thoracic"), "thorax"),
    **dict.fromkeys(("aorta", "aortic"), "aorta"),
    **dict.fromkeys(("vertebra", "vertebrae", "vertebral"), "vertebra"),
    **dict.fromkeys(("maxilla", "maxillary"), "maxilla"),
    **dict.fromkeys(("mandible", "mandibular"), "mandible"),
    **dict.fromkeys(("lumen", "lumina", "luminal"), "lumen"),
    "aids": "aids",
    "tinea": "tinea",
    "lies": "lie",
    "dies": "die",
    "ties": "tie",
    "callosi": "callosum",
    "diaphyses": "diaphysis",
    "epiphyses": "epiphysis",
}
_ENDINGS = (
    ("ies", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ied", ("y",)), ("ed", ("", "e")), ("ing", ("", "e")),
    ("ily", ("y",)), ("ly", ("", "le")), ("er", ("", "e")), ("est", ("", "e")),
)  # fmt: skip
_VOWELS = "aeiou"
_SHORT = 6
_DOUBLED = re.compile(r"[^aeiou][aeiou][^aeiouwxy]$")
_TOKEN = re.compile(r"[xyz]\s?=\s?[+\-−]?\d+(?:\.\d+)?|\d+(?:[.,]\d+)?|[^\W\d_]+\d{0,2}(?:'[^\W\d_]+)?|[;.,:()?!]")


def plain(text: str) -> str:
    """Lower case, one spelling, one name a thing."""
    line = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("−", "-")
    for pattern, to in _COMPILED:
        line = pattern.sub(to, line)
    return line


def tokens(text: str) -> list[str]:
    """The stems, numbers and marks of a text, in order. `12 mm` is one token (`12mm`), as is a place (`z=-24`)."""
    found: list[str] = []
    raw = _TOKEN.findall(plain(text))
    for index, piece in enumerate(raw):
        if piece in ("mm", "cm") and found and found[-1].replace(".", "").isdigit():
            value = float(found[-1]) * (10 if piece == "cm" else 1)
            found[-1] = f"{value:g}mm"
        elif piece == "mm" and index and "=" in raw[index - 1]:
            continue
        elif "=" in piece:
            found.append(piece.replace(" ", ""))
        elif piece[0].isdigit():
            found.append(f"{float(piece.replace(',', '.')):g}")
        else:
            found.append(stem(piece))
    return found


@cache
def stem(word: str) -> str:
    """One form of a noun's numbers, English and Latin; other words are hardly touched."""
    word = word.removesuffix("'s").replace("'", "")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("ae") and len(word) > 4:
        return word[:-1]
    if word.endswith("i") and len(word) > 3 and word not in ("alkali", "broccoli", "spaghetti"):
        return word[:-1] + "us"
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "ps", "ous")):
        return word[:-1]
    return word


@cache
def vocabulary() -> Mapping[str, frozenset[str]]:
    """The groups of medical_words.txt, as stems."""
    return _groups("medical_words.txt")


def _groups(file: str) -> Mapping[str, frozenset[str]]:
    lines = (line.partition(":") for line in _lines(file))
    return {name: frozenset(map(stem, words.split())) for name, _, words in lines}


def _lines(file: str) -> list[str]:
    text = resources.files("mirage_inference.llm").joinpath(file).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@cache
def medical() -> frozenset[str]:
    """All stems of medical_words.txt."""
    return frozenset().union(*vocabulary().values())


@cache
def purely_medical() -> frozenset[str]:
    """Those that all day talk does not use."""
    return medical() - vocabulary()["everyday"]


@cache
def english() -> frozenset[str]:
    """Returns the words of english_words.txt and medical_words.txt."""
    lines = _lines("english_words.txt")
    listed = frozenset(word for line in lines for word in line.split())
    return listed | frozenset(word for line in _lines("medical_words.txt") for word in line.partition(":")[2].split())


def known(word: str) -> bool:
    """Returns True for a word of `english`, or a regular form of one."""
    return any(form in english() for form in forms(word))


@cache
def english_forms() -> frozenset[str]:
    """Returns the words of `english` with their forms: plurals, also Latin ones, -ed, -ing, -ly."""
    irregular = (word for word, root in _IRREGULAR.items() if root in english())
    regular = (form for word in english() for form in _inflected(word))
    # Short roots do not have all endings.
    return frozenset((*irregular, *(form for form in regular if len(form) > _SHORT or known(form))))


def _inflected(word: str) -> Iterator[str]:
    yield word
    if word.endswith("e"):
        yield from (f"{word}s", f"{word}d", f"{word[:-1]}ing", f"{word}ly")
    elif word.endswith("y") and word[-2:-1] not in _VOWELS:
        yield from (f"{word[:-1]}ies", f"{word[:-1]}ied", f"{word}ing", f"{word[:-1]}ily")
    else:
        yield word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
        stems = [word, word + word[-1]] if _DOUBLED.search(word) else [word]
        yield from (f"{stem}{ending}" for stem in stems for ending in ("ed", "ing"))
        yield f"{word}ly"
    for ending, others in (("le", "ly"), ("us", "i"), ("a", "ae")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + others


def forms(word: str) -> Iterator[str]:
    """Yields a word, its stem, and what it may be a regular form of: a plural, -ed, -ing, -ly."""
    yield word
    yield stem(word)
    for ending, others in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            root = word.removesuffix(ending)
            yield from (root + other for other in others)
            if len(root) > 3 and root[-1] == root[-2]:
                yield root[:-1]


@cache
def of_other_topics() -> frozenset[str]:
    """Returns all stems of other_words.txt that are not medical."""
    return frozenset().union(*_groups("other_words.txt").values()) - medical()


def near(left: str, right: str, most: int) -> bool:
    """Returns True if at most `most` insertions, deletions, replacements or swaps turn one into the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        last, row, before_last = row, [i], before
        for j, b in enumerate(right, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before = last
        if min(row) > most:
            return False
    return row[-1] <= most
