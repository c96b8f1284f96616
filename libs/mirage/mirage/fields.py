"""Typed access to the fields of a JSON object that came from outside."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mirage.errors import ReplyError

T = TypeVar("T")


class Fields:
    """A JSON object. Every getter raises ReplyError, which names the field, if the value has another type.

    A missing or null field gives the getter's empty value, except with `text` and `number`, which require one.
    """

    def __init__(self, value: object, name: str = "reply") -> None:
        if not isinstance(value, Mapping):
            raise ReplyError(f"the gateway's {name} is not a JSON object")
        self._values: Mapping[str, Any] = value
        self._name = name

    def text(self, key: str) -> str:
        """A string that must be there."""
        return self._typed(key, str, self._values.get(key))

    def text_or(self, key: str, default: str = "") -> str:
        """A string."""
        value = self._values.get(key)
        return default if value is None else self._typed(key, str, value)

    def number(self, key: str) -> float:
        """A number that must be there."""
        value = self._values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._invalid(key)
        return float(value)

    def number_or(self, key: str, default: float = 0.0) -> float:
        """A number."""
        return default if self._values.get(key) is None else self.number(key)

    def optional_number(self, key: str) -> float | None:
        """A number or None."""
        return None if self._values.get(key) is None else self.number(key)

    def integer_or(self, key: str, default: int = 0) -> int:
        """A whole number, exact however large."""
        value = self._values.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return int(self.number_or(key, default))

    def truth(self, key: str) -> bool:
        """Returns a boolean; False if it is missing."""
        value = self._values.get(key)
        return False if value is None else self._typed(key, bool, value)

    def child(self, key: str) -> "Fields":
        """An object that must be there."""
        return Fields(self._values.get(key), f"{self._name}.{key}")

    def children(self, key: str) -> Iterator["Fields"]:
        """The objects of a list."""
        for index, item in enumerate(self._list(key)):
            yield Fields(item, f"{self._name}.{key}[{index}]")

    def strings(self, key: str) -> tuple[str, ...]:
        """The strings of a list."""
        return tuple(self._typed(key, str, item) for item in self._list(key))

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON object itself."""
        return self._values

    def texts(self, key: str) -> dict[str, str]:
        """An object whose values are strings."""
        inner = self._values.get(key)
        if inner is None:
            return {}
        return {name: self._typed(key, str, value) for name, value in Fields(inner, key)._values.items()}

    def numbers(self, key: str) -> dict[str, float]:
        """The numbers of an object; its other values are left out."""
        inner = self._values.get(key)
        if inner is None:
            return {}
        items = Fields(inner, key)._values.items()
        return {name: float(value) for name, value in items if isinstance(value, int | float)}

    def labels(self, key: str) -> dict[str, tuple[str, ...]]:
        """An object whose values are a string or a list of strings."""
        inner = self._values.get(key)
        if inner is None:
            return {}
        found: dict[str, tuple[str, ...]] = {}
        for name, value in Fields(inner, key)._values.items():
            values = value if isinstance(value, list) else [value]
            found[name] = tuple(self._typed(key, str, one) for one in values)
        return found

    def _list(self, key: str) -> list[Any]:
        value = self._values.get(key)
        return [] if value is None else self._typed(key, list, value)

    def _typed(self, key: str, kind: type[T], value: object) -> T:
        if not isinstance(value, kind):
            raise self._invalid(key)
        return value

    def _invalid(self, key: str) -> ReplyError:
        return ReplyError(f"the gateway's {self._name} has no usable field {key!r}")
