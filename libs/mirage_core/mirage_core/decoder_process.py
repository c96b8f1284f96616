"""`python -P -m mirage_core.decoder_process FD OPTIONS`: the fork server of a DecoderPool, and the children that it
forks.

The fork server imports what the children need once, then forks a child for each connection that it is sent: a child
starts in milliseconds and shares the imported code with its siblings. It has one thread and never reads an uploaded
file.

A child runs one call at a time. Its memory may grow by what the call has reserved, its processor time is limited, it
cannot write files or start processes, and gets only the environment variables that it needs.
"""

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from mirage_core import decoder_wire as wire
from mirage_core.errors import Code, MirageError

# Children that have kept more than this after a call are replaced.
_GROWTH_BYTES = 64 * 2**20
_OPEN_FILES = 32
_PR_SET_PDEATHSIG = 1
_STATM = Path("/proc/self/statm")


def main(arguments: list[str]) -> None:
    """Serves the control connection until its other end is closed."""
    control = socket.socket(fileno=int(arguments[0]))
    options = json.loads(arguments[1])
    # A Ctrl-C or a stop reaches the whole process group: running calls end first, then the service closes the
    # connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for place in options["preload"]:
        module, _, function = place.partition(":")
        loaded = import_module(module)
        if function:
            getattr(loaded, function)()
    gc.collect()
    gc.freeze()
    _silence()
    wire.send(control, {"ready": True}, [])
    with contextlib.suppress(wire.WireError, OSError):
        while True:
            _serve(control, options)


def _serve(control: socket.socket, options: dict[str, Any]) -> None:
    command, connections, _, _ = socket.recv_fds(control, 64, 1)
    if not command:
        raise wire.WireClosedError("the service is gone")
    if connections:
        pid = os.fork()
        if pid == 0:
            control.close()
            _child(socket.socket(fileno=connections[0]), options)
        os.close(connections[0])
        wire.send(control, pid, [])
    else:
        # A child that was killed, or has ended: it stays a zombie until now, so its number is not used again.
        _, status = os.waitpid(int(command), 0)
        wire.send(control, status, [])


def _child(connection: socket.socket, options: dict[str, Any]) -> NoReturn:
    try:
        _confine(options)
        with contextlib.suppress(wire.WireError):
            while _answer(connection, options):
                pass
    finally:
        os._exit(0)


def _confine(options: dict[str, Any]) -> None:
    if sys.platform == "linux":
        # Ends with the fork server, which ends with the service.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # If the kernel has to kill a process of this container, it is this one.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    hard = _mapped() + options["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(limit, (value, value))


def _answer(connection: socket.socket, options: dict[str, Any]) -> bool:
    """Runs one call; False if no other one may follow."""
    body, buffers = wire.receive(connection, limit=options["memory"])
    file_bytes = sum(map(len, buffers))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    before = hard
    out: list[wire.Buffer] = []
    reply: dict[str, Any]
    try:
        # Imports the function's module, if it was not before: what that takes is not the call's.
        function, args, kwargs = wire.unpack_call(body["call"], buffers)
        del buffers
        before = _mapped()
        _limit(options, before - file_bytes + int(body["reserve"]), hard)
        reply = {"value": wire.pack(function(*args, **kwargs), out)}
        del args, kwargs
        if sum(memoryview(each).nbytes for each in out) > options["reply"]:
            raise MirageError(Code.IMAGE_TOO_COSTLY)
    except MirageError as error:
        out.clear()
        reply = {"error": wire.pack_error(error)}
    except MemoryError:
        # Memory may be missing anywhere: this process is not used again.
        out.clear()
        reply = {"ends": "memory"}
    except wire.WireError as error:
        out.clear()
        reply = {"failed": str(error)}
    except Exception as error:
        reply = {"raised": _place(error)}
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    if "ends" not in reply and _mapped() - sum(memoryview(each).nbytes for each in out) > before + _GROWTH_BYTES:
        reply["ends"] = "growth"
    wire.send(connection, reply, out)
    return "ends" not in reply


def _limit(options: dict[str, Any], memory: int, hard: int) -> None:
    """Sets the limits of one call: address space in all, and seconds of processor time from now on."""
    resource.setrlimit(resource.RLIMIT_AS, (min(max(memory, _mapped()), hard), hard))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime + options["timeout_s"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _place(error: Exception) -> str:
    """Returns the type and the place of an exception: never its text, which may quote the file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"


def _mapped() -> int:
    """Bytes of address space in use, which is what RLIMIT_AS bounds."""
    try:
        return int(_STATM.read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**40


def _silence() -> None:
    """Sends what libraries print to nowhere: it may be a patient's data."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


if __name__ == "__main__":
    main(sys.argv[1:])
