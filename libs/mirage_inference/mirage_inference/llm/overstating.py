"""Finds what a sentence says more firmly than the caption that it is taken from: a cause, a diagnosis, a course, or that all
is normal; and what it takes for a finding although the caption only marks or names something with it.
"""

from __future__ import annotations

import re

from mirage_inference.llm.reading import read
from mirage_inference.llm.word_kinds import vocabulary

_CAUSE = re.compile(
    r"\b(?:due to|because|caus(?:e|es|ed|ing|ative)|result(?:s|ed|ing|ant)?(?: in| from| of)|as a result|secondary to|"
    r"owing to|attribut\w+ to|(?:leads?|led|leading) to|responsible for|explain(?:s|ed|ing)?|contribut\w+ to)\b",
    re.I,
)
_CAUSE_IN_CAPTION = re.compile(
    rf"{_CAUSE.pattern}|\b(?:resultant|2/2|s/p|produc\w+|creat\w+|precipitat\w+|related to|with resulting)\b|"
    r"\b\w+-(?:induced|related)\b",
    re.I,
)
_NORMAL = re.compile(r"\b(?:normal|unremarkable|intact|clear|healthy)\b", re.I)
_OTHERWISE = re.compile(
    r"\b(?:otherwise|rest of|remainder of|remaining|apart from|except|other than|aside from)\b", re.I
)
_CLAUSE = re.compile(r"[.;]\s")
_DIAGNOSED = r"diagnos|prov(?:en|es?|ed|ing)\b|confirm"
_WORSE = r"develop(?:s|ed|ing)?\b|progress|deteriorat|worsen"
_BETTER = r"improv|resol[uv]|heal(?:s|ed|ing)?\b|regress|recover"
_ADVISED = r"recommend|should\b|must\b|need(?:s|ed)?\b|requir"
_CLAIMS = tuple(
    (re.compile(rf"\b(?:{said})", re.I), re.compile(rf"\b(?:{said}|{also})" if also else rf"\b(?:{said})", re.I))
    for said, also in (
        (_DIAGNOSED, ""),
        (_WORSE, r"increas|grow|new\b|advanc|evol"),
        (_BETTER, r"decreas|reduc|remission|disappear|smaller"),
        (_ADVISED, ""),
    )
)
"""Words that claim what a picture alone does not show, and those of which the caption must have one."""
_KIND = (
    r"(?:ct|hrct|cta|mri?|mra|pet|ultraso\w+|sonogra\w+|echocardiogra\w+|echogra\w+|doppler|x-?rays?|radiogra\w+|angiogra\w+|tomogra\w+|scans?|images?|"
    r"imaging|views?)\b"
)
_FOUND = r"\b(?:diagnos|confirm|prov(?:ed|en))\w*"
_FOUND_BY = re.compile(rf"{_FOUND}(?: \w+)? (?:by|in|on|with|using|via|through) (?:[\w-]+ ){{0,2}}?{_KIND}", re.I)
_KIND_FOUND = re.compile(rf"\b{_KIND}(?: \w+){{0,2}} {_FOUND}", re.I)
_WHICH_IS = re.compile(rf"\bwhich (?:is|are) (?:(?:an?|the) |(?:[\w-]+ ){{0,4}}?{_KIND})", re.I)
_IS_SOMETHING = re.compile(r"\b(?:which|that|is an?)\b", re.I)
_MARK = re.compile(r"\b(?:circle|triangle|square|asterisk|star|box|rectangle|arrow|arrowhead)s? of\b", re.I)
_NAME = re.compile(
    r"\b(?:the|an?) ([A-Z][a-z]{2,}) (?!of\b|in\b|and\b|at\b|on\b|for\b|with\b|is\b|are\b|was\b|were\b)[a-z]{2,}"
)
_INDICATING = re.compile(r"\bindicat(?:ing|ive)\b", re.I)
_POINTER = re.compile(
    r"\b(?:arrow(?:head)?|marker|asterisk|circle|star|triangle|line|box|pointer|label|letter)s?\b", re.I
)
_INFERRED = re.compile(r"\b(?:indicat|suggest|consistent with|compatible with|signs? of|represent|mean|evidence)", re.I)
_LESS_SURE = re.compile(
    r"\b(?:consistent with|compatible with|suggest|suspicious|concerning|likely|possibl|probabl|may\b|could\b)", re.I
)


_SENTENCE = re.compile(r"[.;](?!\d)")
_PART = re.compile(r"[,.;:()](?!\d)|\b(?:and|with|which|that|while|but)\b", re.I)
_ACTS = re.compile(
    r"\b(encas|invad|compress|displac|infiltrat|travers|abut|obstruct|occlud|penetrat|perforat|erod|engulf|drain)"
    r"(?:s|es|t?ing)\b",
    re.I,
)
"""What one structure does to another: the caption must name the other one with it."""
_QUANTITY = re.compile(
    r"\b([a-z]{4,}) (?:of|is|was) (?:about |approximately )?(\d+(?:\.\d+)?)\b(?!\s*(?:mm|cm|[x×]|years?|months?|weeks?|days?))",
    re.I,
)
_STEM = 5


def overstates(sentence: str, caption: str) -> bool:
    """Returns True for a sentence that says more than the caption, or something else.

    It names a cause and the caption names none ("with thinning of the bone"). It calls normal what the caption calls normal with
    an exception ("otherwise unremarkable"). It claims what no picture shows: a diagnosis that was made, or by what; how a
    disease went on; what is to be done. It makes a finding of a mark ("a circle of"), of a name ("a cut prosthesis" for "the Cut
    prosthesis") or of the kind of image ("a mass, which is an axial image"). It says of one thing that it indicates another, or
    moves a number or what is done to a structure to something else ("a velocity of 2.7" for "a ratio (2.7)").
    """
    if _CAUSE.search(sentence) and not _CAUSE_IN_CAPTION.search(caption):
        return True
    if _claims(sentence, caption) or _mistakes(sentence, caption) or _moves(sentence, caption):
        return True
    if not _NORMAL.search(sentence) or _OTHERWISE.search(sentence):
        return False
    normal = [clause for clause in _CLAUSE.split(caption) if _NORMAL.search(clause)]
    return bool(normal) and all(map(_OTHERWISE.search, normal))


def _claims(sentence: str, caption: str) -> bool:
    if any(said.search(sentence) and not borne_out.search(caption) for said, borne_out in _CLAIMS):
        return True
    if _FOUND_BY.search(sentence) and not (_FOUND_BY.search(caption) or _KIND_FOUND.search(caption)):
        return True
    if not _INDICATING.search(sentence) or _INDICATING.search(caption):
        return False
    pointed = _POINTER.search(sentence) and not _LESS_SURE.search(caption)
    return not pointed and bool(_LESS_SURE.search(caption) or not _INFERRED.search(caption))


def _mistakes(sentence: str, caption: str) -> bool:
    if any(mark.lower() not in caption.lower() for mark in _MARK.findall(sentence)):
        return True
    if _WHICH_IS.search(sentence) and not _IS_SOMETHING.search(caption):
        return True
    medical = frozenset().union(*vocabulary().values())
    names = {name.lower() for name in _NAME.findall(caption)} - medical
    return any(re.search(rf"\b{name}\b", sentence) and not re.search(rf"\b{name}\b", caption) for name in names)


def _moves(sentence: str, caption: str) -> bool:
    said = _SENTENCE.split(caption)
    for noun, number in _QUANTITY.findall(sentence):
        with_number = [each for each in said if re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", each)]
        named = noun[:_STEM].lower()
        if with_number and named in caption.lower() and not any(named in each.lower() for each in with_number):
            return True
    for found in _ACTS.finditer(sentence):
        after = read(_PART.split(sentence[found.end() :].strip(), maxsplit=1)[0]).all_terms
        around = [read(each).all_terms for each in said if found[1].lower() in each.lower()]
        if after and around and not any(_share(after, terms) for terms in around):
            return True
    return False


def _share(some: frozenset[str], others: frozenset[str]) -> bool:
    return any(one[:_STEM] == other[:_STEM] for one in some for other in others)
