"""The place of records and vectors: in the data directory, or on the operator's Qdrant server."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mirage_core.addresses import read_ports, read_urls
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

ENGINE = "MIRAGE_RETRIEVER_ENGINE"
URL = "MIRAGE_RETRIEVER_QDRANT_URL"
PORT = "MIRAGE_RETRIEVER_QDRANT_GRPC_PORT"
KEY = "MIRAGE_RETRIEVER_QDRANT_KEY"
# A server that was started at the same moment is waited for, for 15 s; a busy machine may add to that.
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Vectors:
    """`urls` are the server's addresses, empty for the data directory; `environment` is for the retriever."""

    urls: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {ENGINE: "edge"}, repr=False)

    @property
    def server(self) -> str:
        """Returns the addresses as they are given to `mirage up`; empty without a server."""
        return ",".join(self.urls)


def choose(url: str = "", key_file: Path | None = None) -> Vectors:
    """Returns the server that `--qdrant` and `--qdrant-key-file` name, or else the retriever's variables.

    Raises LaunchError for contradictions and for files that cannot be read.
    """
    engine = os.environ.get(ENGINE, "").strip()
    if engine not in ("", "edge", "qdrant"):
        raise LaunchError(f"{ENGINE} is {engine!r}: it can be edge or qdrant")
    if url and engine == "edge":
        raise LaunchError(
            f"{ENGINE}=edge and --qdrant contradict each other: unset the variable or leave out the option"
        )
    if not url and engine != "qdrant":
        if key_file is not None:
            raise LaunchError("--qdrant-key-file goes with --qdrant")
        return Vectors()
    try:
        urls = read_urls(url or os.environ.get(URL, "") or "http://127.0.0.1:6333")
        ports = read_ports(os.environ.get(PORT, ""), urls)
    except ValueError as error:
        raise LaunchError(str(error)) from error
    environment = {ENGINE: "qdrant", URL: ",".join(urls)}
    if key_file is not None:
        _check_key(key_file)
        environment |= {KEY: "", f"{KEY}_FILE": str(key_file.expanduser().resolve())}
    return Vectors(tuple(urls), tuple(ports), environment)


def require_answer(vectors: Vectors) -> None:
    """Raises LaunchError if no address has a server that can be used, with the reason for each."""
    if not vectors.urls:
        return
    # In a process of its own: the client's library would stay in memory for as long as the launcher.
    try:
        done = subprocess.run(
            (sys.executable, "-P", "-m", "mirage_retriever.qdrant_connection"),
            env={**os.environ, **vectors.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LaunchError(f"the Qdrant server at {vectors.server} cannot be asked in time") from error
    if done.returncode == 0:
        return
    if done.returncode == 2:
        raise LaunchError(f"a setting of the retriever is wrong: {done.stdout.strip()}")
    try:
        reasons = ", ".join(f"{address} ({reason})" for address, reason in json.loads(done.stdout).items())
    except (ValueError, AttributeError) as error:
        raise LaunchError(f"the Qdrant server at {vectors.server} cannot be asked") from error
    raise LaunchError(f"no Qdrant server can be used at {reasons}")


def note(folders: Folders, vectors: Vectors) -> tuple[str, ...]:
    """Records the place of the data directory's records; returns remarks on records that are left elsewhere."""
    before = noted(folders)
    remarks = []
    if vectors.server:
        remarks.append(f"records and vectors are kept on the Qdrant server at {vectors.server}")
        if before != vectors.server and any(
            (folders.atlas / name).exists() for name in ("edge/collection.json", "ACTIVE")
        ):
            remarks.append(f"the records in {folders.atlas} itself are not shown: start without --qdrant to see them")
    elif before:
        remarks.append(
            f"the last start kept its records on the Qdrant server at {before}: --qdrant {before} shows them"
        )
    with suppress(OSError):
        # A full disk must not keep anything from starting.
        if vectors.server:
            folders.vectors_note.write_text(json.dumps({"qdrant": vectors.server}), encoding="utf-8")
        else:
            folders.vectors_note.unlink(missing_ok=True)
    return tuple(remarks)


def noted(folders: Folders) -> str:
    """Returns the Qdrant server that the last start used; or empty."""
    try:
        return str(json.loads(folders.vectors_note.read_text(encoding="utf-8"))["qdrant"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _check_key(file: Path) -> None:
    try:
        key = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise LaunchError(f"the key file {file} cannot be read: {reason}") from error
    if not key or not key.isascii() or not key.isprintable():
        raise LaunchError(f"the key file {file} holds no key: one line of printable characters is expected")
