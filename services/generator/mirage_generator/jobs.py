"""What a job is: as it was ordered, as it is made, and how it stands."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from mirage_core.job_options import SEED_MAX
from mirage_generator.pipeline import ImageRequest


class State(StrEnum):
    """Where a job is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def ended(self) -> bool:
        """True for a state that no job leaves."""
        return self not in (State.PENDING, State.RUNNING)


class Priority(StrEnum):
    """Which jobs are taken first: all interactive ones."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True)
class Order:
    """What a caller asked for; None where it leaves the choice to the server. Sides in pixels."""

    prompt: str
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    images: int | None = None
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None

    def digest(self) -> str:
        """The same for the same order: tells whether a request id was used for something else."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """What is made: an order with nothing left open."""

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

    def seed_of(self, index: int) -> int:
        """The seed of the image at `index`."""
        return (self.seed + index) % (SEED_MAX + 1)

    def request(self, index: int, *, tiny_decoder: bool = False) -> ImageRequest:
        """What the pipeline is asked for the image at `index`."""
        return ImageRequest(
            prompt=self.prompt,
            steps=self.steps,
            guidance=self.guidance_scale,
            seed=self.seed_of(index),
            width=self.width,
            height=self.height,
            negative_prompt=self.negative_prompt,
            tiny_decoder=tiny_decoder,
        )

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | bytes) -> "Spec":
        """The stored spec."""
        content = json.loads(text)
        return Spec(**{**content, "priority": Priority(content["priority"])})


@dataclass(frozen=True)
class JobImage:
    """An image that was made: a PNG file of `bytes` bytes, named by its SHA-256."""

    index: int
    seed: int
    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Failure:
    """Why a job failed: a code of the catalogue and its metadata."""

    code: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A job as it is stored. Times are seconds since 1970; `start_time` and `end_time` are 0 until then.

    `step` of `steps` denoising steps are done, over all images. `revision` grows with each change. `workload` names what a
    step's time depends on (see `estimates`).
    """

    id: str
    sequence: int
    client: str
    request_id: str
    spec: Spec
    state: State
    step: int
    steps: int
    workload: str
    prompt_tokens: int
    prompt_truncated: bool
    fingerprint: str
    create_time: float
    start_time: float
    end_time: float
    deadline_time: float
    expire_time: float
    revision: int
    images: tuple[JobImage, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Origin:
    """The call that made a job: what the job's log lines and its trace are found by, in every process, to its end.

    `request_id` is that of the call. A job's own `request_id` is another thing: its client's name for the order, which makes
    an order that is sent twice one job. `traceparent` is empty where no traces are made.
    """

    request_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True)
class Preview:
    """What an unfinished image roughly looks like after `step` of its steps: a small PNG file."""

    index: int
    step: int
    png: bytes


@dataclass(frozen=True)
class Claim:
    """A job that a worker has taken. Only the holder of the newest `fence` can change the job."""

    id: str
    fence: int
    spec: Spec
    workload: str
    origin: Origin = Origin()
