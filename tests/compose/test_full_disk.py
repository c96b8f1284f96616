"""Volumes that run full: what does not fit is refused, what was acknowledged stays, and everything else goes on."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from mirage.client import Client
from mirage.errors import ApiError
from mirage.jobs import JobOptions
from mirage.uploads import Upload
from mirage_api.jobs import FINAL, Job
from mirage_launcher import ports

from .conftest import DEPLOY, START_S, Stack, wait

# The retriever leaves off while 256 MB are free, for its engine's own files.
ATLAS_MB, JOBS_KB = 400, 96
CROWDED = f"""services:
  retriever:
    volumes: !override ["cramped-atlas:/data"]
  generator:
    volumes: !override ["cramped-jobs:/data"]
  worker:
    volumes: !override ["cramped-jobs:/data"]
  demo:
    profiles: [absent]
volumes:
  cramped-atlas:
    driver_opts: {{type: tmpfs, device: tmpfs, o: "size={ATLAS_MB}m,uid=10001,gid=10001,mode=0755"}}
  cramped-jobs:
    driver_opts: {{type: tmpfs, device: tmpfs, o: "size={JOBS_KB}k,uid=10001,gid=10001,mode=0755"}}
"""


@pytest.fixture(scope="module")
def cramped(built: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A second system beside the first, with small volumes, an empty atlas, and vectors embedded."""
    override = tmp_path_factory.mktemp("cramped") / "cramped.yml"
    override.write_text(CROWDED)
    embedded = DEPLOY / "docker-compose.embedded.yml"
    files = built.files if embedded in built.files else (built.files[0], embedded, *built.files[1:])
    first = ports.any_free(taken=frozenset({built.http_port, built.grpc_port}))
    second = ports.any_free(taken=frozenset({built.http_port, built.grpc_port, first}))
    stack = replace(
        built,
        project=f"{built.project}-cramped",
        files=(*files, override),
        environment={**built.environment, "MIRAGE_HTTP_PORT": str(first), "MIRAGE_GRPC_PORT": str(second)},
        http_port=first,
        grpc_port=second,
    )
    try:
        stack.compose("up", "-d", "--no-build", timeout_s=START_S)
        wait(stack.settled, "the cramped system", within_s=START_S)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


def noise(number: int) -> bytes:
    """A picture of about 3 MB that nothing compresses."""
    pixels = np.random.default_rng(number).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def plate(id_: str, number: int) -> Upload:
    return Upload(id=id_, image=noise(number), caption=f"Noise {number}.", licence="CC0-1.0", source="drawn by a test")


def test_an_atlas_without_room_refuses_keeps_and_goes_on(cramped: Stack) -> None:
    kept: list[str] = []
    with cramped.client() as client:
        code = ""
        for number in itertools.count():
            upload = plate(f"large-{number}", number)
            try:
                (outcome,) = client.upsert([upload])
            except ApiError as error:
                code = error.code
                break
            if outcome.state == "rejected":
                code = outcome.error.code if outcome.error else ""
                break
            kept.append(outcome.id)
            assert number < ATLAS_MB
        assert code == "STORAGE_FULL"
        assert len(kept) > 5
        # Nothing that was acknowledged is lost, searches go on, and room that is made is used.
        assert [client.record(each).id for each in kept] == kept
        assert client.search("noise", k=1).results
        for each in kept[:5]:
            client.delete(each)
        again = plate("again", 999)
        wait(lambda: not refused(cramped, again), "a write into the room that was made")
        assert client.record("again").caption == "Noise 999."
    assert cramped.container("retriever")["RestartCount"] == 0


def refused(stack: Stack, upload: Upload) -> bool:
    with stack.client() as client:
        try:
            (outcome,) = client.upsert([upload])
        except ApiError:
            return True
        return outcome.state == "rejected"


def ended(client: Client, id_: str) -> Job | None:
    """The job once it has ended."""
    job = client.job(id_)
    return job if job.state in FINAL else None


def test_images_without_room_fail_their_job_and_not_the_worker(cramped: Stack) -> None:
    with cramped.client() as client:
        states = []
        for number in range(40):
            id_ = client.create_job(f"axial T1 brain, {number}", JobOptions(seed=number)).id
            done = wait(partial(ended, client, id_), "the job")
            states.append((done.state, done.problem.code if done.problem else ""))
            if done.state == "FAILED":
                break
        assert states[-1] == ("FAILED", "STORAGE_FULL")
        assert set(states[:-1]) == {("SUCCEEDED", "")}
        # What was made before is still there.
        made = client.jobs(limit=40, states=["SUCCEEDED"]).jobs
        assert len(made) == len(states) - 1
        assert client.job_image(made[0].id).data[:4] == b"\x89PNG"
    assert cramped.container("worker")["RestartCount"] == 0
