"""The images to train on, by source: renderings, volumes of the demonstration, its pictures, real images, and other pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo.archives import read_members
from mirage_atlas.demo.contents import CONTENTS, Examination
from mirage_atlas.demo.cross_sections import Cutter, Section
from mirage_atlas.demo.fetch import find
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.section_records import CT_WINDOWS, Case, facet_structures, window_of
from mirage_atlas.demo.sections import SectionSpec
from mirage_atlas.demo.sources import sources_of
from mirage_atlas.demo.volumes import Volume
from mirage_atlas.demo.wording import region_words
from mirage_atlas.records import AtlasRecord
from mirage_core.imaging import decode_image
from mirage_training import picture_gate
from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.facts import NOTHING, Facts, Item, rendering_facts

Rng = np.random.Generator
HELD_OUT_CASE = "abdomen-ct"
"""CT of abdomen and pelvis: kept for the evaluation of structures, and never trained on."""

Made = tuple[Item, Image.Image]
"""An item with its picture in RGB."""


class Renderings:
    """Sections of the template as `SectionSource` draws them, in pairs that differ in one attribute."""

    def __init__(self, source: SectionSource) -> None:
        self._source = source
        self._next: Made | None = None
        self._number = 0

    def make(self, rng: Rng) -> Made:
        """The next rendering; every other one is the counterpart of the one before."""
        if self._next is not None:
            made, self._next = self._next, None
            return made
        spec = self._source.draw(rng)
        other = self._source.counterpart(spec, rng)
        self._number += 1
        first, self._next = (
            self._made(each, f"brain-{self._number}-{side}") for each, side in ((spec, "a"), (other, "b"))
        )
        return first

    def _made(self, spec: SectionSpec, key: str) -> Made:
        pixels = (self._source.render(spec)[0].clip(0, 1) * 255).astype(np.uint8)
        item = Item(
            key,
            "brain",
            rendering_facts(spec),
            frozenset({"plane", "sequence", "finding", "structure", "contrast"}),
            spec,
        )
        return item, Image.fromarray(pixels).convert("RGB")


@dataclass
class _Cuts:
    examination: Examination
    cutter: Cutter
    places: list[tuple[Plane, int]]
    low: float
    high: float
    what: str


class Volumes:
    """Sections of the labelled volumes, but for the one that is held out, at any index, in windows that vary."""

    def __init__(self, folder: Path) -> None:
        self._cuts = [_cuts(*each) for each in volumes(folder) if each[0].case.id != HELD_OUT_CASE]

    def make(self, rng: Rng) -> Made:
        """A section of a volume, each plane and volume as often as it has sections (roots of it)."""
        weights = np.array([len(each.places) ** 0.5 for each in self._cuts])
        cuts = self._cuts[int(rng.choice(len(self._cuts), p=weights / weights.sum()))]
        plane, index = cuts.places[int(rng.integers(len(cuts.places)))]
        section = cuts.cutter.cut(plane, index)
        case = cuts.examination.case
        window = window_of(section, int(rng.integers(6))) if case.modality == "ct" else ""
        if window:
            centre, width = CT_WINDOWS[window].center, CT_WINDOWS[window].width
        else:
            centre, width = (cuts.low + cuts.high) / 2, cuts.high - cuts.low
        centre += width * float(rng.normal(0, 0.08))
        width *= float(np.exp(rng.normal(0, 0.2)))
        grey = np.clip((section.values - centre) / width + 0.5, 0, 1)
        item = section_item(case, section, window, f"{case.id}-{plane}-{index:03d}")
        return item, Image.fromarray((grey * 255).astype(np.uint8)).convert("RGB")


def volumes(folder: Path) -> Iterator[tuple[Examination, Volume]]:
    """Examinations of the demonstration with their volumes, from the archives in a folder."""
    for source in sources_of("standard"):
        parts = [part for part in CONTENTS[source.name] if isinstance(part, Examination)]
        path = find(source, [folder])
        if not parts or path is None:
            continue
        members = read_members(path, [name for part in parts for name in part.files])
        for part in parts:
            data = [
                content
                for name in part.files
                for each, content in members.items()
                if each == name or (name.endswith("/") and each.startswith(name))
            ]
            yield part, part.read(data)


def _cuts(examination: Examination, volume: Volume) -> _Cuts:
    cutter = Cutter(volume)
    used = volume.values[volume.values > volume.values.min()]
    low, high = (float(np.percentile(used, share)) for share in (1.0, 99.5))
    places = [
        (plane, index) for plane in PLANES if plane in examination.case.every_mm for index in cutter.places(plane, 0.1)
    ]
    return _Cuts(examination, cutter, places, low, high, examination.case.what)


def section_item(case: Case, section: Section, window: str, key: str) -> Item:
    """The facts of a section of a volume."""
    facts = {f"modality:{case.modality}", f"plane:{section.plane}"}
    facts |= {f"body:{part}" for part in region_words(section.found)}
    facts |= {f"structure:{name}" for name in facet_structures(section.found)}
    closed = {"plane", "structure", "sequence", "finding"}
    if section.side:
        facts.add(f"side:{section.side}")
    closed.add("side")
    if section.level:
        facts |= {f"level:{each}" for each in section.level.split("/")}
        closed.add("level")
    if window:
        facts.add(f"window:{window}")
        closed.add("window")
    return Item(key, case.id, frozenset(facts), frozenset(closed))


class Pictures:
    """Single pictures of the demonstration."""

    def __init__(self, folder: Path) -> None:
        self._made: list[Made] = []
        for source in sources_of("standard"):
            path = find(source, [folder])
            if path is None:
                continue
            for part in CONTENTS[source.name]:
                if isinstance(part, Examination):
                    continue
                members = read_members(path, list(part.files))
                for stream in part.open([members[name] for name in part.files]).streams:
                    for row in stream:
                        if isinstance(row, AtlasRecord):
                            image = decode_image(row.read_image()).image.convert("RGB")
                            image.thumbnail((400, 400))
                            self._made.append((record_item(row), image))

    def __len__(self) -> int:
        return len(self._made)

    def make(self, rng: Rng) -> Made:
        """One of them."""
        return self._made[int(rng.integers(len(self._made)))]


_NAMES = {"modality": "modality", "plane": "plane", "body_part": "body", "structure": "structure", "sequence": "sequence",
          "side": "side", "finding": "finding"}  # fmt: skip


def record_item(record: AtlasRecord) -> Item:
    """The facts of a record of the demonstration."""
    facts = {f"{_NAMES[name]}:{value}" for name, values in record.labels.items() if name in _NAMES for value in values}
    return Item(record.id, "pictures", frozenset(facts), frozenset({"finding"}), caption=record.caption)


_BODY = {"lumbar spine": ("spine", "lumbar spine"), "brain": ("brain", "head")}


class Real:
    """Real images of one split of the folder `real`. Each source is drawn as often as the root of its size says."""

    def __init__(self, folder: Path, split: str) -> None:
        rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
        self.rows = [row for row in rows if row["split"] == split]
        self._folder = folder
        self._by_source: dict[str, list[int]] = {}
        for index, row in enumerate(self.rows):
            self._by_source.setdefault(source_of(row), []).append(index)

    def make(self, rng: Rng) -> Made:
        """A random one."""
        names = sorted(self._by_source)
        weights = np.array([len(self._by_source[name]) ** 0.7 for name in names])
        rows = self._by_source[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        return self.read(rows[int(rng.integers(len(rows)))])

    def read(self, index: int) -> Made:
        """One image."""
        row = self.rows[index]
        return real_item(row), Image.open(self._folder / row["file"]).convert("RGB")


def source_of(row: Mapping[str, Any]) -> str:
    """The data set that a row is of, by its folder."""
    return str(row["file"]).split("/")[1]


def real_item(row: Mapping[str, Any]) -> Item:
    """The facts of a row of `captions.jsonl`."""
    labels = row["labels"]
    body = _BODY.get(labels["body_part"], (labels["body_part"],))
    facts = {f"modality:{labels['modality']}", *(f"body:{part}" for part in body)}
    facts |= {f"finding:{finding}" for finding in labels.get("finding", ())}
    for name in ("plane", "view", "side", "sequence", "sex"):
        if labels.get(name):
            facts.add(f"{name}:{labels[name]}")
    if labels.get("age_group"):
        facts.add(f"age:{labels['age_group']}")
    if labels.get("contrast"):
        facts.add(f"contrast:{labels['contrast']}")
    closed = {name for name in ("plane", "view", "side", "sequence") if labels.get(name)}
    if labels["modality"] not in ("mr", "ct"):
        closed |= {"sequence", "window", "level"}
    if labels["modality"] != "mr":
        closed.add("sequence")
    if labels["modality"] in ("dermoscopy", "microscopy", "fundus", "us"):
        closed |= {"plane", "structure"}
    if labels.get("finding"):
        closed.add("finding")
    if labels.get("age_group"):
        closed.add("age")
    return Item(row["id"], source_of(row), frozenset(facts), frozenset(closed), caption=row["caption"])


class Others:
    """Pictures that are not medical: photographs of installed packages, their crops in colour and grey, and computed ones."""

    def __init__(self, photographs: list[Image.Image], source: SectionSource) -> None:
        self._photographs = photographs
        self._source = source

    def make(self, rng: Rng) -> Made:
        """One of either kind."""
        roll = rng.random()
        if roll < 0.55 and self._photographs:
            picture = self._photographs[int(rng.integers(len(self._photographs)))]
            if rng.random() < 0.8:
                [picture] = picture_gate.crops(picture, 1, rng)
            if rng.random() < 0.45:
                picture = picture.convert("L").convert("RGB")
            kind = "photograph"
        elif roll < 0.85:
            make: Callable[[Rng], Image.Image] = (picture_gate.page, picture_gate.chart, picture_gate.drawing)[
                int(rng.integers(3))
            ]
            picture, kind = make(rng), make.__name__
            if rng.random() < 0.3:
                picture = picture.convert("L").convert("RGB")
        else:
            pixels: NDArray[np.float32] = self._source.negative(rng)
            picture, kind = Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).convert("RGB"), "noise"
        return Item(f"other-{kind}", "other", NOTHING), picture


def facts_of(*facts: str) -> Facts:
    """Facts out of words."""
    return frozenset(facts)
