"""The system in containers, as its users reach it: through the published ports."""

import subprocess
import time

import grpc
import httpx

from mirage.jobs import JobOptions
from mirage_api.jobs import FINAL
from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, query_pb2

from .conftest import Stack, docker, wait

QUERY = "sagittal T1 corpus callosum"


def test_the_demonstration_atlas_is_there(stack: Stack) -> None:
    assert stack.container("demo")["State"]["ExitCode"] == 0
    with stack.client() as client:
        assert client.collection().records > 600
        modalities = next(each for each in client.facets() if each.name == "modality")
    assert {"ct", "mr", "x-ray", "us", "fundus", "histology"} <= {each.value for each in modalities.values}


def test_a_search_finds_and_shows(stack: Stack) -> None:
    with stack.client() as client:
        found = client.search(QUERY, k=5)
        assert [result.labels["plane"] for result in found.results][:3] == [("sagittal",)] * 3
        assert client.image(found.results[0].id, variant="thumbnail").data[:4]


def test_other_services_search_by_grpc(stack: Stack) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{stack.grpc_port}") as channel:
        stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        query = query_pb2.Query(terms=[query_pb2.Term(text=QUERY, weight=1.0)])
        reply = stub.Search(mirage_service_pb2.SearchRequest(query=query), timeout=30)
    assert len(reply.reply.results) == 10


def test_an_explanation_comes_with_its_sources(stack: Stack) -> None:
    with stack.client(timeout_s=120) as client:
        told = client.description(QUERY)
    assert told.text
    assert told.source == "model"


def test_a_job_makes_an_image(stack: Stack) -> None:
    with stack.client() as client:
        job = client.create_job("axial T1 brain", JobOptions(seed=1))
        done = wait(lambda: (now := client.job(job.id)).state in FINAL and now, "the job")
        assert done.state == "SUCCEEDED"
        assert client.job_image(job.id).data[:4] == b"\x89PNG"


def test_this_machine_may_write_without_a_key(stack: Stack) -> None:
    with stack.client() as client:
        found = client.search(QUERY, k=1).results[0]
        client.flag(found.id, "wrong-caption")


def test_another_sites_page_may_not(stack: Stack) -> None:
    named = httpx.post(f"{stack.url}/v1/search", json={"text": QUERY}, headers={"host": "elsewhere.example"})
    assert named.status_code == 400


def test_only_the_gateway_is_published_and_on_loopback(stack: Stack) -> None:
    for service in stack.services():
        ports = stack.container(service)["NetworkSettings"]["Ports"] or {}
        published = {binding["HostIp"] for bindings in ports.values() for binding in bindings or ()}
        assert published == ({"127.0.0.1"} if service == "gateway" else set()), service
    inner = docker("network", "inspect", f"{stack.project}_inner", "--format", "{{.Internal}}")
    assert inner == "true"


def test_a_gateway_that_the_world_would_reach_without_keys_does_not_start(built: Stack) -> None:
    image = built.compose("config", "--images", "gateway").split()
    gateway = next(name for name in image if "/gateway:" in name)
    done = subprocess.run(
        ["docker", "run", "--rm", "-e", "MIRAGE_GATEWAY_PUBLISHED=0.0.0.0", gateway], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "MIRAGE_API_KEYS" in done.stderr


def test_a_second_start_finds_everything_as_it_was(stack: Stack) -> None:
    with stack.client() as client:
        before = client.collection().records
    stack.compose("stop", timeout_s=300)
    begun = time.monotonic()
    stack.compose("up", "-d", "--no-build", timeout_s=900)
    wait(stack.settled, "everything serves again", within_s=900)
    stack.figures["second_start_s"] = round(time.monotonic() - begun, 1)
    wait(lambda: not stack.container("demo")["State"]["Running"], "the demonstration's one-shot ends at once")
    with stack.client() as client:
        assert client.collection().records == before
        assert client.search(QUERY, k=5).results
