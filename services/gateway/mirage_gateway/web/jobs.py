"""Jobs of image generation as JSON. The types are the schemas of /openapi.json."""

import binascii
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from mirage_core.errors import CATALOGUE, Code
from mirage_gateway.generating import seconds_of
from mirage_gateway.web.problems import ProblemDocument
from mirage_gateway.web.records import rfc3339
from mirage_protos.generator.v1 import generator_pb2
from mirage_protos.v1 import job_pb2, problem_pb2

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]
Priority = Literal["interactive", "batch"]
STATES: dict[str, "job_pb2.JobState.ValueType"] = {
    "PENDING": job_pb2.JOB_STATE_PENDING,
    "RUNNING": job_pb2.JOB_STATE_RUNNING,
    "SUCCEEDED": job_pb2.JOB_STATE_SUCCEEDED,
    "FAILED": job_pb2.JOB_STATE_FAILED,
    "CANCELLED": job_pb2.JOB_STATE_CANCELLED,
    "EXPIRED": job_pb2.JOB_STATE_EXPIRED,
}
_NAMES: dict[int, State] = {
    job_pb2.JOB_STATE_PENDING: "PENDING",
    job_pb2.JOB_STATE_RUNNING: "RUNNING",
    job_pb2.JOB_STATE_SUCCEEDED: "SUCCEEDED",
    job_pb2.JOB_STATE_FAILED: "FAILED",
    job_pb2.JOB_STATE_CANCELLED: "CANCELLED",
    job_pb2.JOB_STATE_EXPIRED: "EXPIRED",
}


class JobRequestDocument(TypedDict):
    """What is made, with all defaults filled in: sent to POST /v1/jobs, it makes the same images."""

    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int
    images: int
    priority: Priority


class JobImageDocument(TypedDict):
    """An image: a job with its seed and one image makes it again."""

    url: str
    seed: int
    width: int
    height: int
    bytes: int
    sha256: str


class JobProblemDocument(TypedDict):
    """Why a job failed: `code` is one of docs/errors.md."""

    code: Code
    title: str
    detail: str
    metadata: dict[str, str]


class JobDocument(TypedDict):
    """A job. `step` of `steps` count over all images; times are RFC 3339 in UTC, null for what has not come.

    `queue_position` is the number of jobs that are taken before it. `eta_s` is null where nothing was measured yet, and where
    it has ended. `client` is there for admin keys only.
    """

    id: str
    state: State
    step: int
    steps: int
    queue_position: int
    eta_s: float | None
    request: JobRequestDocument
    request_id: str
    prompt_tokens: int
    prompt_truncated: bool
    create_time: str
    start_time: str | None
    end_time: str | None
    deadline_time: str | None
    expire_time: str | None
    images: list[JobImageDocument]
    fingerprint: str
    revision: int
    problem: NotRequired[JobProblemDocument]
    client: NotRequired[str]


class JobsDocument(TypedDict):
    """Some jobs, newest first; next_page_token is there where there are more."""

    jobs: list[JobDocument]
    next_page_token: NotRequired[str]


class PreviewDocument(TypedDict):
    """What the `index`-th image roughly looks like after `step` of its steps: a PNG file in base64."""

    index: int
    step: int
    image: str


class WatchFailedDocument(TypedDict):
    """The watch broke off; the job may go on."""

    problem: ProblemDocument


EVENTS = {
    "progress": JobDocument,
    "preview": PreviewDocument,
    "done": JobDocument,
    "error": WatchFailedDocument,
}


def job_document(job: job_pb2.Job) -> JobDocument:
    """A job."""
    document: JobDocument = {
        "id": job.id,
        "state": _NAMES.get(job.state, "PENDING"),
        "step": job.step,
        "steps": job.steps,
        "queue_position": job.queue_position,
        "eta_s": round(seconds_of(job.eta), 3) if job.HasField("eta") else None,
        "request": _request(job.request),
        "request_id": job.request_id,
        "prompt_tokens": job.prompt_tokens,
        "prompt_truncated": job.prompt_truncated,
        "create_time": rfc3339(job.create_time) if job.HasField("create_time") else "",
        "start_time": rfc3339(job.start_time) if job.HasField("start_time") else None,
        "end_time": rfc3339(job.end_time) if job.HasField("end_time") else None,
        "deadline_time": rfc3339(job.deadline_time) if job.HasField("deadline_time") else None,
        "expire_time": rfc3339(job.expire_time) if job.HasField("expire_time") else None,
        "images": [_image(job, image) for image in job.images],
        "fingerprint": job.fingerprint,
        "revision": job.revision,
    }
    if job.HasField("problem"):
        document["problem"] = _problem(job.problem)
    if job.client:
        document["client"] = job.client
    return document


def jobs_document(found: generator_pb2.ListJobsResponse) -> JobsDocument:
    """A page of jobs."""
    document: JobsDocument = {"jobs": [job_document(job) for job in found.jobs]}
    if found.next_page_token:
        document["next_page_token"] = found.next_page_token
    return document


def event_document(event: job_pb2.JobEvent) -> tuple[str, object]:
    """An event's name and its data."""
    match event.WhichOneof("event"):
        case "preview":
            preview: PreviewDocument = {
                "index": event.preview.index,
                "step": event.preview.step,
                "image": binascii.b2a_base64(event.preview.image, newline=False).decode(),
            }
            return "preview", preview
        case "done":
            return "done", job_document(event.done)
        case _:
            return "progress", job_document(event.progress)


def image_name(job_id: str, index: int) -> str:
    """The name under which an image is saved: it says what the image is."""
    return f"mirage-synthetic-{job_id}-{index}.png"


def _request(spec: job_pb2.JobSpec) -> JobRequestDocument:
    return {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "steps": spec.steps,
        "guidance_scale": spec.guidance_scale,
        "seed": spec.seed,
        "width": spec.width,
        "height": spec.height,
        "images": spec.images,
        "priority": "batch" if spec.priority == job_pb2.JOB_PRIORITY_BATCH else "interactive",
    }


def _image(job: job_pb2.Job, image: job_pb2.JobImage) -> JobImageDocument:
    return {
        "url": f"/v1/jobs/{job.id}/images/{image.index}",
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "bytes": image.bytes,
        "sha256": image.sha256,
    }


def _problem(problem: problem_pb2.Problem) -> JobProblemDocument:
    code = Code(problem.code) if problem.code in Code.__members__ else Code.INTERNAL
    return {
        "code": code,
        "title": CATALOGUE[code].title,
        "detail": problem.message or CATALOGUE[code].title,
        "metadata": dict(problem.metadata),
    }
