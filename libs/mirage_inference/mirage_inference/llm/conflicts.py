"""Compares two readings: what in a sentence's claims cannot be of the same picture as a caption's."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from mirage_inference.llm.reading import Claims
from mirage_inference.llm.word_kinds import OPPOSITES, PART_OPPOSITES, SEQUENCES, SIDES, SIGNALS


def unlike(claim: Claims, other: Claims) -> bool:
    """Returns True if the claim says without reserve what the other says with one, or binds words otherwise."""
    for term in claim.terms & other.changed.keys():
        if not other.changed[term] & claim.marks:
            return True
    if any(not claim.sides & other.nearest[term] for term in claim.nearest.keys() & other.nearest.keys()):
        return True
    for group in PART_OPPOSITES:
        if len(group & other.all_terms) > 1 and group & other.all_terms - claim.all_terms:
            # "a small cyst and a large mass" does not support "a large cyst".
            for term in group & claim.all_terms & other.near.keys():
                after = claim.near.get(term, frozenset()) - group
                if after and not after & other.near[term]:
                    return True
    return False


def opposed(claim: Claims, other: Claims) -> bool:
    """Returns True if single words show that both cannot be of the same picture."""
    asserted = other.terms - other.mixed
    if claim.terms & other.denied or (claim.denied and claim.denied <= asserted):
        return True
    for group in OPPOSITES:
        said, known = group & claim.all_terms, group & other.all_terms
        if said - known and known - said:
            return True
    if _other_place(claim, other):
        return True
    return _other_side(claim, other) or _other_signal(claim, other) or bool(claim.sizes - other.sizes and other.sizes)


def contested(claim: Claims, clause: Claims) -> list[frozenset[str]]:
    """Returns what a claim has of pairs of opposites of which the clause has another."""
    terms, known = claim.all_terms | claim.sides, clause.all_terms | clause.sides
    groups = (frozenset(SIDES), *PART_OPPOSITES)
    return [group & terms for group in groups if group & terms and group & known - terms]


def other_number(claim: Claims, other: Claims) -> bool:
    """Returns True if a number of the claim is said of something else: "a duct of 96 mm and a vein of 110 mm"."""
    for numbers, terms in claim.measured:
        own = [len(terms & said) for known, said in other.measured if numbers & known]
        others = [len(terms & said) for known, said in other.measured if not numbers & known]
        if own and others and max(others) > max(own):
            return True
    return False


def _other_side(claim: Claims, other: Claims) -> bool:
    known: dict[str, set[str]] = {}
    for side, noun in other.sided:
        known.setdefault(noun, set()).add(side)
    for side, noun in claim.sided:
        if noun in known and side not in known[noun]:
            return True
        # "right frontal lobe" is wrong if the caption has "right temporal lobe", even if it also mentions the frontal
        # lobe.
        if noun not in known and any(noun in group and group & known.keys() for group in OPPOSITES):
            return True
    return bool(claim.sides - other.sides and other.sides)


def _other_place(claim: Claims, other: Claims) -> bool:
    """Returns True if the other has the opposite word before a structure: "lateral condyle" and "medial condyle"."""
    known: dict[tuple[int, str], set[str]] = {}
    for number, word, noun in other.placed:
        known.setdefault((number, noun), set()).add(word)
    return any((number, noun) in known and word not in known[number, noun] for number, word, noun in claim.placed)


def _other_signal(claim: Claims, other: Claims) -> bool:
    """Returns True if a sequence has another signal: "T1 hyperintense and T2 hypointense", and "hyperintense on T2"."""
    known: dict[str, set[str]] = {}
    for sequence, signal in _signals(other):
        known.setdefault(sequence, set()).add(signal)
    return any(sequence in known and signal not in known[sequence] for sequence, signal in _signals(claim))


def _signals(claims: Claims) -> Iterable[tuple[str, str]]:
    return (pair for phrase in claims.phrases for pair in product(phrase & SEQUENCES, phrase & SIGNALS))
