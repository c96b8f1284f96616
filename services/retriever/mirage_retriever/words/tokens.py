"""Text to words: the one tokenizer of records and queries.

Words are compared without regard to case, accents, British or American spelling, and inflection. Medical forms stay whole:
"T2", "5 mm" (one word, "5mm"), "L4-L5" (two levels), "non-contrast" (one word, never "contrast").
"""

import re
import threading
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from snowballstemmer import stemmer

# Longer ones are not words.
_WORD_CHARS = 40
_CACHE = 1 << 17

_STOP_WORDS = """
    a an the of in on at to for and or is are was were be been being with by from as this that these those it its there which
    who whom whose what when where how why has have had having he she his her hers him i me my we our us you your they their
    them do does did can could may might will would shall should into onto than then so if but am
"""
# Words that ask for an image rather than say what is in it; a query need not find them.
_FILLERS = """
    show shows showing display find search give see look looking picture pictures photo photos photograph image images example
    examples case cases typical please want need
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
FILLERS = frozenset(_FILLERS.split())

_HYPHENS = r"\-\u2010\u2011\u2013"
# Characters that show nothing and may stand within a word: soft hyphen, zero-width ones, joiners.
_HIDDEN = r"\u00ad\u200b-\u200f\u2060\ufeff"
_UNITS = {
    "mm": "mm", "millimeter": "mm", "millimeters": "mm", "millimetre": "mm", "millimetres": "mm",
    "cm": "cm", "centimeter": "cm", "centimeters": "cm", "centimetre": "cm", "centimetres": "cm",
    "ml": "ml", "cc": "ml", "mg": "mg", "kg": "kg", "hu": "hu", "tesla": "tesla",
}  # fmt: skip
_NAMES = "|".join(sorted(_UNITS, key=len, reverse=True))
_HYPHEN = re.compile(f"[{_HYPHENS}]")
# The first branch is for speed: most words are letters only.
_PATTERN = re.compile(
    rf"""
    (?P<plain>[^\W\d_]+)(?![\w'\u2019\u0300-\u036f{_HIDDEN}])(?<!\bnon)(?<!\bNon)(?<!\bNON)
    | (?P<number>\d+(?:[.,]\d+)?)[\s{_HYPHENS}]?(?:(?P<unit>(?i:{_NAMES}))(?!\w)|(?P<tesla>[Tt](?![\w{_HYPHENS}])))
    | (?P<level>[CDTLScdtls]\d{{1,2}})[{_HYPHENS}/](?P<to>[CDTLScdtls]?\d{{1,2}})(?!\w)
    | (?:non|Non|NON)[\s{_HYPHENS}]+(?P<of>[^\W\d_][\w{_HIDDEN}]*)
    | (?P<decimal>\d+[.,]\d+)(?!\w)
    | (?P<word>[^\W_](?:[^\W_]|[{_HIDDEN}\u0300-\u036f]|['\u2019](?=[^\W\d_]))*)
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """A word of a text from character `start` to `end`.

    `word` is its form in the vocabulary, `stem` what is compared. `position` counts words without stop words; a compound
    ("x-ray") comes in addition to its parts, at the position of the first.
    """

    start: int
    end: int
    word: str
    stem: str
    position: int
    compound: bool = False


def tokens(text: str) -> list[Token]:
    """The words of a text in their order, without stop words."""
    found: list[Token] = []
    position = -1
    # The end of the word before, if it may be the first part of a compound.
    before_start = before_end = before_position = -1
    before = ""
    for match in _PATTERN.finditer(text):
        start, end = match.span()
        kind = match.lastgroup
        if kind == "plain" or kind == "word":
            raw = match[0]
            word, stem_, is_stop = _known(raw)
            if not is_stop:
                position += 1
            if start == before_end + 1 and _HYPHEN.match(text, before_end):
                joined = before + word
                if joined.isalpha() and len(joined) <= _WORD_CHARS:
                    found.append(Token(before_start, end, joined, stem(joined), before_position, compound=True))
            before, before_start, before_end, before_position = word, start, end, position
            if not is_stop:
                found.append(Token(start, end, word, stem_, position))
            continue
        before_end = -1
        position += 1
        if kind == "to":
            level, to = match["level"].lower(), match["to"].lower()
            found.append(Token(start, match.end("level"), level, level, position))
            position += 1
            start, word = match.start("to"), to if to[0].isalpha() else level[0] + to
        elif kind == "of":
            word = "non" + normalise(match["of"])
        elif kind == "decimal":
            word = match[0].replace(",", ".")
        else:
            unit = "tesla" if match["unit"] is None else _UNITS[match["unit"].lower()]
            word = match["number"].replace(",", ".") + unit
        found.append(Token(start, end, word, stem(word), position))
    return found


@lru_cache(_CACHE)
def _known(raw: str) -> tuple[str, str, bool]:
    """The form and the stem of a word, and whether it says nothing. "US" is ultrasound, "us" is not."""
    word = normalise(raw)
    return word, stem(word), not word or len(word) > _WORD_CHARS or (word in STOP_WORDS and raw != "US")


def clean(text: str) -> str:
    """A text without control and format characters; runs of spaces and line ends become one space."""
    kept = (
        char if not (category := unicodedata.category(char)).startswith("C") else " " if category == "Cc" else ""
        for char in text
    )
    return " ".join("".join(kept).split())


@lru_cache(_CACHE)
def normalise(raw: str) -> str:
    """A word in lower case and American spelling, without accents, hidden characters and a possessive "'s"."""
    decomposed = unicodedata.normalize("NFKD", raw.casefold())
    word = "".join(char for char in decomposed if char.isalnum() or char in "'\u2019.")
    word = re.sub("['\u2019](s$)?", "", word)
    for pattern, form in _SPELLINGS:
        word = pattern.sub(form, word)
    return word


# British forms and what Americans write. Applied to records and queries alike, so a form too many does no harm.
_SPELLINGS = tuple(
    (re.compile(pattern), form)
    for pattern, form in (
        (r"(?<=[b-df-hj-np-tv-z])ae(?=[b-df-hj-np-tv-z])", "e"),
        (r"^ae(?=ti)|^oe(?=[ds])|(?<=rrh)oe|(?<=pn)oe(?=[ai])|(?<=f)oe(?=t)|(?<=c)oe(?=l)|(?<=am)oe(?=b)", "e"),
        (r"(?<=[lbmvd])our(?=s?$|ed$|ing$|al$|ful|less|ation|ite)|(?<=behavi)our|(?<=vap)our", "or"),
        (r"(cent|fib|lit|met|goit|calib)re(s?)$", r"\1er\2"),
        (r"(?<=[a-z]{2}(?:al|il|er|or|an|on|un|gn))is(ations?|e|es|ed|ing)$", r"iz\1"),
        (r"(?<=al)ys(e|es|ed|ing)$", r"yz\1"),
        (r"sulph", "sulf"),
        (r"^grey", "gray"),
        (r"^disk", "disc"),
    )
)

# Plurals and adjectives that no general rule finds.
_IRREGULAR = {
    form: word
    for line in """
        metastasis metastases metastatic metastasize metastasized metastasizing
        embolus emboli | embolism embolisms embolic | thrombus thrombi | calculus calculi
        focus foci | nucleus nuclei | gyrus gyri | sulcus sulci | hilum hila hilar | humerus humeri humeral | meniscus menisci
        meniscal | ramus rami | thalamus thalami thalamic | hippocampus hippocampi hippocampal | bronchus bronchi
        alveolus alveoli | uterus uteri | radius radii | fetus fetuses | sinus sinuses | tophus tophi | villus villi
        diverticulum diverticula diverticular | septum septa septal | atrium atria atrial | foramen foramina foraminal
        labrum labra labral | ganglion ganglia | ostium ostia | haustrum haustra haustral | lumen lumina luminal
        acetabulum acetabula acetabular | capitulum capitula | bacterium bacteria | medium media | ovum ova | viscus viscera
        phalanx phalanges phalangeal | larynx larynges laryngeal | pharynx pharynges pharyngeal | apex apices apical
        cortex cortices cortical | vertex vertices | index indices | appendix appendices appendiceal | calyx calyces calyceal
        thorax thoraces thoracic | cervix cervices | matrix matrices | varix varices variceal | femur femora femoral
        corpus corpora | genus genera | testis testes | pelvis pelves pelvic | crisis crises | axis axes
        foot feet | tooth teeth | man men | woman women | child children | mouse mice
        vertebra vertebrae vertebral | scapula scapulae scapular | fistula fistulae fistulas | bulla bullae bullous
        larva larvae | trachea tracheae tracheal | aorta aortae aortic | costa costae costal | fibula fibulae fibular
        tibia tibiae tibial | ulna ulnae ulnar | clavicle clavicles clavicular | mandible mandibles mandibular
        maxilla maxillae maxillary | patella patellae patellar | ischemia ischemic | anemia anemic
        hydrocephalus hydrocephalic | emphysema emphysematous | edema edematous | hematoma hematomas hematomata
        carcinoma carcinomas carcinomata carcinomatous | sarcoma sarcomas sarcomatous | adenoma adenomas adenomatous
        granuloma granulomas granulomata granulomatous | lipoma lipomas lipomatous | meningioma meningiomas
        lymphoma lymphomas lymphomatous | hemangioma hemangiomas hemangiomata | stenosis stenoses stenotic stenosed
        die dies died dying death deaths | disease diseases diseased | dysplasia dysplastic | hyperplasia hyperplastic
        neoplasm neoplasms neoplasia neoplastic | hypertrophy hypertrophic hypertrophied | atrophy atrophic atrophied
        cavity cavities | cavitation cavitary cavitating cavitated | lateral laterally | general generalized
        effusion effusions | fusion fusions fused | abscess abscesses | lens lenses | pus purulent
        infarct infarcts infarction infarctions infarcted | artery arteries arterial | vein veins venous
    """.replace("\n", " | ").split("|")
    if (forms := line.split())
    for word in forms[:1]
    for form in forms
}
_RULES = (
    (re.compile(r"(?<=[a-z]{2})omata$"), "oma"),
    (re.compile(r"(?<=[a-z]{3})oses$"), "osis"),
    (re.compile(r"(?<=[a-z]{3})otic$"), "osis"),
    (re.compile(r"(?<=[a-z]{2})lyses$|(?<=[a-z]{3})lytic$"), "lysis"),
    (re.compile(r"(?<=[a-z]{3})itides$"), "itis"),
    (re.compile(r"(?<=[a-z]{3})ae$"), "a"),
)
# Snowball would make "pancreatitis" the same as "pancreatic".
_WHOLE = re.compile(r"\d|itis$|osis$|oma$|sis$")
_stemmer = stemmer("english")
_stemming = threading.Lock()


@lru_cache(_CACHE)
def stem(word: str) -> str:
    """The form in which a normalised word is compared."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    for pattern, form in _RULES:
        word, changed = pattern.subn(form, word)
        if changed:
            break
    if len(word) <= 3 or not word.isascii() or _WHOLE.search(word):
        return word
    singular = word[:-1] if word.endswith("omas") else word
    if _WHOLE.search(singular):
        return singular
    if singular in _IRREGULAR:
        return _IRREGULAR[singular]
    with _stemming:
        return str(_stemmer.stemWord(word))


NO = "no_"


def denied_stem(stem: str) -> str:
    """The stem of a word for something that a text says is not there: "no effusion"."""
    return NO + stem


def plain_stem(stem: str) -> str:
    """The stem of the word itself."""
    return stem.removeprefix(NO)


def is_denied_stem(stem: str) -> bool:
    """True for what `denied_stem` returns."""
    return stem.startswith(NO)


def tables() -> dict[str, object]:
    """The tables by which words are read, for a tokenizer in another language: patterns mean the same in JavaScript."""
    return {
        "stop_words": sorted(STOP_WORDS),
        "fillers": sorted(FILLERS),
        "units": _UNITS,
        "spellings": [[pattern.pattern, re.sub(r"\\(\d)", r"$\1", form)] for pattern, form in _SPELLINGS],
        "irregular": _IRREGULAR,
        "endings": [[pattern.pattern, form] for pattern, form in _RULES],
    }
