"""deploy/backup.sh: what was stored comes back as it was, on a server that has nothing too."""

import subprocess
from pathlib import Path

import pytest

from mirage.errors import ClientError

from .conftest import DEPLOY, Stack, wait


def backup(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **stack.environment,
        "COMPOSE_FILE": ":".join(map(str, stack.files)),
        "COMPOSE_PROJECT_NAME": stack.project,
    }
    command = [str(DEPLOY / "backup.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


def test_a_restored_system_has_what_was_deleted_since(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "mirage.tar.gz"
    with stack.client() as client:
        found = client.search("sagittal T1 corpus callosum", k=1).results[0]
        records = client.collection().records
        done = backup(stack, "backup", str(file))
        assert done.returncode == 0, done.stderr
        wait(stack.settled, "the system after the backup")
        client.delete(found.id)
        with pytest.raises(ClientError):
            client.record(found.id)
        done = backup(stack, "restore", str(file))
        assert done.returncode == 0, done.stderr
        wait(stack.settled, "the system after the restoration")
        assert client.record(found.id).caption == found.caption
        assert client.collection().records == records
        assert client.image(found.id).data
        # A backup is never written over.
        assert backup(stack, "backup", str(file)).returncode != 0
        # Another server: neither containers nor volumes.
        stack.compose("down", "--volumes", "--timeout", "10")
        done = backup(stack, "restore", str(file))
        assert done.returncode == 0, done.stderr
        wait(stack.settled, "the system on another server")
        assert client.collection().records == records
        assert client.search("sagittal T1 corpus callosum", k=1).results[0].id == found.id


def test_a_file_that_is_no_backup_is_refused_before_anything_is_touched(stack: Stack, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.tar.gz"
    rubbish.write_text("rubbish")
    before = stack.container("retriever")["State"]["StartedAt"]
    assert backup(stack, "restore", str(rubbish)).returncode != 0
    assert backup(stack, "restore", str(tmp_path / "absent.tar.gz")).returncode != 0
    assert backup(stack, "erase", str(rubbish)).returncode == 2
    assert backup(stack).returncode == 2
    assert stack.container("retriever")["State"]["StartedAt"] == before
