"""The steps of a reading: sentences about the items of a checklist, checked before they are sent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from mirage_inference.llm.citations import supporting
from mirage_inference.llm.findings import Vocabulary, denied_thing, kind_of
from mirage_reader.atlas import Neighbour
from mirage_reader.engines.base import Draft, StepSource
from mirage_reader.evidence import IDS, Evidence, LabelEvidence, figures, of_finding

# So many cases are enough to say that a finding is not among them.
MANY = 10


class StepState(IntEnum):
    """As mirage.v1.StepState."""

    SUPPORTED = 1
    CONTRADICTED = 2
    NOT_JUDGED = 3


@dataclass(frozen=True)
class Step:
    """A sentence with the outcome of its check; `claim` is the model's own if the evidence contradicts it."""

    item: str
    text: str
    source: StepSource
    state: StepState
    ids: tuple[str, ...] = ()
    claim: str = ""


def by_rules(draft: Draft) -> Step:
    """Returns a rule's sentence as a step: it was judged if records support it."""
    state = StepState.SUPPORTED if draft.ids else StepState.NOT_JUDGED
    return Step(draft.item, draft.text, StepSource.RULES, state, draft.ids)


def check(draft: Draft, evidence: Evidence, nearest: Sequence[Neighbour], names: Vocabulary) -> Step | None:
    """Returns a model's sentence as a step; None if nothing supports it, and it is to be withheld."""
    mentions = names.mentions(draft.text)
    supported, ids = bool(mentions), list[str]()
    for mention in mentions:
        found = of_finding(evidence, mention.finding)
        # None of many labelled cases has it. If the collection knows the label, that speaks against the finding.
        unseen = not found.cases and evidence.facet("finding").labelled >= MANY
        missing = unseen and found.prior > 0
        against = found.stands_out and found.low > 0.5 if mention.denied else missing
        if against:
            said = f"that there is no {mention.finding}" if mention.denied else mention.finding
            return _contradicted(draft, said, found, evidence, nearest)
        if unseen and not missing and not mention.denied:
            return None
        supported &= missing if mention.denied else found.stands_out
        ids += found.ids
    if not mentions and (denied := _denied_as_a_kind(draft.text, evidence)):
        return _contradicted(draft, f"that there is no {kind_of(denied.value)}", denied, evidence, nearest)
    if not supported:
        ids = [nearest[index].id for index in supporting(draft.text, [each.caption for each in nearest])]
        if not ids:
            return None
    return Step(draft.item, draft.text, StepSource.MODEL, StepState.SUPPORTED, tuple(dict.fromkeys(ids))[:IDS])


def _denied_as_a_kind(text: str, evidence: Evidence) -> LabelEvidence | None:
    """The finding of most of the nearest cases that a text denies by its kind: "no lesion" for "simulated lesion".

    A text that denies more than the kind, such as a lesion on the left, may be right.
    """
    denied = denied_thing(text)
    findings = evidence.facet("finding").values if denied else ()
    return next(
        (each for each in findings if each.stands_out and each.low > 0.5 and kind_of(each.value) == denied), None
    )


def _contradicted(
    draft: Draft, said: str, found: LabelEvidence, evidence: Evidence, nearest: Sequence[Neighbour]
) -> Step:
    return Step(
        draft.item,
        f"The model says {said}. The evidence says otherwise: {figures(found, evidence)} have {found.value}.",
        StepSource.MODEL,
        StepState.CONTRADICTED,
        found.ids or tuple(each.id for each in nearest[:IDS]),
        draft.text,
    )


def check_summary(
    text: str, steps: Sequence[Step], evidence: Evidence, nearest: Sequence[Neighbour], names: Vocabulary
) -> Step | None:
    """Returns a sentence of a summary as a step; None if no sentence of the reading says the same, with the same figures."""
    step = check(Draft("", text), evidence, nearest, names)
    if step is not None and step.state is StepState.CONTRADICTED:
        return replace(step, source=StepSource.SUMMARY)
    said = supported(steps)
    places = supporting(text, [each.text for each in said])
    ids = dict.fromkeys(id_ for place in places for id_ in said[place].ids)
    return Step("", text, StepSource.SUMMARY, StepState.SUPPORTED, tuple(ids)[:IDS]) if places else None


def supported(steps: Sequence[Step]) -> list[Step]:
    """Returns the steps that hold."""
    return [each for each in steps if each.state is StepState.SUPPORTED]
