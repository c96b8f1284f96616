"""Readings: the request and the events of the stream."""

import base64
from typing import Annotated, Literal

from pydantic import Field

from mirage_api.base import Base64, Base64File, Id, Labels, Milliseconds, Omitted, Reply, Request, Score, Short, Text
from mirage_api.descriptions import Failed
from mirage_api.search import FacetGuess, SearchResult, Timings, ValueGuess


class KindCorrection(Request):
    """The kind of the image in the caller's words; an omitted field keeps the classification's."""

    modality: Short | None = Field(None, description='Such as "x-ray".')
    body_part: Short | None = Field(None, description='Such as "chest".')
    view: Short | None = Field(None, description='A plane or projection, such as "frontal".')


class ReadRequest(Request):
    """A request for a reading: exactly one of image, record_id and text."""

    image: Base64File | None = None
    record_id: Id | None = None
    text: Text | None = None
    collection: Short | None = Field(None, description="Where the evidence comes from; the active one if omitted.")
    kind: KindCorrection | None = None
    accept_any_image: bool = Field(False, description="Read also what does not seem to be a medical image.")


class KindValue(Reply):
    """One property of the kind; `sure` if it is likely enough to narrow the evidence with."""

    value: str
    score: Score
    sure: bool = False
    source: Literal["classified", "record", "caller"]
    others: tuple[ValueGuess, ...] = ()


class ReadKind(Reply):
    """The kind of an image; null is not known. `name` is that of its checklist, or empty."""

    medical: Literal["medical", "unsure", "not_medical", "unknown"]
    medical_score: Score = 0.0
    modality: KindValue | None = None
    body_part: KindValue | None = None
    view: KindValue | None = None
    name: str = ""


class ChecklistItem(Reply):
    """The items to look at; `source` is empty if it is common textbook knowledge."""

    id: str
    title: str
    text: str
    source: str = ""


class ReadChecklist(Reply):
    """The order in which this kind of image is looked at; `notice` says why it is missing."""

    name: str
    title: str
    items: tuple[ChecklistItem, ...] = ()
    notice: str = ""


class LabelEvidence(Reply):
    """A label among the nearest cases: their share with its 95 % interval, and that of all records of the same kind.

    `enough` is false if fewer than three cases have it.
    """

    value: str
    cases: int
    share: Score
    low: Score
    high: Score
    prior: Score
    lift: Score
    enough: bool
    ids: tuple[str, ...] = ()


class FacetEvidence(Reply):
    """A facet: nearest cases with any value of it, and its values, the most frequent first."""

    facet: str
    labelled: int
    values: tuple[LabelEvidence, ...]


class ReadEvidence(Reply):
    """The labels of the `cases` nearest cases against those of the `records` of the same kind, which pass `where`."""

    guesses: tuple[FacetGuess, ...] = ()
    where: Labels = {}
    cases: int
    records: int
    facets: tuple[FacetEvidence, ...] = ()
    notice: str = ""


class ReadStep(Reply):
    """A sentence about an item of the checklist, or of a summary. If it is contradicted, `claim` is the model's own."""

    item: str
    text: str
    source: Literal["rules", "model", "summary"]
    state: Literal["supported", "contradicted", "not_judged"]
    ids: tuple[str, ...] = ()
    claim: Annotated[str, Omitted()] = ""


class LabelProperty(Reply):
    """A further property that the nearest cases agree on."""

    facet: str
    value: str


class ReadLabel(Reply):
    """The label, by rules over evidence and reading; `finding` is empty unless the state is "named"."""

    state: Literal["named", "none", "not_known"]
    finding: str = ""
    properties: tuple[LabelProperty, ...] = ()
    basis: tuple[str, ...] = ()
    text: str


class ReadSimilar(Reply):
    """Records to compare with: like image and label together, and those that look alike with another finding."""

    results: tuple[SearchResult, ...] = ()
    look_alikes: tuple[SearchResult, ...] = ()


class ContextNote(Reply):
    """A piece of general knowledge, and where it is from. `image` is a small JPEG file, left out if there is none."""

    text: str
    title: str
    url: str = ""
    licence: str = ""
    provider: str
    image: Annotated[Base64, Omitted()] = ""
    image_credit: str = ""

    @property
    def jpeg(self) -> bytes:
        """The image, or nothing."""
        return base64.b64decode(self.image)


class ReadContext(Reply):
    """Notes about the label; `sent` is all that was sent to providers outside, empty if nothing was."""

    notes: tuple[ContextNote, ...] = ()
    sent: str = ""
    notice: str = ""


class ReadDone(Reply):
    """The end. A reading is never for diagnosis."""

    finish: Literal["complete", "not_medical", "other_topic"]
    notice: str = ""
    not_for_diagnosis: bool = True
    disclaimer: str
    shown: int = 0
    withheld: int = 0
    engine: str = ""
    summariser: str = ""
    evidence_ms: Milliseconds = 0.0
    timings: Timings = Timings()


ReadEvent = ReadKind | ReadChecklist | ReadEvidence | ReadStep | ReadLabel | ReadSimilar | ReadContext | ReadDone
EVENTS: dict[str, type[ReadEvent] | type[Failed]] = {
    "kind": ReadKind,
    "checklist": ReadChecklist,
    "evidence": ReadEvidence,
    "reading": ReadStep,
    "label": ReadLabel,
    "similar": ReadSimilar,
    "context": ReadContext,
    "done": ReadDone,
    "error": Failed,
}
