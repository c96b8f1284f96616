"""Generation jobs: the request, the job, and the events of a watch."""

import base64
from typing import Annotated, Literal

from pydantic import Field

from mirage_api import limits
from mirage_api.base import Base64, Digits, Omitted, Reply, Request, Text, Token
from mirage_api.descriptions import Failed

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]
Priority = Literal["interactive", "batch"]
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
_SIDE = {"minimum": limits.SIDE_MIN, "maximum": limits.SIDE_MAX, "multipleOf": limits.SIDE_MULTIPLE}


class JobRequest(Request):
    """Images to make. The model's ranges, and its defaults for what is omitted, are in its manifest at /v1/models."""

    prompt: Text = Field(description=f"The content of the images, 1 to {limits.TEXT_CHARS} characters.")
    negative_prompt: Text = Field(
        "", description="Content to avoid; refused if the model or the guidance scale gives it no effect."
    )
    steps: int | None = Field(
        None, description="Denoising steps.", json_schema_extra={"minimum": 1, "maximum": limits.STEPS_MAX}
    )
    guidance_scale: float | None = Field(None, description="How closely the prompt is followed.")
    seed: int | None = Field(
        None,
        description="Chosen and reported if omitted. The n-th image, from 0, has (seed + n) modulo 2^63.",
        json_schema_extra={"minimum": 0, "maximum": limits.SEED_MAX},
    )
    width: int | None = Field(None, description="Pixels.", json_schema_extra=dict(_SIDE))
    height: int | None = Field(None, description="Pixels.", json_schema_extra=dict(_SIDE))
    images: int | None = Field(
        None, description="How many; 1 if omitted.", json_schema_extra={"minimum": 1, "maximum": limits.IMAGES_MAX}
    )
    priority: Priority = Field(
        "interactive",
        description="batch runs after all interactive jobs. It is always batch if the model takes dozens of steps.",
    )
    deadline_s: float | None = Field(
        None,
        description="Seconds after which an unfinished job expires; the server's default if omitted.",
        json_schema_extra={"minimum": 1, "maximum": limits.DEADLINE_MAX_S},
    )
    request_id: str = Field(
        "",
        max_length=1_000,
        description="The caller's own id, 1 to 64 of A-Z a-z 0-9 . _ -: the same request with it makes one job only.",
    )


class JobSpec(Reply):
    """The images to make, with all defaults filled in: sent to POST /v1/jobs, it makes the same images."""

    prompt: str
    negative_prompt: str = ""
    steps: int = 0
    guidance_scale: float = 0.0
    seed: int = 0
    width: int = 0
    height: int = 0
    images: int = 1
    priority: Priority = "interactive"


class AspectCheck(Reply):
    """One aspect of a prompt: the value that it asks for, and the one that the encoder sees in the image.

    `aspect` is modality, plane, sequence, lesion (yes or no) or side.
    """

    aspect: str
    asked: str
    seen: str


class JobImage(Reply):
    """An image: a job with its seed and one image makes it again.

    `checked` is true if an encoder compared it with the prompt; `checks` are the aspects that the prompt names.
    """

    url: str
    seed: int
    width: int
    height: int
    bytes: int = 0
    sha256: str = ""
    checked: bool = False
    checks: tuple[AspectCheck, ...] = ()


class JobProblem(Reply):
    """The reason why a job failed: `code` is one of docs/errors.md."""

    code: str
    title: str = ""
    detail: str = ""
    metadata: dict[str, str] = {}


class Job(Reply):
    """A job. `step` of `steps` count over all images; times are RFC 3339 in UTC, null for what has not come.

    `queue_position` is the number of jobs that are taken before it. `eta_s` is null if nothing was measured yet, or if it has
    ended. `client` is for admin keys only.
    """

    id: str
    state: State
    step: int = 0
    steps: int = 0
    queue_position: int = 0
    eta_s: Annotated[float, Digits(3)] | None = None
    request: JobSpec
    request_id: str = ""
    prompt_tokens: int = 0
    prompt_truncated: bool = False
    create_time: str = ""
    start_time: str | None = None
    end_time: str | None = None
    deadline_time: str | None = None
    expire_time: str | None = None
    images: tuple[JobImage, ...] = ()
    fingerprint: str = ""
    revision: int = 0
    problem: Annotated[JobProblem | None, Omitted()] = None
    client: Annotated[str, Omitted()] = ""

    @property
    def ended(self) -> bool:
        """True if the job has ended."""
        return self.state in FINAL


class JobsReply(Reply):
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next_page_token: Token = ""


class JobPreview(Reply):
    """A rough picture of the `index`-th image after `step` of its steps: a PNG file in base64."""

    index: int = 0
    step: int = 0
    image: Base64

    @property
    def png(self) -> bytes:
        """The file."""
        return base64.b64decode(self.image)


JobEvent = Job | JobPreview
EVENTS: dict[str, type[JobEvent] | type[Failed]] = {
    "progress": Job,
    "preview": JobPreview,
    "done": Job,
    "error": Failed,
}
