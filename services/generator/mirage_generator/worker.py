"""A worker process: one model, and Celery that hands it tickets one by one."""

import os
import secrets
import sys
import time
import warnings
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning

from mirage_core import telemetry, tracing
from mirage_core.channels import set_service_key
from mirage_core.cpus import available_cpus
from mirage_core.errors import Code, MirageError
from mirage_core.job_options import DEADLINE_MAX_S
from mirage_generator.agreement import AgreementCheck
from mirage_generator.heartbeat import Heartbeat
from mirage_generator.image_folder import ImageFolder
from mirage_generator.runner import Making, Runner
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.connection import connect
from mirage_generator.store.jobs import JobStore, StoreLimits
from mirage_generator.ticket_transport import QUEUE, TASK
from mirage_generator.tickets import TicketQueue, make_app
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import warm_up
from mirage_inference.loading import timed_load

_QUEUE_S = 60.0
_PAUSE_S = 0.25
_log = telemetry.get_logger()


def run_worker(settings: GeneratorSettings) -> int:
    """Works until SIGTERM or SIGINT, which hands a running job back; gives the exit status."""
    os.umask(0o077)
    telemetry.configure_logging("generator-worker", level=settings.log_level, form=settings.log_format)
    tracing.start("generator-worker", settings.traces_endpoint)
    set_service_key(settings.service_key)
    try:
        return _run(settings)
    except MirageError as error:
        _log.error("cannot start", code=error.code, problem=error.message)
        return 1
    finally:
        tracing.stop()


def _run(settings: GeneratorSettings) -> int:
    threads = settings.threads or available_cpus()
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    store = JobStore(connect(settings.redis_url), StoreLimits.of(settings))
    images = ImageFolder(settings.data)
    with timed_load("generate"):
        model = load_model(
            settings.bundle, variant=settings.variant, engine=settings.engine, options=EngineOptions(threads=threads)
        )
        warm_up(model)
    app = make_app(settings.redis_url, longest_s=2 * DEADLINE_MAX_S)
    tickets = TicketQueue(app)
    stopping = _Stopping()
    heartbeat = Heartbeat(store, worker=name, engine=model.description, lease_s=settings.lease_s)
    agreement = AgreementCheck(settings.encoder) if settings.encoder else None
    runner = Runner(
        store,
        images,
        model,
        heartbeat,
        Making(name, threads, settings.tiny_decoder, settings.visible_mark, settings.any_topic),
        stopping=stopping,
        issue_ticket=tickets.issue,
        agreement=agreement,
    )

    def generate(task: Any) -> None:
        runner.take(task.request.id)

    app.task(name=TASK, bind=True)(generate)
    # Celery warns of root because of pickled tasks; it takes JSON alone here.
    warnings.simplefilter("ignore", SecurityWarning)
    signals.worker_shutting_down.connect(stopping.set, weak=False)
    _await_queue(store)
    _await_room(heartbeat)
    # Its health check asks for them: not before there is a queue to work on.
    if settings.metrics_port is not None:
        telemetry.serve_metrics(settings.host, settings.metrics_port)
    _log.info("working", worker=name, engine=model.description, threads=threads)
    # Solo: the job runs in this process, so that there is one model, and nothing is forked while native threads run.
    worker: Any = app.Worker(
        hostname=f"generator@{name}",
        pool="solo",
        concurrency=1,
        queues=[QUEUE],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    try:
        worker.start()
    finally:
        _log.info("stopping")
        heartbeat.stop()
        model.close()
        if agreement is not None:
            agreement.close()
        sys.stdout.flush()
    return int(worker.exitcode or 0)


def _await_queue(store: JobStore) -> None:
    """Returns once Redis answers, which may be started at the same time; raises what the store does after a minute."""
    give_up = time.monotonic() + _QUEUE_S
    while True:
        try:
            store.ping()
            for name in store.clear_the_way():
                _log.error("damaged key put aside", key=name)
            return
        except MirageError:
            if time.monotonic() > give_up:
                raise
            time.sleep(_PAUSE_S)


def _await_room(heartbeat: Heartbeat) -> None:
    """Registers the worker, once the queue can store something; raises DEPENDENCY_UNAVAILABLE if it is away."""
    told = False
    while True:
        try:
            return heartbeat.start()
        except MirageError as error:
            if error.code is not Code.STORAGE_FULL:
                raise
            if not told:
                _log.warning("waiting for room", code=error.code)
            told = True
            time.sleep(_PAUSE_S)


class _Stopping:
    """True once the process was asked to end."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self) -> bool:
        return self._told

    def set(self, **_: object) -> None:
        self._told = True
