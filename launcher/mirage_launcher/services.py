"""The services of one machine: what each is started with. Addresses are loopback TCP."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirage_launcher import keys, ports, queue_server
from mirage_launcher.folders import Folders
from mirage_launcher.processes import MARK
from mirage_launcher.vectors import Vectors

HOST = "127.0.0.1"
ENCODER_PORT = 50051
RETRIEVER_PORT = 50052
LLM_PORT = 50053
GENERATOR_PORT = 50054
READER_PORT = 50055
_EMBEDDED = Vectors()


@dataclass(frozen=True)
class Service:
    """A process to run. `address` is where it listens; `environment` is added to the launcher's own.

    `mend` is called when it has ended by itself, with the end of its log; it returns a sentence on what it mended, or
    "".
    Without one that is `optional` the start goes on: searches do not need it.
    """

    name: str
    command: tuple[str, ...]
    address: str
    log: Path
    environment: Mapping[str, str] = field(repr=False)
    mend: Callable[[Sequence[str]], str] | None = field(default=None, repr=False, compare=False)
    optional: bool = False


@dataclass(frozen=True)
class Plan:
    """The plan of an `up`: services in the order of their dependencies (stopped in reverse), and their addresses."""

    services: tuple[Service, ...]
    url: str
    grpc: str
    models: str
    # Addresses of the Qdrant server that keeps the vectors; empty if the retriever does.
    vectors: str = ""
    # For the launcher's own calls; empty if the server does not ask for a key.
    key: str = field(default="", repr=False)
    remarks: tuple[str, ...] = ()


def plan(
    folders: Folders,
    *,
    bundle: Path,
    port: int,
    grpc_port: int,
    language: Path | None = None,
    generator: Path | None = None,
    vectors: Vectors = _EMBEDDED,
) -> Plan:
    """Plans the services on free ports; llm and generator only if there are bundles for them.

    Raises PortTakenError if the gateway's ports are not free, and LaunchError without a server for the generator's
    queue.
    """
    ports.require_free(port, option="--port")
    ports.require_free(grpc_port, option="--grpc-port")
    taken = {port, grpc_port}
    remarks: list[str] = []
    chosen: dict[str, int] = {}
    inner = [("encoder", ENCODER_PORT), ("retriever", RETRIEVER_PORT)]
    inner += [("llm", LLM_PORT)] if language else []
    inner += [("generator", GENERATOR_PORT)] if generator else []
    inner += [("reader", READER_PORT)]
    for name, preferred in inner:
        chosen[name] = ports.free_or_any(preferred, taken=frozenset(taken))
        taken.add(chosen[name])
        if chosen[name] != preferred:
            remarks.append(f"port {preferred} is in use: the {name} listens on {chosen[name]}")
    encoder, retriever, reader = (f"{HOST}:{chosen[name]}" for name in ("encoder", "retriever", "reader"))
    llm = f"{HOST}:{chosen['llm']}" if language else ""
    key, common = _common(folders)
    own: dict[str, tuple[str, dict[str, str]]] = {
        "encoder": (
            encoder,
            {
                "MIRAGE_ENCODER_HOST": HOST,
                "MIRAGE_ENCODER_PORT": str(chosen["encoder"]),
                "MIRAGE_ENCODER_BUNDLE": str(bundle),
            },
        ),
        "retriever": (
            retriever,
            {
                "MIRAGE_RETRIEVER_HOST": HOST,
                "MIRAGE_RETRIEVER_PORT": str(chosen["retriever"]),
                **vectors.environment,
                "MIRAGE_RETRIEVER_DATA": str(folders.atlas),
                "MIRAGE_RETRIEVER_ENCODER": encoder,
            },
        ),
        "gateway": (
            f"{HOST}:{port}",
            {
                "MIRAGE_GATEWAY_HOST": HOST,
                "MIRAGE_GATEWAY_HTTP_PORT": str(port),
                "MIRAGE_GATEWAY_PORT": str(grpc_port),
                "MIRAGE_GATEWAY_ENCODER": encoder,
                "MIRAGE_GATEWAY_RETRIEVER": retriever,
                "MIRAGE_GATEWAY_PROGRESS_FILE": str(folders.demo_progress),
                # Empty for none: what listens on the usual port may be another MIRAGE's.
                "MIRAGE_GATEWAY_LLM": llm,
                "MIRAGE_GATEWAY_GENERATOR": f"{HOST}:{chosen['generator']}" if generator else "",
                "MIRAGE_GATEWAY_READER": reader,
            },
        ),
        "reader": (
            reader,
            {
                "MIRAGE_READER_HOST": HOST,
                "MIRAGE_READER_PORT": str(chosen["reader"]),
                "MIRAGE_READER_ENCODER": encoder,
                "MIRAGE_READER_RETRIEVER": retriever,
                "MIRAGE_READER_LLM": llm,
            },
        ),
    }
    if language:
        own["llm"] = (
            llm,
            {
                "MIRAGE_LLM_HOST": HOST,
                "MIRAGE_LLM_PORT": str(chosen["llm"]),
                "MIRAGE_LLM_BUNDLE": str(language),
            },
        )
    services = [
        Service(
            name,
            python_module(f"mirage_{name}"),
            address,
            folders.log(name),
            {**common, **environment},
            optional=name in ("llm", "reader"),
        )
        for name, (address, environment) in own.items()
    ]
    if generator:
        remarks += filter(None, [queue_server.prepare(folders.queue)])
        services += _generating(folders, generator, chosen["generator"], encoder, common)
    remarks += _unused(services)
    # Last, because what is started last is stopped first.
    services.sort(key=lambda service: service.name == "gateway")
    return Plan(
        tuple(services),
        url=f"http://localhost:{port}",
        grpc=f"localhost:{grpc_port}",
        models=str(bundle),
        vectors=vectors.server,
        key=key,
        remarks=tuple(remarks),
    )


def _generating(folders: Folders, bundle: Path, port: int, encoder: str, common: Mapping[str, str]) -> list[Service]:
    """The queue, the generator's service and one worker, which has all processors."""
    socket = queue_server.socket_path(folders.queue)
    environment = {
        **common,
        "MIRAGE_GENERATOR_HOST": HOST,
        "MIRAGE_GENERATOR_PORT": str(port),
        "MIRAGE_GENERATOR_REDIS": f"unix://{socket}",
        # The queue's server is the launcher's own, on a socket, without a password.
        **dict.fromkeys(("MIRAGE_GENERATOR_REDIS_FILE", "MIRAGE_GENERATOR_REDIS_PASSWORD"), ""),
        "MIRAGE_GENERATOR_REDIS_PASSWORD_FILE": "",
        "MIRAGE_GENERATOR_DATA": str(folders.images),
        "MIRAGE_GENERATOR_BUNDLE": str(bundle),
        "MIRAGE_GENERATOR_ENCODER": encoder,
    }
    server = queue_server.command(queue_server.find_server(folders.queue), folder=folders.queue, socket=socket)
    module, address = python_module("mirage_generator"), f"{HOST}:{port}"
    mark = {name: value for name, value in common.items() if name == MARK}
    return [
        Service(
            "queue",
            server,
            f"unix:{socket}",
            folders.log("queue"),
            mark,
            mend=partial(queue_server.mend, folders.queue),
            optional=True,
        ),
        Service("generator", module, address, folders.log("generator"), environment, optional=True),
        Service(
            "worker",
            (*module, "worker"),
            address,
            folders.log("worker"),
            {**environment, **_own_metrics_port()},
            optional=True,
        ),
    ]


def _unused(services: list[Service]) -> list[str]:
    """Returns remarks on variables of the environment that are overridden here."""
    given = {
        name: value
        for service in services
        for name, value in service.environment.items()
        if name.startswith("MIRAGE_") and not name.startswith((MARK, "MIRAGE_API_KEYS", "MIRAGE_SERVICE_KEY"))
    }
    return [
        f"{name} is not used: `mirage up` sets it itself"
        for name, value in given.items()
        if os.environ.get(name, "").strip() not in ("", value)
    ]


def _own_metrics_port() -> dict[str, str]:
    """The worker's port is the one after the generator's, as both read the same variable."""
    port = os.environ.get("MIRAGE_GENERATOR_METRICS_PORT", "")
    return {"MIRAGE_GENERATOR_METRICS_PORT": str(int(port) + 1)} if port.isdecimal() and int(port) else {}


def python_module(module: str) -> tuple[str, ...]:
    """Returns the command that runs a module in this interpreter, independent of the working directory."""
    return (sys.executable, "-P", "-m", module)


def _common(folders: Folders) -> tuple[str, dict[str, str]]:
    own = keys.prepare(folders)
    return own.service, {
        MARK: str(folders.root),
        "PYTHONUNBUFFERED": "1",
        # glibc keeps an arena a thread otherwise, which costs the services tens of megabytes each.
        "MALLOC_ARENA_MAX": "2",
        **own.environment,
    }
