"""Celery's Redis transport, for tickets alone: any other message is moved away before Celery reads it.

Celery ends on some messages, waits for others for years, and puts back what it ended on. A ticket is only its id, so any
other message differs from it.
"""

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from mirage_core import telemetry
from mirage_generator.store.connection import FULL

QUEUE = "mirage.tickets"
TASK = "mirage.generate"
# The newest messages that were moved away, each cut to its first bytes.
DEAD_LETTERS = "mirage:dead-letters"
DEAD_LETTERS_MAX = 100
_KEPT_BYTES = 2048
_MESSAGE_BYTES = 16 * 2**10
_ID = re.compile(r"[0-9a-f-]{8,64}")
_log = telemetry.get_logger()
_bad = telemetry.counter("generator_bad_messages", "Messages on the queue that were put aside, by fault.", ("fault",))


def fault_of(message: bytes) -> str:
    """Returns why a message is not a ticket: "too long", "not JSON", "another task", "another form"; "" for a ticket."""
    if len(message) > _MESSAGE_BYTES:
        return "too long"
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        return "not JSON"
    match content:
        case {
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(body),
            "headers": {"task": str(task), "id": str(id_), **headers},
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": str(),
                "delivery_info": {"exchange": str(), "routing_key": str()},
            },
        }:
            if task != TASK:
                return "another task"
            plain = _ID.fullmatch(id_) and _is_plain(headers) and _is_empty(body)
            return "" if plain else "another form"
    return "another form"


def _is_plain(headers: Mapping[Any, Any]) -> bool:
    """True for a message that is to be handled at once, by itself and without a limit."""
    unset = ("eta", "expires", "group", "chord", "compression", "stamped_headers", "shadow")
    return (
        not any(headers.get(name) for name in unset)
        and headers.get("timelimit") in (None, [None, None])
        and headers.get("stamps") in (None, {})
        and type(headers.get("retries", 0)) is int
        and all(isinstance(headers.get(name, ""), str | None) for name in ("root_id", "parent_id", "origin", "lang"))
    )


def _is_empty(body: str) -> bool:
    """True for a call without arguments and without others that follow it."""
    try:
        call = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, RecursionError):
        return False
    match call:
        case [[], {}, {**others}] if not call[1]:
            return not any(others.values())
    return False


def put_aside(client: "redis.Redis", message: bytes, fault: str) -> None:
    """Keeps the beginning of a message, counts it, and says so without a word of it."""
    _bad.labels(fault).inc()
    _log.warning("message put aside", fault=fault, bytes=len(message))
    letter = json.dumps({"time": time.time(), "fault": fault, "message": message[:_KEPT_BYTES].decode("latin-1")})
    pipe = client.pipeline()
    pipe.lpush(DEAD_LETTERS, letter)
    pipe.ltrim(DEAD_LETTERS, 0, DEAD_LETTERS_MAX - 1)
    try:
        pipe.execute()
    except redis.RedisError as error:
        # Its disk is full, or it is away: the message is counted and gone.
        _log.warning("message not kept", problem=type(error).__name__)


@contextmanager
def _lost_while_full() -> Iterator[None]:
    """Treats a Redis that can store nothing as one that is away, which Celery waits for; it ends on other errors."""
    try:
        yield
    except redis.ResponseError as error:
        if str(error).startswith(FULL):
            raise redis.ConnectionError("the queue can store nothing") from error
        raise


class _QoS(kombu_redis.QoS):
    def append(self, message: Any, delivery_tag: Any) -> None:
        """Notes a message that was taken."""
        with _lost_while_full():
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: Any) -> None:
        """Forgets a message that was handled."""
        with _lost_while_full():
            super().ack(delivery_tag)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Puts back a message that was not acknowledged; one that cannot be read is moved away."""
        try:
            with _lost_while_full():
                super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except self.channel.connection_errors:
            raise
        except Exception:
            with self.channel.conn_or_acquire(client) as connected:
                raw = connected.hget(self.unacked_key, tag) or b""
                put_aside(connected, raw if isinstance(raw, bytes) else str(raw).encode(), "not JSON")
                self._remove_from_indices(tag, connected.pipeline()).execute()


class _Channel(kombu_redis.Channel):
    QoS = _QoS

    def _get_client(self) -> Any:
        base: Any = super()._get_client()

        class Strict(base):  # whichever class the transport has chosen
            def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
                with _lost_while_full():
                    reply = super().parse_response(connection, command_name, **options)
                if command_name == "BRPOP" and reply:
                    message = reply[1] if isinstance(reply[1], bytes) else str(reply[1]).encode()
                    if fault := fault_of(message):
                        with redis.Redis(connection_pool=self.connection_pool) as other:
                            put_aside(other, message, fault)
                        # As if there had been none.
                        return None
                return reply

        return Strict


class Transport(kombu_redis.Transport):
    """The transport of this process' Redis addresses."""

    Channel = _Channel


def install() -> None:
    """Makes Celery use this transport for Redis."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
