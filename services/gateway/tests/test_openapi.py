import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mirage_core.errors import CATALOGUE, Code


@pytest.fixture
async def description(http: httpx.AsyncClient) -> Any:
    return (await http.get("/openapi.json")).json()


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def operations(description: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_address_of_the_contract_is_described(description: Any) -> None:
    assert {(method, path) for method, path, _ in operations(description)} == {
        ("post", "/v1/search"),
        ("post", "/v1/compare"),
        ("post", "/v1/describe"),
        ("post", "/v1/read"),
        ("get", "/v1/records/{id}"),
        ("delete", "/v1/records/{id}"),
        ("post", "/v1/records"),
        ("get", "/v1/records/{id}/similar"),
        ("post", "/v1/records/{id}/flags"),
        ("get", "/v1/images/{id}"),
        ("get", "/v1/images/{id}/thumbnail"),
        ("get", "/v1/images/{id}/pixels"),
        ("get", "/v1/images/{id}/regions"),
        ("get", "/v1/facets"),
        ("post", "/v1/classify"),
        ("get", "/v1/records"),
        ("post", "/v1/records/lookup"),
        ("get", "/v1/flags"),
        ("get", "/v1/collections"),
        ("post", "/v1/collections"),
        ("delete", "/v1/collections/{name}"),
        ("post", "/v1/collections/{name}/activate"),
        ("get", "/v1/cases/{id}"),
        ("get", "/v1/collections/{name}"),
        ("get", "/v1/common-queries"),
        ("get", "/v1/quality"),
        ("post", "/v1/quality"),
        ("get", "/v1/ratings"),
        ("post", "/v1/ratings"),
        ("get", "/v1/ratings/{id}"),
        ("delete", "/v1/ratings/{id}"),
        ("post", "/v1/ratings/{id}/items"),
        ("get", "/v1/rate/{token}"),
        ("post", "/v1/rate/{token}"),
        ("get", "/v1/rate/{token}/images/{n}"),
        ("get", "/v1/models"),
        ("get", "/v1/access"),
        ("post", "/v1/jobs"),
        ("get", "/v1/jobs"),
        ("get", "/v1/jobs/{id}"),
        ("get", "/v1/jobs/{id}/events"),
        ("post", "/v1/jobs/{id}/cancel"),
        ("get", "/v1/jobs/{id}/images/{n}"),
        ("get", "/v1/jobs/{id}/image"),
        ("get", "/v1/collection"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/openapi.json"),
    }


def test_every_reference_leads_somewhere(description: Any) -> None:
    references = [node["$ref"] for node in walk(description) if "$ref" in node]
    assert references
    for reference in references:
        node = description
        for key in reference.removeprefix("#/").split("/"):
            node = node[key]


def test_every_operation_names_its_errors_under_their_status(description: Any) -> None:
    for method, path, operation in operations(description):
        codes = []
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            schema = response["content"]["application/problem+json"]["schema"]
            found = schema["allOf"][1]["properties"]["code"]["enum"]
            assert all(CATALOGUE[Code(code)].http == int(status) for code in found)
            codes += found
        assert "INTERNAL" in codes, (method, path)
        if path.startswith("/v1/"):
            assert {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED", "API_KEY_MISSING"} <= set(codes), (method, path)


def test_parameters_of_a_path_are_described(description: Any) -> None:
    for _, path, operation in operations(description):
        described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))


def test_bodies_refuse_unknown_fields(description: Any) -> None:
    for _, path, operation in operations(description):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            reference = next(node["$ref"] for node in walk(content) if "$ref" in node)
            schema = description["components"]["schemas"][reference.rpartition("/")[2]]
            assert schema["additionalProperties"] is False, path


def test_operation_ids_are_unique(description: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(names) == len(set(names))


async def test_every_described_get_answers_as_described(http: httpx.AsyncClient, description: Any) -> None:
    for method, path, operation in operations(description):
        if method == "get":
            response = await http.get(path.replace("{id}", "r1").replace("{n}", "0"))
            media_type = response.headers["content-type"].partition(";")[0]
            assert media_type in operation["responses"][str(response.status_code)]["content"], path
