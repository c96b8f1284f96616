"""Finds what a text says is not there: "no effusion", "free of stones", "the gallbladder is absent".

The rules follow NegEx (Chapman et al., A simple algorithm for identifying negated findings, J Biomed Inform 34, 2001): words
that deny, how far they reach, and phrases that only look like denials ("no change in size", "cannot be excluded").
"""

import re
from collections.abc import Callable, Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATORS = _words(
    "no not without none neither nor never lack lacks lacking absent absence free negative cannot denies sin"
)
_AFTERWARDS = _words("absent excluded denied")
# These deny only together with the word after them: "free of stones", never "free fluid".
_NEEDS = {"free": _words("of from"), "negative": _words("for")}
_SCOPE_ENDS = _words(
    "; . : ? ! ( ) in on at under within along around beneath above below but however though although showing show with while "
    "whereas except"
)
_RESUMES = _words("the a an there it this at through left right on in")
# "no change of the effusion" denies the change alone.
_CHANGES = _words("change changes increase decrease progression difference growth")
_UNCERTAIN = _words("exclude excludes excluded rule ruled only")
_SEEN = _words("seen visible present found identified visualized visualised demonstrated detected")
_BACK = 40
_NEAR = 3
_PIECE = re.compile(r"[^\W_]+|[^\w\s]|[\r\n]")
_MAY_DENY = re.compile(rf"\b(?:{'|'.join(sorted(NEGATORS | _AFTERWARDS))})\b", re.IGNORECASE)


def tables() -> dict[str, object]:
    """Returns the words of the rules, for the page of a static site, which has them in another language."""
    return {
        "negators": sorted(NEGATORS),
        "afterwards": sorted(_AFTERWARDS),
        "needs": {word: sorted(after) for word, after in _NEEDS.items()},
        "scope_ends": sorted(_SCOPE_ENDS),
        "resumes": sorted(_RESUMES),
        "changes": sorted(_CHANGES),
        "uncertain": sorted(_UNCERTAIN),
        "seen": sorted(_SEEN),
        "back": _BACK,
        "near": _NEAR,
    }


def _is_word(word: str) -> bool:
    return word.isalpha() and word not in _SCOPE_ENDS


def denied_spans(text: str) -> list[tuple[int, int]]:
    """Returns the words that a text says are not there, as [start, end) in characters."""
    if not _MAY_DENY.search(text):
        return []
    pieces = list(_PIECE.finditer(text))
    words = [piece[0].lower().replace("\r", ".").replace("\n", ".") for piece in pieces]
    return [pieces[place].span() for place in sorted(denied_places(words))]


def denied_places(
    words: Sequence[str], *, is_term: Callable[[str], bool] = _is_word, more: frozenset[str] = frozenset()
) -> frozenset[int]:
    """Returns the indices of the words, in lower case and with punctuation among them, that a text says are not there.

    `more` are further words that deny; `is_term` is true for words that name something.
    """
    negators = NEGATORS | more
    denied: set[int] = set()
    until = 0
    for place, word in enumerate(words):
        follows = words[place + 1] if place + 1 < len(words) else ""
        # "absent flow", "absence of flow" and "flow is absent".
        ahead = (
            word in negators
            and (word not in _NEEDS or follows in _NEEDS[word])
            and not (word == "absent" and follows != "of" and not is_term(follows))
            and not _UNCERTAIN.intersection(words[place + 1 : place + _NEAR])
        )
        if ahead and place >= until:
            # A second "no" in the reach of a first one reaches as far.
            scope = list(_scope(words, place))
            until = scope[-1] + 1 if scope else place
            denied.update(scope)
        unsure = word == "excluded" and not negators.isdisjoint(words[max(0, place - _NEAR) : place])
        if (word in _AFTERWARDS and not ahead and not unsure) or (word == "not" and follows in _SEEN):
            denied.update(_before(words, place))
    return frozenset(denied)


def _scope(words: Sequence[str], place: int) -> Iterator[int]:
    for index in range(place + 1, len(words)):
        word = words[index]
        if word in _SCOPE_ENDS:
            return
        if word == "," and words[place] == "absent":
            return
        if word == "," and words[index + 1 : index + 2] and words[index + 1] in _RESUMES | _SCOPE_ENDS:
            return
        yield index
        if word in _CHANGES:
            return


def _before(words: Sequence[str], place: int) -> Iterator[int]:
    for index in range(place - 1, max(-1, place - _BACK), -1):
        if words[index] in _SCOPE_ENDS:
            return
        yield index
