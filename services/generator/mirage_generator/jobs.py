"""A job: its request, its completed spec, and its state."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from mirage_core.job_options import SEED_MAX
from mirage_inference.generator.pipeline import ImageRequest


class State(StrEnum):
    """The state of a job."""

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
    """The priority of a job: interactive ones are taken first."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True)
class JobRequest:
    """A caller's request; None leaves a choice to the server. Sides are in pixels."""

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
        """Returns a digest of the request, which shows if a request id was used for another request."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """A request with all choices made."""

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
        """Returns the pipeline's request for the image at `index`."""
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
class AspectCheck:
    """One aspect of a prompt, the value that it asks for, and the one that the encoder sees in the image.

    `aspect` is `modality`, `plane`, `sequence`, `lesion` (`yes` or `no`) or `side`.
    """

    aspect: str
    asked: str
    seen: str


@dataclass(frozen=True)
class JobImage:
    """An image that was made: a PNG file of `bytes` bytes, named by its SHA-256.

    `checks` are of the aspects that the prompt names; empty too if no encoder looked at it, which is `checked`.
    """

    index: int
    seed: int
    width: int
    height: int
    bytes: int
    sha256: str
    checked: bool = False
    checks: tuple[AspectCheck, ...] = ()


@dataclass(frozen=True)
class Failure:
    """The reason of a failed job: a code of the catalogue and its metadata."""

    code: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A job as it is stored. Times are seconds since 1970; `start_time` and `end_time` are 0 until then.

    `step` of `steps` denoising steps are done, over all images. `revision` grows with each change. `workload` names
    what a step's time depends on (see `estimates`).
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
    """The call that created a job. The job's log lines and its trace carry it, in every process, to its end.

    `request_id` is that of the call. A job's own `request_id` is different: its client chooses it, so that a request
    that is sent twice gives one job. `traceparent` is empty without traces.
    """

    request_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True)
class Preview:
    """A rough preview of an unfinished image after `step` of its steps: a small PNG file."""

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
