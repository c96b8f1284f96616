"""Conversion between protobuf messages and jobs, and of models."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import problem_to_proto
from mirage_generator.jobs import Failure, JobRequest, Preview, Priority, State
from mirage_generator.service import Standing
from mirage_inference.bundles import GeneratorManifest
from mirage_protos.v1 import job_pb2, model_pb2

_STATES = {state: job_pb2.JobState.Value(f"JOB_STATE_{state}") for state in State}
_PRIORITIES = {
    Priority.INTERACTIVE: job_pb2.JOB_PRIORITY_INTERACTIVE,
    Priority.BATCH: job_pb2.JOB_PRIORITY_BATCH,
}


def request_from_proto(spec: job_pb2.JobSpec) -> JobRequest:
    """Returns a caller's request; raises OPTION_OUT_OF_RANGE for an unknown priority."""
    priorities = {number: priority for priority, number in _PRIORITIES.items()}
    if spec.HasField("priority") and spec.priority not in priorities:
        raise MirageError(
            Code.OPTION_OUT_OF_RANGE, field="priority", range="interactive or batch", given=str(int(spec.priority))
        )
    return JobRequest(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        steps=spec.steps if spec.HasField("steps") else None,
        guidance_scale=spec.guidance_scale if spec.HasField("guidance_scale") else None,
        seed=spec.seed if spec.HasField("seed") else None,
        width=spec.width if spec.HasField("width") else None,
        height=spec.height if spec.HasField("height") else None,
        images=spec.images if spec.HasField("images") else None,
        priority=priorities.get(spec.priority, Priority.INTERACTIVE),
        deadline_s=spec.deadline.seconds + spec.deadline.nanos / 1e9 if spec.HasField("deadline") else None,
    )


def states_from_proto(states: "list[job_pb2.JobState.ValueType]") -> frozenset[State]:
    """States to filter by; one that is not known matches nothing and is refused: OPTION_OUT_OF_RANGE."""
    by_number = {number: state for state, number in _STATES.items()}
    for number in states:
        if number not in by_number:
            raise MirageError(Code.OPTION_OUT_OF_RANGE, field="states", range="known states", given=str(int(number)))
    return frozenset(by_number[number] for number in states)


def job_to_proto(standing: Standing, *, admin: bool) -> job_pb2.Job:
    """Returns a job for its client, or for an admin, with the client's name."""
    job, spec = standing.job, standing.job.spec
    message = job_pb2.Job(
        id=job.id,
        state=_STATES[job.state],
        request=job_pb2.JobSpec(
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
            steps=spec.steps,
            guidance_scale=spec.guidance_scale,
            seed=spec.seed,
            width=spec.width,
            height=spec.height,
            images=spec.images,
            priority=_PRIORITIES[spec.priority],
            deadline=_duration(spec.deadline_s),
        ),
        request_id=job.request_id,
        step=job.step,
        steps=job.steps,
        queue_position=standing.outlook.position,
        eta=None if standing.outlook.eta_s is None else _duration(standing.outlook.eta_s),
        prompt_tokens=job.prompt_tokens,
        prompt_truncated=job.prompt_truncated,
        create_time=_timestamp(job.create_time),
        start_time=_timestamp(job.start_time) if job.start_time else None,
        end_time=_timestamp(job.end_time) if job.end_time else None,
        deadline_time=_timestamp(job.deadline_time),
        expire_time=_timestamp(job.expire_time),
        images=[
            job_pb2.JobImage(
                index=image.index,
                seed=image.seed,
                width=image.width,
                height=image.height,
                bytes=image.bytes,
                sha256=image.sha256,
                checked=image.checked,
                checks=[
                    job_pb2.AspectCheck(aspect=each.aspect, asked=each.asked, seen=each.seen) for each in image.checks
                ],
            )
            for image in job.images
        ],
        fingerprint=job.fingerprint,
        client=job.client if admin else "",
        revision=job.revision,
    )
    if job.failure is not None:
        message.problem.CopyFrom(problem_to_proto(_error(job.failure)))
    return message


def event_to_proto(event: Standing | Preview, *, admin: bool) -> job_pb2.JobEvent:
    """Returns the message for a watcher."""
    if isinstance(event, Preview):
        return job_pb2.JobEvent(preview=job_pb2.JobPreview(index=event.index, step=event.step, image=event.png))
    message = job_to_proto(event, admin=admin)
    return job_pb2.JobEvent(done=message) if event.job.state.ended else job_pb2.JobEvent(progress=message)


def model_to_proto(manifest: GeneratorManifest, *, engine: str, variant: str) -> model_pb2.Model:
    """Returns the description of the model that workers run."""
    return model_pb2.Model(
        name=manifest.name,
        kind=model_pb2.MODEL_KIND_GENERATOR,
        fingerprint=manifest.fingerprint,
        source=manifest.source,
        licence=manifest.licence,
        context_length=manifest.prompt.context_length,
        engine=engine,
        precision=variant,
        manifest_json=manifest.to_json(),
    )


def _timestamp(seconds: float) -> Timestamp:
    """Returns the message for seconds since 1970, which are exact to a microsecond."""
    message = Timestamp()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def _error(failure: Failure) -> MirageError:
    code = Code(failure.code) if failure.code in Code.__members__ else Code.INTERNAL
    error = MirageError(code)
    error.metadata.update(failure.metadata)
    return error
