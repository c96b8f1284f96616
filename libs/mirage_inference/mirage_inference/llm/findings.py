"""The closed vocabulary of findings (`findings.txt`), and which of them a text affirms or denies."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mirage_inference.llm.reading import denied_places
from mirage_inference.llm.words import tokens

NONE = "none"


@dataclass(frozen=True)
class Mention:
    """A finding that a text speaks of; `denied` if the text says that it is not there."""

    finding: str
    denied: bool


class Vocabulary:
    """The findings by all their names."""

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self.synonyms = names
        self._by_words = {
            tuple(tokens(word)): name for name, others in names.items() for word in (name, *others) if tokens(word)
        }
        self._longest = max(map(len, self._by_words))

    def canonical(self, label: str) -> str | None:
        """Returns the vocabulary's name for a label of a collection, or None."""
        return self._by_words.get(tuple(tokens(label)))

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Returns the findings that a text speaks of, in its order, the longest name at each place. "none" is not one."""
        words = tokens(text)
        denied = denied_places(words)
        found: dict[Mention, None] = {}
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                name = self._by_words.get(tuple(words[place : place + length]))
                if name is not None and name != NONE:
                    found[Mention(name, any(each in denied for each in range(place, place + length)))] = None
                    place += length
                    break
            else:
                place += 1
        return tuple(found)


# Words of a sentence that denies one thing and says nothing else.
_PLAIN = """
    there is are was were no not without any a an the of evidence sign signs focal definite seen visible identified detected
    image scan picture section it this shows show demonstrates
"""
_PLAIN_WORDS = frozenset(_PLAIN.split())


def denied_thing(text: str) -> str:
    """Returns the one word that a text denies if it says nothing else: "lesion" of "There is no lesion"; "" for other texts."""
    words = tokens(text)
    things = [place for place, word in enumerate(words) if word.isalpha() and word not in _PLAIN_WORDS]
    return words[things[0]] if len(things) == 1 and things[0] in denied_places(words) else ""


def kind_of(finding: str) -> str:
    """Returns the word of a finding's name that says what kind of thing it is: of "simulated lesion" the last one."""
    return tokens(finding)[-1] if tokens(finding) else ""


@cache
def vocabulary() -> Vocabulary:
    """Returns the vocabulary that comes with the reader."""
    text = resources.files("mirage_inference.llm").joinpath("findings.txt").read_text("utf-8")
    names: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, others = line.partition("|")
            names[name.strip()] = tuple(each.strip() for each in others.split(";") if each.strip())
    return Vocabulary(names)
