"""Values in memory that were used last, within a number of bytes or of values."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values by key: those used last, as many as cost `budget` together (bytes, or 1 each). Not for use by several threads."""

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

    def put(self, key: Key, value: Value, cost: int = 1) -> None:
        """Keeps a value in place of the key's value before; does not keep one that costs more than the budget."""
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
