"""More containers of one service: calls are spread, and one of them can be restarted without anybody noticing."""

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from mirage.jobs import JobOptions
from mirage_api.jobs import FINAL

from .conftest import DEPLOY, Stack, docker, wait
from .load import RATE, Load

QUESTIONS = ("sagittal T1 corpus callosum", "axial T2 thalami", "coronal T1 hippocampi", "axial FLAIR thalami")
WRITERS = 3


@contextmanager
def scaled(stack: Stack, service: str, count: int) -> Iterator[Stack]:
    scale = ("up", "-d", "--no-build", "--no-recreate", "--no-deps", "--scale")
    stack.compose(*scale, f"{service}={count}", service)
    try:
        for index in range(1, count + 1):
            wait(partial(stack.healthy, service, index), f"{service} {index}")
        yield stack
    finally:
        stack.compose(*scale, f"{service}=1", service)


def events(stack: Stack, service: str, index: int) -> list[dict[str, str]]:
    """A container's log lines."""
    command = ["docker", "logs", stack.container(service, index)["Id"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def calls(stack: Stack, service: str, index: int, method: str) -> int:
    """How many calls of a method a container answered."""
    return sum(
        line.get("event") == "rpc" and line["method"].endswith(f"/{method}") for line in events(stack, service, index)
    )


def replace_in_turn(stack: Stack, service: str) -> None:
    """By the operator's own script."""
    environment = {
        **stack.environment,
        "COMPOSE_FILE": ":".join(map(str, stack.files)),
        "COMPOSE_PROJECT_NAME": stack.project,
    }
    command = [str(DEPLOY / "rolling-restart.sh"), service]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr


def running(stack: Stack, service: str) -> list[str]:
    return sorted(stack.compose("ps", "--quiet", service).split())


def test_encoders_are_replaced_in_turn_without_a_failed_search(calm: Stack) -> None:
    with scaled(calm, "encoder", 2) as stack, Load(stack.url) as load:
        wait(lambda: load.answered() >= RATE, "searches before")

        before = running(stack, "encoder")
        replace_in_turn(stack, "encoder")
        after = running(stack, "encoder")
        answered = load.answered()
        wait(lambda: load.answered() >= answered + RATE, "searches with the new ones")
    stack.figures["rolling_restart"] = {
        "searches": len(load.outcomes),
        "longest_s": round(max(each.seconds for each in load.outcomes), 2),
    }
    assert len(after) == 2
    assert not set(before) & set(after)
    assert [each for each in load.outcomes if each.status != 200] == []


def test_two_language_models_share_the_questions_and_are_replaced_in_turn(calm: Stack) -> None:
    told: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=calm.url, timeout=120, headers={"accept": "application/json"}) as client:
            for turn in itertools.count(number):
                if stop.is_set():
                    return
                reply = client.post("/v1/describe", json={"text": QUESTIONS[turn % len(QUESTIONS)]})
                told.append((reply.status_code, reply.json().get("source", reply.text)))

    with scaled(calm, "llm", 2) as stack:
        # The gateway finds the second one once its name is looked up anew.
        docker("restart", stack.container("gateway")["Id"])
        wait(stack.settled, "the gateway again")
        writers = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            wait(lambda: len(told) >= 6, "explanations before")
            shares = [calls(stack, "llm", index, "Describe") for index in (1, 2)]
            replace_in_turn(stack, "llm")
            before = len(told)
            wait(lambda: len(told) >= before + 6, "explanations with the new ones")
        finally:
            stop.set()
            for writer in writers:
                writer.join(timeout=120)
    stack.figures["rolling_restart_llm"] = {"explanations": len(told), "shares_before": shares}
    assert all(shares)
    assert set(told) == {(200, "model")}


def test_three_workers_share_the_queue(calm: Stack) -> None:
    with scaled(calm, "worker", 3) as stack, stack.client() as client:
        begun = time.monotonic()
        jobs = [
            client.create_job(f"axial T1 MRI of the brain, z = {number} mm", JobOptions(seed=number)).id
            for number in range(18)
        ]
        wait(lambda: all(client.job(each).state in FINAL for each in jobs), "the jobs")
        stack.figures["three_workers"] = {"jobs": len(jobs), "seconds": round(time.monotonic() - begun, 1)}
        assert {client.job(each).state for each in jobs} == {"SUCCEEDED"}
        made = [
            {line["job"] for line in events(stack, "worker", index) if line.get("event") == "job begun"} & set(jobs)
            for index in (1, 2, 3)
        ]
    assert all(made)
    # Each job by one of them alone.
    assert sum(map(len, made)) == len(jobs)


@pytest.mark.parametrize("arguments", [(), ("retriever",), ("nothing",), ("encoder", "llm")])
def test_what_cannot_be_replaced_in_turn_is_refused(stack: Stack, arguments: tuple[str, ...]) -> None:
    before = {service: running(stack, service) for service in ("retriever", "encoder", "llm")}
    done = subprocess.run([str(DEPLOY / "rolling-restart.sh"), *arguments], capture_output=True, text=True)
    assert (done.returncode, bool(done.stderr)) == (2, True)
    assert before == {service: running(stack, service) for service in before}
