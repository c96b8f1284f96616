"""The fields of a job and of the queue's header, and the bounds that each is checked against."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mirage_core.errors import MirageError
from mirage_core.job_options import (
    IMAGES_MAX,
    SEED_MAX,
    STEPS_MAX,
    check_job_options,
    check_job_request_id,
)

JOBS = 1_000_000
# 9999-12-31: the last time that other programs can show.
_LAST_S = 253_402_300_799.0
_IMAGE_BYTES = 2**28
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("characters that cannot be printed")
    return text


def _request_id(text: str) -> str:
    try:
        check_job_request_id(text)
    except MirageError as error:
        raise ValueError("not a request id") from error
    return text


Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Client = Annotated[str, Field(max_length=256), AfterValidator(_printable)]
_WORD = r"^[a-z0-9-]{1,32}$"
Name = Annotated[str, Field(max_length=128), AfterValidator(_printable)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-Za-z._:-]{0,128}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Step = Annotated[int, Field(ge=0, le=STEPS_MAX * IMAGES_MAX)]
Side = Annotated[int, Field(ge=1, le=100_000)]
Time = Annotated[float, Field(ge=0, le=_LAST_S)]
Priority = Literal["interactive", "batch"]
State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]
Workload = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}/[12]$")]


class _Value(BaseModel):
    # Numbers are numbers and texts are texts: what is converted in silence is not what was written.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Spec(_Value):
    """The images to make, with the same fields and bounds as an accepted request."""

    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int
    images: int
    priority: Priority
    deadline_s: float

    @model_validator(mode="after")
    def _as_ordered(self) -> Self:
        try:
            check_job_options(**self.model_dump(exclude={"priority"}))
        except MirageError as error:
            raise ValueError("beyond the bounds of an order") from error
        return self


class AspectCheck(_Value):
    """One aspect of a prompt: the value that it asks for, and the one that the encoder saw."""

    aspect: Annotated[str, Field(pattern=_WORD)]
    asked: Annotated[str, Field(pattern=_WORD)]
    seen: Annotated[str, Field(pattern=_WORD)]


class Image(_Value):
    """An image that was made: its file is named by its SHA-256."""

    index: Annotated[int, Field(ge=0, lt=IMAGES_MAX)]
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)]
    width: Side
    height: Side
    bytes: Annotated[int, Field(ge=1, le=_IMAGE_BYTES)]
    sha256: Digest
    checked: bool = False
    checks: Annotated[tuple[AspectCheck, ...], Field(max_length=16, strict=False)] = ()


class Problem(_Value):
    """The reason of a failed job."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z_]{0,63}$")]
    metadata: Annotated[dict[Name, Annotated[str, Field(max_length=1000)]], Field(max_length=32)]


class Job(_Value):
    """A job as its record has it, except for what is of one run only: its worker and its ticket."""

    id: Id
    sequence: Annotated[int, Field(ge=1, le=2**53)]
    client: Client
    request_id: Annotated[str, AfterValidator(_request_id)]
    digest: Digest
    priority: Priority
    state: State
    step: Step
    steps: Step
    count: Annotated[int, Field(ge=1, le=IMAGES_MAX)]
    attempts: Annotated[int, Field(ge=0, le=10_000)]
    fence: Count
    revision: Count
    ttl: Annotated[float, Field(gt=0, le=_LAST_S)]
    create_time: Time
    start_time: Time
    end_time: Time
    deadline_time: Time
    expire_time: Time
    spec: Spec
    workload: Workload
    prompt_tokens: Annotated[int, Field(ge=0, le=1_000_000)]
    prompt_truncated: bool
    fingerprint: Fingerprint
    origin_request_id: Name = ""
    origin_traceparent: Name = ""
    images: Annotated[tuple[Image, ...], Field(max_length=IMAGES_MAX, strict=False)] = ()
    problem: Problem | None = None

    @property
    def ended(self) -> bool:
        """True for a state that no job leaves."""
        return self.state in _ENDED

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.step > self.steps or self.count != self.spec.images or self.priority != self.spec.priority:
            raise ValueError("a job that does not fit its spec")
        if len({image.index for image in self.images}) < len(self.images):
            raise ValueError("two images in one place")
        return self


class Turn(_Value):
    """A client's waiting jobs, the first of them taken first."""

    client: Client
    jobs: Annotated[tuple[Id, ...], Field(max_length=JOBS, strict=False)]


class Header(_Value):
    """The queue. Clients take turns in the order of `queue`; `times` are measured seconds by fingerprint and name."""

    kind: Literal["mirage-jobs"]
    version: Annotated[int, Field(ge=1)]
    jobs: Annotated[int, Field(ge=0, le=JOBS)]
    sequence: Count
    outcomes: Annotated[dict[State, Count], Field(max_length=10)]
    times: Annotated[dict[Fingerprint, Annotated[dict[str, float], Field(max_length=1000)]], Field(max_length=1000)]
    queue: dict[Priority, Annotated[tuple[Turn, ...], Field(max_length=JOBS, strict=False)]]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for measured in self.times.values():
            for name, value in measured.items():
                check_time(name, value)
        return self


def check_time(name: str, value: float) -> None:
    """Raises ValueError unless the name and value are those of a measured time."""
    workload, _, kind = name.partition(":")
    sides = workload.partition("/")[0].split("x")
    plain = workload.endswith(("/1", "/2")) and len(sides) == 2 and all(side.isdecimal() for side in sides)
    if not (plain and len(name) <= 64 and kind in ("step", "rest", "step:count", "rest:count") and 0 <= value < 1e9):
        raise ValueError("not a measured time")
