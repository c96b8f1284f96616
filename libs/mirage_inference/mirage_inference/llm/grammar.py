"""Separates fragments from sentences by a few patterns, without a parser: "between the bodies of T12", "there may represent".

What has none of the patterns counts as a sentence; a noun phrase ("A coronal section of the brain.") does too.
"""

from __future__ import annotations

import re

_MODAL = r"(?:can|may|might|could|must|should|will|would)"
_FINITE = r"(?:is|are|was|were|has|have|had|does|do|shows?|showed|demonstrates?|demonstrated|reveals?|revealed)"
_FAULTS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        # Ends in the middle.
        r"\b(?:a|an|the|and|or|of|with|between|from|into|to|at|by|as|is|are|was|were|shows?)[.!?]*$",
        rf"\b{_MODAL}[.!?]*$",
        # "There may represent the fistula tract".
        rf"\bthere {_MODAL} (?!(?:also |still |well |not )?(?:be|have|exist|remain|appear|seem)\b)",
        # A verb is missing after "may", or one is too many.
        rf"\b{_MODAL} (?:a|an|the|of|in|and|or|is|are|was|were|shows|demonstrates|reveals|{_MODAL})\b",
        r"\b(?:is|are|was|were) (?:is|are|was|were|has|have|shows?|demonstrates?|reveals?)\b",
        r"\b(?:shows?|demonstrates?|reveals?) (?:is|are|was|were|has|have|shows?|demonstrates?|reveals?)\b",
        # A noun is missing after its article.
        r"\b(?:a|an|the) (?:is|are|was|were|and|or|of|with|a|an|the|shows?|can|may)\b",
        # "Between the bodies of T12".
        r"\bbetween (?:(?!\b(?:and|or|to|both|two)\b)[^,;.\-/&])*\bof [ctls]\d{1,2}(?=[,;.]|$)",
        r"\bbetween (?:\w+ ){1,6}and(?=[,;.]|$)",
    )
)
_SHORT = 6
_WITHOUT_SUBJECT = re.compile(
    r"^(?:(?:of|between|into|and|or|but|than)\b[^,]*|"
    rf"(?:from|with|by|to|at|within|in|on|near|behind|below|above)(?: [^\s,]+){{1,{_SHORT}}})$",
    re.I,
)
_VERB = re.compile(
    rf"\b(?:{_FINITE}|{_MODAL}|lies?|extends?|contains?|enhances?|measures?|appears?|involves?|arises?)\b", re.I
)
_WORDS = re.compile(r"[^\W_]+")


def complete(sentence: str) -> bool:
    """Returns False for a text that is surely not a whole sentence, or a single word."""
    text = " ".join(sentence.split())
    if len(_WORDS.findall(text)) < 2 or any(fault.search(text) for fault in _FAULTS):
        return False
    return not _WITHOUT_SUBJECT.match(text) or bool(_VERB.search(text))
