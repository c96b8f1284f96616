"""The label of a reading, by rules over the evidence and the reading's checked sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mirage_inference.llm.findings import Vocabulary
from mirage_reader.engines.base import StepSource
from mirage_reader.evidence import Evidence, figures, is_healthy, leading_finding
from mirage_reader.steps import Step, StepState


class LabelState(IntEnum):
    """As mirage.v1.LabelState."""

    NAMED = 1
    NONE = 2
    NOT_KNOWN = 3


@dataclass(frozen=True)
class Label:
    """The label; `finding` is empty unless it is named. `text` is a sentence for people."""

    state: LabelState
    text: str
    finding: str = ""
    properties: tuple[tuple[str, str], ...] = ()
    basis: tuple[str, ...] = ()


def label_of(evidence: Evidence, steps: Sequence[Step], names: Vocabulary) -> Label:
    """Returns the label. A model's sentence can confirm the evidence's finding, or take it away, but not add one."""
    properties = tuple(
        (each.facet, each.values[0].value)
        for each in evidence.facets
        if each.facet != "finding" and each.values[0].stands_out
    )
    leader = leading_finding(evidence)
    if leader is None:
        text = "Not known: no finding stands out among the nearest cases."
        return Label(LabelState.NOT_KNOWN, evidence.notice or text, properties=properties)
    if is_healthy(leader):
        text = f"No finding: {figures(leader, evidence)} are without one."
        return Label(LabelState.NONE, text, properties=properties, basis=("evidence",))
    if names.canonical(leader.value) is None:
        text = f'Not known: the collection\'s label "{leader.value}" is not in the vocabulary of findings.'
        return Label(LabelState.NOT_KNOWN, text, properties=properties)
    said = {
        mention.denied
        for step in steps
        if step.source is StepSource.MODEL and step.state is StepState.SUPPORTED
        for mention in names.mentions(step.text)
        if mention.finding == leader.value
    }
    if True in said:
        text = f"Not known: the nearest cases point to {leader.value}, and the reading model says that it is absent."
        return Label(LabelState.NOT_KNOWN, text, properties=properties)
    basis = ("evidence", "reading") if said else ("evidence",)
    text = f"{leader.value.capitalize()}: {figures(leader, evidence)}."
    return Label(LabelState.NAMED, text, leader.value, properties, basis)


def label_of_question(text: str, names: Vocabulary) -> Label:
    """Returns the first finding that a question names and does not exclude."""
    found = next((each.finding for each in names.mentions(text) if not each.denied), "")
    if not found:
        return Label(LabelState.NOT_KNOWN, "Not known: the question names no finding of the vocabulary.")
    return Label(LabelState.NAMED, f"The question is about {found}.", found, basis=("question",))
