"""Tickets on Celery's queue: each means that a job waits, without naming it.

A worker that gets a ticket asks the store for the job that is next. So a job that is cancelled leaves the queue in one
place, no message ever stops the wrong job, and a ticket too many does no harm. The store's leases, not Celery's
acknowledgements, decide whether a job's worker is lost; a ticket that is lost is replaced by `upkeep`.
`ticket_transport` moves any other message away.
"""

from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError

from mirage_core import telemetry
from mirage_generator.ticket_transport import QUEUE, TASK, install

_log = telemetry.get_logger()


def make_app(redis_url: str, *, longest_s: float) -> Celery:
    """Celery on that Redis; `longest_s` is above what any job may take."""
    install()
    app = Celery("mirage")
    app.conf.update(
        broker_url=broker_url(redis_url),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2.0,
        broker_transport_options={
            "visibility_timeout": longest_s,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
        },
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def broker_url(redis_url: str) -> str:
    """A Redis address as Celery writes it; a socket's has another scheme there."""
    if not redis_url.startswith("unix://"):
        return redis_url
    parts = urlsplit(redis_url)
    database = next(
        (value for name, _, value in (pair.partition("=") for pair in parts.query.split("&")) if name == "db"), "0"
    )
    return f"redis+socket://{parts.path}?virtual_host={database}"


class TicketQueue:
    """Puts tickets on the queue. May be called from several threads."""

    def __init__(self, app: Celery) -> None:
        self._app: Any = app

    def open(self) -> None:
        """Loads what the first ticket needs, so that no caller waits for it; connects to nothing."""
        self._app.finalize()
        _ = self._app.amqp.router, self._app.producer_pool

    def issue(self, count: int = 1) -> None:
        """Queues tickets; where Redis does not answer, upkeep does it later."""
        try:
            for _ in range(count):
                self._app.send_task(
                    TASK, queue=QUEUE, ignore_result=True, retry_policy={"max_retries": 1, "interval_start": 0.05}
                )
        except (OperationalError, OSError) as error:
            _log.warning("no ticket issued", problem=type(error).__name__)
