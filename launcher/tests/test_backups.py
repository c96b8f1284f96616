"""Backups and restorations of a data directory: what comes back, what is refused, and what a death in between leaves."""

import gzip
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mirage.cli.entry import run
from mirage_launcher import lock
from mirage_launcher.backups import manifest
from mirage_launcher.backups.parts import STAGING, of_machine
from mirage_launcher.backups.replacement import settle
from mirage_launcher.folders import Folders
from mirage_launcher.queue_files.queue_data import QueueData
from mirage_launcher.queue_files.resp import encode

FINGERPRINT = "ab" * 32
SPEC = {
    **{"prompt": "axial brain", "negative_prompt": "", "steps": 4, "guidance_scale": 1.5, "seed": 7, "width": 64},
    **{"height": 64, "images": 1, "priority": "batch", "deadline_s": 60.0},
}
JOB: dict[str, Any] = {
    **{"id": "job1", "sequence": 1, "client": "anna", "request_id": "r", "digest": "0" * 64, "priority": "batch"},
    **{"state": "PENDING", "step": 0, "steps": 4, "count": 1, "attempts": 0, "fence": 0, "revision": 1, "ttl": 60.0},
    **{"create_time": 1.5, "start_time": 0.0, "end_time": 0.0, "deadline_time": 9.0, "expire_time": 69.0},
    **{"spec": SPEC, "workload": "64x64/1", "prompt_tokens": 3, "prompt_truncated": False, "fingerprint": FINGERPRINT},
}


def job_lines(*jobs: dict[str, Any]) -> bytes:
    """The queue's file of a backup."""
    header = {
        **{"kind": "mirage-jobs", "version": 1, "jobs": len(jobs), "sequence": len(jobs), "outcomes": {}, "times": {}},
        "queue": {"batch": [{"client": "anna", "jobs": [job["id"] for job in jobs]}]},
    }
    return b"".join(json.dumps(each).encode() + b"\n" for each in (header, *jobs))


def queue_file(*jobs: dict[str, Any]) -> bytes:
    """The queue's file as it is stored."""
    return b"".join(QueueData.from_lines(io.BytesIO(job_lines(*jobs))).commands())


OLD = {"atlas/flags.jsonl": b"old flags", "atlas/images/ff/ff": b"old image", "images/cc/cc.png": b"old synthetic"}
CONTENT = {
    "atlas/edge/collection.json": json.dumps({"collection": {"name": "atlas", "fingerprint": FINGERPRINT}}).encode(),
    "atlas/edge/shards/0/segments/" + "a-name-longer-than-a-tar-header-holds-" * 5 + "/vectors": b"\1" * 1000,
    "atlas/edge/mostly-nothing": b"start" + bytes(3_000_000) + b"end" + bytes(500_000),
    "atlas/clean/images/0a/0a1b": b"an image",
    "atlas/flags.jsonl": b"",
    "queue/appendonly.aof": queue_file(JOB),
    "demo.json": b'{"finished": true}',
}

Result = tuple[int, dict[str, Any]]
Command = Callable[..., Result]


@pytest.fixture
def mirage(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process: exit code and JSON."""

    def call(*arguments: str | Path) -> Result:
        code = run([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def store(root: Path, content: dict[str, bytes]) -> Path:
    """A data directory with these files."""
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def stored(root: Path) -> dict[str, bytes]:
    """All files but what launchers note down."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(("run/", "logs/"))}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = store(tmp_path / "data", CONTENT)
    (made / "atlas" / "empty").mkdir()
    return made


@pytest.fixture
def backup(data: Path, tmp_path: Path, mirage: Command) -> Path:
    code, said = mirage("backup", tmp_path / "backup.tar.gz", "--data", data)
    assert code == 0, said
    return tmp_path / "backup.tar.gz"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A data directory with something else in it."""
    return store(tmp_path / "other", OLD)


def test_what_was_stored_comes_back_in_an_empty_place(backup: Path, tmp_path: Path, mirage: Command) -> None:
    code, said = mirage("restore", backup, "--data", tmp_path / "new")
    assert (code, said["restored"], said["files"]) == (0, True, len(CONTENT))
    assert said["collections"] == {"atlas": FINGERPRINT}
    assert said["counts"] == {"atlas": 5, "queue": 1, "demo": 1, "atlas images": 1}
    assert stored(tmp_path / "new") == CONTENT
    assert (tmp_path / "new" / "atlas" / "empty").is_dir()
    sparse = (tmp_path / "new" / "atlas" / "edge" / "mostly-nothing").stat()
    assert sparse.st_blocks * 512 < sparse.st_size, "long runs of zeros are holes again"


def test_only_its_owner_can_read_a_backup_and_what_is_restored(backup: Path, tmp_path: Path, mirage: Command) -> None:
    mirage("restore", backup, "--data", tmp_path / "new")
    for path in (backup, *(tmp_path / "new").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_backup_is_told_by_its_list_which_other_programs_read_too(backup: Path) -> None:
    with tarfile.open(backup) as tar:
        first = tar.next()
        assert first is not None
        assert first.name == "mirage-backup.json"
        file = tar.extractfile(first)
        assert file is not None
        text = json.load(file)
    assert text["format"] == 3
    assert text["files"]["atlas/clean/images/0a/0a1b"] == [8, hashlib.sha256(b"an image").hexdigest()]


def test_what_is_stored_is_replaced_only_where_that_is_asked_for(backup: Path, other: Path, mirage: Command) -> None:
    code, problem = mirage("restore", backup, "--data", other)
    assert (code, problem["code"]) == (1, "DATA_EXISTS")
    assert "--replace" in problem["detail"]
    assert stored(other) == OLD
    assert mirage("restore", backup, "--data", other, "--replace")[0] == 0
    assert stored(other) == CONTENT, "what the backup does not hold is gone"


def test_a_file_is_written_over_only_where_that_is_asked_for(backup: Path, data: Path, mirage: Command) -> None:
    before = backup.read_bytes()
    code, problem = mirage("backup", backup, "--data", data)
    assert (code, problem["code"]) == (1, "INPUT_INVALID")
    assert backup.read_bytes() == before
    assert mirage("backup", backup, "--data", data, "--force")[0] == 0


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_nothing_happens_while_another_holds_the_data(
    verb: str, backup: Path, data: Path, tmp_path: Path, mirage: Command
) -> None:
    folders = Folders.at(data)
    file = tmp_path / "another.tar.gz" if verb == "backup" else backup
    with lock.held(folders.lock):
        code, problem = mirage(verb, file, "--data", data)
        assert (code, problem["code"]) == (1, "STILL_UP")
        assert "mirage down" in problem["detail"]
    (data / "atlas" / "collections").mkdir()
    with lock.held(data / "atlas" / "collections" / "lock"):
        # A retriever that somebody started by hand.
        assert mirage(verb, file, "--data", data)[1]["code"] == "STILL_UP"
    assert not (tmp_path / "another.tar.gz").exists()


def test_what_cannot_be_backed_up_is_said(data: Path, tmp_path: Path, mirage: Command) -> None:
    file = tmp_path / "backup.tar.gz"
    assert mirage("backup", file, "--data", tmp_path / "nowhere")[1]["code"] == "BACKUP_FAILED"
    assert mirage("backup", tmp_path / "no" / "folder.tar.gz", "--data", data)[1]["code"] == "INPUT_INVALID"
    assert mirage("backup", data / "atlas" / "backup.tar.gz", "--data", data)[1]["code"] == "INPUT_INVALID"
    (data / "atlas" / "link").symlink_to("/etc/passwd")
    code, problem = mirage("backup", file, "--data", data)
    assert (code, problem["code"]) == (1, "BACKUP_FAILED")
    assert str(data / "atlas" / "link") in problem["detail"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("backup")]


def test_a_socket_that_was_left_is_passed_over(
    tmp_path: Path, mirage: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = store(tmp_path / "data", CONTENT)
    monkeypatch.chdir(data / "queue")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("redis.sock")
    code, said = mirage("backup", tmp_path / "backup.tar.gz", "--data", data)
    assert (code, said["files"]) == (0, len(CONTENT))


def repack(members: dict[str, Any], *, file: Path) -> Path:
    """A gzipped tar of these files; what is no bytes is a tar header."""
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file


def listing(content: dict[str, bytes], **other: Any) -> bytes:
    """A list of files as a backup begins with."""
    entries = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in content.items()}
    fields = {"format": 2, "mirage": "0.1.0", "created": "", "collections": {}, "folders": [], **other}
    return json.dumps({"parts": ["atlas", "queue", "images", "demo"], "files": entries, **fields}).encode()


def linked(kind: bytes, name: str = "atlas/a") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, "/etc/passwd"
    return header


def queued(content: dict[str, bytes], **other: Any) -> dict[str, Any]:
    return {manifest.NAME: listing(content, **other), **content}


ONE = {"atlas/a": b"one"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another hash": ({manifest.NAME: listing(ONE), "atlas/a": b"two"}, "hash"),
    "another length": ({manifest.NAME: listing(ONE), "atlas/a": b"one and more"}, "hash"),
    "a file missing": ({manifest.NAME: listing({**ONE, "atlas/b": b""}), **ONE}, "1 of its files are missing"),
    "a file too much": ({manifest.NAME: listing(ONE), **ONE, "atlas/b": b""}, "does not name"),
    "above": ({manifest.NAME: listing({"atlas/../../a": b""})}, "no backup has"),
    "absolute": ({manifest.NAME: listing({"/atlas/a": b""})}, "no backup has"),
    "absolute below": ({manifest.NAME: listing({"atlas//etc/passwd": b""})}, "no backup has"),
    "in no part": ({manifest.NAME: listing({"run/lock": b""})}, "no backup has"),
    "a part itself": ({manifest.NAME: listing({"atlas": b""})}, "no backup has"),
    "in the staging": ({manifest.NAME: listing({f"atlas/{STAGING}/COMMITTED": b""})}, "no backup has"),
    "control characters": ({manifest.NAME: listing({"atlas/a\x1b[2J": b""})}, "no backup has"),
    "a folder above": ({manifest.NAME: listing({}, folders=["atlas/../../a"])}, "no backup has"),
    "a file below a file": ({manifest.NAME: listing({**ONE, "atlas/a/b": b""})}, "below a file"),
    "a symbolic link": ({manifest.NAME: listing(ONE), "atlas/a": linked(tarfile.SYMTYPE)}, "not a plain file"),
    "a hard link": ({manifest.NAME: listing(ONE), "atlas/a": linked(tarfile.LNKTYPE)}, "not a plain file"),
    "a device": ({manifest.NAME: listing(ONE), "atlas/a": linked(tarfile.CHRTYPE)}, "not a plain file"),
    "a folder": ({manifest.NAME: listing(ONE), "atlas/a": linked(tarfile.DIRTYPE)}, "not a plain file"),
    "a name that no file system takes": ({manifest.NAME: listing({"atlas/" + "a" * 256: b""})}, "no backup has"),
    "a file and a folder": ({manifest.NAME: listing(ONE, folders=["atlas/a"]), **ONE}, "a file and a folder"),
    "another part": ({manifest.NAME: listing({"run/lock": b""}, parts=["run"])}, "part that no backup has"),
    "the launcher's own": ({manifest.NAME: listing({"demo/run/lock": b""})}, "no backup has"),
    "a format that is none": ({manifest.NAME: listing(ONE, format="2"), **ONE}, "cannot be read"),
    "files of a Redis": (
        {manifest.NAME: listing({"queue/appendonly.aof": b""})},
        "file of the queue that no backup has",
    ),
    "a folder of a Redis": ({manifest.NAME: listing({}, folders=["queue/appendonlydir"])}, "file of the queue"),
    "jobs that are none": (queued({"queue/jobs.jsonl": job_lines({**JOB, "state": "ROOT"})}), "in 'state'"),
    "commands for jobs": (
        queued({"queue/jobs.jsonl": encode("CONFIG", "SET", "port", "1")}),
        "its jobs cannot be used",
    ),
    "no list": (ONE, "no backup of MIRAGE"),
    "a list that is none": ({manifest.NAME: b"[" * 100_000}, "cannot be read"),
    "a list of other things": ({manifest.NAME: listing({}, files={"atlas/a": [-1, ""]})}, "cannot be read"),
    "an empty archive": ({}, "no backup of MIRAGE"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_no_backup_is_changes_nothing(kind: str, other: Path, tmp_path: Path, mirage: Command) -> None:
    members, words = BAD[kind]
    file = repack(members, file=tmp_path / "bad.tar.gz")
    for command in (("restore", file, "--check"), ("restore", file, "--data", other, "--replace")):
        code, problem = mirage(*command)
        assert (code, problem["code"]) == (1, "BACKUP_INVALID"), problem
        assert words in problem["detail"]
        assert str(file) in problem["detail"]
    assert stored(other) == OLD


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_backup_that_is_cut_off_changes_nothing(share: float, backup: Path, other: Path, mirage: Command) -> None:
    whole = backup.read_bytes()
    backup.write_bytes(whole[: int(share * len(whole))])
    code, problem = mirage("restore", backup, "--data", other, "--replace")
    assert (code, problem["code"]) == (1, "BACKUP_INVALID")
    assert stored(other) == OLD


def test_a_flipped_bit_is_noticed_wherever_it_matters(other: Path, tmp_path: Path, mirage: Command) -> None:
    backup = tmp_path / "backup.tar.gz"
    noise = {f"atlas/images/{number}": Random(number).randbytes(1000) for number in range(100)}
    mirage("backup", backup, "--data", store(tmp_path / "noise", noise))
    whole = backup.read_bytes()
    with gzip.open(backup) as file:
        content = file.read()
    refused = 0
    # The first ten bytes are gzip's own header, which says nothing of the content.
    for place in range(10, len(whole), len(whole) // 40):
        backup.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        code, said = mirage("restore", backup, "--check")
        if code:
            assert said["code"] == "BACKUP_INVALID", place
            assert mirage("restore", backup, "--data", other, "--replace")[1] == said
            refused += 1
        else:
            # A run of equal bytes can be packed in many ways.
            assert gzip.decompress(backup.read_bytes()) == content, place
    assert refused > 35
    assert stored(other) == OLD


def test_other_files_are_no_backups(other: Path, tmp_path: Path, mirage: Command) -> None:
    text, unpacked = tmp_path / "text", tmp_path / "text.gz"
    text.write_text("rubbish")
    unpacked.write_bytes(gzip.compress(b"rubbish" * 1000))
    for file in (text, unpacked, tmp_path / "absent", tmp_path):
        code, problem = mirage("restore", file, "--data", other, "--replace")
        assert (code, problem["code"]) == (1, "BACKUP_INVALID")
    assert stored(other) == OLD


def test_a_later_format_is_told_from_damage(other: Path, tmp_path: Path, mirage: Command) -> None:
    text = json.dumps({"format": 4, "mirage": "3.0.0", "something": "new"}).encode()
    file = repack({manifest.NAME: text}, file=tmp_path / "later.tar.gz")
    code, problem = mirage("restore", file, "--data", other, "--replace")
    assert (code, problem["code"]) == (1, "BACKUP_NEWER")
    assert "3.0.0" in problem["detail"]
    assert stored(other) == OLD


OLD_LIST = b"file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"


def old_queue(*commands: bytes, **other: bytes) -> dict[str, Any]:
    """A backup of format 1, with the files of the queue's Redis in it."""
    content = {
        "appendonlydir/appendonly.aof.manifest": OLD_LIST,
        "appendonlydir/appendonly.aof.1.base.aof": b"",
        "appendonlydir/appendonly.aof.1.incr.aof": b"".join(commands),
        **other,
    }
    return queued({**ONE, **{f"queue/{name}": data for name, data in content.items()}}, format=1)


def test_the_jobs_of_an_older_backup_are_read_and_nothing_else(tmp_path: Path, mirage: Command) -> None:
    members = old_queue(
        queue_file(JOB), encode("SET", "theirs", "x"), **{"evil.so": b"\x7fELF", "redis.conf": b"port 1"}
    )
    file = repack(members, file=tmp_path / "old.tar.gz")
    code, checked = mirage("restore", file, "--check")
    assert code == 0, checked
    code, said = mirage("restore", file, "--data", tmp_path / "new")
    assert code == 0, said
    assert said["remarks"] == checked["remarks"]
    assert said["remarks"] == [
        "left out: 2 files of the queue that are not read",
        "left out: 1 keys that MIRAGE does not write",
    ]
    assert stored(tmp_path / "new") == {**ONE, "queue/appendonly.aof": queue_file(JOB)}


@pytest.mark.parametrize(
    "text",
    ["CONFIG SET port 1", "MODULE LOAD ./evil.so", "REPLICAOF 127.0.0.1 1", "EVAL x 0", "SHUTDOWN NOSAVE", "SAVE"],
)
def test_an_older_backup_with_other_commands_is_refused(
    text: str, other: Path, tmp_path: Path, mirage: Command
) -> None:
    file = repack(old_queue(queue_file(JOB), encode(*text.split())), file=tmp_path / "old.tar.gz")
    for command in (("restore", file, "--check"), ("restore", file, "--data", other, "--replace")):
        code, problem = mirage(*command)
        assert (code, problem["code"]) == (1, "BACKUP_INVALID")
        assert text.split()[0] in problem["detail"]
    assert stored(other) == OLD


def test_an_older_backup_whose_queue_is_damaged_is_refused(other: Path, tmp_path: Path, mirage: Command) -> None:
    whole = old_queue()
    lost = {name: data for name, data in whole.items() if not name.endswith(".manifest")}
    lost[manifest.NAME] = listing({name: data for name, data in lost.items() if name != manifest.NAME}, format=1)
    for number, members in enumerate((old_queue(b"rubbish" * 10), lost)):
        file = repack(members, file=tmp_path / f"{number}.tar.gz")
        assert mirage("restore", file, "--check")[1]["code"] == "BACKUP_INVALID"
        assert mirage("restore", file, "--data", other, "--replace")[1]["code"] == "BACKUP_INVALID"
    assert stored(other) == OLD


def test_fields_of_jobs_that_nobody_knows_are_left_out_and_said(tmp_path: Path, mirage: Command) -> None:
    file = repack(queued({"queue/jobs.jsonl": job_lines({**JOB, "eval": "return 1"})}), file=tmp_path / "b.tar.gz")
    code, said = mirage("restore", file, "--data", tmp_path / "new")
    assert (code, said["remarks"]) == (0, ["left out: 1 fields named 'eval'"])
    assert stored(tmp_path / "new") == {"queue/appendonly.aof": queue_file(JOB)}


def test_a_queue_that_is_damaged_is_backed_up_as_far_as_it_can_be_read(tmp_path: Path, mirage: Command) -> None:
    data = store(tmp_path / "data", {**ONE, "queue/appendonly.aof": queue_file(JOB) + b"rubbish" * 10})
    code, said = mirage("backup", tmp_path / "b.tar.gz", "--data", data)
    assert code == 0
    assert "damaged" in said["remarks"][0]
    assert mirage("restore", tmp_path / "b.tar.gz", "--data", tmp_path / "new")[0] == 0
    assert stored(tmp_path / "new") == {**ONE, "queue/appendonly.aof": queue_file(JOB)}


def crammed(*arguments: str | Path) -> Result:
    """The command in a process that may write files of 100 kB: the kernel plays the full disk."""
    line = ["prlimit", "--fsize=100000", sys.executable, "-P", "-m", "mirage.cli", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_a_full_disk_loses_nothing(backup: Path, data: Path, other: Path, tmp_path: Path) -> None:
    code, problem = crammed("restore", backup, "--data", other, "--replace")
    assert (code, problem["code"]) == (1, "DISK_FULL")
    assert stored(other) == OLD
    (data / "atlas" / "noise").write_bytes(os.urandom(200_000))
    before = backup.read_bytes()
    code, problem = crammed("backup", backup, "--data", data, "--force")
    assert (code, problem["code"]) == (1, "DISK_FULL")
    assert backup.read_bytes() == before
    assert not backup.with_name(f"{backup.name}.part").exists()


# Restores again and again, each time in a process that kills itself at the next step of those that change names.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from mirage_launcher.backups.operations import Place, restore

backup, before, places = map(Path, sys.argv[1:])
for step in range(1, 1000):
    place = places / str(step)
    shutil.copytree(before, place)
    child = os.fork()
    if not child:
        left = step
        def count(event, arguments):
            global left
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        restore(Place(data=place), backup, replace=True, report=lambda *_: None)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_restoration_killed_at_any_step_leaves_the_old_or_the_new(
    backup: Path, other: Path, tmp_path: Path, mirage: Command
) -> None:
    places = tmp_path / "places"
    subprocess.run([sys.executable, "-P", "-c", KILLED, str(backup), str(other), str(places)], check=True, timeout=120)
    outcomes: list[bool] = []
    for step in range(1, len(list(places.iterdir())) + 1):
        place = places / str(step)
        # What the next `mirage up`, `backup` or `restore` begins with.
        settle(of_machine(Folders.at(place)))
        found = stored(place)
        assert found in (OLD, CONTENT), step
        outcomes.append(found == CONTENT)
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > outcomes.count(True) > 10, "it was killed on both sides of the moment that counts"


def volumes(root: Path, *names: str) -> Path:
    """Empty volumes as the tools' container has them."""
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_a_backup_goes_between_a_machine_and_containers(backup: Path, tmp_path: Path, mirage: Command) -> None:
    root = volumes(tmp_path / "volumes", "atlas", "queue", "jobs", "demo")
    assert mirage("restore", backup, "--volumes", root)[0] == 0
    assert stored(root) == {("demo/" if name == "demo.json" else "") + name: data for name, data in CONTENT.items()}
    back = tmp_path / "back.tar.gz"
    assert mirage("backup", back, "--volumes", root)[0] == 0
    assert mirage("restore", back, "--data", tmp_path / "new")[0] == 0
    assert stored(tmp_path / "new") == CONTENT


def test_files_in_volumes_get_their_volumes_owner(backup: Path, tmp_path: Path, mirage: Command) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    root = volumes(tmp_path / "volumes", "atlas", "queue", "jobs", "demo")
    os.chown(root / "atlas", 10001, 10001)
    os.chown(root / "queue", 999, 999)
    assert mirage("restore", backup, "--volumes", root)[0] == 0
    for name, owner in {"atlas": 10001, "queue": 999}.items():
        assert {path.stat().st_uid for path in (root / name).rglob("*")} == {owner}


def test_vectors_of_a_server_are_not_taken_for_the_retrievers_own(
    backup: Path, tmp_path: Path, mirage: Command
) -> None:
    server = volumes(tmp_path / "server", "atlas", "queue", "jobs", "vectors")
    code, problem = mirage("restore", backup, "--volumes", server)
    assert (code, problem["code"]) == (1, "BACKUP_FAILED")
    assert "docker-compose.embedded.yml" in problem["detail"]
    store(server, {"vectors/collections/a": b"vectors", "atlas/clean/images/a": b"image"})
    theirs = tmp_path / "server.tar.gz"
    assert mirage("backup", theirs, "--volumes", server)[0] == 0
    code, problem = mirage("restore", theirs, "--data", tmp_path / "new")
    assert (code, problem["code"]) == (1, "BACKUP_FAILED")
    assert "Qdrant server" in problem["detail"]
    assert mirage("restore", theirs, "--volumes", server, "--replace")[0] == 0
    assert stored(server) == {"vectors/collections/a": b"vectors", "atlas/clean/images/a": b"image"}


def test_volumes_that_are_not_there_are_said(tmp_path: Path, mirage: Command) -> None:
    (tmp_path / "jobs").mkdir()
    code, problem = mirage("backup", tmp_path / "backup.tar.gz", "--volumes", tmp_path)
    assert (code, problem["code"]) == (1, "BACKUP_FAILED")
    assert mirage("backup", tmp_path / "b.tar.gz", "--volumes", tmp_path, "--data", tmp_path)[0] == 2
    assert mirage("backup", "-")[0] == 2


def test_a_backup_goes_through_pipes(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "mirage.cli"]
    out = subprocess.run([*command, "backup", "-", "--data", str(data)], capture_output=True, check=True, timeout=60)
    assert out.stderr == b""
    new = tmp_path / "new"
    subprocess.run([*command, "restore", "-", "--data", str(new)], input=out.stdout, check=True, timeout=60)
    assert stored(new) == CONTENT


def test_a_place_where_nothing_may_be_written_is_said(backup: Path, tmp_path: Path, mirage: Command) -> None:
    (tmp_path / "file").touch()
    code, problem = mirage("restore", backup, "--data", tmp_path / "file" / "data")
    assert (code, problem["code"]) == (1, "LAUNCH_FAILED")
