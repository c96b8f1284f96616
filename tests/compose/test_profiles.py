"""Every combination of the compose files that the documentation names is one that Compose takes."""

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
REQUIRED = {
    "docker-compose.tls.yml": ("MIRAGE_TLS_DIR", "MIRAGE_TLS_NAME"),
    "docker-compose.full.yml": ("MIRAGE_ATLAS",),
    "docker-compose.observability.yml": ("MIRAGE_GRAFANA_PASSWORD",),
}
OVERRIDES = sorted(path.name for path in DEPLOY.glob("docker-compose.*.yml"))


def needed(*overrides: str, value: Path) -> dict[str, Any]:
    """Variables that the overrides do not do without."""
    return {name: str(value) for override in overrides for name in REQUIRED.get(override, ())}


def config(
    *overrides: str, host: str = "8gb", how: tuple[str, ...] = ("--quiet",), **variables: str
) -> "subprocess.CompletedProcess[str]":
    files = [part for name in ("docker-compose.yml", *overrides) for part in ("-f", str(DEPLOY / name))]
    environments = ["--env-file", str(DEPLOY / ".env.example"), "--env-file", str(DEPLOY / f"hosts/{host}.env")]
    # Profiles ask for services that an override switches off, so that those are read too.
    return subprocess.run(
        ["docker", "compose", *environments, *files, "config", *how],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **docker_variables(), **variables},
    )


def docker_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}


@pytest.mark.parametrize("host", ["8gb", "16gb", "32gb"])
@pytest.mark.parametrize("override", ["", *OVERRIDES])
def test_each_override_is_valid_on_each_host(override: str, host: str, tmp_path: Path) -> None:
    done = config(*([override] if override else []), host=host, **needed(override, value=tmp_path))
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_all_overrides_together_are_valid(tmp_path: Path) -> None:
    done = config(*OVERRIDES, host="32gb", **needed(*OVERRIDES, value=tmp_path))
    assert done.returncode == 0, done.stderr


COMBINATIONS = [chosen for count in range(len(OVERRIDES) + 1) for chosen in itertools.combinations(OVERRIDES, count)]


@pytest.mark.parametrize("overrides", COMBINATIONS, ids=lambda chosen: "+".join(chosen) or "mini")
def test_each_image_of_ours_is_built_by_something_that_runs(overrides: tuple[str, ...], tmp_path: Path) -> None:
    done = config(*overrides, how=("--format", "json"), **needed(*overrides, value=tmp_path))
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"].values()
    ours = {service["image"] for service in services if service["image"].startswith("localhost/mirage/")}
    assert ours == {service["image"] for service in services if "build" in service}
    # Whatever runs, the command that backs up is among the images.
    assert any("/tools:" in image for image in ours)


@pytest.mark.parametrize("override", REQUIRED)
def test_what_an_override_needs_is_named(override: str, tmp_path: Path) -> None:
    for variable in REQUIRED[override]:
        given = needed(override, value=tmp_path)
        del given[variable]
        done = config(override, **given)
        assert done.returncode != 0
        assert variable in done.stderr
