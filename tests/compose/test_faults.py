"""What happens to the system in containers when a part of it dies, hangs or cannot be reached."""

import io
import itertools
import threading
import time
from functools import partial

import httpx
import pytest
from PIL import Image

from mirage.client import Client
from mirage.errors import ClientError
from mirage.jobs import JobOptions
from mirage.uploads import Upload
from mirage_api.jobs import FINAL

from .conftest import Stack, docker, wait
from .load import RATE, Load, Outcome

# The deadline of a search (MIRAGE_GATEWAY_SEARCH_TIMEOUT_S) and what a busy machine may add to it.
SEARCH_S = 12.0
# A part that nobody reaches is told within two seconds; a busy machine may add to that.
CUT_S = 2.5
PARTS = ("encoder", "retriever", "llm", "generator", "worker", "gateway", "redis", "qdrant")
# Without these searches go on.
SPARED = {"llm", "generator", "worker", "redis"}


def records(client: Client) -> int:
    return client.collection().records


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back_by_itself_and_searches_fail_only_meanwhile(calm: Stack, part: str) -> None:
    if part not in calm.services():
        pytest.skip(f"no {part} in this system")
    with calm.client() as client:
        before = records(client)
        jobs = [order(client, number) for number in range(4)]
    with Load(calm.url) as load:
        wait(lambda: load.answered() >= RATE, "searches before the fault")
        killed = time.monotonic()
        started = calm.kill(part)
        wait(lambda: calm.restarted(part, started), f"the {part} started anew")
        wait(calm.settled, "everything serves again")
        healed = time.monotonic()
        wait(lambda: load.answered(since=healed) >= RATE, "searches after it")
    failed = [each for each in load.outcomes if each.status != 200]
    calm.figures.setdefault("killed", {})[part] = {
        "healthy_again_s": round(healed - killed, 1),
        "searches": len(load.outcomes),
        "failed": len(failed),
        "failed_for_s": round(max((each.begun + each.seconds for each in failed), default=killed) - killed, 1),
        "longest_s": round(max(each.seconds for each in load.outcomes), 2),
    }
    assert not [each for each in failed if each.begun + each.seconds < killed or each.begun > healed]
    if part in SPARED:
        assert failed == []
    # A gateway that is gone refuses connections; all others are spoken for by it.
    for each in failed:
        assert (each.status, each.code) in {
            (503, "DEPENDENCY_UNAVAILABLE"),
            (503, "MODEL_NOT_READY"),
            (429, "QUEUE_FULL"),
        } or (part == "gateway" and each.status == 0), each
        assert each.status == 0 or each.retry_after, each
    assert max(each.seconds for each in load.outcomes) < SEARCH_S
    with calm.client() as client:
        assert records(client) == before
        wait(lambda: all(client.job(each).state in FINAL for each in jobs), "the jobs")
        assert [client.job(each).state for each in jobs] == ["SUCCEEDED"] * len(jobs)


def order(client: Client, number: int) -> str:
    """A job of some seconds."""
    return client.create_job(
        f"axial T1 MRI of the brain, z = {number} mm", JobOptions(seed=number, steps=10, images=4)
    ).id


def picture(number: int) -> bytes:
    """A small picture like no other."""
    image = Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, 77))
    image.putpixel((number % 64, number // 64 % 64), (255, 255, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("part", ["retriever", "encoder", "gateway", "qdrant"])
def test_no_acknowledged_record_is_lost_with_a_killed_part(calm: Stack, part: str) -> None:
    if part not in calm.services():
        pytest.skip(f"no {part} in this system")
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        with calm.client() as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                upload = Upload(
                    id=f"fault-{part}-{number}",
                    image=picture(number),
                    caption=f"A plate, number {number}.",
                    licence="CC0-1.0",
                    source="drawn by a test",
                )
                try:
                    outcomes = client.upsert([upload])
                except ClientError:
                    stop.wait(0.2)
                    continue
                acknowledged.extend(each.id for each in outcomes if each.state == "created")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        wait(lambda: len(acknowledged) >= 5, "records before the fault")
        started = calm.kill(part)
        wait(lambda: calm.restarted(part, started), f"the {part} started anew")
        wait(calm.settled, "everything serves again")
        at_heal = len(acknowledged)
        wait(lambda: len(acknowledged) >= at_heal + 5, "records after it")
    finally:
        stop.set()
        writer.join(timeout=120)
    with calm.client() as client:
        try:
            assert [client.record(each).id for each in acknowledged] == acknowledged
        finally:
            for each in acknowledged:
                client.delete(each)


def test_no_accepted_job_is_lost_with_a_killed_part(calm: Stack) -> None:
    with calm.client() as client:
        jobs = [order(client, number) for number in range(6)]
        for part in ("worker", "redis", "generator"):
            started = calm.kill(part)
            wait(partial(calm.restarted, part, started), f"the {part} started anew")
        wait(calm.settled, "everything serves again")
        wait(lambda: all(client.job(each).state in FINAL for each in jobs), "the jobs")
        ended = [client.job(each).state for each in jobs]
    assert ended == ["SUCCEEDED"] * len(jobs)


def search_once(stack: Stack, text: str) -> Outcome:
    begun = time.monotonic()
    reply = httpx.post(f"{stack.url}/v1/search", json={"text": text}, timeout=60)
    body = reply.json() if reply.status_code != 200 else {}
    return Outcome(
        begun, time.monotonic() - begun, reply.status_code, body.get("code", ""), reply.headers.get("retry-after", "")
    )


def test_a_cut_between_gateway_and_retriever_is_a_clear_503_and_never_a_hang(calm: Stack) -> None:
    name = calm.container("retriever")["Name"].removeprefix("/")
    network = f"{calm.project}_inner"
    docker("network", "disconnect", "--force", network, name)
    try:
        found = [search_once(calm, f"a question with nobody to answer, {number}") for number in range(5)]
    finally:
        docker("network", "connect", "--alias", "retriever", network, name)
    calm.figures["cut_s"] = [round(each.seconds, 2) for each in found]
    for each in found:
        assert (each.status, each.code) == (503, "DEPENDENCY_UNAVAILABLE")
        assert each.retry_after
        assert each.seconds < CUT_S


def test_a_retriever_that_hangs_is_a_clear_503_too(calm: Stack) -> None:
    calm.compose("pause", "retriever")
    try:
        found = [search_once(calm, f"a question that nobody reads, {number}") for number in range(5)]
    finally:
        calm.compose("unpause", "retriever")
    calm.figures["hang_s"] = [round(each.seconds, 2) for each in found]
    for each in found:
        assert (each.status, each.code) == (503, "DEPENDENCY_UNAVAILABLE")
        assert each.retry_after
        assert each.seconds < CUT_S
