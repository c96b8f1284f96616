"""The children of a decoder pool: the process that forks them, and one call to a child."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from mirage_core import decoder_wire as wire
from mirage_core.errors import Code, MirageError

_START_S = 60.0
# All that a child gets of the service's environment: where Python and its libraries are, and the language. No keys, no
# proxies.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
# One thread. Of freed memory, 24 MiB are kept for the next picture, which saves an eighth of its time.
_FIXED = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPJ_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(24 * 2**20),
    "PYTHONDONTWRITEBYTECODE": "1",
}


class ForkServer:
    """The process that forks the children: started with the first of them, and again if it has died. Thread-safe."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = json.dumps(options)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> "Child":
        """Returns a new child; raises OSError or WireError if there can be none."""
        with self._lock:
            control = self._control or self._start()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(control, [b"fork"], [theirs.fileno()])
                pid, _ = wire.receive(control, limit=0, deadline=time.monotonic() + _START_S)
            except BaseException:
                ours.close()
                self._stop()
                raise
            return Child(int(pid), ours, control)

    def end(self, child: "Child") -> int:
        """Kills a child and returns the number of the signal that it had ended by, 0 if by none."""
        child.connection.close()
        with self._lock:
            if child.control is not self._control:
                # Of a server that has died, and its children with it.
                return 0
            try:
                # Its number is its own until the server has waited for it.
                os.kill(child.pid, signal.SIGKILL)
                child.control.sendall(str(child.pid).encode())
                status, _ = wire.receive(child.control, limit=0, deadline=time.monotonic() + _START_S)
            except (OSError, wire.WireError):
                self._stop()
                return 0
            return max(0, -os.waitstatus_to_exitcode(int(status)))

    def close(self) -> None:
        """Ends the server, and its children with it."""
        with self._lock:
            self._stop()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                command = [
                    sys.executable,
                    "-P",
                    "-m",
                    "mirage_core.decoder_process",
                    str(theirs.fileno()),
                    self._options,
                ]
                environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
                # No preexec_fn: the fork in which it runs may hang in a process with threads, such as those of gRPC.
                self._process = subprocess.Popen(
                    command, env=environment | _FIXED, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            self._control = ours
            wire.receive(ours, limit=0, deadline=time.monotonic() + _START_S)
        except BaseException:
            ours.close()
            self._stop()
            raise
        return ours

    def _stop(self) -> None:
        process, control = self._process, self._control
        self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Child:
    """A child: its process number, the connection to it, and the control connection of the server that forked it."""

    pid: int
    connection: socket.socket
    control: socket.socket

    def is_idle(self) -> bool:
        """Returns False if it has died since its last call."""
        try:
            self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


class Call:
    """A call on its way. `abandon` may be called from another thread than the others."""

    def __init__(self, body: object, buffers: list[wire.Buffer], kind: Any, child: Child | None) -> None:
        self.kind = kind
        self.child = child
        self._body = body
        self._buffers = buffers
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._abandoned = False

    def exchange(self, deadline: float, limit: int) -> tuple[Any, list[bytes]]:
        """Sends the call to the child and returns its answer.

        Raises TimeoutError, BlockingIOError, OSError and WireError.
        """
        with self._lock:
            if self._abandoned or self.child is None:
                raise MirageError(Code.CANCELLED)
            connection = self._connection = self.child.connection
        wire.set_timeout(connection, socket.SO_SNDTIMEO, deadline)
        wire.send(connection, self._body, self._buffers)
        # The child has the file now.
        self._buffers.clear()
        body, buffers = wire.receive(connection, limit=limit, deadline=deadline)
        if not isinstance(body, dict):
            raise wire.WireError("not an answer")
        return body, buffers

    def finish(self) -> bool:
        """Returns False if the call was abandoned; from now on it cannot be."""
        with self._lock:
            self._connection = None
            return not self._abandoned

    def abandon(self) -> None:
        """Lets the exchange fail now, if it has not ended."""
        with self._lock:
            self._abandoned = True
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
