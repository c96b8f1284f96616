"""A job's record in Redis to a `Job` and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mirage_generator.jobs import AspectCheck, Failure, Job, JobImage, Spec, State


def read_job(record: Mapping[bytes, bytes]) -> Job:
    """The job of a whole record."""
    text = {name.decode(): value.decode() for name, value in record.items()}
    return Job(
        id=text["id"],
        sequence=int(text["sequence"]),
        client=text["client"],
        request_id=text["request_id"],
        spec=Spec.from_json(text["spec"]),
        state=State(text["state"]),
        step=int(text["step"]),
        steps=int(text["steps"]),
        workload=text["workload"],
        prompt_tokens=int(text["prompt_tokens"]),
        prompt_truncated=text["prompt_truncated"] == "1",
        fingerprint=text["fingerprint"],
        create_time=float(text["create_time"]),
        start_time=float(text["start_time"]),
        end_time=float(text["end_time"]),
        deadline_time=float(text["deadline_time"]),
        expire_time=float(text["expire_time"]),
        revision=int(text["revision"]),
        images=tuple(_read_image(each) for each in json.loads(text.get("images", "[]"))),
        failure=_read_failure(text["problem"]) if "problem" in text else None,
    )


def _read_image(content: dict[str, Any]) -> JobImage:
    checks = tuple(AspectCheck(**each) for each in content.pop("checks", ()))
    return JobImage(**content, checks=checks)


def write_images(images: Sequence[JobImage]) -> str:
    """Images as they are stored."""
    return json.dumps([asdict(image) for image in images])


def write_failure(failure: Failure) -> str:
    """A failure as it is stored."""
    return json.dumps({"code": failure.code, "metadata": dict(failure.metadata)})


def _read_failure(text: str) -> Failure:
    content = json.loads(text)
    return Failure(content["code"], content["metadata"])
