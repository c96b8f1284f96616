"""Messages between a service and its decoding children: JSON for the structure, raw bytes for what is large.

Types come from the annotations of the function that runs, never from the message. So a child that a hostile file has taken over
can send wrong values, but cannot name a class, import a module or run code in the service, which pickle would allow.

A message is the length of its JSON (4 bytes, little endian), the JSON `{"sizes": [...], "body": ...}` and then the buffers.
"""

import dataclasses
import json
import socket
import struct
import time
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from importlib import import_module
from typing import Any, Union

import numpy as np

from mirage_core.errors import Code, MirageError

_JSON_BYTES = 4 * 2**20
_BUFFERS = 256
_LENGTH = struct.Struct("<I")
Buffer = bytes | bytearray | memoryview


class WireError(Exception):
    """A message is not of the form or the type that was expected."""


class WireClosedError(WireError):
    """The other side has closed the connection."""


def pack(value: object, buffers: list[Buffer]) -> Any:
    """Returns the JSON form of a value and appends its large parts to `buffers`; raises WireError for an unknown type.

    Takes None, numbers, texts, bytes, enumerations, arrays, sequences, mappings with text keys, dataclasses and pydantic models.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, bytes | bytearray | memoryview):
        buffers.append(value)
        return len(buffers) - 1
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        buffers.append(array.reshape(-1).view(np.uint8).data)
        return [len(buffers) - 1, array.dtype.str, list(value.shape)]
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: pack(getattr(value, field.name), buffers) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): pack(item, buffers) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [pack(item, buffers) for item in value]
    raise WireError(f"a value of type {type(value).__name__} cannot be sent")


def unpack(kind: Any, tree: Any, buffers: Sequence[bytes]) -> Any:
    """Returns the value of type `kind` that `pack` gave `tree` for; raises WireError if it is not of that type."""
    try:
        return _unpack(kind, tree, buffers)
    except WireError:
        raise
    # Constructors of dataclasses and models raise what they like at values that do not fit.
    except Exception as error:
        raise WireError(f"not a value of {kind}") from error


def _unpack(kind: Any, tree: Any, buffers: Sequence[bytes]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _unpack_optional(arguments, tree, buffers)
    if origin is typing.Annotated:
        return _unpack(arguments[0], tree, buffers)
    if origin is typing.Literal:
        if tree not in arguments:
            raise WireError("not one of the literal values")
        return tree
    if kind is np.ndarray or origin is np.ndarray:
        return _unpack_array(arguments, tree, buffers)
    if origin is tuple:
        kinds = [arguments[0]] * len(tree) if arguments[1:] == (...,) else arguments
        return tuple(_unpack(each, item, buffers) for each, item in zip(kinds, tree, strict=True))
    if origin in (list, Sequence):
        return [_unpack(arguments[0], item, buffers) for item in tree]
    if origin in (dict, Mapping):
        return {str(key): _unpack(arguments[1], item, buffers) for key, item in tree.items()}
    return _unpack_plain(kind, tree, buffers)


def _unpack_plain(kind: Any, tree: Any, buffers: Sequence[bytes]) -> Any:
    if kind is Any:
        return tree
    if kind in (None, types.NoneType):
        if tree is not None:
            raise WireError("not None")
        return None
    if kind is bytes:
        return buffers[_index(tree)]
    if kind is float and isinstance(tree, int) and not isinstance(tree, bool):
        return float(tree)
    if kind in (bool, int, float, str):
        if type(tree) is not kind:
            raise WireError(f"not a {kind.__name__}")
        return tree
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(tree)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        fields = [field.name for field in dataclasses.fields(kind)]
        return kind(**{name: _unpack(hints[name], tree[name], buffers) for name in fields})
    if callable(validate := getattr(kind, "model_validate", None)):
        return validate(tree)
    raise WireError(f"a value of type {kind} cannot be received")


def _unpack_optional(kinds: tuple[Any, ...], tree: Any, buffers: Sequence[bytes]) -> Any:
    others = [kind for kind in kinds if kind is not types.NoneType]
    if tree is None and len(others) < len(kinds):
        return None
    if len(others) != 1:
        raise WireError("a union of several types cannot be received")
    return _unpack(others[0], tree, buffers)


def _unpack_array(arguments: tuple[Any, ...], tree: Any, buffers: Sequence[bytes]) -> Any:
    index, name, shape = tree
    dtype = np.dtype(str(name))
    scalar = typing.get_args(arguments[1])[0] if len(arguments) == 2 and typing.get_args(arguments[1]) else np.generic
    if dtype.kind not in "biufc" or dtype.hasobject or (isinstance(scalar, type) and not np.issubdtype(dtype, scalar)):
        raise WireError("an array of another type")
    return np.frombuffer(buffers[_index(index)], dtype=dtype).reshape([_index(side) for side in shape])


def _index(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise WireError("not an index or a size")
    return value


@lru_cache(maxsize=256)
def _hints(target: Any) -> dict[str, Any]:
    return typing.get_type_hints(target, include_extras=True)


def pack_call(
    function: typing.Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, list[Buffer]]:
    """Returns JSON form and buffers of a call of a module's function, whose parameters and result must be annotated."""
    buffers: list[Buffer] = []
    place = f"{function.__module__}:{function.__qualname__}"
    if "<" in place or "return" not in _hints(function):
        raise WireError(f"{place} is not an importable function with annotations")
    return {"function": place, "args": pack(args, buffers), "kwargs": pack(kwargs, buffers)}, buffers


def unpack_call(body: Any, buffers: Sequence[bytes]) -> tuple[typing.Callable[..., Any], list[Any], dict[str, Any]]:
    """Returns the function, imported, and its arguments."""
    module, _, name = body["function"].partition(":")
    function: Any = import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    hints = dict(_hints(function))
    names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
    args = [unpack(hints[name], item, buffers) for name, item in zip(names, body["args"], strict=False)]
    kwargs = {name: unpack(hints[name], item, buffers) for name, item in body["kwargs"].items()}
    return function, args, kwargs


def result_kind(function: typing.Callable[..., Any]) -> Any:
    """Returns the annotated type of a function's result."""
    return _hints(function)["return"]


def pack_error(error: MirageError) -> dict[str, Any]:
    """Returns the JSON form of a catalogue error."""
    return {"code": str(error.code), "metadata": error.metadata, "retry_after_s": error.retry_after_s}


def unpack_error(tree: Any) -> MirageError:
    """Returns the catalogue error behind its JSON form; raises WireError if it is not one."""
    try:
        retry = tree["retry_after_s"]
        metadata = {
            str(key)[:64]: str(value)[:500] for key, value in tree["metadata"].items() if key != "retry_after_s"
        }
        return MirageError(Code(tree["code"]), retry_after_s=None if retry is None else float(retry), **metadata)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError("not an error of the catalogue") from error


def send(connection: socket.socket, body: Any, buffers: Sequence[Buffer]) -> None:
    """Sends one message; the buffers are not copied in this process."""
    views = [memoryview(each).cast("B") for each in buffers]
    text = json.dumps({"sizes": [len(view) for view in views], "body": body}).encode()
    if len(text) > _JSON_BYTES or len(views) > _BUFFERS:
        raise WireError("the message is too large")
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for view in views:
        connection.sendall(view)


def receive(connection: socket.socket, *, limit: int, deadline: float | None = None) -> tuple[Any, list[bytes]]:
    """Returns the body and the buffers of one message of at most `limit` bytes.

    Raises WireError at the end of the connection and for what is not a message, TimeoutError at the deadline (by time.monotonic).
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if length > _JSON_BYTES:
        raise WireError("the message is too large")
    try:
        content = json.loads(_read(connection, length, deadline))
        sizes, body = [_index(size) for size in content["sizes"]], content["body"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError("not a message") from error
    if len(sizes) > _BUFFERS or sum(sizes) > limit:
        raise WireError("the message is too large")
    return body, [_read(connection, size, deadline) for size in sizes]


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    """Reads exactly so many bytes into one object."""
    parts: list[bytes] = []
    while size:
        if deadline is not None:
            set_timeout(connection, socket.SO_RCVTIMEO, deadline)
        try:
            # The kernel waits for all of it, so that a large buffer arrives in one piece.
            part = connection.recv(size, socket.MSG_WAITALL)
        except BlockingIOError as error:
            raise TimeoutError from error
        except OSError as error:
            raise WireClosedError("the connection is broken") from error
        if not part:
            raise WireClosedError("the connection is closed")
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def set_timeout(connection: socket.socket, option: int, deadline: float) -> None:
    """Lets the kernel end a blocking call at the deadline; raises TimeoutError if that has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    seconds = int(left)
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, int((left - seconds) * 1e6) or 1))
