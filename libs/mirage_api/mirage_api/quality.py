"""Evaluations: measured figures of a collection's quality."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mirage_api.base import Id, Omitted, Reply, Request, Short

Subject = Literal[
    "retrieval", "consistency", "arithmetic", "generation", "descriptions", "read", "calibration", "speed"
]
Unit = Literal["", "ms", "rank", "cosine", "distance", "sentences"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
FIGURES_MAX = 500
SERIES_MAX = 32
POINTS_MAX = 256
HARD_CASES_MAX = 200
FOUND_MAX = 5
NOTES_MAX = 16
SEEDS_MAX = 16


class Figure(Reply):
    """One figure: a share from 0 to 1 unless the unit says otherwise, its 95 % interval and chance, if they are known."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=None)

    name: Short = Field(description="What was measured, such as recall@10.")
    group: Short = Field("", description="On what, such as modality ct.")
    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    chance: Finite | None = None
    count: int = Field(0, description="Over how many queries, pairs or calls.", ge=0, le=2**53)
    unit: Annotated[Unit, Omitted()] = ""


class Series(Reply):
    """Points of a curve or of a distribution."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=None)

    name: Short
    group: Short = ""
    x: tuple[Finite, ...] = Field(max_length=POINTS_MAX)
    y: tuple[Finite, ...] = Field(max_length=POINTS_MAX)


class HardCase(Reply):
    """A case that went wrong: a caption whose image was not found, a label taken for another, a hub, an empty caption."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=None)

    kind: Literal["not_found", "confused", "hub", "no_content"]
    id: Id
    text: Short = Field("", description="Its caption, shortened, or what was confused.")
    found_ids: tuple[Short, ...] = Field((), description="What was found instead.", max_length=FOUND_MAX)
    count: int = Field(0, description="How often, for a hub.", ge=0, le=2**53)


class Measured(Request):
    """Measured figures of a collection, made with the model of this fingerprint."""

    subject: Subject
    fingerprint: Short
    command: Short = Field("", description="Measures it again.")
    seeds: dict[Short, int] = Field({}, max_length=SEEDS_MAX, description="Of everything that was drawn.")
    figures: tuple[Figure, ...] = Field(max_length=FIGURES_MAX)
    series: tuple[Series, ...] = Field((), max_length=SERIES_MAX)
    hard_cases: tuple[HardCase, ...] = Field((), max_length=HARD_CASES_MAX)
    notes: tuple[Short, ...] = Field(
        (), max_length=NOTES_MAX, description="What was not measured and other limits, in words."
    )


class StoreRequest(Request):
    """An evaluation to keep with a collection, in place of the one before of its subject."""

    evaluation: Measured
    collection: Short = Field("", description="The active one if empty.")


class Evaluation(Reply):
    """Measured figures as they are stored. `outdated`: the collection or its model is another by now."""

    subject: Subject
    collection: str
    fingerprint: str
    records: int
    create_time: str
    command: str = ""
    seeds: dict[str, int] = {}
    figures: tuple[Figure, ...] = ()
    series: tuple[Series, ...] = ()
    hard_cases: tuple[HardCase, ...] = ()
    notes: tuple[str, ...] = ()
    outdated: bool = False


class QualityReply(Reply):
    """The evaluations of a collection, at most one of each subject."""

    evaluations: tuple[Evaluation, ...]
