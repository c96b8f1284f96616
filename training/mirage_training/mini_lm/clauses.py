"""Sentences that rules take out of any caption, in its own words: what kind of image it is, and what it shows.

They are the answers that the mini llm learns to copy. Marks of a figure (arrows, panels, references) are left out, doubts and
denials stay, and only sentences that the service's own check finds supported are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from mirage_atlas.demo.captions import enumeration
from mirage_core.sentences import split_sentences
from mirage_inference.llm.citations import supporting
from mirage_training.mini_lm.explanations import subject

WORDS_MAX = 26
"""Most words of a sentence."""
LISTED_MAX = 4
"""Most members of a long list that are copied."""
_IMAGE = (
    r"(?:CT|CTA|MRI|MRA|MR|MRCP|PET|DSA|X-?rays?|(?:radio|sono|angio|mammo|arterio|veno|cysto|uro|myelo|roentgeno|hystero"
    r"salpingo|echocardio|tomo|ultrasono|orthopantomo|pan|cholangio|aorto|fistulo|electrocardio)gra(?:ph|m|phy|phs|ms|phic)s?"
    r"|(?:ortho|dental )?panto\w*|ultrasounds?|tomography|scans?|images?|imaging|views?|sections?|films?|slices?"
    r"|reconstructions?|scintigra\w+|fluoroscop\w+|\w*(?:copy|copic)|histology|photographs?|micrographs?|echocardiogra\w+"
    r"|cholangiopancreatogra\w+|fundus|doppler|appearance|aspect)"
)
_IMAGING = re.compile(rf"\b{_IMAGE}\b", re.I)
_HEAD_NOUN = re.compile(rf"\b({_IMAGE})\b(?!\s+{_IMAGE}\b)", re.I)
_PLURAL = re.compile(
    r"(?:images|scans|views|sections|films|slices|rays|graphs|grams|reconstructions|ultrasounds)$", re.I
)
_UNCOUNTED = re.compile(r"(?:graphy|imaging|scopy|copic|graphic|histology|doppler|scintigra\w+)$", re.I)
_SHOWS = re.compile(
    r"(?:,? (?:which|that|clearly|again|also))? (?:shows?|showed|showing|demonstrat(?:es?|ed|ing)|reveal(?:s|ed|ing)?"
    r"|depict(?:s|ing)|illustrat(?:es|ing)|display(?:s|ing))(?: the presence of| evidence of)? ",
    re.I,
)
_GOES_ON = re.compile(
    r"(?:it|this|this (?:image|scan|view|figure)|the (?:image|scan|view)) (?:also )?(?:shows|demonstrates|reveals) "
    r"|you see |shown: ",
    re.I,
)
_COLON = re.compile(r"^([^:;]{2,60}): (.+)$")
_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|could|may|appears?|appeared|extends?|remains?|shows?|showed|reveal(?:s|ed)"
    r"|demonstrates?|suggests?|measures?|measured|compress(?:es)|arises?|contains?|occup(?:ies|y)|involves?|causes?|underwent"
    r"|lies?|runs?|indicates?|represents?|note|see|seen|documented|confirmed|chose|fails?|failed|detected|identified)\b"
    r"|\w{3}ed (?:an?|the|no)\b",
    re.I,
)
_ASIDE = re.compile(r"\s*[(\[{][^()\[\]{}]*[)\]}]")
_MARKS = re.compile(
    r"\barrow|\basterisk|\bstar\b|\bfig(?:ure|s)?\b|\bpanels?\b|courtesy|\bcopyright|permission|reprinted|\btable\b|\bvideo\b"
    r"|\bcase \d|\bpatient \d|\bthis patient\b|\bsame patient\b|\bfrom\b.*\bet al\b|\bbox(?:es)?\b|\blines?\b|\bcircles?\b"
    r"|\bcolou?r|\blabel|\bletters?\b|https?:|\bwe\b|\bour\b|[=|<>→*†‡§#]",
    re.I,
)
_ENDS = re.compile(r"[\s,;:.\-–—]+$")
_ARTICLED = re.compile(r"^(?:an?|the) ", re.I)
_POINTED = re.compile(
    r"^(?:this|these|same|another|his|her|its|their|case|note|see|patient|image \d|top|bottom|\w+'s|\d)\b",
    re.I,
)
_PLACED = re.compile(r"^(?:in|on|at|after|during|from|with|by|for|following|before|as|once|when|if) ", re.I)
_AN = re.compile(r"^(?:[aeioAEIO]|u(?!ni|s|ter)|MR|[Xx]-?ray|F[A-Z])")
_LIST = re.compile(r"^the .+?, the ")
_MEMBERS = re.compile(r", (?=the )| and (?=the |ribs)")
_WHO = "The image"


def sentences(caption: str, index: int, count: int, *, most: int) -> list[str]:
    """Returns at most `most` sentences that a caption supports, as said of the image at `index` of `count`.

    The kind of the image comes first. If the caption has more, what it shows is preferred to a second word about its kind.
    """
    found = list(_supported(caption))
    kinds = [each for each in found if each.startswith(f"{_WHO} is ")]
    rest = [each for each in found if each not in kinds]
    chosen = [*kinds[:1], *rest][:most] if most > 1 else (rest or kinds)[:1]
    who = subject((index,), count)
    return [
        f"{who}{each.removeprefix(_WHO)}" if each.startswith(f"{_WHO} ") else each for each in found if each in chosen
    ]


@cache
def _supported(caption: str) -> tuple[str, ...]:
    found: list[str] = []
    for sentence in split_sentences(caption)[:4]:
        text = _ENDS.sub("", _ASIDE.sub("", sentence.text).strip())
        if text and ". " not in text and not _MARKS.search(text):
            for each in _of(text):
                fitting = (
                    few for few in _shorter(each) if 4 <= len(few.split()) <= WORDS_MAX and supporting(few, [caption])
                )
                found += [next(fitting, "")]
    return tuple(dict.fromkeys(filter(None, found)))


def _shorter(sentence: str) -> Iterator[str]:
    """Yields a sentence, and if it lists structures the same with fewer of them."""
    yield sentence
    listed = re.fullmatch(rf"{_WHO} shows (the .+)\.", sentence)
    members = _MEMBERS.split(listed[1]) if listed else []
    for count in range(len(members) - 1, 0, -1):
        yield f"{_WHO} shows {enumeration(members[:count])}."


def _of(text: str) -> list[str]:
    if onward := _GOES_ON.match(text):
        return _shows(text[onward.end() :])
    split = _SHOWS.search(text)
    if split and _is_head(text[: split.start()]):
        return [*_kind(text[: split.start()]), *_shows(text[split.end() :])]
    if (
        split
        and split.start()
        and len(text[: split.start()].split()) <= 8
        and not _FINITE.search(text[: split.start()])
    ):
        return _shows(text[split.end() :])
    if (parts := _COLON.match(text)) and _is_head(parts[1]) and not _IMAGING.match(parts[2]):
        return [*_kind(parts[1]), *_said(parts[2])]
    if _IMAGING.search(" ".join(text.split()[:12])) and not _FINITE.search(text):
        return _kind(text)
    return _said(text)


def _is_head(text: str) -> bool:
    return len(text.split()) <= 20 and bool(_IMAGING.search(text)) and not _FINITE.search(text)


def _said(text: str) -> list[str]:
    """A whole sentence as it is, anything else as what the image shows."""
    if _FINITE.search(text):
        return [] if _POINTED.match(text) else [f"{text[0].upper()}{text[1:]}."]
    return _shows(text)


def _shows(text: str) -> list[str]:
    text = _ENDS.sub("", text.strip())
    if not text or _POINTED.match(text) or _PLACED.match(text):
        return []
    return [f"{_WHO} shows {_shortened(_lowered(text))}."]


def _kind(text: str) -> list[str]:
    """`The image is an axial CT of the chest.`"""
    text = _ENDS.sub("", text.strip())
    bare = _ARTICLED.sub("", text)
    if not bare or _POINTED.match(text) or _PLACED.match(text):
        return []
    noun = next(iter(_HEAD_NOUN.findall(re.split(r" (?:of|in|at|after|with|without|through|from|for) ", bare)[0])), "")
    words = _lowered(bare)
    if not noun or _PLURAL.search(noun):
        return [f"{_WHO} shows {words}."]
    article = "" if _UNCOUNTED.search(noun) else "an " if _AN.match(words) else "a "
    return [f"{_WHO} is {article}{words}."]


def _lowered(text: str) -> str:
    """Without the capital letter of a first word, unless it is a name or an abbreviation."""
    word = text.split()[0].strip(",.;:'\"")
    first, _, second = word.partition("-")
    name = "'" in word or "\u2019" in word or second[:1].isupper()
    return text if name or (not first[1:].islower() and len(word) > 1) else text[0].lower() + text[1:]


def _shortened(text: str) -> str:
    """A long list of structures ends after a few of them."""
    if not _LIST.match(text):
        return text
    members = _MEMBERS.split(text)
    return text if len(members) <= LISTED_MAX else enumeration(members[:LISTED_MAX])
