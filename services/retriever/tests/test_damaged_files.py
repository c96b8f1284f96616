"""Files of the retriever that are damaged: it starts without them, keeps them, and loses nothing else."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_core.files import MARK
from mirage_core.image_store import ImageStore
from mirage_retriever.app import _common_queries
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import Collection, Point
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.generations import Generations
from mirage_retriever.engines.edge.searcher import is_damage
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.facets import NAMES
from mirage_retriever.flags import Flag, FlagStore
from mirage_retriever.terms import EncoderModel

POLICY = ShardPolicy(restart_wait_s=20.0, queue_limit=64, build_quiet_s=60.0, build_share=0.1, build_points=50_000)
PRINT = "ab" * 32
RUBBISH: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"collection": {"name": "atl',
    "noise": bytes(range(256)),
    "deep": b"[" * 100_000,
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "a text": b'"text"',
}


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "within").write_bytes(b"kept")


# Flags.


def flag_lines(path: Path) -> tuple[Flag, Flag, list[bytes]]:
    store = FlagStore(path)
    first, second = (store.add(id_, reason="other", comment="é") for id_ in ("a", "b"))
    return first, second, path.read_bytes().splitlines()


@pytest.mark.parametrize(
    "line",
    [
        *RUBBISH.values(),
        *(b"{}", b'{"id": "x"}', b'{"id": 1, "record_id": "a", "reason": "other", "comment": "", "create_time": ""}'),
        b'{"id": "x", "record_id": "a", "reason": "spam", "comment": "", "create_time": ""}',
        b'{"id": "x", "record_id": "a", "reason": "other", "comment": [], "create_time": ""}',
        b'{"id": "x", "record_id": "a", "reason": "other", "comment": "", "create_time": "", "more": 1}',
    ],
)
def test_a_bad_line_costs_no_other_flag(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flags.jsonl"
    first, second, (one, two) = flag_lines(path)
    whole = b"\n".join((one, line, two)) + b"\n"
    path.write_bytes(whole)
    assert FlagStore(path).page()[0] == [second, first]
    (kept,) = (each for each in tmp_path.iterdir() if MARK in each.name)
    assert kept.read_bytes() == whole
    # It is said once: what is left is in order, and can be added to.
    store = FlagStore(path)
    third = store.add("c", reason="privacy", comment="")
    assert FlagStore(path).page()[0] == [third, second, first]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["empty", "folder", "link to nowhere", "noise"])
def test_a_file_of_flags_that_is_none_is_as_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "flags.jsonl"
    match kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "noise":
            path.write_bytes(os.urandom(1000) + b"\n")
        case _:
            path.symlink_to("nowhere")
    store = FlagStore(path)
    assert store.page()[0] == []
    if kind != "link to nowhere":
        made = store.add("a", reason="other", comment="")
        assert FlagStore(path).page()[0] == [made]


# Images and lists.


@pytest.mark.parametrize("part", ["images", "thumbnails"])
def test_a_file_in_the_place_of_a_folder_of_images_is_put_aside(part: str, tmp_path: Path) -> None:
    ImageStore(tmp_path)
    (folder,) = {path for path in tmp_path.rglob(part) if path.is_dir()}
    shutil.rmtree(folder)
    folder.write_bytes(b"what was there")
    ImageStore(tmp_path)
    assert folder.is_dir()
    (kept,) = tmp_path.rglob(f"*{MARK}*")
    assert kept.read_bytes() == b"what was there"


@pytest.mark.parametrize("kind", ["absent", "folder", "noise", "long line"])
def test_a_list_of_common_queries_that_cannot_be_read_is_gone_without(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    match kind:
        case "folder":
            path.mkdir()
        case "noise":
            path.write_bytes(b"\xff\xfe\x00")
        case "long line":
            path.write_text("a" * 3000)
    assert _common_queries(path) is None
    path = tmp_path / "good.txt"
    path.write_text("brain\n")
    assert _common_queries(path) == ("brain",)


# Collections.


def store(data: Path) -> EdgeCollectionStore:
    return EdgeCollectionStore(data, default="atlas", make=lambda path: EdgeEngine(path, facets=NAMES, policy=POLICY))


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Collections]:
    collections = Collections(store(data))
    try:
        if not await collections.open():
            await collections.active.make(Collection("atlas", 4, PRINT))
        await collections.adopt(EncoderModel("test", PRINT, 4, "{}"))
        yield collections
    finally:
        await collections.close()


async def ids(collections: Collections, name: str) -> Sequence[str]:
    async with collections.use(name) as atlas:
        return [each.id for each in (await atlas.engine.walk("", 10)).points]


def point(id_: str) -> Point:
    vector = np.array([1, 0, 0, 0], np.float32)
    return Point(id=id_, image=vector, caption=vector, record="{}", facets={}, image_sha256="0" * 64)


async def fill(data: Path) -> None:
    """Two collections with a record each, the second one active."""
    async with opened(data) as collections:
        await collections.create("next", dimension=4, fingerprint=PRINT)
        for name in ("atlas", "next"):
            async with collections.use(name) as atlas:
                await atlas.engine.upsert([point(f"of-{name}")])
        await collections.activate("next")


def collection_file(directory: Path) -> Path:
    return directory / "collection.json"


def altered(**changes: Any) -> Callable[[Path], object]:
    def alter(directory: Path) -> None:
        content = json.loads(collection_file(directory).read_text())
        collection = {**content["collection"], **changes.get("collection", {})}
        collection_file(directory).write_text(json.dumps({**content, **changes, "collection": collection}))

    return alter


def holding(data: bytes) -> Callable[[Path], object]:
    return lambda directory: collection_file(directory).write_bytes(data)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


DAMAGE: dict[str, Callable[[Path], object]] = {
    **{f"a file that is {kind}": holding(data) for kind, data in RUBBISH.items()},
    "a folder for the file": lambda directory: replace_by_folder(collection_file(directory)),
    "no dimension": altered(collection={"dimension": 0}),
    "a dimension that is text": altered(collection={"dimension": "4"}),
    "a name that is a path": altered(collection={"name": "../x"}),
    "a field that nobody knows": altered(collection={"other": 1}),
    "no shards": altered(shards=0),
    "a shard too much": altered(shards=2),
    "shards beyond all": altered(shards=10**9),
    "lost shards": lambda directory: shutil.rmtree(directory / "shards"),
    "a file for the shards": lambda directory: replace_by_file(directory / "shards"),
}


def pretend(directory: Path, name: str) -> Path:
    """The files of a collection as far as they are read before its engine is."""
    (directory / "shards" / "0" / "g00000001").mkdir(parents=True)
    (directory / "shards" / "0" / "g00000001" / "segment").write_bytes(b"vectors")
    (directory / "shards" / "0" / "CURRENT").write_bytes(b"g00000001")
    content = {"collection": asdict(Collection(name, 4, PRINT)), "shards": 1}
    collection_file(directory).write_text(json.dumps(content))
    return directory


def content_of(directory: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


def kept_of(root: Path, *names: str) -> dict[str, Path]:
    """What each of them was renamed to."""
    return {name: next(root.glob(f"{name}{MARK}*")) for name in names}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_collection_is_put_aside_whole(kind: str, tmp_path: Path) -> None:
    for name in ("edge", "collections/next", "collections/other"):
        pretend(tmp_path / name, name.rpartition("/")[2].replace("edge", "atlas"))
    for name in ("edge", "collections/next"):
        DAMAGE[kind](tmp_path / name)
    before = {name: content_of(tmp_path / name) for name in ("edge", "collections/next")}
    found = store(tmp_path)
    assert await found.names() == ["other"]
    assert {name: content_of(path) for name, path in kept_of(tmp_path, *before).items()} == before
    await found.close()
    # Nothing more is put aside at the next start.
    again = store(tmp_path)
    assert await again.names() == ["other"]
    assert kept_of(tmp_path, *before).keys() == before.keys()
    await again.close()


async def test_the_others_are_searched_and_its_name_is_free_again(tmp_path: Path) -> None:
    await fill(tmp_path)
    collection_file(tmp_path / "collections" / "next").write_bytes(b"")
    async with opened(tmp_path) as collections:
        assert [each.collection.name for each in await collections.listed()] == ["atlas"]
        assert collections.active.name == "atlas"
        assert await ids(collections, "atlas") == ["of-atlas"]
        await collections.create("next", dimension=4, fingerprint=PRINT)


async def test_the_first_collection_may_be_the_damaged_one(tmp_path: Path) -> None:
    await fill(tmp_path)
    collection_file(tmp_path / "edge").write_bytes(b"")
    async with opened(tmp_path) as collections:
        assert collections.active.name == "next"
        assert await ids(collections, "next") == ["of-next"]
        assert "atlas" not in [each.collection.name for each in await collections.listed()]
    assert [name for name in os.listdir(tmp_path) if name.startswith(f"edge{MARK}")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda mark: mark.write_bytes(b""),
        lambda mark: mark.write_bytes(b"\xff\xfe"),
        lambda mark: mark.write_bytes(b"g99999999"),
        lambda mark: mark.write_bytes(b"../../x"),
        lambda mark: mark.unlink(),
        replace_by_folder,
    ],
    ids=["empty", "noise", "of none", "a path", "lost", "a folder"],
)
def test_the_mark_of_a_shard_is_found_again(damage: Callable[[Path], object], tmp_path: Path) -> None:
    shard = pretend(tmp_path / "edge", "atlas") / "shards" / "0"
    # A later generation that was never finished must not be taken for the truth.
    (shard / "g00000009").mkdir()
    damage(shard / "CURRENT")
    for _ in range(2):
        assert Generations(shard).current == shard / "g00000001"
    assert (shard / "CURRENT").read_text() == "g00000001"


async def test_no_record_is_lost_with_the_mark_of_a_shard(tmp_path: Path) -> None:
    await fill(tmp_path)
    (tmp_path / "collections" / "next" / "shards" / "0" / "CURRENT").write_bytes(b"")
    async with opened(tmp_path) as collections:
        assert collections.active.name == "next"
        assert await ids(collections, "next") == ["of-next"]


@pytest.mark.parametrize("name", ["ACTIVE", "collections/lock"])
async def test_a_folder_in_the_place_of_a_file_does_not_keep_from_starting(name: str, tmp_path: Path) -> None:
    for directory in ("edge", "collections/next"):
        pretend(tmp_path / directory, directory.rpartition("/")[2].replace("edge", "atlas"))
    (tmp_path / name).mkdir()
    found = store(tmp_path)
    assert (await found.names(), await found.active()) == (["atlas", "next"], "atlas")
    await found.mark_active("next")
    assert await found.active() == "next"
    await found.close()


async def test_a_file_in_the_place_of_the_collections_does_not_keep_from_starting(tmp_path: Path) -> None:
    pretend(tmp_path / "edge", "atlas")
    (tmp_path / "collections").write_bytes(b"what was there")
    found = store(tmp_path)
    assert await found.names() == ["atlas"]
    await found.close()


@pytest.mark.parametrize("content", [b"", b"\xff", b"../x\n", b"absent\n", bytes(range(256))])
async def test_an_active_collection_that_is_not_there_is_the_first_one(content: bytes, tmp_path: Path) -> None:
    pretend(tmp_path / "edge", "atlas")
    (tmp_path / "ACTIVE").write_bytes(content)
    found = store(tmp_path)
    assert await found.active() == "atlas"
    await found.close()


def segment(directory: Path) -> Path:
    """A file without which the engine cannot load a shard."""
    (path,) = (directory / "shards" / "0").rglob("segment.json")
    return path


async def test_a_collection_that_no_searcher_can_load_is_put_aside(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with opened(tmp_path) as collections:
        await collections.create("third", dimension=4, fingerprint=PRINT)
    for name in ("next", "third"):
        segment(tmp_path / "collections" / name).write_bytes(b"rubbish")
    async with opened(tmp_path) as collections:
        # The active one is known at the start, another as soon as it is asked for.
        assert collections.active.name == "atlas"
        assert await ids(collections, "atlas") == ["of-atlas"]
        with pytest.raises(MirageError) as caught:
            await ids(collections, "third")
        assert caught.value.code is Code.COLLECTION_NOT_FOUND
        assert [each.collection.name for each in await collections.listed()] == ["atlas"]
    for kept in kept_of(tmp_path, "collections/next", "collections/third").values():
        assert segment(kept).read_bytes() == b"rubbish"


@pytest.mark.parametrize(
    ("error", "damage"),
    [
        *(
            (OSError("failed to load segment: Failed to deserialize"), True),
            (BaseException("index out of bounds"), True),
        ),
        *((OSError("IO Error: No space left on device (os error 28)"), False), (MemoryError(), False)),
        *((OSError("Too many open files (os error 24)"), False), (OSError("Permission denied (os error 13)"), False)),
    ],
)
def test_what_is_short_is_told_from_what_is_damaged(error: BaseException, damage: bool, tmp_path: Path) -> None:
    assert is_damage(error, tmp_path) is damage
