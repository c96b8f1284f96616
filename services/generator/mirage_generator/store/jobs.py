"""The jobs in Redis: one owner of their state for the API and for all workers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

import redis

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_generator.estimates import Snapshot, Work
from mirage_generator.job_validator import AcceptedJob
from mirage_generator.jobs import Claim, Failure, Job, JobImage, Origin, Preview, Spec, State
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.connection import RedisGuard
from mirage_generator.store.records import read_job, write_failure, write_images
from mirage_generator.ticket_transport import DEAD_LETTERS, QUEUE

SCRIPTS = ("create", "claim", "progress", "finish", "fail", "hand_back", "cancel", "upkeep", "snapshot", "measure")
CHANGES = "mirage:changes"
_SEQUENCE = "mirage:sequence"
# Contents of the keys of fixed names, Celery's among them.
_KINDS = {
    **dict.fromkeys(
        (f"mirage:{name}" for name in ("jobs", "pending", "running", "deadlines", "expiry", "workers")), b"zset"
    ),
    **dict.fromkeys(("mirage:tickets", "mirage:outcomes", "unacked"), b"hash"),
    **dict.fromkeys(("mirage:rotation:interactive", "mirage:rotation:batch", QUEUE, DEAD_LETTERS), b"list"),
    **dict.fromkeys((_SEQUENCE, "mirage:engine", "unacked_mutex"), b"string"),
    **dict.fromkeys(("mirage:artifacts", f"_kombu.binding.{QUEUE}", f"_kombu.binding_permanent.{QUEUE}"), b"set"),
    "unacked_index": b"zset",
}
Created = Literal["created", "ticketed", "known"]
# The largest number of jobs that a page of a list reads if only some states are wanted.
_LOOKED_AT = 1000
_log = telemetry.get_logger()


@dataclass(frozen=True)
class StoreLimits:
    """Numbers and times of the store, as the settings of the same names."""

    queue: int
    per_client: int
    kept_per_client: int
    ttl_s: float
    attempts: int
    lease_s: float

    @classmethod
    def of(cls, settings: GeneratorSettings) -> "StoreLimits":
        """Returns the limits that the settings give."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Change:
    """UpkeepReport's action on a job, "expired", "put back", "given up" or "damaged", and the request id of its call."""

    job: str
    change: str
    request_id: str


@dataclass(frozen=True)
class UpkeepReport:
    """The findings of a round of upkeep: missing tickets, jobs whose time or worker was lost, files that belong to
    no job.
    """

    missing_tickets: int
    changes: tuple[Change, ...]
    files: tuple[str, ...]


@cache
def script(name: str) -> str:
    """Returns the text of a Lua script, with what all scripts share before it."""
    folder = files(__package__)
    return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name))


class JobStore:
    """All methods may be called from several threads, and raise DEPENDENCY_UNAVAILABLE where Redis does not answer."""

    def __init__(self, client: "redis.Redis", bounds: StoreLimits) -> None:
        self._redis = client
        self._asking = RedisGuard()
        self._bounds = bounds
        self._scripts = {name: client.register_script(script(name)) for name in SCRIPTS}
        lost = MirageError(Code.WORKER_LOST, attempts=bounds.attempts)
        self._lost = write_failure(Failure(lost.code, lost.metadata))

    def _run(self, name: str, *arguments: object) -> Any:
        with self._asking():
            return self._scripts[name](args=[_argument(each) for each in arguments])

    def ping(self) -> None:
        """Returns where Redis answers."""
        with self._asking():
            self._redis.ping()

    def clear_the_way(self) -> list[str]:
        """Renames keys that hold another kind of value than the scripts rely on, and returns their names."""
        names: list[str] = []
        with self._asking():
            for name, kind in _KINDS.items():
                found = cast("bytes", self._redis.type(name))
                odd = found == kind and name == _SEQUENCE and not _is_number(self._redis.get(name))
                if odd or found not in (b"none", kind):
                    self._redis.rename(name, f"mirage:damaged:{name}:{time.time():.0f}")
                    names.append(name)
            newest = cast("list[tuple[bytes, float]]", self._redis.zrange("mirage:jobs", -1, -1, withscores=True))
            if newest and self._redis.get(_SEQUENCE) is None:
                self._redis.set(_SEQUENCE, int(newest[0][1]), nx=True)
        return names

    # Calls of the API.

    def create(
        self,
        id_: str,
        *,
        client: str,
        request_id: str,
        digest: str,
        accepted: AcceptedJob,
        work: Work,
        fingerprint: str,
        origin: Origin,
    ) -> tuple[Created, str]:
        """Puts a job in the queue; gives what became of the request, and the job's id.

        "ticketed": tickets enough are on their way. "known": the request made that job before. Raises
        REQUEST_ID_REUSED, TOO_MANY_JOBS and QUEUE_FULL.
        """
        spec, bounds = accepted.spec, self._bounds
        fields: Mapping[str, object] = {
            "spec": spec.to_json(),
            "steps": spec.steps * spec.images,
            "count": spec.images,
            "workload": work.workload,
            "prompt_tokens": accepted.prompt_tokens,
            "prompt_truncated": accepted.prompt_truncated,
            "fingerprint": fingerprint,
            "origin_request_id": origin.request_id,
            "origin_traceparent": origin.traceparent,
        }
        outcome, found = self._run(
            "create",
            *(id_, client, request_id, digest, spec.priority, spec.deadline_s, bounds.ttl_s),
            *(bounds.queue, bounds.per_client, bounds.kept_per_client, QUEUE),
            *(part for pair in fields.items() for part in pair),
        )
        match outcome.decode():
            case "reused":
                raise MirageError(Code.REQUEST_ID_REUSED, request_id=request_id)
            case "client_full":
                raise MirageError(Code.TOO_MANY_JOBS, retry_after_s=5.0, max=bounds.per_client)
            case "full":
                raise MirageError(Code.QUEUE_FULL, retry_after_s=5.0)
            case other:
                return cast("Created", other), found.decode()

    def get(self, id_: str) -> Job | None:
        """Returns the job of that id, or None if it does not exist or its record is damaged."""
        try:
            with self._asking():
                record = cast("dict[bytes, bytes]", self._redis.hgetall(f"mirage:job:{id_}"))
            return read_job(record) if record else None
        except (redis.ResponseError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.error("job record damaged", job=id_, problem=type(error).__name__)
            return None

    def preview(self, id_: str) -> Preview | None:
        """The newest preview of a running job."""
        with self._asking():
            record = cast("dict[bytes, bytes]", self._redis.hgetall(f"mirage:preview:{id_}"))
        if not record:
            return None
        return Preview(int(record[b"index"]), int(record[b"step"]), record[b"png"])

    def cancel(self, id_: str) -> None:
        """Ends a job that has not ended; any other stays as it is."""
        self._run("cancel", id_)

    def page(
        self, client: str | None, *, before: int | None, limit: int, states: frozenset[State]
    ) -> tuple[list[Job], int | None]:
        """Returns up to `limit` jobs of a client (None: of all), newest first, created before the job with sequence
        `before`.

        The second value is the sequence to continue with, if there may be more.
        """
        listed = f"mirage:jobs:{client}" if client is not None else "mirage:jobs"
        found: list[Job] = []
        looked_at = 0
        while looked_at < _LOOKED_AT:
            highest = "+inf" if before is None else f"({before}"
            with self._asking():
                ids = cast(
                    "list[tuple[bytes, float]]",
                    self._redis.zrevrangebyscore(listed, highest, "-inf", start=0, num=100, withscores=True),
                )
            for id_, sequence in ids:
                before = int(sequence)
                job = self.get(id_.decode("utf-8", "replace"))
                if job is None:
                    continue
                if not states or job.state in states:
                    found.append(job)
                if len(found) == limit:
                    return found, before
            looked_at += len(ids)
            if len(ids) < 100:
                return found, None
        return found, before

    def snapshot(self, fingerprint: str) -> Snapshot:
        """Returns the current queue, with the step times measured for a bundle."""
        now, workers, pending, running, times = self._run("snapshot", fingerprint)
        measured = {times[at].decode(): float(times[at + 1]) for at in range(0, len(times), 2)}
        return Snapshot(
            now=float(now),
            workers=int(workers),
            pending=tuple(_work(row)[:2] for row in pending),
            running=tuple(_work(row) for row in running),
            times={name: seconds for name, seconds in measured.items() if not name.endswith(":count")},
        )

    def upkeep(self, *, trust_leases: bool) -> UpkeepReport:
        """Expires, takes jobs from workers that sent no heartbeat (where leases can be trusted), removes what is
        old.
        """
        missing, changes, files = self._run("upkeep", self._bounds.attempts, self._lost, QUEUE, trust_leases)
        told = tuple(Change(*(part.decode() for part in change)) for change in changes)
        return UpkeepReport(int(missing), told, tuple(file.decode() for file in files))

    def is_kept(self, sha256: str) -> bool:
        """True for a file that belongs to a job."""
        with self._asking():
            return bool(self._redis.sismember("mirage:artifacts", sha256))

    # Calls of a worker.

    def register(self, worker: str, engine: str) -> None:
        """Says that a worker lives, for three leases, and what runs its model."""
        with self._asking():
            pipe = self._redis.pipeline()
            seconds, _ = self._redis.time()
            pipe.zadd("mirage:workers", {worker: seconds + 3 * self._bounds.lease_s})
            pipe.set("mirage:engine", engine)
            pipe.execute()

    def deregister(self, worker: str) -> None:
        """Removes a worker that ended."""
        with self._asking():
            self._redis.zrem("mirage:workers", worker)

    def engine(self) -> str:
        """Returns the engine of the newest worker's model; empty if there was never one."""
        with self._asking():
            return (cast("bytes | None", self._redis.get("mirage:engine")) or b"").decode()

    def workers(self) -> int:
        """Returns the number of workers with a recent heartbeat."""
        with self._asking():
            seconds, _ = self._redis.time()
            return self._redis.zcount("mirage:workers", seconds, "+inf")

    def counts(self) -> dict[State, int]:
        """Jobs by state: those that wait and run now, and how many ended so since the store began."""
        with self._asking():
            pipe = self._redis.pipeline(transaction=False)
            pipe.zcard("mirage:pending")
            pipe.zcard("mirage:running")
            pipe.hgetall("mirage:outcomes")
            pending, running, ended = pipe.execute()
        return {
            **{state: int(ended.get(state.encode(), 0)) for state in State},
            State.PENDING: pending,
            State.RUNNING: running,
        }

    def claim(self, ticket: str, *, worker: str, fingerprint: str) -> Claim | None:
        """Claims the next job for a ticket; None if no job waits."""
        bounds = self._bounds
        found = self._run("claim", ticket, worker, fingerprint, bounds.lease_s, bounds.attempts, self._lost)
        if not found:
            return None
        id_, fence, spec, workload, *origin = found
        try:
            return Claim(
                id_.decode(),
                int(fence),
                Spec.from_json(spec),
                workload.decode(),
                Origin(*(part.decode() for part in origin)),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            _log.error("job record damaged", job=id_.decode("utf-8", "replace"), problem=type(error).__name__)
            self._run("fail", id_, fence, write_failure(Failure(Code.INTERNAL, {})))
            return None

    def alive(self, claim: Claim) -> bool:
        """Renews the lease of a job.

        Returns False if the caller no longer holds it: cancelled, expired or taken by another.
        """
        return bool(self._run("progress", claim.id, claim.fence, self._bounds.lease_s, -1))

    def progress(self, claim: Claim, step: int, preview: Preview | None) -> bool:
        """Says that `step` steps are done; as `alive`."""
        shown = (preview.index, preview.step, preview.png) if preview else ()
        return bool(self._run("progress", claim.id, claim.fence, self._bounds.lease_s, step, *shown))

    def finish(self, claim: Claim, images: Sequence[JobImage]) -> bool:
        """Finishes a job with its images; returns False if the caller no longer holds it, and the images are unused."""
        names = (image.sha256 for image in images)
        return bool(self._run("finish", claim.id, claim.fence, write_images(images), *names))

    def fail(self, claim: Claim, failure: Failure) -> bool:
        """The job cannot be made; as `finish`."""
        return bool(self._run("fail", claim.id, claim.fence, write_failure(failure)))

    def hand_back(self, claim: Claim) -> bool:
        """Puts the job at the head of the queue again; as `finish`."""
        return bool(self._run("hand_back", claim.id, claim.fence))

    def measure(self, fingerprint: str, seconds: Mapping[str, float]) -> None:
        """Adds measured times, by name (see `estimates`)."""
        self._run("measure", fingerprint, *(part for pair in seconds.items() for part in pair))


def _argument(value: object) -> str | bytes | int | float:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, (bytes, int, float)) else str(value)


def _work(row: Sequence[bytes]) -> tuple[str, Work, int, float]:
    id_, workload, steps, count, step, step_time = row
    return id_.decode(), Work(workload.decode(), int(steps), int(count)), int(step), float(step_time or 0)


def _is_number(value: object) -> bool:
    return isinstance(value, bytes) and value.isdigit() and len(value) < 16
