"""The status of a MIRAGE on this machine: its processes, their health and memory, its atlas and model."""

from dataclasses import dataclass
from pathlib import Path

from mirage.client import Client
from mirage.errors import ClientError
from mirage_api.system import Collection, Model
from mirage_launcher import damage, lock, processes
from mirage_launcher.folders import Folders
from mirage_launcher.health import health
from mirage_launcher.launch import OTHER_MODEL
from mirage_launcher.state import Running, ServiceState, State


@dataclass(frozen=True)
class ProcessStatus:
    """A process and its children. `health` is "serving", "not serving", "running" (the launcher) or "down"."""

    name: str
    health: str
    pid: int | None
    memory_bytes: int
    address: str = ""
    restarts: int = 0
    log: str = ""


@dataclass(frozen=True)
class Status:
    """The whole. `phase` is the launcher's, "down" without one, "abandoned" where services outlived it."""

    phase: str
    data: str
    url: str = ""
    grpc: str = ""
    processes: tuple[ProcessStatus, ...] = ()
    records: int | None = None
    indexed: int | None = None
    model: str = ""
    fingerprint: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """True if the launcher and every service are healthy."""
        return self.phase in ("ready", "indexing") and all(
            one.health in ("serving", "running") for one in self.processes
        )

    @property
    def memory_bytes(self) -> int:
        """Of all processes together, shared pages counted once (PSS) on Linux."""
        return sum(one.memory_bytes for one in self.processes)


def read_status(data: Path | None) -> Status:
    """Looks at the processes of the data directory and asks the gateway, if there is one."""
    folders = Folders.at(data)
    state = State.read(folders.state)
    supervised = lock.is_held(folders.lock)
    services = [_service(one) for one in state.services] if state else []
    damaged = damage.remarks(folders)
    if state is None or not (supervised or any(one.pid for one in services)):
        return Status("down", str(folders.root), remarks=damaged)
    collection, model, remarks = _ask(state.url)
    noted = [remark for remark in state.remarks if remark != OTHER_MODEL]
    remarks = (*remarks, *noted, *(remark for remark in damaged if not any(remark in each for each in noted)))
    if not supervised:
        remarks = (*remarks, "the launcher is gone: `mirage up` takes over, `mirage down` stops the services")
    if collection and model and collection.records and collection.fingerprint != model.fingerprint:
        remarks = (*remarks, OTHER_MODEL)
    if state.vectors and any(one.name == "retriever" and one.health != "serving" for one in services):
        remarks = (*remarks, f"the retriever needs the Qdrant server at {state.vectors}; its log says why it has none")
    if state.index and state.index.problem:
        remarks = (*remarks, f"the demonstration atlas is incomplete: {state.index.problem}")
    if state.index and state.index.missing:
        remarks = (*remarks, state.index.missing)
    return Status(
        phase=state.phase if supervised else "abandoned",
        data=str(folders.root),
        url=state.url,
        grpc=state.grpc,
        processes=(*([_launcher(state.launcher)] if supervised else []), *services),
        records=collection.records if collection else None,
        indexed=collection.indexed if collection else None,
        model=f"{model.name} ({model.engine}, {model.precision})" if model else "",
        fingerprint=model.fingerprint if model else "",
        remarks=remarks,
    )


def _service(state: ServiceState) -> ProcessStatus:
    process = processes.alive(state.process)
    if process is None:
        return ProcessStatus(state.name, "down", None, 0, state.address, state.restarts, state.log)
    memory = processes.memory_bytes(processes.with_children(process))
    return ProcessStatus(
        state.name, health(state.name, state.address), process.pid, memory, state.address, state.restarts, state.log
    )


def _launcher(launcher: Running) -> ProcessStatus:
    process = processes.alive(launcher)
    memory = processes.memory_bytes([process]) if process else 0
    return ProcessStatus("launcher", "running" if process else "down", process.pid if process else None, memory)


def _ask(url: str) -> tuple[Collection | None, Model | None, tuple[str, ...]]:
    try:
        with Client(url, timeout_s=3.0) as client:
            model = next((one for one in client.models() if one.task == "encode"), None)
            return client.collection(), model, ()
    except ClientError as error:
        return None, None, (f"the gateway tells nothing of the atlas: {error} [{error.code}]",)
