"""The demonstration atlas as `mirage up` builds it: sections of the averaged brain, which come with this package, and real images
out of archives, which are fetched while the first records are sent.

Records of all parts take turns, so that each part of the body can be searched early. An archive that cannot be had leaves its
part out; the others are built.
"""

from __future__ import annotations

import queue
import re
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mirage_atlas.demo.archives import ArchiveError, read_members
from mirage_atlas.demo.contents import CONTENTS
from mirage_atlas.demo.fetch import FetchError, fetch, find
from mirage_atlas.demo.parts import Part
from mirage_atlas.demo.reader import DATA
from mirage_atlas.demo.sources import BRAIN, Source
from mirage_atlas.jsonl import CaptionsReader
from mirage_atlas.records import AtlasRecord, BadRow

_PLAIN = re.compile(r"demo-(?:axial|coronal|sagittal)-[pm](\d+)-")
_LESION = re.compile(r"demo-lesion-(\d+)-(left|right)-")

Streams = list[Iterator[AtlasRecord | BadRow]]


class Demonstration:
    """One run over the brain and the parts of `sources`. Those in `done` are passed over: their records are stored already.

    Archives are looked for in `folders`, and fetched into the first of them; with `offline` they are not fetched. `report` is
    called whenever `total`, `fetching` or `missing` have changed, also from another thread.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        folders: Sequence[Path],
        *,
        contents: Mapping[str, Sequence[Part]] = CONTENTS,
        done: Collection[str] = (),
        offline: bool = False,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        self._wanted = [source for source in sources if source.name not in done]
        self._contents = contents
        self._brain = BRAIN not in done
        self._folders = folders
        self._offline = offline
        self._report = report
        self._arrived: queue.SimpleQueue[Streams | None] = queue.SimpleQueue()
        self.total = 0
        self.fetching = ""
        self.missing: dict[str, str] = {}
        self.done: list[str] = []

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """All records that can be had; bad rows for files that give none. Raises OSError for the package's own files."""
        fetcher = threading.Thread(target=self._fetch, name="fetch", daemon=True)
        active: deque[Iterator[AtlasRecord | BadRow]] = deque()
        if self._brain:
            rows = list(brain_rows())
            self._grow(len(rows))
            active.append(iter(rows))
            self.done.append(BRAIN)
        fetcher.start()
        is_coming = True
        while active or is_coming:
            while is_coming and (self._arrived.qsize() or not active):
                arrived = self._arrived.get()
                is_coming = arrived is not None
                if arrived is not None:
                    active.extend(arrived)
            if active:
                stream = active.popleft()
                row = next(stream, None)
                if row is not None:
                    yield row
                    active.append(stream)
        fetcher.join()

    def _fetch(self) -> None:
        """Opens the archives that are there, then fetches the others one after the other; says so at its end."""
        try:
            self._fetch_all()
        finally:
            self.fetching = ""
            self._arrived.put(None)
        self._report()

    def _fetch_all(self) -> None:
        absent = []
        for source in self._wanted:
            if path := find(source, self._folders):
                self._open(source, path)
            else:
                absent.append(source)
        for source in absent:
            try:
                if self._offline:
                    raise FetchError("it is not there, and nothing is fetched")
                self.fetching = f"{source.what} ({source.size / 1e6:.0f} MB)"
                self._report()
                self._open(source, fetch(source, self._folders[0]))
            except FetchError as error:
                self._miss(source, str(error))
            except OSError as error:
                self._miss(source, f"it cannot be stored: {error.strerror}")

    def _open(self, source: Source, path: Path) -> None:
        """Passes on the records of an archive."""
        parts = self._contents[source.name]
        streams: Streams = []
        try:
            members = read_members(path, [name for part in parts for name in part.files])
            for part in parts:
                opened = part.open([data for name in part.files for data in _of(members, name)])
                self._grow(opened.count)
                streams += opened.streams
        except ArchiveError as error:
            self._miss(source, str(error))
        except Exception:
            traceback.print_exc()
            self._miss(source, "its files cannot be read")
        else:
            self.done.append(source.name)
        self._arrived.put(streams)

    def _miss(self, source: Source, reason: str) -> None:
        self.missing[source.what] = reason
        self._report()

    def _grow(self, count: int) -> None:
        self.total += count
        self._report()


def _of(members: dict[str, bytes], name: str) -> list[bytes]:
    """The file of a name, or the files of a folder."""
    return [data for each, data in members.items() if each == name or (name.endswith("/") and each.startswith(name))]


def brain_rows() -> Iterator[AtlasRecord | BadRow]:
    """The packaged sections of the averaged brain that the demonstration shows: every 8 mm, and one lesion of each place."""
    for row in CaptionsReader(DATA).read():
        if isinstance(row, BadRow):
            yield row
        elif _is_shown(row.id):
            yield _with_texts(row)


def _with_texts(record: AtlasRecord) -> AtlasRecord:
    """The record with a title, its structures as a facet, and its lesion as a case."""
    labels, own = record.labels, record.original_labels
    plane, sequence = labels["plane"][0], labels["sequence"][0].upper()
    lesion = f", simulated lesion in the {labels['side'][0]} {own['lesion_lobe']}" if "lesion_lobe" in own else ""
    case = _LESION.match(record.id)
    structures = tuple(filter(None, own["structures"].split("; ")))
    return replace(
        record,
        labels={**labels, "structure": structures} if structures else labels,
        title=f"MRI of an averaged brain, {sequence}, {plane}, {own['level_axis']} = {own['level_mm']} mm{lesion}",
        case_id=f"brain-lesion-{case[1]}-{case[2]}" if case else f"brain-{labels['sequence'][0]}",
    )


def _is_shown(identity: str) -> bool:
    if found := _PLAIN.match(identity):
        return int(found[1]) % 8 == 0
    found = _LESION.match(identity)
    return found is not None and int(found[1]) % 5 == 1
