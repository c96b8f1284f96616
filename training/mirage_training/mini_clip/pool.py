"""The views that mini-clip 2 is trained on, by kind and by groups that are hard to distinguish, and the draws of a batch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirage_training.mini_clip.facts import Item
from mirage_training.mini_clip.views import read_shard

SHARES = {"brain": 0.42, "real": 0.33, "volumes": 0.15, "pictures": 0.03, "other": 0.07}
KINDS = ("brain", "real", "volumes", "pictures", "other")
VOLUMES = ("chest-ct", "liver-ct", "abdomen-mr")


def kind_of(item: Item) -> str:
    """The kind of source of an item."""
    if item.spec is not None:
        return "brain"
    if item.source in ("pictures", "other"):
        return item.source
    return "volumes" if item.source in VOLUMES else "real"


def group_of(item: Item) -> str:
    """The group of views that only details distinguish: the source, and of sections also their plane (and contrast)."""
    if item.spec is not None:
        return f"{item.spec.plane} {item.spec.sequence}"
    return " ".join([item.source, *(item.values("plane") if kind_of(item) == "volumes" else ())])


class Pool:
    """The views of all shards that are there, by kind; pairs of renderings stay together.

    Views of the sources in `left_out` are passed over. Raises ValueError if a name is not one of a source of real images, and if
    a shard was written with other frozen stages.
    """

    def __init__(self, folder: Path, most: int, left_out: Collection[str] = ()) -> None:
        self._folder, self._most = folder, most
        self.left_out = frozenset(left_out)
        self._sources: set[str] = set()
        self._features: list[np.ndarray] = []
        self.items: list[Item] = []
        self._place: list[tuple[int, int]] = []
        self._by_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self._groups: dict[str, dict[str, list[int]]] = {kind: {} for kind in KINDS}
        self.grow()
        names = ", ".join(sorted(self._sources)) or "none"
        if unknown := sorted(self.left_out - self._sources):
            raise ValueError(f"no source of real images is called {unknown[0]!r}; the views have: {names}")
        if self.left_out and self.left_out == self._sources:
            raise ValueError(f"no real image is left without {names}")

    def grow(self) -> None:
        """Takes up shards that have come."""
        for number in range(len(self._features), self._most):
            path = self._folder / f"{number:03d}.npy"
            if not path.exists():
                return
            features, items = read_shard(path)
            for row, item in enumerate(items):
                kind = kind_of(item)
                if kind == "real":
                    self._sources.add(item.source)
                    if item.source in self.left_out:
                        continue
                rows = self._by_kind[kind]
                # The second of a pair stays with the first.
                first = self.items[rows[-1]] if kind == "brain" and len(rows) % 2 else item
                self._groups[kind].setdefault(group_of(first), []).append(len(self.items))
                rows.append(len(self.items))
                self.items.append(item)
                self._place.append((number, row))
            self._features.append(features)

    def draw(self, batch: int, rng: np.random.Generator, close: float = 0.0) -> list[int]:
        """Indices of a batch: pairs of renderings, then the other kinds.

        Each kind is drawn from one of its groups alone with probability `close`: then only details distinguish its views.
        """
        chosen: list[int] = []
        for kind in KINDS:
            count = round(batch * SHARES[kind])
            rows = self._by_kind[kind]
            if close and rng.random() < close:
                large = [rows for _, rows in sorted(self._groups[kind].items()) if len(rows) >= count + 1]
                if large:
                    weights = np.array([len(each) ** 0.5 for each in large])
                    rows = large[int(rng.choice(len(large), p=weights / weights.sum()))]
            if kind == "brain":
                for first in rng.choice(len(rows) // 2, round(batch * SHARES["brain"] / 2), replace=False) * 2:
                    chosen += rows[int(first) : int(first) + 2]
            else:
                chosen += [rows[int(i)] for i in rng.choice(len(rows), count, replace=False)]
        return chosen

    def features(self, chosen: list[int]) -> Tensor:
        """float32 [N, 112, 12, 12]."""
        rows = [self._features[shard][row] for shard, row in (self._place[index] for index in chosen)]
        return torch.from_numpy(np.stack(rows).astype(np.float32))
