"""Runs the next job for a ticket: one model, one job at a time."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from PIL import Image, PngImagePlugin

from mirage_core import context, telemetry, tracing
from mirage_core.errors import Code, MirageError
from mirage_generator.agreement import AgreementCheck
from mirage_generator.estimates import work_of
from mirage_generator.heartbeat import Heartbeat
from mirage_generator.image_folder import ImageFolder
from mirage_generator.jobs import AspectCheck, Claim, Failure, JobImage, Preview
from mirage_generator.provenance import describe, encode_png
from mirage_generator.store.jobs import JobStore
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.pipeline import Pixels, StepDone, check_request, make_image, preview
from mirage_inference.generator.prompts import PromptCheck

# A finished job is worth waiting for a Redis that is being started again.
_KEEP_TRYING_S = 120.0
_PAUSE_S = 0.25
PREVIEW_BYTES = 64 * 2**10
# Outcomes that are not failures.
_FINE = frozenset({"succeeded", "stopped", "handed back", "superseded"})

_log = telemetry.get_logger()
_jobs = telemetry.counter("generator_jobs", "Jobs that this worker began, by how they went.", ("outcome",))
_step_seconds = telemetry.histogram("generator_step_seconds", "Time of one denoising step.")


@dataclass(frozen=True)
class Making:
    """Options of this worker."""

    worker: str
    threads: int
    tiny_decoder: bool
    visible_mark: bool
    any_topic: bool = False


class _Told(Enum):
    """The outcome of the final call on a job. An unanswered call may have been carried out."""

    HEARD = auto()
    NOT_OURS = auto()
    UNANSWERED = auto()


class Runner:
    """Owns the model of its process. Not to be called from two threads."""

    def __init__(
        self,
        store: JobStore,
        images: ImageFolder,
        model: GeneratorModel,
        heartbeat: Heartbeat,
        making: Making,
        *,
        stopping: Callable[[], bool],
        issue_ticket: Callable[[], None],
        agreement: AgreementCheck | None = None,
    ) -> None:
        self._store = store
        self._images = images
        self._model = model
        self._heartbeat = heartbeat
        self._making = making
        self._prompts = PromptCheck(model.manifest, any_topic=making.any_topic)
        self._stopping = stopping
        self._issue_ticket = issue_ticket
        self._agreement = agreement
        self._tiny = making.tiny_decoder and model.has_tiny_decoder

    def take(self, ticket: str) -> None:
        """Runs the next job, if there is one. Raises DEPENDENCY_UNAVAILABLE if the store does not answer."""
        if self._stopping():
            self._issue_ticket()
            return
        claim = self._store.claim(ticket, worker=self._making.worker, fingerprint=self._model.manifest.fingerprint)
        if claim is None:
            return
        # The lines about a job, and its trace, are those of the call that made it.
        before = context.request_id.set(claim.origin.request_id)
        try:
            with tracing.span("job.run", tracing.Kind.CONSUMER, parent=claim.origin.traceparent) as span:
                span.set(job=claim.id, request_id=claim.origin.request_id)
                self._take(claim, span)
        finally:
            context.request_id.reset(before)

    def _take(self, claim: Claim, span: tracing.Span) -> None:
        _log.info("job begun", job=claim.id)
        started = time.perf_counter()
        with self._heartbeat.held(claim):
            outcome = self._run(claim)
        _jobs.labels(outcome).inc()
        span.set(outcome=outcome)
        if outcome not in _FINE:
            span.fail(outcome.upper())
        _log.info("job", job=claim.id, outcome=outcome, seconds=round(time.perf_counter() - started, 3))

    def _run(self, claim: Claim) -> str:
        images: list[JobImage] = []
        try:
            for index in range(claim.spec.images):
                image = self._make(claim, index)
                images.append(image)
            told = self._insist(lambda: self._store.finish(claim, images))
        except MirageError as error:
            if error.code is Code.CANCELLED:
                self._discard(images)
                if self._heartbeat.lost or not self._stopping():
                    return "stopped"
                if self._insist(lambda: self._store.hand_back(claim)) is _Told.HEARD:
                    self._issue_ticket()
                return "handed back"
            self._fail(claim, error)
            outcome = error.code.lower()
        except Exception:
            _log.exception("job failed", job=claim.id)
            self._fail(claim, MirageError(Code.INTERNAL))
            outcome = "internal"
        else:
            match told:
                case _Told.HEARD:
                    return "succeeded"
                case _Told.UNANSWERED:
                    # The job may have its images: those that no job names are swept up one day.
                    return "untold"
                case _Told.NOT_OURS:
                    # Cancelled, expired or begun again by another worker in the meantime.
                    outcome = "superseded"
        self._discard(images)
        return outcome

    def _make(self, claim: Claim, index: int) -> JobImage:
        spec, model = claim.spec, self._model
        request = spec.request(index, tiny_decoder=self._tiny)
        # The API may have checked it against another bundle.
        check_request(request, model.manifest)
        self._prompts.check(request.prompt)
        owned = True
        began = last = time.perf_counter()
        steps: list[float] = []

        def on_step(done: StepDone) -> None:
            nonlocal owned, last
            now = time.perf_counter()
            steps.append(now - last)
            _step_seconds.observe(now - last)
            tracing.past("job.step", now - last, image=index, step=done.step)
            shown = _preview(preview(done.denoised, model.manifest), index, done.step)
            try:
                owned = self._store.progress(claim, index * spec.steps + done.step, shown)
            except MirageError as error:
                # This step stays unseen; the lease decides if this worker still holds the job.
                _log.warning("step not told", job=claim.id, code=error.code)
            last = time.perf_counter()

        made = make_image(
            model,
            request,
            on_step=on_step,
            cancelled=lambda: not owned or self._heartbeat.lost or self._stopping(),
        )
        tracing.past("job.decode", time.perf_counter() - last, image=index)
        with tracing.span("job.store", image=index):
            provenance = describe(model, request, made.pixels, threads=self._making.threads, job_id=claim.id)
            data = encode_png(made.pixels, provenance, visible_mark=self._making.visible_mark)
            digest = self._images.write(data)
        self._measure(claim, steps, time.perf_counter() - began)
        checks = self._check(made.pixels, spec.prompt)
        return JobImage(
            index,
            spec.seed_of(index),
            spec.width,
            spec.height,
            len(data),
            digest,
            checked=checks is not None,
            checks=checks or (),
        )

    def _check(self, pixels: Pixels, prompt: str) -> tuple[AspectCheck, ...] | None:
        if self._agreement is None:
            return None
        with tracing.span("job.check"):
            return self._agreement.look(pixels, prompt)

    def _measure(self, claim: Claim, steps: Sequence[float], whole_s: float) -> None:
        workload = work_of(claim.spec, two_passes=self._model.manifest.guidance_input == "unconditional").workload
        seconds = {f"{workload}:step": sum(steps) / len(steps), f"{workload}:rest": max(0.0, whole_s - sum(steps))}
        try:
            self._store.measure(self._model.manifest.fingerprint, seconds)
        except MirageError as error:
            _log.warning("times not told", code=error.code)

    def _fail(self, claim: Claim, error: MirageError) -> None:
        self._insist(lambda: self._store.fail(claim, Failure(error.code, error.metadata)))

    def _discard(self, images: Sequence[JobImage]) -> None:
        for image in images:
            self._images.remove(image.sha256)

    def _insist(self, tell: Callable[[], bool]) -> _Told:
        # The last word on a job: where Redis cannot be reached for long, its lease runs out and it is begun again.
        give_up = time.monotonic() + _KEEP_TRYING_S
        while True:
            try:
                return _Told.HEARD if tell() else _Told.NOT_OURS
            except MirageError as error:
                if time.monotonic() > give_up:
                    _log.error("the end of a job was not told", code=error.code)
                    return _Told.UNANSWERED
                time.sleep(_PAUSE_S)


def _preview(pixels: Pixels | None, index: int, step: int) -> Preview | None:
    if pixels is None:
        return None
    said = PngImagePlugin.PngInfo()
    said.add_text("ai_generated", "true")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=said)
    png = buffer.getvalue()
    return Preview(index, step, png) if len(png) <= PREVIEW_BYTES else None
