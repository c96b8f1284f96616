"""The scripts of the containers, run on this machine: keys, pinned images, the start of Redis."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support.paths import program as installed

from .deploy_files import DEPLOY, MAIN, load


def run_script(script: Path, *arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A script with the programs in `folder` before all others."""
    return subprocess.run(
        ["sh", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": f"{folder}:{os.environ['PATH']}", **environment},
    )


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_keys_are_made_once_for_their_group_alone(tmp_path: Path) -> None:
    script = tmp_path / "make.sh"
    script.write_text((DEPLOY / "keys/make.sh").read_text().replace("/keys/", f"{tmp_path}/keys/"))
    for name in ("queue", "vectors"):
        (tmp_path / "keys" / name).mkdir(parents=True)
    program(tmp_path, "python", f'exec {sys.executable} "$@"')
    files = [tmp_path / "keys" / name / "key" for name in ("queue", "vectors")]
    assert run_script(script, folder=tmp_path).returncode == 0
    made = [path.read_text() for path in files]
    assert all(re.fullmatch(r"[\w-]{43}", key) for key in made)
    assert made[0] != made[1]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    # An empty one is what a full disk leaves.
    files[1].write_text("")
    assert run_script(script, folder=tmp_path).returncode == 0
    assert files[0].read_text() == made[0]
    assert re.fullmatch(r"[\w-]{43}", files[1].read_text())


CONFIG = {
    "name": "mirage",
    "services": {
        "gateway": {"build": {"args": {"BASE": "python:3.11"}}, "image": "localhost/mirage/gateway:0.1.0"},
        "redis": {"image": "redis:7-bookworm"},
        "qdrant": {"image": "registry.example:5000/qdrant/qdrant:v1@sha256:" + "0" * 64},
        "worker": {"image": "localhost/mirage/gateway:0.1.0"},
    },
}


def test_images_are_pinned_by_the_digest_that_their_tag_has_now(tmp_path: Path) -> None:
    """With a stand-in for the docker command: no registry is reached here."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG, indent=2))
    program(
        tmp_path,
        "docker",
        f"""case "$*" in
  "compose --profile * config --format json") cat {tmp_path}/config.json ;;
  "buildx imagetools inspect --format {{{{.Manifest.Digest}}}} "*) printf 'sha256:'; printf %s "$6" | sha256sum | cut -c 1-64 ;;
  *) echo "$*" >&2; exit 1 ;;
esac""",
    )
    file = tmp_path / "pinned.yml"
    done = run_script(DEPLOY / "pin-images.sh", str(file), folder=tmp_path)
    assert done.returncode == 0, done.stderr

    def pinned(image: str) -> str:
        return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"

    assert load(file)["services"] == {
        "redis": {"image": pinned("redis:7-bookworm")},
        "qdrant": {"image": pinned("registry.example:5000/qdrant/qdrant:v1")},
    }
    assert f"MIRAGE_BASE_IMAGE={pinned('python:3.11')}" in done.stdout
    # A registry that is not reached leaves the override as it was.
    before = file.read_text()
    program(tmp_path, "docker", f'[ "$1" = compose ] && exec cat {tmp_path}/config.json; exit 1')
    assert run_script(DEPLOY / "pin-images.sh", str(file), folder=tmp_path).returncode != 0
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "docker", "pinned.yml"]


@contextmanager
def redis_container(data: Path) -> Iterator["redis.Redis"]:
    """What the container of Redis runs, on this machine's Redis: asked without a password."""
    for needed in ("redis-server", "redis-check-aof"):
        installed(needed)
    data.mkdir(exist_ok=True)
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        (Path(short) / "key").write_text("a-password-of-the-test")
        script = (DEPLOY / "redis/start.sh").read_text()
        (Path(short) / "start.sh").write_text(
            script.replace("=/data", f"={data}").replace("/tmp/redis.conf", f"{short}/redis.conf")
        )
        command = [str(part) for part in MAIN["redis"]["command"]]
        at = command.index("--maxmemory")
        command[at + 1] = "112mb"
        command[command.index("--dir") + 1] = str(data)
        socket = f"{short}/redis.sock"
        line = ["sh", f"{short}/start.sh", f"{short}/key", *command, "--port", "0", "--unixsocket", socket]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            give_up = time.monotonic() + 60
            while not Path(socket).exists():
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < give_up
                time.sleep(0.01)
            yield redis.Redis.from_url(f"unix://{socket}")
        finally:
            process.terminate()
            process.wait()


def known(client: "redis.Redis") -> "redis.Redis":
    path = client.connection_pool.connection_kwargs["path"]
    return redis.Redis.from_url(f"unix://{path}", password="a-password-of-the-test")


def ready(client: "redis.Redis") -> "redis.Redis":
    give_up = time.monotonic() + 60
    while True:
        try:
            client.ping()
        except redis.BusyLoadingError:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        else:
            return client


def test_redis_asks_for_the_password_and_has_no_command_that_changes_it(tmp_path: Path) -> None:
    with redis_container(tmp_path / "data") as stranger:
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        client = ready(known(stranger))
        assert client.set("job", "waits")
        for command in (
            "CONFIG GET dir",
            "MODULE LIST",
            "REPLICAOF NO ONE",
            "DEBUG JMAP",
            "ACL LIST",
            "SHUTDOWN",
            "SAVE",
        ):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(*command.split())
    with redis_container(tmp_path / "data") as stranger:
        assert ready(known(stranger)).get("job") == b"waits"
    # A volume of before the passwords is one as well: nothing of them is in it.
    assert "a-password-of-the-test" not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "data").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("damage", "kept"),
    [(b"*3\r\n$3\r\nSET\r\n$3\r\njo", b"waits"), (b"rubbish", b"waits"), (bytes(100), b"waits"), (None, None)],
    ids=["cut off", "rubbish", "zeros", "no list"],
)
def test_a_damaged_file_of_redis_is_put_aside(damage: bytes | None, kept: bytes | None, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with redis_container(data) as stranger:
        ready(known(stranger)).set("job", "waits")
    (file,) = (data / "appendonlydir").glob("*.incr.aof")
    if damage is None:
        next((data / "appendonlydir").glob("*.manifest")).write_bytes(b"rubbish")
    else:
        file.write_bytes(file.read_bytes() + damage)
    before = file.read_bytes()
    with redis_container(data) as stranger:
        client = ready(known(stranger))
        assert client.get("job") == kept
        assert client.set("job", "again")
    (aside,) = data.glob("appendonlydir.damaged-*")
    assert (aside / file.name).read_bytes() == before
    with redis_container(data) as stranger:
        assert ready(known(stranger)).get("job") == b"again"
    assert len(list(data.glob("appendonlydir.damaged-*"))) == 1
