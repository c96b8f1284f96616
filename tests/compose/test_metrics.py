"""Prometheus of the observability override in its container: every part is scraped, every panel and alert is understood.

Where its image cannot be had, Debian's package of the program stands in under the same name.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mirage.errors import ClientError
from mirage.jobs import JobOptions
from mirage.queries import Query, Term
from mirage_api.jobs import FINAL
from mirage_launcher import ports

from .conftest import DEPLOY, START_S, Stack, docker, wait

STAND_IN = """FROM python:3.11-slim-bookworm
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus wget && rm -rf /var/lib/apt/lists/* \\
    && install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
ENTRYPOINT ["prometheus"]
"""
PARTS = {"encoder", "retriever", "llm", "reader", "generator", "worker", "gateway"}
SCRAPED_S = 120.0


def image(stack: Stack, folder: Path) -> str:
    """Prometheus' image, or what stands in for it."""
    config: dict[str, Any] = json.loads(stack.compose("config", "--format", "json"))
    name: str = config["services"]["prometheus"]["image"]
    for command in (("image", "inspect", name), ("pull", "-q", name)):
        if subprocess.run(["docker", *command], capture_output=True).returncode == 0:
            return name
    (folder / "Dockerfile").write_text(STAND_IN)
    docker("build", "-q", "-t", "localhost/mirage-test/prometheus", str(folder))
    return "localhost/mirage-test/prometheus"


@pytest.fixture(scope="module")
def watched(built: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system with Prometheus and without what shows traces, used a little."""
    first = ports.any_free(taken=frozenset({built.http_port, built.grpc_port}))
    second = ports.any_free(taken=frozenset({built.http_port, built.grpc_port, first}))
    environment = {
        **built.environment,
        "MIRAGE_HTTP_PORT": str(first),
        "MIRAGE_GRPC_PORT": str(second),
        "MIRAGE_GRAFANA_PASSWORD": "not started here",
        "MIRAGE_TRACES_ENDPOINT": "",
    }
    stack = replace(
        built,
        project=f"{built.project}-watched",
        files=(*built.files, DEPLOY / "docker-compose.observability.yml"),
        environment=environment,
        http_port=first,
        grpc_port=second,
    )
    environment["MIRAGE_PROMETHEUS_IMAGE"] = found = image(stack, tmp_path_factory.mktemp("prometheus"))
    stack.figures["prometheus"] = found
    others = [name for name in stack.services() if name not in ("collector", "tempo", "grafana")]
    try:
        stack.compose("up", "-d", "--no-build", *others, "demo", timeout_s=START_S)
        wait(lambda: all(map(stack.healthy, others)) and stack.ready(), "everything serves", within_s=START_S)
        wait(lambda: not stack.container("demo")["State"]["Running"], "the demonstration atlas", within_s=START_S)
        with stack.client(timeout_s=120) as client:
            client.description("axial T1 brain")
            job = client.create_job("axial T1 brain", JobOptions(seed=1))
            wait(lambda: client.job(job.id).state in FINAL, "the job")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def ask(stack: Stack, path: str, **parameters: str) -> Any:
    """What Prometheus answers, asked from its own container: nothing of it is published."""
    url = f"http://127.0.0.1:9090/api/v1/{path}?{urlencode(parameters)}"
    reply = json.loads(docker("exec", stack.container("prometheus")["Id"], "wget", "-qO-", url))
    assert reply["status"] == "success"
    return reply["data"]


def up(stack: Stack) -> dict[str, bool]:
    found = ask(stack, "targets", state="active")["activeTargets"]
    return {each["labels"]["service"]: each["health"] == "up" for each in found}


def test_every_part_is_scraped_and_nothing_else_is_missed(watched: Stack) -> None:
    expected = PARTS | ({"qdrant"} if "qdrant" in watched.services() else set())
    wait(lambda: up(watched) == dict.fromkeys(expected, True), "all parts scraped", within_s=SCRAPED_S)


def expressions() -> list[tuple[str, str]]:
    panels = json.loads((DEPLOY / "grafana/dashboards/mirage.json").read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def test_every_panel_shows_something_once_the_system_is_used(watched: Stack) -> None:
    def used() -> bool:
        with watched.client(timeout_s=120) as client:
            asked = client.common_queries()[0]
            for text in (asked, f"coronal section {time.monotonic()}", asked):
                found = client.search(text, k=3).results[0]
            client.similar(found.id, k=3)
            picture = client.image(found.id).data
            for _ in range(2):
                client.search(Query((Term(image=picture),)), k=3)
            client.description("axial T1 brain")
            client.create_job("axial T1 brain", JobOptions(seed=2))
            for wrong in (lambda: client.record("nothing-of-this-name"), lambda: client.search("", k=3)):
                with pytest.raises(ClientError):
                    wrong()
        silent.clear()
        for title, expression in expressions():
            if not ask(watched, "query", query=expression.replace("$__rate_interval", "2m"))["result"]:
                silent.add(f"{title}: {expression}")
        return not silent

    silent: set[str] = set()
    try:
        wait(used, "every panel", within_s=SCRAPED_S)
    except AssertionError:
        pytest.fail("\n".join(sorted(silent)))


def test_the_alerts_are_loaded_and_an_absent_part_raises_one(watched: Stack) -> None:
    def alerts() -> dict[str, str]:
        rules = [rule for group in ask(watched, "rules")["groups"] for rule in group["rules"]]
        assert all(rule["health"] in ("ok", "unknown") for rule in rules)
        return {rule["name"]: rule["state"] for rule in rules}

    quiet = dict.fromkeys(("PartDown", "PartAbsent", "RequestsFail", "SearchesSlow", "NoWorker"), "inactive")
    wait(lambda: alerts() == quiet, "quiet alerts", within_s=SCRAPED_S)
    watched.compose("stop", "llm")
    # Where its name is unknown at once it is absent; where no answer comes, Prometheus goes on asking at its last address.
    gone = ("PartDown", "PartAbsent")
    wait(lambda: any(alerts()[each] != "inactive" for each in gone), "an alert", within_s=SCRAPED_S)
    watched.compose("start", "llm")
    wait(lambda: alerts() == quiet, "the end of the alert", within_s=SCRAPED_S)
