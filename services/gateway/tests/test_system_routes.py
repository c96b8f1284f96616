import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from mirage_api.system import Collection, ModelsReply
from mirage_gateway.dependencies import ENCODER

from .conftest import Gateway, Peer, check


async def test_ready_means_that_every_part_serves(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.get("/readyz")
    everything = dict.fromkeys(("retriever", "encoder", "llm", "generator"), "serving")
    assert response.json() == {"status": "ready", "dependencies": everything}
    await peer.set_health(ENCODER, serving=False)
    response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["dependencies"] == {**everything, "encoder": "not serving"}
    await peer.set_health(ENCODER, serving=True)
    assert (await http.get("/readyz")).status_code == 200


async def test_a_part_that_is_gone_is_named_and_the_process_stays_alive(gateway: Gateway) -> None:
    http = await gateway(retriever="127.0.0.1:9")
    response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["dependencies"]["retriever"] == "unreachable"
    assert response.json()["metadata"]["service"] == "retriever"
    assert (await http.get("/healthz")).status_code == 200


async def test_a_part_that_has_not_registered_yet_is_not_serving(gateway: Gateway) -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    http = await gateway(retriever=f"127.0.0.1:{port}")
    assert (await http.get("/readyz")).json()["dependencies"]["retriever"] == "not serving"
    await server.stop(None)


async def test_models_and_collection_are_described(http: httpx.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()
    check(ModelsReply, models)
    assert models["models"][0]["name"] == "mini-clip"
    assert [each["task"] for each in models["models"]] == ["encode", "describe", "generate"]
    collection = (await http.get("/v1/collection")).json()
    check(Collection, collection)
    assert collection["records"] == 7


async def test_without_the_optional_parts_everything_else_is_ready(http: httpx.AsyncClient, peer: Peer) -> None:
    await peer.llm_server.stop(None)
    await peer.generator_server.stop(None)
    response = await http.get("/readyz")
    found = response.json()["dependencies"]
    assert (response.status_code, found["llm"], found["generator"]) == (200, "unreachable", "unreachable")
    assert [each["task"] for each in (await http.get("/v1/models")).json()["models"]] == ["encode"]


async def test_a_gateway_without_the_optional_parts_does_not_name_them(gateway: Gateway) -> None:
    http = await gateway(llm="", generator="")
    assert (await http.get("/readyz")).json()["dependencies"] == {"retriever": "serving", "encoder": "serving"}


async def test_operators_see_which_errors_callers_were_told(http: httpx.AsyncClient) -> None:
    async def told() -> float:
        lines = (await http.get("/metrics")).text.splitlines()
        name = 'mirage_http_problems_total{code="REQUEST_MALFORMED"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = await told()
    assert (await http.post("/v1/search", json={"text": 1})).json()["code"] == "REQUEST_MALFORMED"
    assert await told() == before + 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
async def test_a_probe_may_add_a_parameter(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(f"{path}?t=1")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("POST", "/v1/search"), ("DELETE", "/v1/records/r1"), ("POST", "/v1/records")],
)
async def test_an_unknown_parameter_is_refused_by_its_name(http: httpx.AsyncClient, method: str, path: str) -> None:
    response = await http.request(method, f"{path}?colour=1", json={"text": "x"} if method == "POST" else None)
    assert (response.status_code, response.json()["metadata"]) == (400, {"field": "colour"})
