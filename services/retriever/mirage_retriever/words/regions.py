"""The regions of an image that a query names."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from mirage_core.regions import Region
from mirage_retriever.words.queries import Unit, WordQuery
from mirage_retriever.words.tokens import stem, tokens

# Words that distinguish structures of one name: who asks for one of a group does not mean another. Alone they name nothing.
_PLACES = tuple(
    frozenset(map(stem, words))
    for words in (("left", "right"), ("upper", "middle", "lower"), ("superior", "inferior"), ("anterior", "posterior"))
)
_ALL_PLACES = frozenset[str]().union(*_PLACES)


def named_regions(regions: Sequence[Region], query: WordQuery | None) -> tuple[Region, ...]:
    """Returns the regions whose names say something that is asked for, those only that say the most of it.

    "left kidney" names neither the right kidney nor the left lung. Synonyms must be the whole name: "spleen" does not name
    the splenic vein.
    """
    units = [unit for unit in query.units if not _is_place(unit)] if query is not None and regions else []
    if query is None or not units:
        return ()
    asked = {each for unit in query.units for way in unit.ways for each in way.stems}
    said: dict[Region, frozenset[int]] = {}
    for region in regions:
        name = _stems(region.name)
        if asked.isdisjoint(name) or any(
            asked & group and name & group and not asked & name & group for group in _PLACES
        ):
            continue
        if found := frozenset(number for number, unit in enumerate(units) if _says(name, unit)):
            said[region] = found
    return tuple(region for region, found in said.items() if not any(found < other for other in said.values()))


def without_places(stems: Iterable[str]) -> frozenset[str]:
    """Returns the stems that name a structure, without those that say where it is."""
    return frozenset(stems) - _ALL_PLACES


@lru_cache(4096)
def _stems(name: str) -> frozenset[str]:
    """The stems of a region's name. The names of an atlas are few, and those of a body repeat in each image of it."""
    return frozenset(token.stem for token in tokens(name))


def _says(name: frozenset[str], unit: Unit) -> bool:
    if any(name.issuperset(way.stems) for way in unit.literal):
        return True
    return any(name.issuperset(other.stems) and _is_whole(name, other.stems) for other in unit.others)


def _is_whole(name: frozenset[str], stems: Iterable[str]) -> bool:
    return without_places(name) <= set(stems)


def _is_place(unit: Unit) -> bool:
    return all(_ALL_PLACES.issuperset(way.stems) for way in unit.literal)
