"""The calibration of likeness in one collection with its model, measured on its own records (calibrator.py)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from mirage_retriever.match import Thresholds

CALIBRATION = "calibration"
"""The name under which an engine keeps it."""
_VERSION = 1


@dataclass(frozen=True)
class Recall:
    """The share of queries with a right answer among the first 1 and 10, its 95 % interval (Wilson), and chance."""

    queries: int
    at_1: float
    at_10: float
    low: float
    high: float
    chance_1: float
    chance_10: float


@dataclass(frozen=True)
class Kind:
    """One kind of query: its recall (None if no right answers are known), thresholds, and how well likeness separates.

    `auroc` is the chance that an answered query has a closer best record than one that is not; None if it was not measured.
    """

    recall: Recall | None = None
    thresholds: Thresholds | None = None
    auroc: float | None = None
    trusted: bool = False


@dataclass(frozen=True)
class Calibration:
    """All kinds of a collection of so many records, made with a model. Kinds are match.KINDS and "caption"."""

    records: int
    fingerprint: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def to_json(self) -> str:
        """The same calibration as text."""
        return json.dumps({"version": _VERSION, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Calibration | None":
        """The calibration behind `to_json`; None for one of another version, and for what is something else."""
        try:
            fields = json.loads(text)
            if fields["version"] != _VERSION:
                return None
            kinds = {
                name: Kind(
                    None if kind["recall"] is None else Recall(**kind["recall"]),
                    None if kind["thresholds"] is None else Thresholds(**kind["thresholds"]),
                    kind["auroc"],
                    bool(kind["trusted"]),
                )
                for name, kind in fields["kinds"].items()
            }
            return cls(int(fields["records"]), str(fields["fingerprint"]), kinds)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_due(self, records: int, fingerprint: str) -> bool:
        """True if the collection has grown or shrunk by a quarter since, or has another model."""
        return fingerprint != self.fingerprint or abs(records - self.records) > self.records / 4
