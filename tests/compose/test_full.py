"""`full`: reference models fetched and built in containers, an atlas of one's own indexed, everything served.

The checkpoints are small ones with random weights in the reference models' files, keys and dtypes, from a hub on this host: what
is tried is the way, not what the models know. Only with MIRAGE_COMPOSE_FULL, because the builder's image takes gigabytes.
"""

import json
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage.jobs import JobOptions
from mirage_api.jobs import FINAL
from mirage_launcher import ports

from . import hub
from .conftest import DEPLOY, ROOT, START_S, Stack, docker, wait
from .test_images import SECRETS, history, images, inspect, shell

PRESETS = {"encoder": "medicat-roco", "llm": "dolly-v2-3b", "generator": "prompt2medimage"}
BUILDERS = ("models-encoder", "models-llm", "models-generator")
HUB = "hub:host-gateway"
RECORDS = 12
WRITERS = {
    "medicat-roco": ("encoders", "--config", "medicat-roco", "--size", "small"),
    "dolly-v2-3b": ("language", "--like", "dolly-v2-3b"),
    "prompt2medimage": ("diffusion", "--kind", "prompt2medimage"),
    "lora": ("diffusion", "--kind", "lora"),
}


@dataclass
class Full:
    """The system, the files that were fetched from the hub, and the ids of the atlas."""

    stack: Stack
    fetched: list[str]
    ids: list[str]


def repositories() -> dict[str, str]:
    """Where the presets have their weights from."""
    listed = tomllib.loads((ROOT / "models/mirage_models/presets.toml").read_text())
    found = {preset: str(listed[preset]["repository"]) for preset in PRESETS.values()}
    return {**found, "lora": str(listed["prompt2medimage"]["extras"]["lora"]["repository"])}


def write_atlas(folder: Path) -> list[str]:
    rng = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    ids = [f"plate-{number}" for number in range(RECORDS)]
    with (folder / "captions.jsonl").open("w") as lines:
        for number, id_ in enumerate(ids):
            coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
            coarse.resize((160, 160)).save(folder / f"images/{id_}.png")
            row = {"id": id_, "file": f"images/{id_}.png", "caption": f"Axial CT of the chest, plate {number}."}
            lines.write(json.dumps({**row, "licence": "CC0-1.0", "source": "drawn by a test"}) + "\n")
    return ids


def open_to_all(folder: Path) -> Path:
    """The containers' user is none of this host's."""
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def full(built: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    root = tmp_path_factory.mktemp("full")
    for parent in (root, *root.parents[:2]):
        parent.chmod(0o755)
    store = open_to_all(tmp_path_factory.mktemp("hub"))
    ids = write_atlas(root / "atlas")
    first = ports.any_free(taken=frozenset({built.http_port, built.grpc_port}))
    second = ports.any_free(taken=frozenset({built.http_port, built.grpc_port, first}))
    # The hub is found by a name, because engines do not agree on the host's address.
    named = root / "hub.yml"
    named.write_text("services:\n" + "".join(f'  {each}:\n    extra_hosts: ["{HUB}"]\n' for each in BUILDERS))
    with hub.serve(store) as (port, fetched):
        stack = replace(
            built,
            project=f"{built.project}-full",
            files=(built.files[0], DEPLOY / "docker-compose.full.yml", *built.files[1:], named),
            environment={
                **built.environment,
                **{name: value for name, value in os.environ.items() if name == "MIRAGE_TORCH_INDEX_URL"},
                "MIRAGE_HTTP_PORT": str(first),
                "MIRAGE_GRPC_PORT": str(second),
                "MIRAGE_ATLAS": str(root / "atlas"),
                "HF_ENDPOINT": f"http://hub:{port}",
            },
            http_port=first,
            grpc_port=second,
        )
        begun = time.monotonic()
        stack.compose("build", timeout_s=3_600)
        stack.figures["full"] = {"build_s": round(time.monotonic() - begun, 1)}
        builder = images(stack)["models-encoder"]
        for name, repository in repositories().items():
            kind, *options = WRITERS[name]
            docker(
                *("run", "--rm", "--volume", f"{store}:/hub", "--entrypoint", "python", builder),
                *("-m", f"mirage_models.{kind}.random_checkpoint", *options, "--out", f"/hub/{repository}"),
            )
        try:
            begun = time.monotonic()
            stack.compose("up", "-d", "--no-build", timeout_s=START_S)
            wait(stack.settled, "everything serves", within_s=START_S)
            wait(lambda: not stack.container("index")["State"]["Running"], "the atlas", within_s=START_S)
            stack.figures["full"]["first_start_s"] = round(time.monotonic() - begun, 1)
            yield Full(stack, fetched, ids)
        except BaseException:
            print(docker("ps", "--all", check=False))
            for builder in BUILDERS:
                print(stack.compose("logs", "--tail", "40", builder))
            raise
        finally:
            stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")


def test_each_model_was_fetched_once_and_built(full: Full) -> None:
    repositories_seen = {"/".join(path.split("/")[:2]) for path in full.fetched}
    assert repositories_seen == set(repositories().values())
    assert len(full.fetched) == len(set(full.fetched))
    for builder in BUILDERS:
        state = full.stack.container(builder)["State"]
        assert (state["Running"], state["ExitCode"]) == (False, 0)


def test_the_services_run_what_was_built(full: Full) -> None:
    with full.stack.client() as client:
        served = {(model.task, model.name) for model in client.models()}
    assert served == {("encode", "medicat-roco"), ("describe", "dolly-v2-3b"), ("generate", "prompt2medimage")}


def test_the_atlas_of_the_operator_is_searched_and_not_the_demonstration(full: Full) -> None:
    with full.stack.client() as client:
        assert client.collection().records == RECORDS
        found = client.search("chest", k=RECORDS).results
    assert sorted(each.id for each in found) == sorted(full.ids)
    assert full.stack.container("index")["State"]["ExitCode"] == 0


def test_it_explains_and_makes_an_image(full: Full) -> None:
    with full.stack.client(timeout_s=300) as client:
        assert client.description("axial CT of the chest").text
        job = client.create_job("axial CT of the chest", JobOptions(seed=1))
        done = wait(lambda: (now := client.job(job.id)).state in FINAL and now, "the job")
        assert done.state == "SUCCEEDED", done.problem
        assert client.job_image(job.id).data[:4] == b"\x89PNG"


def test_another_start_builds_fetches_and_indexes_nothing_again(full: Full) -> None:
    fetched = list(full.fetched)
    full.stack.compose("down", "--timeout", "30")
    begun = time.monotonic()
    full.stack.compose("up", "-d", "--no-build", timeout_s=START_S)
    wait(full.stack.settled, "everything serves again")
    full.stack.figures["full"]["second_start_s"] = round(time.monotonic() - begun, 1)
    wait(lambda: not full.stack.container("index")["State"]["Running"], "the atlas again")
    assert full.fetched == fetched
    for builder, preset in zip(BUILDERS, PRESETS.values(), strict=True):
        assert f"{preset}: there already" in full.stack.compose("logs", "--no-log-prefix", builder)
    with full.stack.client() as client:
        assert client.collection().records == RECORDS


def test_a_build_that_is_killed_goes_on_by_itself(full: Full) -> None:
    image = images(full.stack)["models-llm"]
    name = f"{full.stack.project}-killed"
    endpoint = full.stack.environment["HF_ENDPOINT"]
    docker(
        *(
            "run",
            "--detach",
            "--name",
            name,
            "--add-host",
            HUB,
            "--restart",
            "on-failure:5",
            "--read-only",
            "--tmpfs",
            "/tmp:mode=1777",
        ),
        *("--env", f"HF_ENDPOINT={endpoint}", "--volume", f"{name}:/bundles", "--volume", f"{name}-cache:/cache"),
        *("--entrypoint", "/opt/build-bundles.sh", image, "dolly-v2-3b"),
    )
    try:

        def building() -> bool:
            files = docker("exec", name, "find", "/bundles", "-path", "*.building*", "-type", "f", check=False)
            return bool(files)

        wait(building, "something of the bundle")
        os.kill(json.loads(docker("inspect", name))[0]["State"]["Pid"], 9)
        ended = wait(
            lambda: (now := json.loads(docker("inspect", name))[0])["State"]["Status"] == "exited" and now, "the build"
        )
        assert (ended["State"]["ExitCode"], ended["RestartCount"]) == (0, 1)
    finally:
        docker("rm", "--force", name)
        docker("volume", "rm", name, f"{name}-cache")


def test_the_builders_image_has_no_secret_and_is_nobody_s(full: Full) -> None:
    image = images(full.stack)["models-encoder"]
    described = inspect(image)
    full.stack.figures["full"]["builder_image_mb"] = round(described["Size"] / 1e6)
    assert described["Config"]["User"] == "10001:10001"
    assert not [
        entry for entry in described["Config"]["Env"] if re.search(r"(KEY|TOKEN|SECRET|PASSWORD|INDEX)\w*=.", entry)
    ]
    ours = history(image)[: -len(history("python:3.11-slim-bookworm"))]
    assert not re.search(r"https?://|_INDEX_URL=\S|token|password", "\n".join(ours), re.I)
    kinds = " -o ".join(f"-name '{kind}'" for kind in SECRETS)
    authorities = "! -name cacert.pem ! -name roots.pem"
    assert not shell(image, f"find /opt /root /home /src -xdev \\( {kinds} \\) {authorities} 2>/dev/null; true")
    find = (
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -writable ! -type l ! -type c -print 2>/dev/null; true"
    )
    assert not [path for path in shell(image, find) if not path.startswith(("/dev", "/tmp"))]
    owned = shell(image, "find / -xdev -path /proc -prune -o -user 10001 -print 2>/dev/null; true")
    assert set(owned) <= {"/bundles", "/cache"}


def test_the_builder_ends_with_a_clear_word_where_the_hub_does_not_know_the_model(full: Full) -> None:
    image = images(full.stack)["models-encoder"]
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--add-host", HUB, "--read-only", "--tmpfs", "/tmp:mode=1777"),
            *("--env", f"HF_ENDPOINT={full.stack.environment['HF_ENDPOINT']}", "--tmpfs", "/bundles:mode=1777"),
            *("--entrypoint", "/opt/build-bundles.sh", image, "biomedclip"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "[HUB_FAILED]" in done.stderr
    assert "Traceback" not in done.stderr
