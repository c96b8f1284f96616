"""The operations behind `mirage up`, `down` and `status`."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from mirage_atlas.demo.sources import STANDARD
from mirage_launcher import damage, lock, logs, processes, services, vectors
from mirage_launcher.bundles import better_llm, find_bundle, find_generator_bundle, find_llm_bundle
from mirage_launcher.errors import AlreadyUpError, LaunchError
from mirage_launcher.folders import Folders
from mirage_launcher.launch import Launch, leftovers
from mirage_launcher.state import State

POLL_S = 0.05
DOWN_S = 60.0
FOLLOW_S = 900.0


@dataclass(frozen=True)
class UpOptions:
    """The request of an `up`. `models` is a directory or "mini".

    `demo` is the demonstration atlas that is wanted: "none", or a name of `mirage_atlas.demo.sources.SETS`.
    """

    data: Path | None = None
    models: str = "mini"
    # A fetched model's name, or the directory of a bundle, in place of the llm among `models`.
    llm: str = ""
    port: int = 8080
    grpc_port: int | None = None
    demo: str = STANDARD
    # Addresses of a Qdrant server, and the file with its key; as `vectors.choose` takes them.
    qdrant: str = ""
    qdrant_key_file: Path | None = None


def up(options: UpOptions, report: Callable[[State], None]) -> None:
    """Runs everything in the foreground until a signal comes."""
    folders = Folders.at(options.data)
    bundle, language = find_bundle(options.models), find_llm_bundle(options.models, options.llm)
    generator = find_generator_bundle(options.models)
    store = vectors.choose(options.qdrant, options.qdrant_key_file)

    def make_plan() -> services.Plan:
        vectors.require_answer(store)
        grpc_port = options.grpc_port if options.grpc_port is not None else options.port + 1
        plan = services.plan(
            folders,
            bundle=bundle,
            port=options.port,
            grpc_port=grpc_port,
            language=language,
            generator=generator,
            vectors=store,
        )
        better = better_llm(language)
        offer = (f"a larger language model is installed: mirage up --llm {better}",) if better else ()
        return replace(plan, remarks=(*plan.remarks, *vectors.note(folders, store), *offer))

    Launch(folders, make_plan, report, demo=options.demo).run()


def up_detached(options: UpOptions, report: Callable[[State], None]) -> State:
    """Starts a launcher that outlives this process, follows it until all is ready, and gives its state."""
    folders = Folders.at(options.data)
    find_bundle(options.models)
    find_llm_bundle(options.models, options.llm)
    vectors.choose(options.qdrant, options.qdrant_key_file)
    damage.clear_the_way(folders)
    folders.create()
    if lock.is_held(folders.lock):
        raise AlreadyUpError(f"another launcher, or a backup or restoration, uses {folders.root}")
    log = logs.open_log(folders.log("launcher"))
    logs.bound(folders.log("launcher"))
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [*services.python_module("mirage_launcher"), *_arguments(options, folders)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folders.root,
            start_new_session=True,
        )
    return _follow(child, folders, report)


def running_state(data: Path | None) -> State | None:
    """Returns the state of the launcher that runs in the data directory, or None."""
    folders = Folders.at(data)
    return State.read(folders.state) if lock.is_held(folders.lock) else None


def down(data: Path | None) -> bool:
    """Stops the launcher of the data directory and its services, also a crashed launcher's. Returns False if nothing
    ran.
    """
    folders = Folders.at(data)
    state = State.read(folders.state)
    launcher = processes.alive(state.launcher) if state and lock.is_held(folders.lock) else None
    if launcher:
        launcher.terminate()
        if psutil.wait_procs([launcher], timeout=DOWN_S)[1]:
            processes.kill([launcher])
    left = leftovers(folders)
    processes.stop(left)
    if launcher or left:
        folders.state.unlink(missing_ok=True)
    return bool(launcher or left)


def _arguments(options: UpOptions, folders: Folders) -> list[str]:
    models = options.models if options.models == "mini" else str(Path(options.models).expanduser().resolve())
    arguments = ["--data", str(folders.root), "--models", models, "--port", str(options.port)]
    if options.llm:
        llm = Path(options.llm).expanduser()
        arguments += ["--llm", str(llm.resolve()) if llm.is_dir() else options.llm]
    if options.grpc_port is not None:
        arguments += ["--grpc-port", str(options.grpc_port)]
    if options.qdrant:
        arguments += ["--qdrant", options.qdrant]
    if options.qdrant_key_file is not None:
        arguments += ["--qdrant-key-file", str(options.qdrant_key_file.expanduser().resolve())]
    return [*arguments, "--demo", options.demo]


def _follow(child: subprocess.Popen[bytes], folders: Folders, report: Callable[[State], None]) -> State:
    seen: State | None = None
    give_up = time.monotonic() + FOLLOW_S
    while time.monotonic() < give_up:
        ended = child.poll() is not None
        state = State.read(folders.state)
        if state and state.launcher.pid == child.pid and state != seen:
            if seen is None or (state.cleaning, state.index) != (seen.cleaning, seen.index):
                # The launcher itself gives up once that stands still.
                give_up = time.monotonic() + FOLLOW_S
            seen = state
            report(state)
            if state.phase == "ready":
                return state
        if ended:
            raise _reason(child.returncode, folders)
        time.sleep(POLL_S)
    raise LaunchError(f"not ready after {FOLLOW_S:.0f} s; logs in {folders.logs}")


def _reason(code: int, folders: Folders) -> LaunchError:
    # The launcher's last line is its problem, as JSON.
    log = folders.log("launcher")
    try:
        problem = json.loads(logs.tail(log, 1)[0])
        error = LaunchError(str(problem["detail"]))
        error.code = str(problem["code"])
    except (IndexError, ValueError, KeyError, TypeError):
        return LaunchError(f"the launcher ended with exit code {code}; its log: {log}")
    return error
