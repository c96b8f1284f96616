"""Protobuf messages to the API's models and back: one conversion, driven by the fields of the model.

A field of a model has the name of the message's field. What differs is derived (`derived`) or follows from the types:

| message | model |
|---|---|
| a field of a nested message (`Result.record.caption`), if the message itself lacks that name | the field |
| enum | lower-case word without the enum's name; a value that the model does not list is null, "unknown" or the first word |
| `Timestamp` | RFC 3339 in UTC with milliseconds; null if not set |
| `Duration` `x` | number of seconds `x_s` |
| `Vector` | base64 of little-endian float32; a list of numbers is taken, too |
| bytes | base64 |
| `map<string, StringList>` | object of lists, by name; a single string is taken as a list of one |

A field that is not set is null; one that the model marks `Omitted` is left out if it is empty.
"""

import binascii
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

from mirage_api.base import Digits, Omitted, Reply
from mirage_core.errors import Code, MirageError

R = TypeVar("R", bound=Reply)
M = TypeVar("M", bound=Message)
Read = Callable[[Any], Any]
Field = tuple[str, Read, bool, Any]

_TIMESTAMP, _DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
_VECTOR, _STRINGS = "mirage.v1.Vector", "mirage.v1.StringList"
_derived: dict[tuple[type[BaseModel], str], Read] = {}


def derived(model: type[BaseModel], field: str) -> Callable[[Read], Read]:
    """Registers the function that makes a field of a model out of the whole message."""

    def register(read: Read) -> Read:
        _derived[model, field] = read
        return read

    return register


def to_model(model: type[R], message: Message) -> R:
    """Returns the message as a model. Nothing is validated: both sides are this system's own."""
    values: dict[str, Any] = {}
    given = set()
    for name, read, omitted, default in _plan(model, message.DESCRIPTOR):
        value = read(message)
        if omitted and not value:
            value = default
        else:
            given.add(name)
        values[name] = value
    made = model.__new__(model)
    object.__setattr__(made, "__dict__", values)
    object.__setattr__(made, "__pydantic_fields_set__", given)
    object.__setattr__(made, "__pydantic_extra__", {})
    object.__setattr__(made, "__pydantic_private__", None)
    return made


def to_message(kind: type[M], model: BaseModel) -> M:
    """Returns a request as a message; see `fill`."""
    message = kind()
    fill(message, model)
    return message


def fill(message: Message, model: BaseModel, *, but: Sequence[str] = ()) -> None:
    """Sets the fields of a message that a request has, except null and those in `but`.

    Raises REQUEST_MALFORMED for an invalid packed vector.
    """
    for name in type(model).model_fields:
        value = getattr(model, name)
        field = _field(message.DESCRIPTOR, name)
        if value is None or field is None or name in but:
            continue
        kind = field.message_type
        if kind is None:
            if field.enum_type is None:
                _set(message, field, value)
            elif (number := _numbers(field.enum_type).get(value)) is not None:
                setattr(message, field.name, number)
            continue
        target = getattr(message, field.name)
        if _is_map(field):
            for key, each in value.items():
                if kind.fields_by_name["value"].message_type is None:
                    target[key] = each
                else:
                    target[key].values.extend([each] if isinstance(each, str) else each)
        elif field.is_repeated:
            for each in value:
                fill(target.add(), each)
        elif kind.full_name == _DURATION:
            target.FromNanoseconds(round(value * 1e9))
        elif kind.full_name == _VECTOR:
            target.float32 = _packed(value, name)
            target.SetInParent()
        else:
            fill(target, value)
            target.SetInParent()


def number_of(enum: EnumDescriptor, word: str) -> int | None:
    """Returns the number of an enum's value by its word (`batch`, `wrong-caption`), None for an unknown one."""
    return _numbers(enum).get(word)


@cache
def _plan(model: type[BaseModel], descriptor: Descriptor) -> tuple[Field, ...]:
    fields = []
    for name, field in model.model_fields.items():
        read = next((_derived[each, name] for each in model.__mro__ if (each, name) in _derived), None)
        if read is None:
            read = _reading(descriptor, name, field.annotation, field.metadata)
        fields.append((name, read, Omitted() in field.metadata, field.get_default(call_default_factory=True)))
    return tuple(fields)


def _reading(descriptor: Descriptor, name: str, annotation: Any, metadata: Sequence[Any], path: str = "") -> Read:
    field = _field(descriptor, name)
    if field is None:
        for outer in descriptor.fields:
            inside = outer.message_type
            if inside is not None and not outer.is_repeated and _field(inside, name) is not None:
                return _reading(inside, name, annotation, metadata, f"{outer.name}.")
        raise TypeError(f"{descriptor.full_name} has no field {name!r}")
    key, get = field.name, attrgetter(path + field.name)
    convert = _converting(field, list(_parts(annotation)), [*metadata, *_parts(annotation)])
    if NoneType in get_args(annotation) and field.has_presence:
        around = attrgetter(path[:-1]) if path else _same
        return lambda message: None if not around(message).HasField(key) else _given(convert, get(message))
    return get if convert is None else lambda message: convert(get(message))


def _converting(field: FieldDescriptor, parts: list[Any], metadata: list[Any]) -> Read | None:
    kind = field.message_type
    if kind is not None and _is_map(field):
        if kind.fields_by_name["value"].message_type is not None:
            # A map of a message comes in any order; the same record always reads the same.
            return lambda values: {name: tuple(values[name].values) for name in sorted(values)}
        return lambda values: dict(sorted(values.items()))
    if field.is_repeated:
        one = _converting_one(field, parts, metadata)
        return tuple if one is None else lambda values: tuple(map(one, values))
    return _converting_one(field, parts, metadata)


def _converting_one(field: FieldDescriptor, parts: list[Any], metadata: list[Any]) -> Read | None:
    kind = field.message_type
    if kind is not None:
        match kind.full_name:
            case name if name == _TIMESTAMP:
                return _time
            case name if name == _DURATION:
                digits = next((each.count for each in metadata if isinstance(each, Digits)), 9)
                return lambda value: round(value.ToNanoseconds() / 1e9, digits)
            case name if name == _VECTOR:
                return lambda value: _base64(value.float32)
        model = next(each for each in parts if isinstance(each, type) and issubclass(each, Reply))
        return lambda value: to_model(model, value)
    if field.enum_type is not None:
        words = [each for each in parts if isinstance(each, str)]
        other: str | None = "unknown" if "unknown" in words else words[0]
        other = None if NoneType in parts else other
        table = {number: word for word, number in _numbers(field.enum_type).items() if word in words}
        return lambda value: table.get(value, other)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _base64
    rounded = next((each.count for each in metadata if isinstance(each, Digits)), None)
    return None if rounded is None else lambda value: round(value, rounded)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yields the types, words and marks that an annotation is made of."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from get_args(annotation)
    elif origin is Annotated or get_args(annotation):
        for each in get_args(annotation):
            yield from _parts(each)
    else:
        yield annotation


@cache
def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    found = descriptor.fields_by_name.get(name)
    if found is None and name.endswith("_s"):
        found = descriptor.fields_by_name.get(name.removesuffix("_s"))
        if found is not None and (found.message_type is None or found.message_type.full_name != _DURATION):
            return None
    return found


@cache
def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    """An enum's numbers by their words, with hyphens and with underscores, in lower and in upper case."""
    prefix = "".join("_" + each if each.isupper() else each.upper() for each in enum.name).lstrip("_") + "_"
    words = {value.name.removeprefix(prefix): value.number for value in enum.values if value.number}
    made: dict[str, int] = {}
    for word, number in words.items():
        made |= dict.fromkeys((word, word.lower(), word.lower().replace("_", "-")), number)
    return made


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def _same(value: Any) -> Any:
    return value


def _given(convert: Read | None, value: Any) -> Any:
    return value if convert is None else convert(value)


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _time(value: Any) -> str:
    text: str = value.ToDatetime(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if value.seconds or value.nanos else ""


def _packed(value: Sequence[float] | str, name: str) -> bytes:
    if isinstance(value, str):
        try:
            packed = binascii.a2b_base64(value, strict_mode=True) if value else b""
        except ValueError as error:
            raise MirageError(Code.REQUEST_MALFORMED, field=name) from error
        if len(packed) % 4:
            raise MirageError(Code.REQUEST_MALFORMED, field=name)
        return packed
    values = array("f", value)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
