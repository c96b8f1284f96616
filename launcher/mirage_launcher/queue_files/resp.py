"""Commands as Redis writes them to its append-only file: the RESP protocol, read strictly."""

from collections.abc import Iterator
from typing import IO

Command = list[bytes]

# No command of ours comes near: a preview has 64 KiB, and a list is written again in pieces of 64 entries.
_PARTS = 100_000
_COMMAND_BYTES = 64 * 2**20
_NUMBER_BYTES = 32
_NOTE_BYTES = 128


class DamagedError(Exception):
    """Bytes that no Redis writes; the text says where."""


class TruncatedError(DamagedError):
    """The file ends within a command, as it does after a power failure."""


def commands(file: IO[bytes]) -> Iterator[Command]:
    """Yields each command that counts: those of a transaction once it is complete.

    Raises TruncatedError at an incomplete end and DamagedError for anything else; the commands before it were yielded.
    """
    transaction: list[Command] | None = None
    for command in _each(file):
        match command[0].upper(), len(command), transaction:
            case b"MULTI", 1, None:
                transaction = []
            case b"EXEC", 1, list():
                yield from transaction
                transaction = None
            case ((b"MULTI" | b"EXEC"), _, _):
                raise DamagedError("a transaction within another, or none to end")
            case _, _, None:
                yield command
            case _:
                transaction.append(command)
    if transaction is not None:
        raise TruncatedError("the file ends within a transaction")


def encode(*parts: str | bytes | int | float) -> bytes:
    """One command. Floats are written so that they read as the same number."""
    encoded = [_bytes(part) for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


def _bytes(part: str | bytes | int | float) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode() if isinstance(part, str) else repr(part).encode()


def _each(file: IO[bytes]) -> Iterator[Command]:
    place = 0
    while head := file.readline(_NOTE_BYTES):
        try:
            # A time that Redis may note between commands.
            if head.startswith(b"#TS:"):
                if not head.endswith(b"\r\n"):
                    raise TruncatedError("the file ends within a note")
                place += len(head)
                continue
            count = _number(head, b"*", _PARTS)
            if not count:
                raise DamagedError("a command without a name")
            command: Command = []
            size = len(head)
            for _ in range(count):
                line = file.readline(_NUMBER_BYTES)
                length = _number(line, b"$", _COMMAND_BYTES)
                size += len(line) + length + 2
                if size > _COMMAND_BYTES:
                    raise DamagedError("a command that is too long")
                part = file.read(length + 2)
                if len(part) < length + 2:
                    raise TruncatedError("the file ends within a command")
                if part[-2:] != b"\r\n":
                    raise DamagedError("a part that is longer than it says")
                command.append(part[:-2])
        except DamagedError as error:
            raise type(error)(f"{error}, at byte {place:,}") from None
        yield command
        place += size


def _number(line: bytes, mark: bytes, most: int) -> int:
    if not line.endswith(b"\n") and len(line) < _NUMBER_BYTES and (not line or line.startswith(mark)):
        raise TruncatedError("the file ends within a command")
    digits = line[1:-2]
    if not (line.startswith(mark) and line.endswith(b"\r\n") and digits.isdigit() and int(digits) <= most):
        raise DamagedError("not a command")
    return int(digits)
