"""Words that mean the same: a list per language that comes with MIRAGE, and one of the operator's."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from mirage_retriever.words.tokens import normalise, tokens

LANGUAGES = ("en", "es")
_FILE_BYTES = 2**20
_GROUPS_MAX = 5_000
_TERMS_MAX = 64
_TERM_CHARS = 64
_ONE_WAY = "~"

Stems = tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """A term of a group: its text and its stems. One that is `one_way` finds the others but is not found by them."""

    text: str
    stems: Stems
    one_way: bool = False


@dataclass
class Synonyms:
    """Groups of expressions by key. A search follows one group once, so lists that refer to each other do no harm."""

    groups: dict[str, list[Expression]] = field(default_factory=dict)
    stops: set[str] = field(default_factory=set)
    _keys: dict[Stems, list[str]] = field(default_factory=lambda: defaultdict(list))
    longest: int = 1
    known: set[str] = field(default_factory=set)

    def add(self, key: str, expressions: Iterable[Expression]) -> None:
        """Adds expressions to a group; one that is there already stays as it is."""
        group = self.groups.setdefault(key, [])
        known = {each.stems for each in group}
        for each in expressions:
            if each.stems not in known:
                known.add(each.stems)
                group.append(each)
                self._keys[each.stems].append(key)
                self.longest = max(self.longest, len(each.stems))
                # Words for themselves, however rare in a collection.
                self.known.update(each.stems)

    def __contains__(self, stems: Stems) -> bool:
        return stems in self._keys

    def others(self, stems: Stems) -> list[Expression]:
        """The other expressions that find the same, each once."""
        found: dict[Stems, Expression] = {}
        for key in self._keys.get(stems, ()):
            for each in self.groups[key]:
                if not each.one_way and each.stems != stems:
                    found.setdefault(each.stems, each)
        return list(found.values())

    def named(self, stems: Stems) -> list[tuple[str, str]]:
        """Facets and values that an expression names."""
        pairs = (key.partition("=") for key in self._keys.get(stems, ()))
        return [(facet, value) for facet, is_facet, value in pairs if is_facet]


@cache
def expressions() -> dict[str, tuple[Stems, ...]]:
    """The expressions of several words in our own lists, by their first stem: records are indexed with them too, so that a
    change of one needs another engines.base.SCHEMA.
    """
    found: dict[str, list[Stems]] = defaultdict(list)
    for group in load_synonyms(LANGUAGES).groups.values():
        for each in group:
            if len(each.stems) > 1:
                found[each.stems[0]].append(each.stems)
    return {first: tuple(dict.fromkeys(several)) for first, several in found.items()}


def is_listed(stems: Stems) -> bool:
    """True for an expression of several words that records are indexed with."""
    return len(stems) > 1 and stems in expressions().get(stems[0], ())


def as_one(stems: Stems) -> str:
    """An expression as one stem."""
    return "_".join(stems)


def load_synonyms(languages: Sequence[str] = ("en",), extra: Path | None = None) -> Synonyms:
    """The lists of these languages and the operator's file after them.

    Raises ValueError, naming the file and the line, for one that is not a list of synonyms; OSError if it cannot be read.
    """
    synonyms = Synonyms()
    for language in languages:
        if language not in LANGUAGES:
            raise ValueError(
                f"synonyms: there is no list for the language {language!r}; known are {', '.join(LANGUAGES)}"
            )
        name = f"synonyms.{language}.txt"
        _read(synonyms, resources.files(__package__).joinpath(name).read_text("utf-8"), name)
    if extra is not None:
        if extra.stat().st_size > _FILE_BYTES:
            raise ValueError(f"{extra.name}: larger than {_FILE_BYTES} bytes")
        try:
            text = extra.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{extra.name}: not UTF-8 text") from error
        _read(synonyms, text, extra.name)
    return synonyms


def _read(synonyms: Synonyms, text: str, name: str) -> None:
    lines = text.splitlines()
    if len(lines) > 2 * _GROUPS_MAX:
        raise ValueError(f"{name}: more than {2 * _GROUPS_MAX} lines")
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            key, has_key, rest = line.partition(":")
            if not has_key:
                key, rest = f"{name}:{number}", line
            if has_key and key.strip() == "stop":
                synonyms.stops.update(map(normalise, rest.split()))
                continue
            expressions = [_expression(part) for part in rest.split("|")]
            if len(expressions) > _TERMS_MAX:
                raise ValueError(f"more than {_TERMS_MAX} terms")
            if not has_key and len({each.stems for each in expressions}) < 2:
                raise ValueError("needs two or more different terms, with | between them")
            synonyms.add(key.strip(), expressions)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None


def _expression(part: str) -> Expression:
    text = part.strip()
    one_way = text.startswith(_ONE_WAY)
    text = text.removeprefix(_ONE_WAY).strip()
    if len(text) > _TERM_CHARS:
        raise ValueError(f"a term has more than {_TERM_CHARS} characters")
    stems = stems_of(text)
    if not stems:
        raise ValueError("a term has no word that can be searched")
    return Expression(text, stems, one_way)


def stems_of(text: str) -> Stems:
    """The stems of an expression, compounds by their parts."""
    return tuple(token.stem for token in tokens(text) if not token.compound)
