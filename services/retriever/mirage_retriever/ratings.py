"""Rating sheets: what experts rate, without knowing where it came from, and their answers.

Each sheet is a folder: `sheet.json`, the images that belong to it alone (`3.image`), and a file of answers for each rater, which
is named after the digest of the rater's token. Several processes may use one folder.
"""

import asyncio
import fcntl
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from mirage_api.ratings import IMAGE_BYTES, ITEMS_MAX, RATERS_MAX, RELEVANCE_MAX, SHEETS_MAX, TEXT_CHARS
from mirage_core import limits, telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.files import write_atomically
from mirage_protos.v1.rating_pb2 import (
    RATING_KIND_DESCRIPTION,
    RATING_KIND_IMAGE,
    RATING_KIND_RESULT,
    RATING_KIND_UNSPECIFIED,
    RATING_ORIGIN_UNSPECIFIED,
    RATING_VERDICT_MISLABELLED,
    RATING_VERDICT_UNSPECIFIED,
    RatingAnswer,
    RatingItem,
    RatingQuestion,
    RatingSheet,
)
from mirage_retriever.collections import Collections
from mirage_retriever.images import IMAGES, Images
from mirage_retriever.records import Record

_log = telemetry.get_logger()
T = TypeVar("T")
M = TypeVar("M", bound=Message)

_TOKEN_BYTES = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_ID = re.compile(r"[0-9a-f]{16}")
_SYSTEM_CHARS = 64
_SHEET, _ANSWERS, _LOCK = "sheet.json", "answers-{}.json", "lock"


@dataclass(frozen=True)
class Rating:
    """A rater's questions and answers; `version` is raised by each answer."""

    questions: Sequence[RatingQuestion]
    answers: Sequence[RatingAnswer]
    version: int


class _Rater:
    """A rater's file of answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = json.loads(path.read_bytes())
        self.number: int = found["rater"]
        self.version: int = found["version"]
        self.answers = [json_format.ParseDict(each, RatingAnswer()) for each in found["answers"]]

    def write(self) -> None:
        answers = [json_format.MessageToDict(each) for each in self.answers]
        _write(self.path, {"rater": self.number, "version": self.version, "answers": answers})


class RatingStore:
    """The folders of sheets below `path`. All calls block. Each raises RATING_NOT_FOUND for what is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, collection: str, raters: int) -> tuple[RatingSheet, list[str]]:
        """Makes an empty sheet; returns it with a token for each rater. Raises TOO_MANY_ITEMS or STORAGE_FULL."""
        if not 1 <= raters <= RATERS_MAX:
            raise MirageError(Code.TOO_MANY_ITEMS, field="raters", min=1, max=RATERS_MAX, given=raters)
        self._path.mkdir(mode=0o700, exist_ok=True)
        with _locked(self._path):
            # Leftovers of a removal that a crash cut short.
            for left in self._path.glob(".*"):
                shutil.rmtree(left, ignore_errors=True)
            if len(self._ids()) >= SHEETS_MAX:
                raise MirageError(Code.TOO_MANY_ITEMS, field="sheets", min=0, max=SHEETS_MAX, given=SHEETS_MAX + 1)
            sheet = RatingSheet(id=secrets.token_hex(8), collection=collection, raters=raters)
            sheet.create_time.GetCurrentTime()
            folder = self._path / sheet.id
            folder.mkdir(mode=0o700)
            tokens = [secrets.token_urlsafe(_TOKEN_BYTES) for _ in range(raters)]
            for number, token in enumerate(tokens, 1):
                _write(folder / _answers_of(token), {"rater": number, "version": 0, "answers": []})
            _write(folder / _SHEET, json_format.MessageToDict(sheet))
        return sheet, tokens

    def add(self, id_: str, item: RatingItem, image: bytes = b"") -> RatingItem:
        """Adds an item, with an image that was cleaned; raises TOO_MANY_ITEMS or STORAGE_FULL."""
        folder = self._folder(id_)
        with _locked(folder):
            sheet = self._read(folder)
            if len(sheet.items) >= ITEMS_MAX:
                raise MirageError(Code.TOO_MANY_ITEMS, field="items", min=0, max=ITEMS_MAX, given=ITEMS_MAX + 1)
            item.number = len(sheet.items) + 1
            if image:
                _write_bytes(folder / f"{item.number}.image", image)
            sheet.items.append(item)
            _write(folder / _SHEET, json_format.MessageToDict(sheet))
        return item

    def sheet(self, id_: str) -> RatingSheet:
        """Returns a sheet with its items and answers."""
        folder = self._folder(id_)
        sheet = self._read(folder)
        for rater in self._raters(folder):
            for answer in rater.answers:
                answer.rater = rater.number
                sheet.answers.append(answer)
        sheet.answers.sort(key=lambda each: (each.number, each.rater))
        sheet.size, sheet.answered = len(sheet.items), len(sheet.answers)
        return sheet

    def sheets(self) -> list[RatingSheet]:
        """Returns all sheets without items and answers, newest first. Damaged ones are left out."""
        found = []
        for id_ in self._ids():
            try:
                sheet = self.sheet(id_)
            except MirageError:
                continue
            del sheet.items[:], sheet.answers[:]
            found.append(sheet)
        return sorted(found, key=lambda each: each.create_time.ToNanoseconds(), reverse=True)

    def remove(self, id_: str) -> int:
        """Removes a sheet; returns how many answers were on it."""
        folder = self._folder(id_)
        answers = sum(len(rater.answers) for rater in self._raters(folder))
        # Its name first: half of a sheet is not one.
        folder = folder.rename(folder.with_name(f".{id_}"))
        shutil.rmtree(folder)
        return answers

    def of_token(self, token: str) -> tuple[RatingSheet, Sequence[RatingAnswer], int]:
        """Returns the sheet of a token, its rater's answers, and their version."""
        folder = self._folder_of(token)
        rater = self._rater(folder, token)
        return self._read(folder), rater.answers, rater.version

    def answer(self, token: str, answer: RatingAnswer, version: int) -> int:
        """Stores an answer in place of the one before; returns the version from now on.

        Raises RATING_CHANGED if another page has answered since, RATING_ITEM_NOT_FOUND, REQUEST_MALFORMED or STORAGE_FULL.
        """
        folder = self._folder_of(token)
        with _locked(folder):
            _check_answer(answer, _item(self._read(folder), answer.number))
            answer.rater = 0
            rater = self._rater(folder, token)
            # The same answer sent again is not another one: its reply may have been lost.
            if answer in rater.answers:
                return rater.version
            if version != rater.version:
                raise MirageError(Code.RATING_CHANGED)
            rater.answers = [*(each for each in rater.answers if each.number != answer.number), answer]
            rater.version += 1
            rater.write()
            return rater.version

    def image(self, id_: str, number: int) -> bytes:
        """Returns an image that belongs to a sheet; raises RATING_ITEM_NOT_FOUND."""
        try:
            return (self._folder(id_) / f"{number}.image").read_bytes()
        except FileNotFoundError as error:
            raise MirageError(Code.RATING_ITEM_NOT_FOUND, number=number) from error

    def _ids(self) -> list[str]:
        return sorted(each.name for each in self._path.iterdir() if _ID.fullmatch(each.name)) if self._is_made else []

    @property
    def _is_made(self) -> bool:
        return self._path.is_dir()

    def _folder(self, id_: str) -> Path:
        folder = self._path / id_
        if not _ID.fullmatch(id_) or not (folder / _SHEET).is_file():
            raise MirageError(Code.RATING_NOT_FOUND)
        return folder

    def _folder_of(self, token: str) -> Path:
        if _TOKEN.fullmatch(token):
            name = _answers_of(token)
            for id_ in self._ids():
                if (self._path / id_ / name).is_file():
                    return self._folder(id_)
        raise MirageError(Code.RATING_NOT_FOUND)

    def _read(self, folder: Path) -> RatingSheet:
        return _parsed(folder / _SHEET, _sheet)

    def _rater(self, folder: Path, token: str) -> _Rater:
        return _parsed(folder / _answers_of(token), _Rater)

    def _raters(self, folder: Path) -> Iterator[_Rater]:
        for path in sorted(folder.glob(_ANSWERS.format("*"))):
            try:
                yield _parsed(path, _Rater)
            except MirageError:
                continue


class Ratings:
    """Rating sheets over the collections whose records they show."""

    def __init__(self, path: Path, collections: Collections, images: Images) -> None:
        self._store = RatingStore(path)
        self._collections = collections
        self._images = images

    async def create(self, collection: str, raters: int) -> tuple[RatingSheet, list[str]]:
        """Makes an empty sheet for a collection, the active one if empty; raises COLLECTION_NOT_FOUND, too."""
        async with self._collections.use(collection) as atlas:
            name = atlas.name
        return await asyncio.to_thread(self._store.create, name, raters)

    async def add(self, id_: str, item: RatingItem, image: bytes) -> RatingItem:
        """Adds an item. Its image is cleaned as that of a record is.

        Raises REQUEST_MALFORMED, RECORD_NOT_FOUND, what `Images.take_in` raises, and IMAGE_TOO_LARGE.
        """
        _check_item(item, has_image=bool(image))
        if item.record_id:
            sheet = await asyncio.to_thread(self._store.sheet, id_)
            if item.record_id not in await self._records(sheet.collection, [item.record_id]):
                raise MirageError(Code.RECORD_NOT_FOUND, id=item.record_id)
        clean = b""
        if image:
            staged = await self._images.take_in([image], None)
            try:
                if staged.size > IMAGE_BYTES:
                    raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=IMAGE_BYTES)
                clean, item.image_type = await asyncio.to_thread(staged.image), staged.stored.media_type
            finally:
                await asyncio.to_thread(staged.drop)
        return await asyncio.to_thread(self._store.add, id_, item, clean)

    async def sheet(self, id_: str) -> RatingSheet:
        """Returns a sheet with its items and answers; `gone` marks items whose record was deleted."""
        sheet = await asyncio.to_thread(self._store.sheet, id_)
        records = await self._records_of(sheet)
        for item in sheet.items:
            item.gone = _is_gone(item, records)
        return sheet

    async def sheets(self) -> list[RatingSheet]:
        """Returns all sheets without items and answers, newest first."""
        return await asyncio.to_thread(self._store.sheets)

    async def remove(self, id_: str) -> int:
        """Removes a sheet; returns how many answers were on it."""
        return await asyncio.to_thread(self._store.remove, id_)

    async def rating(self, token: str) -> Rating:
        """Returns what a rater sees: nothing of where an item came from."""
        sheet, answers, version = await asyncio.to_thread(self._store.of_token, token)
        records = await self._records_of(sheet)
        return Rating([_question(item, records) for item in sheet.items], answers, version)

    async def answer(self, token: str, answer: RatingAnswer, version: int) -> int:
        """Stores an answer; returns the version from now on. Raises what `RatingStore.answer` raises."""
        sheet, _, _ = await asyncio.to_thread(self._store.of_token, token)
        await self._record(sheet, _item(sheet, answer.number))
        return await asyncio.to_thread(self._store.answer, token, answer, version)

    async def image(self, token: str, number: int) -> AsyncGenerator[tuple[str, int, bytes]]:
        """Yields the image of a question in pieces, each with its media type and the length of the whole.

        Raises RATING_ITEM_NOT_FOUND, also if the record was deleted.
        """
        sheet, _, _ = await asyncio.to_thread(self._store.of_token, token)
        item = _item(sheet, number)
        record = await self._record(sheet, item)
        if record is None:
            data = await asyncio.to_thread(self._store.image, sheet.id, number)
            for start in range(0, len(data), limits.PART_BYTES):
                yield item.image_type, len(data), data[start : start + limits.PART_BYTES]
            return
        async with aclosing(self._images.read(IMAGES, record.image_sha256)) as pieces:
            async for length, piece in pieces:
                yield record.image_type, length, piece

    async def _record(self, sheet: RatingSheet, item: RatingItem) -> Record | None:
        if not item.record_id:
            return None
        record = (await self._records(sheet.collection, [item.record_id])).get(item.record_id)
        if record is None:
            # The record's id would say where the item came from.
            raise MirageError(Code.RATING_ITEM_NOT_FOUND, number=item.number)
        return record

    async def _records_of(self, sheet: RatingSheet) -> Mapping[str, Record]:
        return await self._records(sheet.collection, sorted({each.record_id for each in sheet.items if each.record_id}))

    async def _records(self, collection: str, ids: Sequence[str]) -> Mapping[str, Record]:
        """The records that are there; none if the collection was removed."""
        for id_ in ids:
            limits.check_id(id_)
        try:
            async with self._collections.use(collection) as atlas:
                found = await atlas.engine.fetch(ids) if ids else {}
        except MirageError as error:
            if error.code is not Code.COLLECTION_NOT_FOUND:
                raise
            return {}
        return {id_: Record.from_json(stored.record) for id_, stored in found.items()}


def _is_gone(item: RatingItem, records: Mapping[str, Record]) -> bool:
    return bool(item.record_id) and item.record_id not in records


def _question(item: RatingItem, records: Mapping[str, Record]) -> RatingQuestion:
    record = records.get(item.record_id)
    gone = _is_gone(item, records)
    caption = record.caption if record is not None and item.kind == RATING_KIND_RESULT else ""
    return RatingQuestion(
        number=item.number,
        kind=item.kind,
        query=item.query,
        text=item.text or caption,
        has_image=item.kind != RATING_KIND_DESCRIPTION and not gone,
        gone=gone,
    )


def _item(sheet: RatingSheet, number: int) -> RatingItem:
    if not 1 <= number <= len(sheet.items):
        raise MirageError(Code.RATING_ITEM_NOT_FOUND, number=number)
    return sheet.items[number - 1]


def _check_item(item: RatingItem, *, has_image: bool) -> None:
    """Raises REQUEST_MALFORMED for an item that cannot be rated."""
    shown = [bool(item.record_id), has_image].count(True)
    described = item.kind == RATING_KIND_DESCRIPTION
    own_text = described or (item.kind == RATING_KIND_RESULT and has_image)
    wrong = {
        "kind": item.kind == RATING_KIND_UNSPECIFIED,
        "query": not item.query.strip() or len(item.query) > limits.TEXT_CHARS,
        "text": len(item.text) > TEXT_CHARS or bool(item.text) > own_text or (described and not item.text.strip()),
        "record_id, image": shown != (0 if described else 1),
        "system": not item.system.strip() or len(item.system) > _SYSTEM_CHARS,
        "rank": not 0 <= item.rank <= limits.K_MAX,
        "origin": item.kind == RATING_KIND_IMAGE and item.origin == RATING_ORIGIN_UNSPECIFIED,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise MirageError(Code.REQUEST_MALFORMED, field=name)


def _check_answer(answer: RatingAnswer, item: RatingItem) -> None:
    """Raises REQUEST_MALFORMED for an answer that is neither whole nor "cannot tell"."""
    rated = answer.HasField("relevance")
    of_image = item.kind == RATING_KIND_IMAGE
    described = item.kind == RATING_KIND_DESCRIPTION
    wrong = {
        "relevance": rated and not 0 <= answer.relevance <= RELEVANCE_MAX,
        "verdict": (answer.verdict != RATING_VERDICT_UNSPECIFIED) is not (rated and not of_image)
        or (described and answer.verdict == RATING_VERDICT_MISLABELLED),
        "origin": (answer.origin != RATING_ORIGIN_UNSPECIFIED) is not (rated and of_image),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise MirageError(Code.REQUEST_MALFORMED, field=name)


def _answers_of(token: str) -> str:
    return _ANSWERS.format(hashlib.sha256(token.encode()).hexdigest())


def _parsed(path: Path, read: Callable[[Path], T]) -> T:
    """Returns the content of a file; raises RATING_NOT_FOUND if it is gone or damaged, which is logged."""
    try:
        return read(path)
    except FileNotFoundError as error:
        raise MirageError(Code.RATING_NOT_FOUND) from error
    except (OSError, ValueError, KeyError, TypeError, json_format.ParseError) as error:
        _log.error("damaged rating file ignored", file=str(path))
        raise MirageError(Code.RATING_NOT_FOUND) from error


def _sheet(path: Path) -> RatingSheet:
    sheet = json_format.Parse(path.read_bytes(), RatingSheet(), ignore_unknown_fields=True)
    if sheet.id != path.parent.name:
        raise ValueError("the sheet has another id than its folder")
    return sheet


def _write(path: Path, document: Mapping[str, Any]) -> None:
    _write_bytes(path, json.dumps(document, ensure_ascii=False).encode())


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise MirageError(Code.STORAGE_FULL) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other threads and processes from writing below a folder."""
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
