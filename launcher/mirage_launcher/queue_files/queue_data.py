"""All jobs and their queue: read from a Redis or from lines of a backup, written as lines or as Redis commands.

A line has one JSON object. The first is the queue's `Header`, each of the others a `Job`. Whatever is in no field is
left out.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from mirage_launcher.queue_files.jobs import Header, Job, Priority, check_time
from mirage_launcher.queue_files.keys import Keys, number
from mirage_launcher.queue_files.resp import encode

KIND = "mirage-jobs"
VERSION = 1
LINE_BYTES = 2**18
HEADER_BYTES = 64 * 2**20
_STORED_BOOL = {"0": False, "1": True}


M = TypeVar("M", bound=BaseModel)


class InvalidError(Exception):
    """Not the jobs of a MIRAGE; the text says why, without any text of theirs."""


@dataclass
class QueueData:
    """All of it, and by what was left out how often."""

    header: Header
    jobs: tuple[Job, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_keys(cls, keys: Keys) -> Self:
        """Reads the jobs of a Redis. A job that MIRAGE would not write is left out, and so are references to it."""
        left_out = Counter(keys.foreign)
        jobs: dict[str, Job] = {}
        times: dict[str, dict[str, float]] = {}
        outcomes: dict[str, int] = {}
        for key, values in keys.hashes.items():
            try:
                if key == b"mirage:outcomes":
                    outcomes = {_text(state): int(count) for state, count in values.items()}
                elif key.startswith(b"mirage:times:"):
                    measured = {_text(name): number(value) for name, value in values.items()}
                    for name, value in measured.items():
                        check_time(name, value)
                    times[_text(key.removeprefix(b"mirage:times:"))] = measured
                else:
                    job = _read_job(values)
                    if key != b"mirage:job:" + job.id.encode():
                        raise ValueError("another job's record")
                    jobs[job.id] = job
            except (ValueError, KeyError, TypeError, RecursionError):
                left_out["jobs that cannot be read" if key.startswith(b"mirage:job:") else "counts and times"] += 1
        kept = _distinct(jobs.values(), left_out)
        turns = {
            priority: [
                {"client": _lenient(client), "jobs": [_lenient(id_) for id_ in _queue_of(keys, priority, client)]}
                for client in keys.lists.get(f"mirage:rotation:{priority}".encode(), [])
            ]
            for priority in ("interactive", "batch")
        }
        header = {
            "kind": KIND,
            "version": VERSION,
            "jobs": len(kept),
            "sequence": max([_sequence(keys), *(job.sequence for job in kept)]),
            "outcomes": outcomes,
            "times": times,
            "queue": turns,
        }
        try:
            return cls(Header.model_validate(header), kept, left_out)
        except ValidationError:
            left_out["counts, times and the order of the queue"] += 1
            return cls(Header.model_validate(header | {"outcomes": {}, "times": {}, "queue": {}}), kept, left_out)

    @classmethod
    def from_lines(cls, file: IO[bytes]) -> Self:
        """Reads the jobs of a backup. Raises InvalidError if a field is missing or beyond its bounds."""
        left_out: Counter[str] = Counter()
        raw = _object(file.readline(HEADER_BYTES + 1), HEADER_BYTES)
        if raw.get("kind") != KIND or not isinstance(raw.get("version"), int):
            raise InvalidError("its jobs do not begin as MIRAGE writes them")
        if raw["version"] > VERSION:
            raise InvalidError(f"its jobs have version {raw['version']}; this MIRAGE reads up to {VERSION}")
        header = _model(Header, raw, left_out)
        jobs: list[Job] = []
        while line := file.readline(LINE_BYTES + 1):
            jobs.append(_model(Job, _object(line, LINE_BYTES), left_out))
            if len(jobs) > header.jobs:
                break
        if len(jobs) != header.jobs:
            raise InvalidError(f"it says {header.jobs:,} jobs and holds another number of them")
        if len(_distinct(jobs, Counter())) != len(jobs) or any(job.sequence > header.sequence for job in jobs):
            raise InvalidError("two of its jobs have one number")
        return cls(header, tuple(jobs), left_out)

    def lines(self) -> Iterator[bytes]:
        """As a backup holds it."""
        yield _line(self.header)
        yield from map(_line, self.jobs)

    def commands(self) -> Iterator[bytes]:
        """Yields the commands that write the jobs to an empty Redis. A job that was running waits again, before the
        others.
        """
        yield encode("SELECT", 0)
        yield encode("SET", "mirage:sequence", self.header.sequence)
        for state, count in self.header.outcomes.items():
            yield encode("HSET", "mirage:outcomes", state, count)
        for fingerprint, measured in self.header.times.items():
            for name, value in measured.items():
                yield encode(
                    "HSET", f"mirage:times:{fingerprint}", name, int(value) if name.endswith(":count") else value
                )
        for job in self.jobs:
            yield from _commands(job)
        yield from self._queue()

    def _queue(self) -> Iterator[bytes]:
        waiting: dict[str, Job] = {job.id: job for job in self.jobs if not job.ended}
        begun = [job for job in waiting.values() if job.state == "RUNNING"]
        lists: dict[Priority, dict[str, list[str]]] = {"interactive": defaultdict(list), "batch": defaultdict(list)}
        placed: set[str] = set()

        def place(job: Job) -> None:
            if job.id not in placed:
                placed.add(job.id)
                lists[job.priority][job.client].append(job.id)

        for job in sorted(begun, key=lambda job: job.sequence):
            place(job)
        for priority, turns in self.header.queue.items():
            for turn in turns:
                for id_ in turn.jobs:
                    listed = waiting.get(id_)
                    if listed is not None and (listed.priority, listed.client) == (priority, turn.client):
                        place(listed)
        # In no list, which only damage does.
        for job in sorted(waiting.values(), key=lambda job: job.sequence):
            place(job)
        for priority, clients in lists.items():
            for client, ids in clients.items():
                yield encode("RPUSH", f"mirage:rotation:{priority}", client)
                for id_ in ids:
                    yield encode("RPUSH", f"mirage:queue:{priority}:{client}", id_)
        for job in waiting.values():
            yield encode("ZADD", "mirage:pending", job.sequence, job.id)


def _queue_of(keys: Keys, priority: str, client: bytes) -> list[bytes]:
    """Returns the ids of a client's waiting jobs."""
    return keys.lists.get(f"mirage:queue:{priority}:".encode() + client, [])


def _commands(job: Job) -> Iterator[bytes]:
    waits = not job.ended
    record = {
        **job.model_dump(exclude={"spec", "images", "problem", "prompt_truncated"}),
        "spec": json.dumps(job.spec.model_dump()),
        "prompt_truncated": int(job.prompt_truncated),
        "ticket": "",
    }
    if waits:
        record |= {"state": "PENDING", "step": 0, "start_time": 0}
    if job.images:
        record["images"] = json.dumps([image.model_dump() for image in job.images])
    if job.problem:
        record["problem"] = json.dumps(job.problem.model_dump())
    yield encode("HSET", f"mirage:job:{job.id}", *(part for pair in record.items() for part in pair))
    yield encode("ZADD", "mirage:jobs", job.sequence, job.id)
    yield encode("ZADD", f"mirage:jobs:{job.client}", job.sequence, job.id)
    if job.request_id:
        yield encode("SET", f"mirage:request:{job.client}:{job.request_id}", job.id)
    if waits:
        yield encode("SADD", f"mirage:live:{job.client}", job.id)
        yield encode("ZADD", "mirage:deadlines", job.deadline_time, job.id)
    else:
        yield encode("ZADD", "mirage:expiry", job.expire_time, job.id)
    for image in job.images:
        yield encode("SADD", "mirage:artifacts", image.sha256)
        yield encode("RPUSH", f"mirage:files:{job.id}", image.sha256)


def _read_job(values: dict[bytes, bytes]) -> Job:
    text = {_text(name): _text(value) for name, value in values.items()}
    read: dict[str, Any] = {}
    for name, info in Job.model_fields.items():
        if name not in text:
            continue
        match name:
            case "spec" | "images" | "problem":
                read[name] = json.loads(text[name])
            case "prompt_truncated":
                read[name] = _STORED_BOOL[text[name]]
            case _ if info.annotation is int:
                read[name] = int(text[name])
            case _ if info.annotation is float:
                read[name] = float(text[name])
            case _:
                read[name] = text[name]
    return Job.model_validate(read)


def _distinct(jobs: Iterable[Job], left_out: Counter[str]) -> tuple[Job, ...]:
    """By their numbers; of two with one number or one id the first."""
    found: dict[int, Job] = {}
    ids: set[str] = set()
    for job in jobs:
        if job.sequence in found or job.id in ids:
            left_out["jobs with another's number"] += 1
            continue
        found[job.sequence] = job
        ids.add(job.id)
    return tuple(found[sequence] for sequence in sorted(found))


def _sequence(keys: Keys) -> int:
    text = keys.strings.get(b"mirage:sequence", b"0")
    return int(text) if text.isdigit() and len(text) < 16 else 0


def _text(value: bytes) -> str:
    return value.decode("utf-8")


def _lenient(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _line(value: BaseModel) -> bytes:
    return json.dumps(value.model_dump(exclude_defaults=True)).encode() + b"\n"


def _object(line: bytes, most: int) -> dict[str, Any]:
    if len(line) > most:
        raise InvalidError("a line of its jobs is too long")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidError("a line of its jobs is not JSON") from error
    if not isinstance(found, dict):
        raise InvalidError("a line of its jobs is not an object")
    return found


def _model(model: type[M], raw: dict[str, Any], left_out: Counter[str]) -> M:
    try:
        found = model.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        at = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        of = model.__name__.lower()
        raise InvalidError(f"a {of} of its jobs has a value that no {of} has, in {at[:80]!r}") from None
    for name in _unknown(raw, found.model_dump()):
        left_out[f"fields named {name[:40]!r}"] += 1
    return found


def _unknown(raw: Any, read: Any) -> Iterator[str]:
    """The names of what was in an object and is in no field."""
    if isinstance(raw, dict) and isinstance(read, dict):
        yield from raw.keys() - read.keys()
        for name in raw.keys() & read.keys():
            yield from _unknown(raw[name], read[name])
    elif isinstance(raw, list):
        for one, other in zip(raw, read, strict=False):
            yield from _unknown(one, other)
