"""What must not end a worker or stop the queue: messages that are no tickets, records that are damaged, keys of another kind."""

import base64
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from mirage_core.errors import Code, MirageError
from mirage_generator.estimates import work_of
from mirage_generator.job_validator import AcceptedJob
from mirage_generator.jobs import Origin, Priority, Spec, State
from mirage_generator.store.connection import connect
from mirage_generator.store.jobs import JobStore, StoreLimits
from mirage_generator.ticket_transport import DEAD_LETTERS, DEAD_LETTERS_MAX, QUEUE, TASK, fault_of
from mirage_generator.tickets import TicketQueue, make_app
from tests.support.generator_process import House, house
from tests.support.waiting import until

BOUNDS = StoreLimits(queue=100, per_client=100, kept_per_client=100, ttl_s=60.0, attempts=2, lease_s=10.0)
SPEC = Spec("axial brain", "", 1, 1.0, 7, 64, 64, 1, Priority.INTERACTIVE, 600.0)
TINY_PRINT = json.loads((Path(__file__).parent / "tiny_bundle" / "manifest.json").read_text())


def body(args: object = (), kwargs: object = None, **others: object) -> str:
    call = [args, kwargs or {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **others}]
    return base64.b64encode(json.dumps(call).encode()).decode()


def message(*, headers: object = None, properties: object = None, **fields: object) -> bytes:
    """A ticket as Celery writes it, with changes."""
    id_ = "e21d8aec-001d-46ff-acbe-8ee24edfd701"
    whole_headers = {
        **{"lang": "py", "task": TASK, "id": id_, "shadow": None, "eta": None, "expires": None, "group": None},
        **{"group_index": None, "retries": 0, "timelimit": [None, None], "root_id": id_, "parent_id": None},
        **{"argsrepr": "()", "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": True, "stamps": {}},
        **{"replaced_task_nesting": 0, "stamped_headers": None},
    }
    whole_properties = {
        **{"correlation_id": id_, "reply_to": id_, "delivery_mode": 2, "priority": 0, "body_encoding": "base64"},
        **{"delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": id_},
    }
    whole: dict[str, object] = {
        **{"body": body(), "content-encoding": "utf-8", "content-type": "application/json"},
        "headers": {**whole_headers, **headers} if isinstance(headers, dict) else headers or whole_headers,
        "properties": {**whole_properties, **properties}
        if isinstance(properties, dict)
        else properties or whole_properties,
        **fields,
    }
    return json.dumps(whole).encode()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON"),
    "no text": (b"\xff\xfe\x00", "not JSON"),
    "a pickle": (pickle.dumps({"task": TASK}), "not JSON"),
    "half a message": (message()[:200], "not JSON"),
    "deep nesting": (b"[" * 10_000, "not JSON"),
    "a huge message": (b"x" * 5_000_000, "too long"),
    "a long ticket": (message(headers={"argsrepr": "x" * 20_000}), "too long"),
    "a text": (b'"ticket"', "another form"),
    "a list": (b"[]", "another form"),
    "a number": (b"1e999", "another form"),
    "no properties": (b'{"headers": {}}', "another form"),
    "no headers": (message(headers=7), "another form"),
    "an older protocol": (
        message(body=base64.b64encode(b'{"task": "mirage.generate", "id": "1"}').decode(), headers=[1]),
        "another form",
    ),
    "another task": (message(headers={"task": "os.system"}), "another task"),
    "a task that is no text": (message(headers={"task": {}}), "another form"),
    "an id that is no text": (message(headers={"id": {"a": 1}}), "another form"),
    "an id of another form": (message(headers={"id": "a\nb"}), "another form"),
    "another serializer": (message(**{"content-type": "application/x-python-serialize"}), "another form"),
    "another encoding": (message(**{"content-encoding": "binary"}), "another form"),
    "a compressed body": (message(headers={"compression": "zlib"}), "another form"),
    "arguments": (message(body=body([1])), "another form"),
    "named arguments": (message(body=body([], {"a": 1})), "another form"),
    "a task that follows": (message(body=body(chain=[{"task": "os.system"}])), "another form"),
    "a body that is no base64": (message(body="!!!"), "another form"),
    "a body that is no call": (message(body=base64.b64encode(b"{}").decode()), "another form"),
    "a body that is no text": (message(body={"a": 1}), "another form"),
    "a time far away": (message(headers={"eta": "2999-01-01T00:00:00+00:00"}), "another form"),
    "a time that is none": (message(headers={"eta": {"a": 1}}), "another form"),
    "an end": (message(headers={"expires": "2000-01-01T00:00:00+00:00"}), "another form"),
    "a time limit": (message(headers={"timelimit": [1, 1]}), "another form"),
    "a time limit that is none": (message(headers={"timelimit": "x"}), "another form"),
    "retries that are none": (message(headers={"retries": "x"}), "another form"),
    "no tag": (message(properties={"delivery_tag": None}), "another form"),
    "no way": (message(properties={"delivery_info": None}), "another form"),
}


def test_a_ticket_is_told_from_all_else() -> None:
    assert fault_of(message()) == ""
    assert {kind: fault_of(content) for kind, (content, _) in FOREIGN.items()} == {
        kind: fault for kind, (_, fault) in FOREIGN.items()
    }


@pytest.fixture
def place() -> Iterator[House]:
    with house(workers=0, api=False) as made:
        yield made


def store_of(place: House) -> JobStore:
    return JobStore(connect(f"unix://{place.socket}"), BOUNDS)


def order(store: JobStore, id_: str, client: str = "anna") -> None:
    store.create(
        id_,
        client=client,
        request_id="",
        digest="",
        accepted=AcceptedJob(SPEC, 4, prompt_truncated=False),
        work=work_of(SPEC, two_passes=False),
        fingerprint="f",
        origin=Origin("call", ""),
    )


def test_a_ticket_of_celery_is_a_ticket(place: House) -> None:
    TicketQueue(make_app(f"unix://{place.socket}", longest_s=60)).issue()
    assert fault_of(cast("list[bytes]", place.redis().lrange(QUEUE, 0, 0))[0]) == ""


def test_one_worker_outlives_every_message_and_makes_the_job_behind_them(place: House) -> None:
    client, store = place.redis(), store_of(place)
    order(store, "job1")
    for content, _ in FOREIGN.values():
        client.lpush(QUEUE, content)
    # Also what another worker took and never acknowledged, a year ago.
    client.hset("unacked", mapping={"a": b"rubbish", "b": json.dumps([{"a": 1}, "", QUEUE]), "c": b"[1"})
    client.zadd("unacked_index", {"a": 1, "b": 1, "c": 1, "d": 1})
    TicketQueue(make_app(f"unix://{place.socket}", longest_s=60)).issue()
    worker = place.start_worker()

    def done() -> bool:
        job = store.get("job1")
        return job is not None and job.state is State.SUCCEEDED

    until(done)
    until(lambda: client.llen(QUEUE) == 0 and client.hlen("unacked") == 0)
    assert worker.poll() is None
    assert place.log("worker").count('"working"') == 1
    letters = [json.loads(each) for each in client.lrange(DEAD_LETTERS, 0, -1)]
    faults = [letter["fault"] for letter in letters]
    assert len(letters) >= len(FOREIGN)
    assert {fault for _, fault in FOREIGN.values()} <= set(faults)
    assert max(len(letter["message"]) for letter in letters) <= 2048
    # Nothing of a message is logged but its length and fault.
    assert "os.system" not in place.log("worker")
    assert place.log("worker").count("message put aside") == len(letters)


def test_messages_put_aside_are_bounded(place: House) -> None:
    client = place.redis()
    client.lpush(QUEUE, *(b"rubbish %d" % number for number in range(DEAD_LETTERS_MAX + 50)))
    place.start_worker()
    until(lambda: client.llen(QUEUE) == 0)
    until(lambda: b"rubbish 149" in cast("bytes", client.lindex(DEAD_LETTERS, 0)))
    assert client.llen(DEAD_LETTERS) == DEAD_LETTERS_MAX


SPOILT: dict[str, Any] = {
    "another kind": lambda client, key: (client.delete(key), client.set(key, "x")),
    "gone": lambda client, key: client.delete(key),
    "no client": lambda client, key: client.hdel(key, "client"),
    "no deadline": lambda client, key: client.hdel(key, "deadline_time"),
    "a deadline that is none": lambda client, key: client.hset(key, "deadline_time", "soon"),
    "no time to live": lambda client, key: client.hset(key, "ttl", ""),
    "a workload that is none": lambda client, key: client.hset(key, "workload", "large"),
    "steps that are none": lambda client, key: client.hset(key, "steps", "many"),
    "no spec": lambda client, key: client.hdel(key, "spec"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_damaged_record_stops_nobody_else(kind: str, place: House) -> None:
    client, store = place.redis(), store_of(place)
    order(store, "bad")
    order(store, "good")
    SPOILT[kind](client, "mirage:job:bad")
    assert "good" in store.snapshot("f").outlooks
    jobs, _ = store.page(None, before=None, limit=10, states=frozenset())
    assert "good" in [job.id for job in jobs]
    claim = store.claim("t", worker="w", fingerprint="f")
    assert claim is not None
    assert claim.id == "good"
    client.zadd("mirage:deadlines", {"bad": 1})
    store.upkeep(trust_leases=True)
    assert client.zscore("mirage:deadlines", "bad") is None
    assert client.zscore("mirage:jobs", "bad") is None
    assert client.exists("mirage:damaged:bad") == (kind != "gone")
    assert store.finish(claim, [])


@pytest.mark.parametrize("list_", ["deadlines", "running", "expiry"])
def test_upkeep_goes_on_past_a_damaged_record(list_: str, place: House) -> None:
    client, store = place.redis(), store_of(place)
    client.set("mirage:job:bad", "x")
    client.zadd(f"mirage:{list_}", {"bad": 1, "never": 1})
    order(store, "late")
    client.hset("mirage:job:late", "deadline_time", 1)
    client.zadd("mirage:deadlines", {"late": 2})
    changes = {change.job: change.change for change in store.upkeep(trust_leases=True).changes}
    assert changes == {"bad": "damaged", "never": "damaged", "late": "expired"}


@pytest.mark.parametrize("spec", ["", "{", "[1]", '{"prompt": 1}', '{"priority": "first"}'])
def test_a_job_whose_spec_is_damaged_fails_and_the_next_is_made(spec: str, place: House) -> None:
    client, store = place.redis(), store_of(place)
    order(store, "bad")
    order(store, "good")
    client.hset("mirage:job:bad", "spec", spec)
    assert store.get("bad") is None
    claims = [store.claim(f"t{number}", worker="w", fingerprint="f") for number in range(2)]
    assert [claim.id for claim in claims if claim] == ["good"]
    assert client.hget("mirage:job:bad", "state") == b"FAILED"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (f"mirage:{name}", "x")
            for name in ("jobs", "pending", "running", "deadlines", "expiry", "workers", "tickets")
        ),
        *((f"mirage:{name}", "x") for name in ("outcomes", "artifacts", "rotation:interactive", "dead-letters")),
        *((name, "x") for name in (QUEUE, "unacked", "unacked_index", f"_kombu.binding.{QUEUE}")),
        ("mirage:sequence", "many"),
    ],
)
def test_a_key_of_another_kind_is_put_aside(name: str, value: str, place: House) -> None:
    client, store = place.redis(), store_of(place)
    order(store, "first")
    client.delete(name)
    client.set(name, value)
    assert store.clear_the_way() == [name]
    assert store.clear_the_way() == []
    assert [client.get(key) for key in client.keys("mirage:damaged:*")] == [value.encode()]
    order(store, "second")
    assert store.upkeep(trust_leases=True).changes == ()
    if name == "mirage:sequence":
        assert client.get(name) == b"2"


def test_a_worker_starts_on_a_queue_of_another_kind(place: House) -> None:
    client, store = place.redis(), store_of(place)
    client.set(QUEUE, "x")
    client.set("unacked_index", "x")
    worker = place.start_worker()
    order(store, "job1")
    TicketQueue(make_app(f"unix://{place.socket}", longest_s=60)).issue()

    def done() -> bool:
        job = store.get("job1")
        return job is not None and job.state is State.SUCCEEDED

    until(done)
    assert worker.poll() is None


def test_an_answer_of_redis_that_is_no_catalogue_error_stays_one(place: House) -> None:
    place.redis().set("mirage:pending", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        store_of(place).counts()
    place.redis().close()
    place.kill(place.queue)
    with pytest.raises(MirageError) as caught:
        store_of(place).counts()
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
