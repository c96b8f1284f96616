"""Checks each sentence of a description before it is shown, and words it so that it needs no numbers of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from mirage_core.extractive import extract
from mirage_inference.llm.citations import supporting
from mirage_inference.llm.glossary import TOPICS, Fact, Glossary
from mirage_inference.llm.grammar import complete
from mirage_inference.llm.reading import read
from mirage_inference.llm.request import Caption
from mirage_inference.llm.word_kinds import vocabulary
from mirage_inference.llm.words import known, plain

FACTS_MAX = 3
_ORDINAL = r"(?:first|second|third|fourth|fifth|sixth)"
_NOUN = r"(?:image|caption|picture|scan|figure)"
_VIEWED = (
    r"(?:(?:plain|panoramic|lateral|frontal|axial|coronal|sagittal|chest|abdominal|pelvic|cranial|dental|follow-up|(?:pre|post)operative|"
    r"contrast-enhanced|ct|mri?|t[12]-weighted|x-ray|ultrasound) ){0,3}"
    r"(?:radiographs?|x-rays?|ct|mri|ultrasounds?|angiograms?|sonograms?|echocardiograms?|tomograms?|views?|scans?|images?)"
)
_NUMBERED = re.compile(
    rf"^(?:the )?{_ORDINAL} (?={_VIEWED} (?:shows?|demonstrates?|reveals?|is|depicts?|displays?|illustrates?)\b)", re.I
)
_ONE = re.compile(rf"\bthe {_ORDINAL} {_NOUN}\b|\b{_NOUN} \d{{1,2}}\b|^the caption\b", re.I)
_SEVERAL = re.compile(rf"\bthe {_ORDINAL}(?:(?:, and |, | and ){_ORDINAL})+ {_NOUN}s\b", re.I)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_IS_A = re.compile(r"^this image (?:is|describes) (?=an? )", re.I)
_IS_A_THAT_SHOWS = re.compile(r"^this image is (an? [^,;]{1,80}?) and shows ", re.I)
_STATES = re.compile(r"^this image (?:states|mentions|describes) (?:that there (?:is|are) )?(?=\w)", re.I)
_WE_SEE = re.compile(r"^(?:here,? )?(?:we|you)(?: can| could)? (?:also )?(?:see|observe|note|notice|find)\b", re.I)
_PERSON = re.compile(r"\b(?:[Ww]e|us|[Oo]urs?|[Mm]y|[Yy]our?)\b")
_LIES = re.compile(
    r"(?:the|this|these|its|their)\b[^,;:]{1,120}?\b(?:lies?|(?:is|are|was|were|(?:can|may) be)"
    r"(?: (?:located|situated|found|seen|visible|centred|centered|locali[sz]ed|placed))?) (?:just |mainly |mostly |directly )?"
    r"(?:in front of|next to|adjacent to|close to|"
    r"(?:anterior|posterior|superior|inferior|medial|lateral|proximal|distal) to|in|at|on|within|near|behind|below|above|between|"
    r"along|beneath|under|over|beside)\b"
    r"(?! (?:size|shape|keeping|number|contact|least|most|follow|t1|t2|flair|ct|mri?|axial|coronal)\b)",
    re.I,
)
"""How a sentence begins that says where a structure or sign is."""
_SHOWS = re.compile(r"\b(?:shows?|demonstrates?|reveals?|there)\b", re.I)
_OF_THE_TEXT = re.compile(
    r"\b(?:the|these|both|all)(?: (?:two|three))? captions (?:describe|mention|state|show|say|discuss|present|refer)|"
    r"\bthis (?:image|caption) (?:also )?refers? to\b|"
    r"\b(?:is|are) (?:described|discussed|mentioned)(?: (?:in|by) the captions?)?\W*$",
    re.I,
)
"""How a sentence speaks that is about the captions and not about what the image shows."""
_MEMBERS = re.compile(r",? and |, | shows ")
_WORD = re.compile(r"[^\W\d_]{2,}")


class Kind(IntEnum):
    """As mirage.v1.SentenceKind."""

    CAPTION = 1
    GENERAL = 2
    EXTRACT = 3


class Block(IntEnum):
    """As mirage.v1.SentenceBlock."""

    NONE = 0
    SEE = 1
    WHERE = 2
    APART = 3


@dataclass(frozen=True)
class Checked:
    """A sentence that may be shown; `ids` of the records whose captions support it."""

    text: str
    kind: Kind
    block: Block
    ids: tuple[str, ...] = ()


class Checker:
    """Checks the sentences of one description."""

    def __init__(self, captions: Sequence[Caption], glossary: Glossary) -> None:
        self._captions, self._glossary = captions, glossary
        self._texts = [caption.text for caption in captions]
        self._known = {word for text in self._texts for word in _words(text)}

    def check(self, sentence: str) -> Checked | None:
        """Returns the sentence as it is shown, or None if nothing supports it."""
        if fact := self._glossary.stated(sentence):
            return general(fact)
        if indices := supporting(sentence, self._texts):
            text = worded(sentence)
            if _repeats(text) or not complete(text) or _OF_THE_TEXT.search(text):
                return None
            if not _PERSON.search(text) and all(map(self._is_word, _WORD.findall(text.lower()))):
                return Checked(text, Kind.CAPTION, block_of(text), tuple(self._captions[i].id for i in indices))
        for fact in self._glossary.about(sentence):
            if supporting(sentence, [fact.sentence]):
                return general(fact)
        return None

    def facts(self, query: str) -> list[Checked]:
        """Returns facts about what the query names and the first caption shows, the most specific first."""
        texts = (query, *self._texts[:1])
        shown = frozenset().union(*(read(text).terms for text in texts))
        about = dict.fromkeys(fact for text in texts for fact in self._glossary.about(text))
        told = [fact for fact in about if any(read(term).terms <= shown for term in fact.terms)]
        return [general(fact) for fact in distinct(sorted(told, key=lambda fact: TOPICS.index(fact.topic)))]

    def look_alike(self, record: Caption) -> Checked:
        """Returns the title of a record that looks alike, with the first sentence of its caption."""
        [(sentence, ids)] = extract([(record.id, record.text)])[:1]
        title = record.title.strip().rstrip(".")
        said = f"{title}." if sentence.casefold() == f"{title}.".casefold() else f"{title}: {sentence}"
        return Checked(said, Kind.EXTRACT, Block.APART, ids)

    def facts_about(self, title: str) -> list[Checked]:
        """Returns facts about the findings that a title names."""
        found = [fact for fact in self._glossary.about(title) if fact.topic == "finding"]
        return [replace(general(fact), block=Block.APART) for fact in found]

    def _is_word(self, word: str) -> bool:
        return word in self._known or word in self._glossary.words or known(word)


def distinct(facts: Sequence[Fact]) -> list[Fact]:
    """Returns the facts without those that say of a term, in nearly the same words, what an earlier one says."""
    found: list[Fact] = []
    for fact in facts:
        words = set(_words(fact.sentence))
        about = [each for each in found if not set(each.terms).isdisjoint(fact.terms)]
        others = [set(_words(each.sentence)) for each in about]
        if not any(2 * len(words & other) > len(words | other) for other in others):
            found.append(fact)
    return found


def general(fact: Fact) -> Checked:
    """Returns a fact as a sentence."""
    return Checked(fact.sentence, Kind.GENERAL, Block.WHERE)


def worded(sentence: str) -> str:
    """Returns a sentence without the numbers of images: its sources name them."""
    text = _SEVERAL.sub("these images", _ONE.sub("this image", _BULLET.sub("", sentence)))
    text = _NUMBERED.sub("the ", text)
    text = _IS_A_THAT_SHOWS.sub(r"\1 shows ", text)
    text = _STATES.sub("this image shows ", _IS_A.sub("", text))
    text = _WE_SEE.sub("this image shows", text)
    return text[:1].upper() + text[1:]


def block_of(sentence: str) -> Block:
    """Returns WHERE for a sentence that says where something known lies ("The mass is in the left lobe"), else SEE.

    A sentence that states a finding ("There is a mass in the left lobe") says what is seen, wherever that is.
    """
    found = _LIES.match(sentence)
    if not found or _SHOWS.search(found[0]):
        return Block.SEE
    place = read(sentence[found.end() :])
    return Block.WHERE if place.sides or place.terms & vocabulary()["anatomy"] else Block.SEE


def _repeats(text: str) -> bool:
    """Returns True for a list that names a thing twice: "the spleen, the liver and the spleen"."""
    members = [each for each in _MEMBERS.split(text.rstrip(".")) if each.startswith("the ")]
    return len(set(members)) < len(members)


def _words(text: str) -> list[str]:
    # As it is written, and in one spelling.
    return _WORD.findall(plain(text)) + _WORD.findall(text.lower())
