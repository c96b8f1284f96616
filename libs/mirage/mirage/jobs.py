"""Options of a generation job. Jobs and their events are models of `mirage_api.jobs`."""

from dataclasses import dataclass
from typing import Any

from mirage.queries import given_fields
from mirage_api.jobs import Priority


@dataclass(frozen=True)
class JobOptions:
    """Options of a job in addition to the prompt.

    None is the model's default. The server checks every limit (`JobRequest` at /docs).

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
        """Returns the fields of the body that are set."""
        return given_fields(self)
