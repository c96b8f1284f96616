"""Jobs as messages of the contract, and back."""

from mirage.v1 import common_pb2
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import to_problem
from mirage_generator.jobs import Failure, JobRequest, Preview, Priority, State
from mirage_generator.service import Standing

_STATES = {state: common_pb2.JobState.Value(f"JOB_STATE_{state}") for state in State}
_PRIORITIES = {
    Priority.INTERACTIVE: common_pb2.JOB_PRIORITY_INTERACTIVE,
    Priority.BATCH: common_pb2.JOB_PRIORITY_BATCH,
}


def read_order(spec: common_pb2.JobSpec) -> JobRequest:
    """Returns a caller's request; raises OPTION_OUT_OF_RANGE for an unknown priority."""
    priorities = {number: priority for priority, number in _PRIORITIES.items()}
    if spec.priority and spec.priority not in priorities:
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
        deadline_s=spec.deadline_s if spec.HasField("deadline_s") else None,
    )


def read_states(states: "list[common_pb2.JobState.ValueType]") -> frozenset[State]:
    """States to filter by; one that is not known matches nothing and is refused: OPTION_OUT_OF_RANGE."""
    by_number = {number: state for state, number in _STATES.items()}
    for number in states:
        if number not in by_number:
            raise MirageError(Code.OPTION_OUT_OF_RANGE, field="states", range="known states", given=str(int(number)))
    return frozenset(by_number[number] for number in states)


def write_job(standing: Standing, *, admin: bool) -> common_pb2.Job:
    """Returns a job for its client, or for an admin, with the client's name."""
    job, spec = standing.job, standing.job.spec
    message = common_pb2.Job(
        id=job.id,
        state=_STATES[job.state],
        spec=common_pb2.JobSpec(
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
            steps=spec.steps,
            guidance_scale=spec.guidance_scale,
            seed=spec.seed,
            width=spec.width,
            height=spec.height,
            images=spec.images,
            priority=_PRIORITIES[spec.priority],
            deadline_s=spec.deadline_s,
        ),
        request_id=job.request_id,
        step=job.step,
        steps=job.steps,
        queue_position=standing.outlook.position,
        eta_s=standing.outlook.eta_s,
        prompt_tokens=job.prompt_tokens,
        prompt_truncated=job.prompt_truncated,
        create_time=job.create_time,
        start_time=job.start_time,
        end_time=job.end_time,
        deadline_time=job.deadline_time,
        expire_time=job.expire_time,
        images=[
            common_pb2.JobImage(
                index=image.index,
                seed=image.seed,
                width=image.width,
                height=image.height,
                bytes=image.bytes,
                sha256=image.sha256,
            )
            for image in job.images
        ],
        fingerprint=job.fingerprint,
        client=job.client if admin else "",
        revision=job.revision,
    )
    if job.failure is not None:
        message.problem.CopyFrom(to_problem(_error(job.failure)))
    return message


def write_event(event: Standing | Preview, *, admin: bool) -> common_pb2.JobEvent:
    """Returns the message for a watcher."""
    if isinstance(event, Preview):
        return common_pb2.JobEvent(preview=common_pb2.JobPreview(index=event.index, step=event.step, png=event.png))
    message = write_job(event, admin=admin)
    return common_pb2.JobEvent(done=message) if event.job.state.ended else common_pb2.JobEvent(progress=message)


def _error(failure: Failure) -> MirageError:
    code = Code(failure.code) if failure.code in Code.__members__ else Code.INTERNAL
    error = MirageError(code)
    error.metadata.update(failure.metadata)
    return error
