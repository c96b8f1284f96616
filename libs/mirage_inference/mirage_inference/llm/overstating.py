"""Finds what a sentence says more firmly than the caption that it is taken from: a cause, or that all is normal."""

from __future__ import annotations

import re

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


def overstates(sentence: str, caption: str) -> bool:
    """Returns True if a sentence names a cause and the caption names none ("with thinning of the bone"), or calls normal what
    the caption calls normal with an exception ("otherwise unremarkable")."""
    if _CAUSE.search(sentence) and not _CAUSE_IN_CAPTION.search(caption):
        return True
    if not _NORMAL.search(sentence) or _OTHERWISE.search(sentence):
        return False
    normal = [clause for clause in _CLAUSE.split(caption) if _NORMAL.search(clause)]
    return bool(normal) and all(map(_OTHERWISE.search, normal))
