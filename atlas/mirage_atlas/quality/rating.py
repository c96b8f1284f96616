"""Rating by experts: sheets are drawn, and answers are summed up."""

import csv
import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import httpx
from PIL import Image

from mirage.client import Client
from mirage.errors import ApiError, ClientError, InputError
from mirage.provenance import read_provenance
from mirage.queries import Query, Term
from mirage_api.jobs import Job
from mirage_api.ratings import ITEMS_MAX, Answer, Item, ItemUpload, Kind, Origin, Sheet
from mirage_atlas.quality.agreement import Scale, alpha
from mirage_atlas.quality.measures import SEED, Estimate, estimate, share
from mirage_core.synthetic_label import label_rows

OWN = "mirage"
KINDS: tuple[Kind, ...] = ("result", "image", "description")
# The first results of a query, from which items are drawn.
_DEPTH = 3
_SIDE = 1024
_FILE_BYTES = 20 * 2**20
_ROWS_MAX = 3_000
_COLUMNS = ("query", "image", "caption", "rank", "system")
_RELEVANT = 2
_TIMEOUT_S = 30
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Other:
    """A result of another search: `image` is a file or a URL."""

    query: str
    image: Path | str
    caption: str = ""
    rank: int = 0
    system: str = "other"


@dataclass(frozen=True, eq=False)
class Drawn:
    """An item of a sheet, with an image of its own if it shows no record."""

    item: ItemUpload
    image: bytes | None = None


def conditions() -> list[str]:
    """The 30 standard conditions."""
    text = resources.files("mirage_atlas.quality").joinpath("conditions.txt").read_text("utf-8")
    return [line for line in text.splitlines() if line]


def template() -> str:
    """The standard conditions as a CSV to fill in with the results of another search."""
    return _csv([_COLUMNS, *([each, "", "", 1, "other"] for each in conditions())])


def read_others(path: Path) -> list[Other]:
    """Reads the results of another search; raises InputError with the line that is wrong."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8") from error
    rows = csv.DictReader(io.StringIO(text))
    if not {"query", "image"} <= set(rows.fieldnames or ()):
        raise InputError(f"{path} needs the columns query and image")
    found = []
    try:
        for row in rows:
            if row["image"]:
                found.append(_other(row, path.parent, f"{path}, line {rows.line_num}"))
            if len(found) > _ROWS_MAX:
                raise InputError(f"{path} has more than {_ROWS_MAX:,} rows")
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}") from error
    if not found:
        raise InputError(f"{path} has no row with an image")
    return found


def _other(row: Mapping[str, Any], folder: Path, where: str) -> Other:
    query, image = (row["query"] or "").strip(), row["image"].strip()
    if not query:
        raise InputError(f"{where}: the query is empty")
    system = (row.get("system") or "other").strip()
    if system == OWN:
        raise InputError(f"{where}: the system {OWN} is this one; give the other a name of its own")
    rank = (row.get("rank") or "0").strip()
    if not rank.isdecimal() or int(rank) > 100:
        raise InputError(f"{where}: the rank {rank!r} is not a number from 1 to 100")
    caption = (row.get("caption") or "").strip()
    if image.startswith(("http://", "https://")):
        return Other(query, image, caption, int(rank), system)
    path = (folder / image).resolve()
    if not path.is_file() or not path.is_relative_to(folder.resolve()):
        raise InputError(f"{where}: there is no file {image} next to the CSV")
    return Other(query, path, caption, int(rank), system)


def draw(
    client: Client,
    queries: Sequence[str],
    others: Sequence[Other] = (),
    *,
    items: int,
    kinds: Sequence[Kind] = KINDS,
    seed: int = SEED,
    collection: str = "",
    report: Report = lambda _done, _all: None,
) -> list[Drawn]:
    """Draws a sheet: the same number of items of each system and kind, over the same queries, in a mixed order."""
    rng = random.Random(seed)
    asked = list(dict.fromkeys(queries))
    rng.shuffle(asked)
    generator = any(each.task == "generate" for each in client.models())
    systems = sorted({each.system for each in others})
    sources: list[Iterator[Drawn]] = []
    if "result" in kinds:
        sources.append(_results(client, asked, collection))
        sources += [_results_of(others, asked, system) for system in systems]
    if "image" in kinds and generator:
        sources += [_found(client, asked, collection), _generated(client, asked, rng)]
    if "description" in kinds:
        sources.append(_descriptions(client, asked, collection))
    if not sources:
        raise InputError("there is nothing to rate: images alone need a generator, which this server does not have")
    each_has = max(1, min(items, ITEMS_MAX) // len(sources))
    drawn = []
    for number, source in enumerate(sources):
        for done, found in zip(range(1, each_has + 1), source, strict=False):
            drawn.append(found)
            report(number * each_has + done, each_has * len(sources))
    if not drawn:
        raise InputError("no query has a result")
    rng.shuffle(drawn)
    return drawn


def _results(client: Client, queries: Sequence[str], collection: str) -> Iterator[Drawn]:
    """First results of all queries, then second ones, and so on."""
    found: dict[str, list[str]] = {}
    for rank in range(1, _DEPTH + 1):
        for query in queries:
            if query not in found:
                asked = Query((Term(text=query),), k=_DEPTH, collection=collection)
                found[query] = [each.id for each in client.search(asked).results]
            if len(found[query]) >= rank:
                id_ = found[query][rank - 1]
                yield Drawn(ItemUpload(kind="result", query=query, record_id=id_, system=OWN, rank=rank))


def _results_of(others: Sequence[Other], queries: Sequence[str], system: str) -> Iterator[Drawn]:
    """The same of another search, in the same order of queries."""
    rows = {
        query: sorted((each for each in others if (each.query, each.system) == (query, system)), key=lambda e: e.rank)
        for query in queries
    }
    for place in range(_DEPTH):
        for query in queries:
            if len(rows[query]) > place:
                row = rows[query][place]
                item = ItemUpload(kind="result", query=query, text=row.caption, system=system, rank=row.rank)
                yield Drawn(item, shown(_load(row.image), str(row.image)))


def _found(client: Client, queries: Sequence[str], collection: str) -> Iterator[Drawn]:
    for query in queries:
        for each in client.search(Query((Term(text=query),), k=1, collection=collection)).results:
            item = ItemUpload(kind="image", query=query, record_id=each.id, system=OWN, rank=1, origin="real")
            yield Drawn(item)


def _generated(client: Client, queries: Sequence[str], rng: random.Random) -> Iterator[Drawn]:
    for query in queries:
        item = ItemUpload(kind="image", query=query, system="generator", origin="generated")
        yield Drawn(item, generated(client, query, rng.randrange(2**31)))


def generated(client: Client, prompt: str, seed: int) -> bytes:
    """Has an image generated, and returns it as raters see it; raises InputError if its job fails."""
    from mirage.jobs import JobOptions

    job = client.create_job(prompt, JobOptions(seed=seed, priority="batch"))
    for event in client.watch_job(job.id):
        if isinstance(event, Job):
            job = event
    if job.state != "SUCCEEDED":
        raise InputError(f"the generator did not make an image of {prompt!r}: {job.state}")
    return shown(client.job_image(job.id).data, "the generated image")


def _descriptions(client: Client, queries: Sequence[str], collection: str) -> Iterator[Drawn]:
    for query in queries:
        with suppress(ApiError):
            found = client.description(Query((Term(text=query),), collection=collection))
            if found.sentences:
                text = " ".join(each.text for each in found.sentences)
                yield Drawn(ItemUpload(kind="description", query=query, text=text, system=f"{OWN}, {found.source}"))


def _load(place: Path | str) -> bytes:
    """Reads a file or a URL, at most 20 MiB of it; raises InputError."""
    try:
        if isinstance(place, Path):
            with place.open("rb") as file:
                data = file.read(_FILE_BYTES + 1)
        else:
            data = b""
            with httpx.stream("GET", place, timeout=_TIMEOUT_S, follow_redirects=True) as response:
                response.raise_for_status()
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > _FILE_BYTES:
                        break
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(f"{place} cannot be read") from error
    if len(data) > _FILE_BYTES:
        raise InputError(f"{place} has more than 20 MiB")
    return data


def shown(data: bytes, name: str) -> bytes:
    """An image as raters see it: a PNG of at most 1,024 pixels a side, without the label of a generated one."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is not an image that can be read") from error
    with suppress(ClientError, ValueError):
        made = read_provenance(data)
        if made is not None and made.visible_mark:
            image = image.crop((0, 0, image.width, image.height - label_rows(*image.size)))
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def send(
    client: Client, drawn: Sequence[Drawn], *, raters: int, collection: str = "", report: Report
) -> tuple[str, tuple[str, ...]]:
    """Makes a sheet of the items; returns its id and a token for each rater. Half a sheet does not stay."""
    made = client.create_rating_sheet(raters=raters, collection=collection)
    try:
        for done, each in enumerate(drawn, 1):
            client.add_rating_item(made.sheet.id, each.item, each.image)
            report(done, len(drawn))
    except BaseException:
        client.delete_rating_sheet(made.sheet.id)
        raise
    return made.sheet.id, made.tokens


@dataclass(frozen=True)
class Score:
    """The answers to one system's items of a kind. `relevance` is a mean from 0 to 3; `as_real` is of images only."""

    kind: Kind
    system: str
    origin: Origin | None
    items: int
    answers: int
    cannot_tell: int
    relevance: Estimate
    relevant: int
    correct: int
    mislabelled: int
    misleading: int
    as_real: Estimate | None


@dataclass(frozen=True)
class Summary:
    """A sheet's scores, and how far its raters agree; alpha is None if that cannot be said."""

    scores: tuple[Score, ...]
    agreement: Mapping[Literal["relevance", "verdict", "origin"], float | None]
    items: int
    gone: int


def summed_up(sheet: Sheet) -> Summary:
    """Sums a sheet up. Items whose record was deleted are left out."""
    items = {each.number: each for each in sheet.items if not each.gone}
    answers = [each for each in sheet.answers if each.number in items]
    groups = sorted({_group(each) for each in items.values()})
    scales: tuple[tuple[Literal["relevance", "verdict", "origin"], Scale], ...] = (
        ("relevance", "ordinal"),
        ("verdict", "nominal"),
        ("origin", "nominal"),
    )
    return Summary(
        tuple(_score(group, items, answers) for group in groups),
        {name: alpha(_units(answers, name), scale) for name, scale in scales},
        len(items),
        len(sheet.items) - len(items),
    )


def _group(item: Item) -> tuple[str, str, str]:
    return item.kind, item.system, (item.origin or "") if item.kind == "image" else ""


def _score(group: tuple[str, str, str], items: Mapping[int, Item], answers: Sequence[Answer]) -> Score:
    of = {number: item for number, item in items.items() if _group(item) == group}
    given = [each for each in answers if each.number in of]
    rated = [each for each in given if each.relevance is not None]
    kind, system, origin = next((each.kind, each.system, each.origin) for each in of.values())
    # Answers to one query are alike: they are drawn together.
    relevance = estimate([float(each.relevance or 0) for each in rated], [of[each.number].query for each in rated])
    verdicts = [each.verdict for each in rated]
    return Score(
        kind,
        system,
        origin if kind == "image" else None,
        len(of),
        len(given),
        len(given) - len(rated),
        relevance,
        sum((each.relevance or 0) >= _RELEVANT for each in rated),
        verdicts.count("correct"),
        verdicts.count("mislabelled"),
        verdicts.count("misleading"),
        share(sum(each.origin == "real" for each in rated), len(rated)) if kind == "image" else None,
    )


def _units(answers: Sequence[Answer], name: str) -> list[list[float]]:
    words = ("correct", "mislabelled", "misleading", "real", "generated")
    units: dict[int, list[float]] = {}
    for each in answers:
        value = getattr(each, name)
        if value is not None:
            units.setdefault(each.number, []).append(float(words.index(value) if isinstance(value, str) else value))
    return list(units.values())


def to_csv(sheet: Sheet) -> str:
    """All answers as CSV, one a row; raters are numbers."""
    items = {each.number: each for each in sheet.items}
    rows = [_row(sheet.id, items[each.number], each) for each in sheet.answers]
    empty = _row("", Item(number=0, kind="result", query="", system=""), Answer(number=0, rater=0))
    return _csv([list(empty), *(list(row.values()) for row in rows)])


def _row(sheet_id: str, item: Item, answer: Answer) -> dict[str, object]:
    return {
        "sheet": sheet_id,
        "item": item.number,
        "rater": answer.rater,
        "kind": item.kind,
        "query": item.query,
        "system": item.system,
        "rank": item.rank,
        "record_id": item.record_id,
        "true_origin": item.origin or "",
        "gone": "yes" if item.gone else "",
        "relevance": "" if answer.relevance is None else answer.relevance,
        "verdict": answer.verdict or "",
        "origin": answer.origin or "",
    }


def _csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return out.getvalue()


def _plain(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
