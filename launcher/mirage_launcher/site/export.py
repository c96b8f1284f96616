"""Writes the static site of a collection: records, vectors, words, answers, model and page, as the page's worker reads them."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mirage_core.errors import CATALOGUE
from mirage_inference.bundles import EncoderManifest, load_encoder, verify_files
from mirage_launcher.errors import SiteError
from mirage_launcher.site.files import HEAD, SiteFiles
from mirage_launcher.site.licences import allows_copies, licences_of, simple
from mirage_launcher.site.page import compact, put_page
from mirage_launcher.site.search_data import Report, answers_of, put_search_data

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage_api.quality import Evaluation
    from mirage_api.records import StoredRecord

FORMAT = 3
RECORDS_MAX = 50_000
# From here on the page asks before it downloads the model; as in the page's `server.ts`.
ASKED_BYTES = 50 * 2**20
_PAGE = 200
_TYPES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
# Fields of a record that have no meaning without its server.
_LEFT_OUT = (
    "image_url", "thumbnail_url", "flags", "collection", "original_sha256", "original_regions_sha256", "image_vector",
    "caption_vector", "pixels",
)  # fmt: skip
# Fields that the start page does not show: they come after it.
_DETAILS = (
    "regions", "regions_url", "image_sha256", "original_labels", "keywords", "findings", "history", "impression",
)  # fmt: skip
# Errors that the page's worker raises itself.
_ERRORS = (
    "EMPTY_QUERY", "TERM_EMPTY", "TEXT_TOO_LONG", "TOO_MANY_TERMS", "WEIGHT_NOT_FINITE", "WEIGHTS_ALL_ZERO",
    "QUERY_CANCELS_OUT", "K_OUT_OF_RANGE", "PAGE_TOKEN_INVALID", "IMAGE_TOO_SMALL", "IMAGE_TOO_MANY_PIXELS",
    "IMAGE_UNREADABLE", "RECORD_NOT_FOUND", "CASE_NOT_FOUND", "REGIONS_NOT_FOUND", "PIXELS_NOT_FOUND",
    "REQUEST_MALFORMED", "ROUTE_NOT_FOUND",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """The options of an export: `collection` is the active one if empty, `allowed` are licences that the operator vouches for.

    With `skip` records of other licences are left out instead of refused. `assets` is the address of the large files if
    they are on another host.
    """

    bundle: Path
    collection: str = ""
    where: Mapping[str, Sequence[str]] | None = None
    limit: int | None = None
    images: bool = True
    allowed: frozenset[str] = frozenset()
    skip: bool = False
    assets: str = ""
    title: str = "MIRAGE"


@dataclass(frozen=True)
class Outcome:
    """The result of an export: records in the site, those left out for their licence, and files."""

    records: int
    left_out: int
    written: int
    kept: int
    removed: int
    bytes: int
    model_bytes: int
    first_view_bytes: int


def export(client: "Client", folder: Path, wanted: Wanted, report: Report) -> Outcome:
    """Writes the site into a folder. Raises SiteError, and what the client raises."""
    _check_assets(wanted.assets)
    about = client.collection(wanted.collection)
    manifest = load_encoder(wanted.bundle)
    if manifest.fingerprint != about.fingerprint:
        raise SiteError(
            f"the collection {about.name} was made with another model ({about.fingerprint[:12]}) than the bundle "
            f"{manifest.name} ({manifest.fingerprint[:12]}): name its bundle with --models"
        )
    verify_files(wanted.bundle, manifest)
    records, left_out = _select(_read(client, wanted, report), wanted)
    files = SiteFiles(folder)
    head = _head(client, about, manifest, records, wanted)
    head["files"] = put_search_data(files, records, report)
    answers = answers_of(client, records, wanted.where, wanted.collection, report)
    head["queries"] = list(answers)
    head["files"]["answers"] = files.put_parts("data", "answers", compact(answers), packed=True)
    quality = client.quality(collection=wanted.collection)
    head["files"]["about"] = files.put_parts("data", "about", compact(_about(client, quality)), packed=True)
    model = _model(files, wanted.bundle, manifest)
    head["files"] |= model
    shown = []
    for done, record in enumerate(records, 1):
        shown.append(_shown(files, client, record, wanted))
        report("reading images", done, len(records))
    details = [{name: each.pop(name) for name in _DETAILS if name in each} for each in shown]
    head["files"]["records"] = files.put_parts("data", "records", compact(shown), packed=True)
    head["files"]["details"] = files.put_parts("data", "details", compact(details), packed=True)
    _hard_cases(files, quality, shown, folder)
    page_bytes = put_page(files, head, wanted.title, wanted.assets)
    files.put("licences.txt", licences_of(records, manifest).encode())
    # Last: a visitor reads this first, and then what it names.
    files.put(HEAD, compact(head))
    removed = files.finish()
    model_bytes = sum(file["size"] for file in model.values())
    first = page_bytes + head["files"]["records"]["size"] + len(compact(head))
    return Outcome(len(records), left_out, files.written, files.kept, removed, files.bytes, model_bytes, first)


def _check_assets(assets: str) -> None:
    parts = urlsplit(assets)
    if assets and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
        raise SiteError(f"{assets} is not an address such as https://files.example.org/atlas/")


def _read(client: "Client", wanted: Wanted, report: Report) -> "list[StoredRecord]":
    """Every record that passes the filter, with vectors, newest first."""
    place = {
        each.id: number
        for number, each in enumerate(_walk(client, wanted, report, "order", vectors=False, order="newest"))
    }
    found = {each.id: each for each in _walk(client, wanted, report, "vectors", vectors=True) if each.id in place}
    ids = sorted(found, key=place.__getitem__)[: wanted.limit]
    if not ids:
        raise SiteError("there is no record to export")
    if len(ids) > RECORDS_MAX:
        raise SiteError(
            f"{len(ids):,} records are more than a browser searches well ({RECORDS_MAX:,}): use --where or --limit"
        )
    return [found[id_] for id_ in ids]


def _walk(client: "Client", wanted: Wanted, report: Report, what: str, **options: Any) -> "list[StoredRecord]":
    found: list[StoredRecord] = []
    token = ""
    while True:
        page = client.records(
            limit=_PAGE, page_token=token, where=wanted.where, collection=wanted.collection, **options
        )
        found += page.records
        report(f"reading records ({what})", len(found), page.total)
        token = page.next_page_token
        if not token:
            return found


def _select(records: "list[StoredRecord]", wanted: Wanted) -> "tuple[list[StoredRecord], int]":
    told = frozenset(map(simple, wanted.allowed))
    kept = [record for record in records if allows_copies(record.licence, told)]
    refused = Counter(record.licence for record in records if not allows_copies(record.licence, told))
    if refused and not wanted.skip:
        names = ", ".join(f"{name!r} ({count})" for name, count in sorted(refused.items()))
        raise SiteError(
            f"these licences are not known to allow copies: {names}. Leave their records out with --skip-refused, or "
            "vouch for one with --allow-licence NAME"
        )
    if not kept:
        raise SiteError("no record has a licence that is known to allow copies")
    return kept, len(records) - len(kept)


def _head(
    client: "Client", about: Any, manifest: EncoderManifest, records: "list[StoredRecord]", wanted: Wanted
) -> dict[str, Any]:
    variant = manifest.variants[manifest.default_variant]
    displays = {
        # In the order of their names: values that are as frequent as each other come in any order.
        facet.name: {
            value.value: value.display for value in sorted(facet.values, key=lambda each: each.value) if value.display
        }
        for facet in client.facets(where=wanted.where, collection=wanted.collection)
    }
    # In one order: maps of a message come in any.
    collection = json.loads(json.dumps(about.model_dump(mode="json"), sort_keys=True))
    for name in ("building", "engine", "revision"):
        collection.pop(name, None)
    dimension = manifest.dimension
    return {
        "format": FORMAT,
        "title": wanted.title,
        "records": len(records),
        "collection": {**collection, "records": len(records), "indexed": len(records)},
        "encoder": {
            "fingerprint": manifest.fingerprint,
            "dimension": dimension,
            "output_name": manifest.output_name,
            "text": manifest.text.model_dump(mode="json"),
            "image": manifest.image.model_dump(mode="json"),
            "data": {
                role: [path for path in variant.data if path.startswith(file)] for role, file in variant.files.items()
            },
        },
        "displays": displays,
        "errors": {code.value: [e.http, e.title, e.template] for code, e in CATALOGUE.items() if code.value in _ERRORS},
        "assets": wanted.assets.rstrip("/") + "/" if wanted.assets else "",
        "images": _TYPES if wanted.images else {},
    }


def _about(client: "Client", quality: "Sequence[Evaluation]") -> dict[str, Any]:
    """Returns the data of the views of models and of quality."""
    models = [model.model_dump(mode="json") for model in client.models() if model.task == "encode"]
    for model in models:
        model["engine"] = "ONNX Runtime Web (WebAssembly)"
    return {"models": models, "quality": [each.model_dump(mode="json") for each in quality]}


def _model(files: SiteFiles, bundle: Path, manifest: EncoderManifest) -> dict[str, Any]:
    variant = manifest.variants[manifest.default_variant]
    found = {role: files.put_parts("model", role, (bundle / path).read_bytes()) for role, path in variant.files.items()}
    for path in variant.data:
        found[f"data:{path}"] = files.put_parts("model", "weights", (bundle / path).read_bytes())
    found["tokenizer"] = files.put_parts(
        "model", "tokenizer", (bundle / manifest.text.tokenizer).read_bytes(), packed=True
    )
    runtime = resources.files("mirage_gateway").joinpath("site/runtime.wasm.gz").read_bytes()
    path = f"model/runtime-{hashlib.sha256(runtime).hexdigest()[:16]}.000.bin"
    files.put(path, runtime)
    # The last four bytes of a gzip file are the length of its content.
    unpacked = int.from_bytes(runtime[-4:], "little")
    found["runtime"] = {"parts": [[path, len(runtime)]], "size": len(runtime), "bytes": unpacked, "packed": True}
    return found


def _shown(files: SiteFiles, client: "Client", record: "StoredRecord", wanted: Wanted) -> dict[str, Any]:
    """The record as the page shows it, once its images are in the site."""
    fields = {name: value for name, value in record.model_dump(mode="json").items() if name not in _LEFT_OUT}
    digest = record.image_sha256
    thumbnail = f"thumbnails/{digest[:2]}/{digest[:32]}.webp"
    image = f"images/{digest[:2]}/{digest[:32]}.{_TYPES.get(record.image_type, 'bin')}" if wanted.images else thumbnail
    if not files.has(thumbnail):
        files.put(thumbnail, client.image(record.id, variant="thumbnail", collection=wanted.collection).data)
    if wanted.images and not files.has(image):
        files.put(image, client.image(record.id, collection=wanted.collection).data)
    if record.regions:
        name = hashlib.sha256(f"{digest}/{record.original_regions_sha256}".encode()).hexdigest()[:32]
        regions = f"regions/{name[:2]}/{name}.png"
        if not files.has(regions):
            files.put(regions, client.image(record.id, variant="regions", collection=wanted.collection).data)
        fields["regions_url"] = f"/{regions}"
    # The page has the address of the image from that of the thumbnail.
    return {**fields, "thumbnail_url": f"/{thumbnail}"}


def _hard_cases(files: SiteFiles, quality: "Sequence[Evaluation]", shown: list[dict[str, Any]], folder: Path) -> None:
    """Writes thumbnails of the hard cases where the view of quality looks for them: at the server's address."""
    thumbnails = {record["id"]: record["thumbnail_url"].lstrip("/") for record in shown}
    cases = [case for evaluation in quality for case in evaluation.hard_cases]
    for id_ in {id_ for case in cases for id_ in (case.id, *case.found_ids) if id_ in thumbnails}:
        files.put(f"v1/images/{id_}/thumbnail", (folder / thumbnails[id_]).read_bytes())
