"""Traces and request ids over all processes of a MIRAGE that `mirage up` started: what one request did is found by one id."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirage_launcher.bundles import find_bundle
from tests.support.machine import RECORDS, Machine, clear, fill, make_machine
from tests.support.otlp_collector import collector
from tests.support.paths import MINI, TINY_GENERATOR
from tests.support.waiting import until

# Neither may be in a span, whole or in part.
QUERY = "zebra lesion of patient Quux"
PROMPT = "giraffe section of patient Quux"


@pytest.fixture
def machine(tmp_path: Path, models: str) -> Iterator[Machine]:
    """A data directory of the test's own, and models that can write and make images."""
    shutil.copytree(find_bundle(models), tmp_path / "models" / "clip")
    shutil.copytree(TINY_GENERATOR, tmp_path / "models" / "generator")
    # A model whose sentences hold, so that images are ranked by them.
    shutil.copytree(MINI / "lm" / "bundle", tmp_path / "models" / "lm")
    made = make_machine(tmp_path / "data", str(tmp_path / "models"))
    yield made
    clear(made)


def lines(machine: Machine, service: str, request_id: str) -> list[dict[str, Any]]:
    """The lines of a service's log that are about a request."""
    written = machine.folders.log(service).read_text().splitlines()
    said = [json.loads(line) for line in written if line.startswith("{")]
    return [line for line in said if line.get("request_id") == request_id]


def said_lost(log: Path) -> bool:
    """Whether a process has said that its spans are not taken."""
    return "spans are lost" in log.read_text()


def make_image(client: httpx.Client, request_id: str) -> None:
    """A job that was made to its end."""
    asked = {"prompt": PROMPT, "width": 256, "height": 256, "steps": 2}
    reply = client.post("/v1/jobs", json=asked, headers={"x-request-id": request_id})
    assert (reply.status_code, reply.headers["x-request-id"]) == (202, request_id), reply.text
    job = reply.json()["id"]
    until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "SUCCEEDED", within_s=60)


def ranked(client: httpx.Client, record: str, request_id: str) -> bool:
    """Whether a model has described a record, and the images were ranked by its text."""
    headers = {"x-request-id": request_id, "accept": "application/json"}
    reply = client.post("/v1/describe", json={"id": record}, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["ranking"] is not None


def test_a_request_is_one_trace_over_all_that_it_went_through(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collector() as seen:
        monkeypatch.setenv("MIRAGE_TRACES_ENDPOINT", seen.endpoint)
        assert machine.up("--no-demo")[0] == 0
        until(lambda: machine.run("status")[0] == 0)
        fill(machine)
        with httpx.Client(base_url=f"http://127.0.0.1:{machine.port}", timeout=60) as client:
            asked = {"terms": [{"text": QUERY}], "k": RECORDS}
            found = client.post("/v1/search", json=asked, headers={"x-request-id": "one-search"})
            assert found.status_code == 200, found.text
            make_image(client, "one-job")
            record = found.json()["results"][0]["id"]
            until(partial(ranked, client, record, "one-explanation"), within_s=60)

        search = seen.trace_with(
            {"POST /v1/search", "search.terms", "search.nearest", "encode.text"},
            attribute=("mirage.request_id", "one-search"),
        )
        assert {span.service for span in search} == {"mirage-gateway", "mirage-retriever", "mirage-encoder"}
        assert [span.name for span in search if not span.parent] == ["POST /v1/search"]

        job = seen.trace_with(
            {"POST /v1/jobs", "job.enqueue", "job.run", "job.step", "job.decode", "job.store"},
            attribute=("mirage.request_id", "one-job"),
        )
        assert {span.service for span in job} == {"mirage-gateway", "mirage-generator", "mirage-generator-worker"}
        assert [span.name for span in job if not span.parent] == ["POST /v1/jobs"]
        [enqueue], [run] = ([span for span in job if span.name == name] for name in ("job.enqueue", "job.run"))
        assert (run.parent, run.attributes["mirage.outcome"]) == (enqueue.id, "succeeded")
        assert [span.parent for span in job if span.name == "job.step"] == [run.id] * 2
        assert not any(span.failed for span in (*search, *job))

        explanation = seen.trace_with(
            {
                "POST /v1/describe",
                "describe.retrieve",
                "describe.read",
                "describe.write",
                "describe.rank",
                "encode.text",
            },
            attribute=("mirage.request_id", "one-explanation"),
        )
        services = {"mirage-gateway", "mirage-retriever", "mirage-encoder", "mirage-llm"}
        assert {span.service for span in explanation} == services
        assert [span.name for span in explanation if not span.parent] == ["POST /v1/describe"]
        assert lines(machine, "llm", "one-explanation")

        # The log has both ids, up to the worker's lines.
        for service in ("gateway", "generator", "worker"):
            about = lines(machine, service, "one-job")
            assert about, service
            assert {line["trace_id"] for line in about if "trace_id" in line} == {run.trace}, service
        assert lines(machine, "retriever", "one-search")

        captions = [each["caption"] for each in found.json()["results"]]
        assert len(captions) == RECORDS
        for text in (*QUERY.split(), *PROMPT.split(), *captions):
            if text not in ("of", "lesion", "patient", "section"):
                assert text.encode() not in seen.sent, text

    # The collector is gone: everything goes on, and each process says so once.
    with httpx.Client(base_url=f"http://127.0.0.1:{machine.port}", timeout=60) as client:
        for _ in range(20):
            assert client.post("/v1/search", json=asked).status_code == 200
        make_image(client, "alone")
    assert lines(machine, "worker", "alone")
    for service in ("gateway", "retriever", "generator", "worker"):
        file = machine.folders.log(service)
        until(partial(said_lost, file), within_s=60)
        assert file.read_text().count("spans are lost") == 1
        assert "Traceback" not in file.read_text()
