"""A look into each image: packages, users, writable places, secrets, size."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .conftest import Stack, docker

ROOT = Path(__file__).parents[2]
OURS = ("encoder", "retriever", "llm", "generator", "reader", "gateway", "demo")
LOCKS = {"demo": "tools"}
EVERYWHERE = {"mirage-api", "mirage-core", "mirage-protos"}
OWN = {
    "encoder": {*EVERYWHERE, "mirage-inference", "mirage-encoder"},
    "retriever": {*EVERYWHERE, "mirage-retriever"},
    "llm": {*EVERYWHERE, "mirage-inference", "mirage-llm"},
    "reader": {*EVERYWHERE, "mirage-inference", "mirage-reader"},
    "generator": {*EVERYWHERE, "mirage-inference", "mirage-generator"},
    "gateway": {*EVERYWHERE, "mirage-gateway"},
    "demo": {*EVERYWHERE, "mirage-client", "mirage-atlas", "mirage-launcher"},
}
# What an image adds to its base, in MB: with the 130 of python:3.11-slim-bookworm at most 700; 350 for the gateway and 390
# for the retriever.
ADDED_MB = {"gateway": 220, "retriever": 260}
ADDED_OTHERS_MB = 570
BASE = "python:3.11-slim-bookworm"
SECRETS = (
    "*.key",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".env*",
    ".netrc",
    ".git",
    "pip.conf",
    "uv.toml",
    "*.pem",
)


def images(built: Stack) -> dict[str, str]:
    config: dict[str, Any] = json.loads(built.compose("--profile", "*", "config", "--format", "json"))
    return {name: service["image"] for name, service in config["services"].items()}


@cache
def inspect(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", image))
    return found[0]


@cache
def history(image: str) -> list[str]:
    """What made each layer, the newest first."""
    return docker("image", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).splitlines()


def shell(image: str, script: str) -> list[str]:
    """The lines that a script writes in a container of the image, fenced in as the compose file does."""
    fence = (
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges:true",
        "--network",
        "none",
        "--tmpfs",
        "/tmp",
    )
    return docker("run", "--rm", *fence, "--entrypoint", "sh", image, "-c", script).splitlines()


@pytest.fixture(params=OURS)
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_it_runs_as_nobody_and_owns_its_volume_alone(built: Stack, service: str) -> None:
    image = images(built)[service]
    assert inspect(image)["Config"]["User"] == "10001:10001"
    find = (
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -writable ! -type l ! -type c -print 2>/dev/null; true"
    )
    writable = {path for path in shell(image, find) if not path.startswith(("/dev", "/tmp"))}
    assert writable == set()
    owned = shell(image, "find / -xdev -path /proc -prune -o -user 10001 -print 2>/dev/null; true")
    # Where volumes are mounted; the one-shot that makes passwords runs in the image of the demonstration.
    assert set(owned) <= {"/data"} | ({"/keys/queue", "/keys/vectors"} if service == "demo" else set())


def test_it_holds_its_lock_and_nothing_else(built: Stack, service: str) -> None:
    image = images(built)[service]
    listing = "python -c \"import importlib.metadata as m, sys; [print(d.name, d.locate_file('')) for d in m.distributions()]\""
    found = [line.split() for line in shell(image, listing)]
    names = {re.sub(r"[-_.]+", "-", name).lower() for name, place in found if place.startswith("/opt/")}
    lock = (ROOT / f"requirements/{LOCKS.get(service, service)}.txt").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.M))
    assert names - OWN[service] <= locked
    assert OWN[service] <= names
    assert "grpcio" in names
    assert ("numpy" in names) == (service != "gateway")
    assert not names & {"torch", "transformers", "diffusers", "pip", "setuptools", "uv", "pytest"}


def test_it_holds_no_secret(built: Stack, service: str) -> None:
    image = images(built)[service]
    described = inspect(image)
    named = [
        entry for entry in described["Config"]["Env"] if re.search(r"(KEY|TOKEN|SECRET|PASSWORD|INDEX)\w*=.", entry)
    ]
    assert named == []
    ours = history(image)[: -len(history(BASE))]
    assert not re.search(r"https?://|_INDEX_URL=\S|token|password", "\n".join(ours), re.I)
    kinds = " -o ".join(f"-name '{kind}'" for kind in SECRETS)
    # A library's list of authorities is public.
    authorities = "! -name cacert.pem ! -name roots.pem"
    found = shell(image, f"find /opt /root /home /src -xdev \\( {kinds} \\) {authorities} 2>/dev/null; true")
    assert found == []


def test_no_test_or_source_of_another_part_is_in_it(built: Stack, service: str) -> None:
    found = shell(images(built)[service], "find /opt -type d \\( -name tests -o -name tests_build \\); ls /")
    assert not [path for path in found if path.startswith("/opt")]
    assert "src" not in found


def test_it_is_small(built: Stack, service: str) -> None:
    base = inspect(BASE)
    described = inspect(images(built)[service])
    added = (described["Size"] - base["Size"]) / 1e6
    built.figures.setdefault("image_mb", {})[service] = {"whole": round(described["Size"] / 1e6), "added": round(added)}
    assert added < ADDED_MB.get(service, ADDED_OTHERS_MB)


def test_it_says_what_it_is(built: Stack, service: str) -> None:
    labels = inspect(images(built)[service])["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"]


def test_the_command_is_found_by_its_name(built: Stack) -> None:
    # As the operations and the one-shot that indexes call it.
    assert shell(images(built)["demo"], "mirage --version")
