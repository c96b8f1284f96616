"""Synthetic images on a queue: order, follow, stop, fetch."""

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mirage_core.errors import Code, MirageError
from mirage_core.job_options import IMAGES_MAX
from mirage_gateway.access import Action
from mirage_gateway.generating import Jobs
from mirage_gateway.request_places import Place, RequestPlaces
from mirage_gateway.web.body import EXIT, PASSED_BYTES, PLACE, Intake
from mirage_gateway.web.event_stream import Events, EventStream
from mirage_gateway.web.image_routes import CACHED, tags
from mirage_gateway.web.job_bodies import JobBody
from mirage_gateway.web.jobs import (
    EVENTS,
    STATES,
    JobDocument,
    JobsDocument,
    event_document,
    image_name,
    job_document,
    jobs_document,
)
from mirage_gateway.web.operations import Operation, Parameter, boolean, check_parameters, integer, json_response
from mirage_gateway.web.proxies import CLIENT, group_of
from mirage_gateway.web.visitors import check_one_image
from mirage_protos.v1 import job_pb2

_JOBS_MAX = 100
# The id of a stream's last event: a browser's EventSource that comes again with it is told that there is no more.
_END = "end"

_JOB = Parameter("id", "The id of a job.", within="path")
_LIMIT = Parameter("limit", "20 where absent.", {"type": "integer", "minimum": 1, "maximum": _JOBS_MAX})
_PAGE = Parameter("page_token", "next_page_token of the reply before, with all else unchanged.")
_STATE = Parameter(
    "state",
    "Only jobs in one of these states, separated by commas.",
    {"type": "string", "examples": ["PENDING,RUNNING"]},
)
_PREVIEWS = Parameter("previews", "false for progress alone.", {"type": "boolean", "default": True})
_LAST = Parameter("last-event-id", "Sent by a browser that comes again.", within="header")
_NUMBER = Parameter(
    "n", "Which image, from 0.", {"type": "integer", "minimum": 0, "maximum": IMAGES_MAX - 1}, within="path"
)
_KNOWN = (Code.GENERATOR_ABSENT, Code.JOB_NOT_FOUND)


class JobRoutes:
    """Jobs. `watchers` are the places of those who follow one."""

    def __init__(self, jobs: Jobs, intake: Intake, watchers: RequestPlaces) -> None:
        self._jobs = jobs
        self._intake = intake
        self._watchers = watchers

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "POST",
                "/v1/jobs",
                "Queue a job that makes synthetic images",
                self._create,
                action=Action.CREATE_JOB,
                body=JobBody,
                reply=JobDocument,
                status=202,
                errors=(
                    Code.GENERATOR_ABSENT,
                    Code.PROMPT_EMPTY,
                    Code.TEXT_TOO_LONG,
                    Code.OPTION_OUT_OF_RANGE,
                    Code.NEGATIVE_PROMPT_UNUSED,
                    Code.REQUEST_ID_REUSED,
                    Code.TOO_MANY_JOBS,
                    Code.MODEL_NOT_READY,
                    Code.STORAGE_FULL,
                ),
            ),
            Operation(
                "GET",
                "/v1/jobs",
                "List your jobs, newest first",
                self._list,
                action=Action.USE_JOBS,
                reply=JobsDocument,
                parameters=(_LIMIT, _PAGE, _STATE),
                errors=(Code.GENERATOR_ABSENT, Code.OPTION_OUT_OF_RANGE, Code.PAGE_TOKEN_INVALID),
            ),
            Operation(
                "GET",
                "/v1/jobs/{id}",
                "Read a job as it is now",
                self._get,
                action=Action.USE_JOBS,
                reply=JobDocument,
                parameters=(_JOB,),
                errors=_KNOWN,
            ),
            Operation(
                "GET",
                "/v1/jobs/{id}/events",
                "Follow a job until it ends; a watch that breaks can be begun again at any time",
                self._events,
                action=Action.USE_JOBS,
                events=EVENTS,
                parameters=(_JOB, _PREVIEWS, _LAST),
                errors=_KNOWN,
            ),
            Operation(
                "POST",
                "/v1/jobs/{id}/cancel",
                "Stop a job: at once while it waits, by the next step while it runs",
                self._cancel,
                action=Action.USE_JOBS,
                reply=JobDocument,
                parameters=(_JOB,),
                errors=_KNOWN,
            ),
            Operation(
                "GET",
                "/v1/jobs/{id}/images/{n}",
                "Read an image that a job made; it is synthetic, and marked so",
                self._image,
                action=Action.USE_JOBS,
                parameters=(_JOB, _NUMBER, CACHED),
                media_types=("image/png",),
                errors=(*_KNOWN, Code.JOB_IMAGE_NOT_FOUND),
            ),
            Operation(
                "GET",
                "/v1/jobs/{id}/image",
                "Read the first image that a job made; it is synthetic, and marked so",
                self._first,
                action=Action.USE_JOBS,
                parameters=(_JOB, CACHED),
                media_types=("image/png",),
                errors=(*_KNOWN, Code.JOB_IMAGE_NOT_FOUND),
            ),
        )

    async def _create(self, request: Request) -> Response:
        check_parameters(request)
        body = await self._intake.json(request, JobBody)
        check_one_image(body.images)
        job = await self._jobs.create(body.to_spec(), request_id=body.request_id)
        return json_response(job_document(job), status=202, headers={"location": f"/v1/jobs/{job.id}"})

    async def _list(self, request: Request) -> Response:
        check_parameters(request, "limit", "page_token", "state")
        limit = integer(request, "limit")
        if limit is not None and not 1 <= limit <= _JOBS_MAX:
            raise MirageError(
                Code.OPTION_OUT_OF_RANGE, field="limit", range=f"between 1 and {_JOBS_MAX}", given=str(limit)[:40]
            )
        token = request.query_params.get("page_token", "")
        return json_response(
            jobs_document(await self._jobs.list(page_size=limit, page_token=token, states=_states(request)))
        )

    async def _get(self, request: Request) -> Response:
        check_parameters(request)
        return json_response(job_document(await self._jobs.get(request.path_params["id"])))

    async def _cancel(self, request: Request) -> Response:
        check_parameters(request)
        return json_response(job_document(await self._jobs.cancel(request.path_params["id"])))

    async def _events(self, request: Request) -> Response:
        check_parameters(request, "previews")
        previews = request.query_params.get("previews") is None or boolean(request, "previews")
        if request.headers.get("last-event-id") == _END:
            return Response(status_code=204)
        if request.method == "HEAD":
            await self._jobs.get(request.path_params["id"])
            return Response(media_type=EventStream.media_type)
        # Watches last long and cost little: they have places of their own, and leave those of other requests free.
        place = Place(self._watchers, group_of(request.scope[CLIENT]))
        await place.take()
        request.scope[EXIT].callback(place.leave)
        request.scope[PLACE].leave()
        messages = self._jobs.watch(request.path_params["id"], previews=previews)
        try:
            first = await anext(messages)
        except BaseException:
            await messages.aclose()
            raise

        async def events() -> Events:
            async with aclosing(messages):
                yield event_document(first)
                async for event in messages:
                    yield event_document(event)

        return EventStream(events(), last_id=_END)

    async def _first(self, request: Request) -> Response:
        return await self._serve(request, 0)

    async def _image(self, request: Request) -> Response:
        number = request.path_params["n"]
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=request.path_params["id"], index=number[:40])
        return await self._serve(request, int(number))

    async def _serve(self, request: Request, index: int) -> Response:
        check_parameters(request)
        job = await self._jobs.get(request.path_params["id"])
        made = next((image for image in job.images if image.index == index), None)
        if made is None:
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=job.id, index=index)
        etag = f'"{made.sha256}"'
        headers = {
            "etag": etag,
            # It is its client's own, and gone when the job expires: no cache gives it without asking.
            "cache-control": "private, no-cache",
            "x-mirage-synthetic": "true",
            "content-disposition": f'inline; filename="{image_name(job.id, index)}"',
        }
        if etag in tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        headers["content-length"] = str(made.bytes)
        if request.method == "HEAD":
            return Response(headers=headers, media_type="image/png")
        share = await self._intake.reserve(request.scope, PASSED_BYTES)
        image = await self._jobs.image(job.id, index)
        share.become(min(share.amount, 4 * image.length))
        headers["content-length"] = str(image.length)
        return StreamingResponse(image.chunks, headers=headers, media_type=image.media_type)


def _states(request: Request) -> list["job_pb2.JobState.ValueType"]:
    names = [name for name in request.query_params.get("state", "").split(",") if name]
    if any(name not in STATES for name in names):
        raise MirageError(Code.REQUEST_MALFORMED, field="state")
    return [STATES[name] for name in dict.fromkeys(names)]
