"""Every combination of the compose files that the documentation names is one that Compose takes."""

import os
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
REQUIRED = {
    "docker-compose.tls.yml": "MIRAGE_TLS_DIR",
    "docker-compose.full.yml": "MIRAGE_ATLAS",
    "docker-compose.observability.yml": "MIRAGE_GRAFANA_PASSWORD",
}
OVERRIDES = sorted(path.name for path in DEPLOY.glob("docker-compose.*.yml"))


def config(*overrides: str, host: str = "8gb", **variables: str) -> "subprocess.CompletedProcess[str]":
    files = [part for name in ("docker-compose.yml", *overrides) for part in ("-f", str(DEPLOY / name))]
    environments = ["--env-file", str(DEPLOY / ".env.example"), "--env-file", str(DEPLOY / f"hosts/{host}.env")]
    # Profiles ask for services that an override switches off, so that those are read too.
    return subprocess.run(
        ["docker", "compose", *environments, *files, "config", "--quiet"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **docker_variables(), **variables},
    )


def docker_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}


@pytest.mark.parametrize("host", ["8gb", "16gb", "32gb"])
@pytest.mark.parametrize("override", ["", *OVERRIDES])
def test_each_override_is_valid_on_each_host(override: str, host: str, tmp_path: Path) -> None:
    needed = {REQUIRED[override]: str(tmp_path)} if override in REQUIRED else {}
    done = config(*([override] if override else []), host=host, **needed)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_all_overrides_together_are_valid(tmp_path: Path) -> None:
    done = config(*OVERRIDES, host="32gb", **dict.fromkeys(REQUIRED.values(), str(tmp_path)))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("override", "variable"), REQUIRED.items())
def test_what_an_override_needs_is_named(override: str, variable: str) -> None:
    done = config(override)
    assert done.returncode != 0
    assert variable in done.stderr
