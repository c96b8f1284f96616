"""The composed reading: a sentence for each item of the checklist, by rules from the evidence, or "not judged"."""

from collections.abc import AsyncGenerator

from mirage_reader.checklists import Item
from mirage_reader.engines.base import Draft, ModelInfo, StepSource, Study
from mirage_reader.evidence import ENOUGH, IDS, Evidence, LabelEvidence, figures, of_finding

_NO_LABEL = "Not judged: no label of the collection is about this."
_RARE = "Not judged: none of the nearest cases has a label about this, and few records have one."
_SHOWN = 2
_STRUCTURES = 4


class ComposedReading:
    """Needs no model."""

    name = "composed"
    source = StepSource.RULES
    model: ModelInfo | None = None

    def may_read(self, kind: str) -> bool:
        """True: rules read every kind that has a checklist."""
        return True

    async def read(self, study: Study) -> AsyncGenerator[Draft]:
        """Yields one sentence for each item, in the order of the checklist; without ids if the item is not judged."""
        for item in study.checklist.items:
            yield Draft(item.id, *_with_structures(item, study.evidence))

    async def close(self) -> None:
        """Does nothing."""


def _with_structures(item: Item, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """The sentence about findings, after what the outlines of the record or of the nearest cases say is to be seen."""
    text, ids = _sentence(item, evidence)
    outlined = [name for name in evidence.outlined if item.concerns(name)][:_STRUCTURES]
    if outlined:
        return f"Outlined in this image: {', '.join(outlined)}. {text}", ids
    seen = [each for each in evidence.structures if each.enough and item.concerns(each.value)][:_STRUCTURES]
    if not seen:
        return text, ids
    shown = ", ".join(f"{each.value} ({each.cases} of {evidence.cases})" for each in seen)
    return f"The nearest cases show: {shown}. {text}", ids or _ids(seen)


def _sentence(item: Item, evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    if evidence.notice:
        return f"Not judged. {evidence.notice}", ()
    known = [of_finding(evidence, name) for name in item.findings]
    known += [each for facet in item.facets for each in evidence.facet(facet).values if each.stands_out]
    enough = sorted((each for each in known if each.enough), key=lambda each: -each.cases)[:_SHOWN]
    if enough:
        text = " ".join(f"{each.value.capitalize()}: {figures(each, evidence)}." for each in enough)
        return text, _ids(enough)
    expected = [each for each in known if _is_missed(each, evidence)][:_SHOWN]
    if expected:
        names = " or ".join(f"{each.value} ({each.prior:.0%} of all records of this kind have it)" for each in expected)
        return f"None of the {evidence.cases} nearest cases has {names}.", _ids(evidence.facet("finding").values)
    few = ", ".join(f"{each.cases} with {each.value}" for each in known if each.cases)
    if few:
        return f"Not judged: too few of the {evidence.cases} nearest cases ({few}).", ()
    return (_RARE if any(each.prior for each in known) else _NO_LABEL), ()


def _ids(labels: list[LabelEvidence] | tuple[LabelEvidence, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id_ for label in labels for id_ in label.ids))[:IDS]


def _is_missed(label: LabelEvidence, evidence: Evidence) -> bool:
    """True for a label that no nearest case has, although so many records have it that three would be expected."""
    return not label.cases and label.prior * evidence.facet("finding").labelled >= ENOUGH
