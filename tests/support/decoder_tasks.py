"""Functions that the tests of the decoding children run in them."""

import os
import resource
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import decode_image
from mirage_inference.bundles import ImageInput


class Colour(StrEnum):
    GREY = "grey"


@dataclass(frozen=True)
class Part:
    name: str
    sides: tuple[int, int]


@dataclass(frozen=True)
class Everything:
    array: npt.NDArray[np.float32]
    data: bytes
    parts: tuple[Part, ...]
    nothing: Part | None
    colour: Colour
    kind: Literal["a", "b"]
    by_name: Mapping[str, float]
    flag: bool


def everything(array: npt.NDArray[np.float32], data: bytes, spec: ImageInput) -> Everything:
    parts = (Part("é", (1, 2)), Part("", (spec.size, 4)))
    return Everything(array * 2, data[::-1], parts, None, Colour.GREY, "b", {"x": 0.5}, True)


def number(value: int) -> int:
    return value


def process_id() -> int:
    return os.getpid()


def parent_id() -> int:
    return os.getppid()


def size_of(data: bytes) -> tuple[int, int]:
    return decode_image(data).image.size


def refuse(given: int) -> int:
    raise MirageError(Code.IMAGE_TOO_MANY_PIXELS, retry_after_s=None, max=1, given=given)


def allocate(size: int) -> int:
    return len(bytearray(size))


def allocate_next_to(data: bytes, size: int) -> int:
    return len(bytearray(size))


def hang() -> None:
    signal.pause()


def spin() -> None:
    while True:
        pass


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def exit_quietly() -> None:
    os._exit(0)


def fail(text: str) -> None:
    raise KeyError(text)


def wait_for(fifo: str) -> int:
    """Returns once somebody opens the FIFO for writing."""
    os.close(os.open(fifo, os.O_RDONLY))
    return os.getpid()


def announce_and_hang(fifo: str) -> None:
    """Opens the FIFO for writing, which ends the wait of its reader, and hangs."""
    os.close(os.open(fifo, os.O_WRONLY))
    signal.pause()


def environment() -> Mapping[str, str]:
    return dict(os.environ)


def open_files() -> list[str]:
    paths = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(path) for path in paths if path.exists())


def core_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_CORE)[1]


def write_file(path: str) -> str:
    try:
        Path(path).write_bytes(b"x")
    except OSError as error:
        return type(error).__name__
    return "written"


def answer_with(text: str) -> int:
    """Writes something else than an answer to the connection, as a child would that a file has taken over."""
    for descriptor in range(3, 32):
        try:
            other = socket.socket(fileno=descriptor)
        except OSError:
            continue
        other.sendall(text.encode("latin-1"))
        os._exit(0)
    return 0


def of_another_type() -> int:
    # What a mistake in a function would be.
    return cast(int, "text")


def answers_much(size: int) -> bytes:
    return bytes(size)


def not_annotated(value):  # type: ignore[no-untyped-def]  # what the pool refuses
    return value
