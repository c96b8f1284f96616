"""Generated images on a queue: create a job, follow it, stop it, fetch its images."""

from contextlib import aclosing
from typing import Annotated, Any, get_args

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mirage_api import limits
from mirage_api.base import Reply
from mirage_api.jobs import EVENTS, Job, JobImage, JobProblem, JobRequest, JobsReply, State
from mirage_core.errors import CATALOGUE, Code, MirageError
from mirage_core.job_options import check_job_options
from mirage_gateway.access import Action
from mirage_gateway.convert import derived, number_of, to_message, to_model
from mirage_gateway.generating import Jobs
from mirage_gateway.request_places import Place, RequestPlaces
from mirage_gateway.web.body import EXIT, PASSED_BYTES, PLACE, Intake
from mirage_gateway.web.event_stream import Events, EventStream
from mirage_gateway.web.images import image_response, tags
from mirage_gateway.web.operations import IfNoneMatch, LastEventId, PageToken, json_response, operation
from mirage_gateway.web.proxies import CLIENT, group_of
from mirage_gateway.web.records import known_code
from mirage_gateway.web.visitors import check_one_image
from mirage_protos.v1 import job_pb2, problem_pb2

# The id of a stream's last event: a browser's EventSource that reconnects with it gets no more.
_END = "end"
_KNOWN = (Code.GENERATOR_ABSENT, Code.JOB_NOT_FOUND)

JobId = Annotated[str, Field(description="The id of a job.")]


class JobRoutes:
    """Jobs. `watchers` are the places of those who follow one."""

    def __init__(self, jobs: Jobs, intake: Intake, watchers: RequestPlaces) -> None:
        self._jobs = jobs
        self._intake = intake
        self._watchers = watchers

    @operation(
        "POST",
        "/v1/jobs",
        Action.CREATE_JOB,
        reply=Job,
        status=202,
        errors=(
            Code.GENERATOR_ABSENT,
            Code.PROMPT_EMPTY,
            Code.TEXT_TOO_LONG,
            Code.OPTION_OUT_OF_RANGE,
            Code.NEGATIVE_PROMPT_UNUSED,
            Code.PROMPT_OUTSIDE,
            Code.PROMPT_NOT_MEDICAL,
            Code.REQUEST_ID_REUSED,
            Code.TOO_MANY_JOBS,
            Code.MODEL_NOT_READY,
            Code.STORAGE_FULL,
        ),
    )
    async def create(self, body: JobRequest) -> Response:
        """Queue a job that makes synthetic images."""
        check_one_image(body.images)
        # So that nothing is left that a message could not hold.
        check_job_options(**body.model_dump(exclude={"priority", "request_id"}))
        spec = to_message(job_pb2.JobSpec, body)
        job = to_model(Job, await self._jobs.create(spec, request_id=body.request_id))
        return json_response(job, status=202, headers={"location": f"/v1/jobs/{job.id}"})

    @operation(
        "GET",
        "/v1/jobs",
        Action.USE_JOBS,
        errors=(Code.GENERATOR_ABSENT, Code.OPTION_OUT_OF_RANGE, Code.PAGE_TOKEN_INVALID),
    )
    async def jobs(
        self,
        limit: Annotated[
            int,
            Field(description="How many.", json_schema_extra={"minimum": 1, "maximum": limits.JOBS_MAX}),
        ] = 20,
        page_token: PageToken = "",
        state: Annotated[
            str,
            Field(description="Only jobs in one of these states, separated by commas.", examples=["PENDING,RUNNING"]),
        ] = "",
    ) -> JobsReply:
        """List your jobs, newest first."""
        if not 1 <= limit <= limits.JOBS_MAX:
            allowed = f"between 1 and {limits.JOBS_MAX}"
            raise MirageError(Code.OPTION_OUT_OF_RANGE, field="limit", range=allowed, given=str(limit)[:40])
        found = await self._jobs.list(page_size=limit, page_token=page_token, states=_states(state))
        return to_model(JobsReply, found)

    @operation("GET", "/v1/jobs/{id}", Action.USE_JOBS, errors=_KNOWN)
    async def job(self, id: JobId) -> Job:
        """Read a job as it is now."""
        return to_model(Job, await self._jobs.get(id))

    @operation("GET", "/v1/jobs/{id}/events", Action.USE_JOBS, events=EVENTS, errors=_KNOWN)
    async def events(
        self,
        request: Request,
        id: JobId,
        previews: Annotated[bool, Field(description="false for progress alone.")] = True,
        last_event_id: LastEventId = "",
    ) -> Response:
        """Follow a job until it ends; a watch that breaks can be begun again at any time."""
        if last_event_id == _END:
            return Response(status_code=204)
        if request.method == "HEAD":
            await self._jobs.get(id)
            return Response(media_type=EventStream.media_type)
        # Watches last long and cost little: they have places of their own, and leave those of other requests free.
        place = Place(self._watchers, group_of(request.scope[CLIENT]))
        await place.take()
        request.scope[EXIT].callback(place.leave)
        request.scope[PLACE].leave()
        messages = self._jobs.watch(id, previews=previews)
        try:
            first = await anext(messages)
        except BaseException:
            await messages.aclose()
            raise

        async def events() -> Events:
            async with aclosing(messages):
                yield _event(first)
                async for event in messages:
                    yield _event(event)

        return EventStream(events(), last_id=_END)

    @operation("POST", "/v1/jobs/{id}/cancel", Action.USE_JOBS, errors=_KNOWN)
    async def cancel(self, id: JobId) -> Job:
        """Stop a job: at once while it waits, by the next step while it runs."""
        return to_model(Job, await self._jobs.cancel(id))

    @operation(
        "GET",
        "/v1/jobs/{id}/images/{n}",
        Action.USE_JOBS,
        media_types=("image/png",),
        errors=(*_KNOWN, Code.JOB_IMAGE_NOT_FOUND),
    )
    async def image(
        self,
        request: Request,
        id: JobId,
        n: Annotated[str, Field(description="Which image, from 0.")],
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """Read an image that a job made; it is synthetic, and marked so."""
        if not (n.isascii() and n.isdigit() and len(n) <= 9):
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=id, index=n[:40])
        return await self._serve(request, id, int(n), if_none_match)

    @operation(
        "GET",
        "/v1/jobs/{id}/image",
        Action.USE_JOBS,
        media_types=("image/png",),
        errors=(*_KNOWN, Code.JOB_IMAGE_NOT_FOUND),
    )
    async def first_image(self, request: Request, id: JobId, if_none_match: IfNoneMatch = "") -> Response:
        """Read the first image that a job made; it is synthetic, and marked so."""
        return await self._serve(request, id, 0, if_none_match)

    async def _serve(self, request: Request, job_id: str, index: int, known: str) -> Response:
        job = await self._jobs.get(job_id)
        made = next((image for image in job.images if image.index == index), None)
        if made is None:
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=job.id, index=index)
        etag = f'"{made.sha256}"'
        headers = {
            "etag": etag,
            # It is its client's own, and gone when the job expires: no cache gives it without asking.
            "cache-control": "private, no-cache",
            "x-mirage-synthetic": "true",
            "content-disposition": f'inline; filename="mirage-synthetic-{job.id}-{index}.png"',
        }
        if etag in tags(known):
            return Response(status_code=304, headers=headers)
        headers["content-length"] = str(made.bytes)
        if request.method == "HEAD":
            return Response(headers=headers, media_type="image/png")
        share = await self._intake.reserve(request.scope, PASSED_BYTES)
        image = await self._jobs.image(job.id, index)
        share.become(min(share.amount, 4 * image.length))
        return image_response(request, image, headers)


def _event(event: job_pb2.JobEvent) -> tuple[str, Reply]:
    name = event.WhichOneof("event") or "progress"
    return name, to_model(EVENTS[name], getattr(event, name))


def _states(given: str) -> list[Any]:
    names = [name for name in given.split(",") if name]
    if any(name not in get_args(State) for name in names):
        raise MirageError(Code.REQUEST_MALFORMED, field="state")
    return [number_of(job_pb2.JobState.DESCRIPTOR, name) for name in dict.fromkeys(names)]


@derived(Job, "images")
def _images(job: job_pb2.Job) -> tuple[JobImage, ...]:
    return tuple(
        to_model(JobImage, image).model_copy(update={"url": f"/v1/jobs/{job.id}/images/{image.index}"})
        for image in job.images
    )


derived(JobImage, "url")(lambda _image: "")
derived(JobProblem, "code")(known_code)


@derived(JobProblem, "title")
def _title(problem: problem_pb2.Problem) -> str:
    return CATALOGUE[Code(known_code(problem))].title


@derived(JobProblem, "detail")
def _detail(problem: problem_pb2.Problem) -> str:
    return problem.message or _title(problem)
