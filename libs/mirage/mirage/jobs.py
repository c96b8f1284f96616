"""Image generation jobs, as the gateway reports them."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from mirage.errors import ReplyError
from mirage.fields import Fields

Priority = Literal["interactive", "batch"]
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})


@dataclass(frozen=True)
class JobOptions:
    """Options of a job in addition to the prompt.

    None is the model's default. The server checks every limit (`JobSpec` of job.proto).

    `request_id` makes a request that is sent twice one job.
    """

    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    images: int | None = None
    priority: Priority = "interactive"
    deadline_s: float | None = None
    request_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields of the body that are set."""
        given = {
            "negative_prompt": self.negative_prompt or None,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "width": self.width,
            "height": self.height,
            "images": self.images,
            "priority": None if self.priority == "interactive" else self.priority,
            "deadline_s": self.deadline_s,
            "request_id": self.request_id or None,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class JobImage:
    """An image that a job made: a job with its seed and one image makes it again."""

    url: str
    seed: int
    width: int
    height: int
    bytes: int = 0
    sha256: str = ""

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.text("url"),
            fields.integer_or("seed"),
            fields.integer_or("width"),
            fields.integer_or("height"),
            fields.integer_or("bytes"),
            fields.text_or("sha256"),
        )


@dataclass(frozen=True)
class Job:
    """A job. `step` of `steps` count over all images; `eta_s` is None if it is unknown; times are RFC 3339 in UTC.

    `request` has all defaults filled in: sent again, it makes the same images. `problem` has the catalogue's code and
    text of a failed job.
    """

    id: str
    state: str
    step: int
    steps: int
    queue_position: int
    eta_s: float | None
    request: Mapping[str, Any]
    prompt_tokens: int
    prompt_truncated: bool
    create_time: str
    expire_time: str
    images: tuple[JobImage, ...]
    fingerprint: str
    problem: tuple[str, str] | None = None
    client: str = ""
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @property
    def ended(self) -> bool:
        """True if the job has ended."""
        return self.state in FINAL

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "job")
        problem = None
        if value.get("problem") is not None:
            problem = fields.child("problem").text_or("code", "INTERNAL"), fields.child("problem").text_or("detail")
        return cls(
            id=fields.text("id"),
            state=fields.text("state"),
            step=fields.integer_or("step"),
            steps=fields.integer_or("steps"),
            queue_position=fields.integer_or("queue_position"),
            eta_s=fields.optional_number("eta_s"),
            request=fields.child("request").raw,
            prompt_tokens=fields.integer_or("prompt_tokens"),
            prompt_truncated=fields.truth("prompt_truncated"),
            create_time=fields.text_or("create_time"),
            expire_time=fields.text_or("expire_time"),
            images=tuple(map(JobImage.parse, fields.children("images"))),
            fingerprint=fields.text_or("fingerprint"),
            problem=problem,
            client=fields.text_or("client"),
            raw=value,
        )


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first; the token gives the next ones, and is empty at the end."""

    jobs: tuple[Job, ...]
    next_page_token: str = ""
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "jobs")
        jobs = tuple(Job.parse(each.raw) for each in fields.children("jobs"))
        return cls(jobs, fields.text_or("next_page_token"), value)


@dataclass(frozen=True)
class Preview:
    """A rough preview of the `index`-th image after `step` of its steps: a small PNG file."""

    index: int
    step: int
    png: bytes = field(repr=False)


JobEvent: TypeAlias = Job | Preview


def parse_job_event(name: str, data: Mapping[str, Any]) -> JobEvent | None:
    """The event; None for one of a name that this client does not know, as a newer server may send."""
    if name in ("progress", "done"):
        return Job.parse(data)
    if name != "preview":
        return None
    fields = Fields(data, name)
    try:
        png = base64.b64decode(fields.text("image"), validate=True)
    except binascii.Error as error:
        raise ReplyError("the gateway's preview is no base64") from error
    return Preview(fields.integer_or("index"), fields.integer_or("step"), png)
