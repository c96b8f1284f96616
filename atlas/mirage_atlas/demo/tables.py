"""`python -m mirage_atlas.demo.tables FOLDER [SET]`: what the demonstration holds, as the tables of docs/evaluation.md.

FOLDER has the archives (`python -m mirage_atlas.demo.fetch FOLDER`); nothing is fetched.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mirage_atlas.demo.demonstration import Demonstration
from mirage_atlas.demo.sources import STANDARD, sources_of
from mirage_atlas.records import AtlasRecord, BadRow

_FACETS = ("modality", "body_part", "plane", "licence")


def tables(records: Iterable[AtlasRecord]) -> Iterator[str]:
    """Yields the lines of a table of records by facet, and of one of modalities by licence."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*_FACETS, "structure")}
    windows: Counter[str] = Counter()
    licences: dict[str, Counter[str]] = {}
    total = maps = regions = 0
    for record in records:
        total += 1
        for name, counter in counts.items():
            counter.update(record.labels.get(name, ()))
        for modality in record.labels.get("modality", ()):
            licences.setdefault(record.licence, Counter())[modality] += 1
        windows.update(filter(None, [record.original_labels.get("window")]))
        maps += record.regions is not None
        regions += len(record.regions.legend) if record.regions else 0
    yield from ("| facet | records |", "|---|---|")
    for name in _FACETS:
        yield f"| {name.replace('_', ' ')} | {_listed(counts[name])} |"
    yield f"| window (CT sections) | {_listed(windows)} |"
    yield f"| structures | {len(counts['structure'])} names; {maps} records have a label map, with {regions:,} regions |"
    yield f"| all | {total} |"
    yield ""
    modalities = [name for name, _ in counts["modality"].most_common()]
    yield f"| licence | {' | '.join(modalities)} |"
    yield "|---" * (1 + len(modalities)) + "|"
    for licence in sorted(licences, key=lambda each: -licences[each].total()):
        yield f"| {licence} | {' | '.join(str(licences[licence][name] or '') for name in modalities)} |"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def main() -> int:
    """Prints them; exit code 1 if an archive is missing, which is named."""
    atlas = Demonstration(sources_of(sys.argv[2] if len(sys.argv) > 2 else STANDARD), [Path(sys.argv[1])], offline=True)
    for line in tables(row for row in atlas.read() if not isinstance(row, BadRow)):
        print(line)
    for what, reason in atlas.missing.items():
        print(f"missing: {what}: {reason}", file=sys.stderr)
    return 1 if atlas.missing else 0


if __name__ == "__main__":
    sys.exit(main())
