"""Values in memory that were used last, within a number of bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values by key: those used last, as many as cost `budget` bytes together."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.cost = 0

    def get(self, key: Key) -> Value | None:
        """Returns the value, or None if it is not kept."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Key, value: Value, cost: int) -> None:
        """Keeps a value that costs so many bytes, in place of the key's value before; not one beyond the budget."""
        self.drop(key)
        if cost > self._budget:
            return
        self._values[key] = value, cost
        self.cost += cost
        while self.cost > self._budget:
            self.cost -= self._values.popitem(last=False)[1][1]

    def drop(self, key: Key) -> None:
        """Lets a value go if it is kept."""
        found = self._values.pop(key, None)
        if found is not None:
            self.cost -= found[1]
