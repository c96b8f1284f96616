"""A job of image generation as callers send it, and the message made of it."""

from typing import Literal

from pydantic import Field

from mirage_core import limits
from mirage_core.job_options import (
    DEADLINE_MAX_S,
    IMAGES_MAX,
    SEED_MAX,
    SIDE_MAX,
    SIDE_MIN,
    SIDE_MULTIPLE,
    STEPS_MAX,
    check_job_options,
)
from mirage_gateway.web.queries import Body, Text
from mirage_protos.v1 import job_pb2

_SIDE = {"minimum": SIDE_MIN, "maximum": SIDE_MAX, "multipleOf": SIDE_MULTIPLE}
_PRIORITIES: dict[str, "job_pb2.JobPriority.ValueType"] = {
    "interactive": job_pb2.JOB_PRIORITY_INTERACTIVE,
    "batch": job_pb2.JOB_PRIORITY_BATCH,
}


class JobBody(Body):
    """Images to make. The model's ranges, and its defaults for what is absent, are in its manifest at /v1/models."""

    prompt: Text = Field(description=f"What the images show, 1 to {limits.TEXT_CHARS} characters.")
    negative_prompt: Text = Field(
        "", description="What they do not show; refused where the model or the guidance scale gives it no effect."
    )
    steps: int | None = Field(
        None, description="Denoising steps.", json_schema_extra={"minimum": 1, "maximum": STEPS_MAX}
    )
    guidance_scale: float | None = Field(None, description="How closely the prompt is followed.")
    seed: int | None = Field(
        None,
        description="Chosen and told where absent. The n-th image, from 0, has (seed + n) modulo 2^63.",
        json_schema_extra={"minimum": 0, "maximum": SEED_MAX},
    )
    width: int | None = Field(None, description="Pixels.", json_schema_extra=dict(_SIDE))
    height: int | None = Field(None, description="Pixels.", json_schema_extra=dict(_SIDE))
    images: int | None = Field(
        None, description="How many; 1 where absent.", json_schema_extra={"minimum": 1, "maximum": IMAGES_MAX}
    )
    priority: Literal["interactive", "batch"] = Field(
        "interactive", description="batch is taken after all that somebody waits for."
    )
    deadline_s: float | None = Field(
        None,
        description="Seconds after which an unfinished job expires; the server's where absent.",
        json_schema_extra={"minimum": 1, "maximum": DEADLINE_MAX_S},
    )
    request_id: str = Field(
        "",
        max_length=1_000,
        description="The caller's own id, 1 to 64 of A-Z a-z 0-9 . _ -: the same request with it makes one job only.",
    )

    def to_spec(self) -> job_pb2.JobSpec:
        """The message; raises what `check_job_options` does, so that nothing is left that a message could not hold."""
        options = self.model_dump(exclude={"priority", "request_id"})
        check_job_options(**options)
        deadline_s = options.pop("deadline_s")
        spec = job_pb2.JobSpec(**options, priority=_PRIORITIES[self.priority])
        if deadline_s is not None:
            spec.deadline.FromMicroseconds(round(deadline_s * 1e6))
        return spec
