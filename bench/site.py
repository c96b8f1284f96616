"""A static site in a real browser, next to the server that it was exported from.

`python -m bench.site --url http://localhost:8080 --json FILE` against a running MIRAGE with its demonstration.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.report import Figure, Report, run
from mirage.client import Client
from mirage.queries import Query, Term
from mirage_inference.encoder.model import load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions
from mirage_launcher.bundles import find_bundle
from mirage_launcher.site.files import SiteFiles
from tests.support.static_site import ASK, ENCODE, script, served

TEXTS, IMAGES, SUMS, WARM, RECORDS = 200, 100, 50, 20, 20_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PATIENCE_MS = 300_000
MIB = 2**20
CARD = ".grid .card:not(.skeleton)"
# Milliseconds from Enter in the search box to the first result on the screen.
TYPE = """async ([text, card]) => {
  const frame = () => new Promise(requestAnimationFrame);
  const input = document.querySelector("#q");
  input.value = text;
  input.dispatchEvent(new Event("input", {bubbles: true}));
  await frame();
  await frame();
  const began = performance.now();
  input.form.requestSubmit();
  do await frame(); while (document.querySelector(".skeleton") || !document.querySelector(card));
  return performance.now() - began;
}"""
TYPED = (
    "axial T1 brain MRI", "sagital brainstem", "coronal hippocampi FLAIR", '"lateral ventricles"', "brain -axial", "stroke",
    "a broken ankle", "thalamus", "chest x-ray", "liver", "no pneumothorax", "kidney with a cyst", "left kidney", "spine",
    "bone window", "CT of the abdomen", "retina", "histology", "ultrasound", "simulated lesion left", "cerebellum",
)  # fmt: skip


def questions(client: Client) -> list[tuple[str, Query]]:
    """Texts of captions and what people type, images of the atlas and parts of them, and sums; each with its kind."""
    records = client.records(limit=200).records
    records += client.records(limit=200, page_token=client.records(limit=200).next_page_token).records
    chance = random.Random(24)
    clauses = [part.strip() for record in records for part in record.caption.split(";")[0].split(",")]
    texts = [*TYPED, *dict.fromkeys(clause for clause in clauses if len(clause) > 3)]
    words = [word for text in texts for word in text.split()]
    while len(texts) < TEXTS:
        texts.append(" ".join(chance.sample(words, 4)))
    found = [("text", Query((Term(text=text),))) for text in texts[:TEXTS]]
    for number, record in enumerate(chance.sample(records, IMAGES)):
        picture = Image.open(BytesIO(client.image(record.id).data)).convert("RGB")
        if number % 2:
            # A picture of the reader's own is not one of the atlas.
            width, height = picture.size
            picture = picture.crop((width // 8, height // 10, width - width // 12, height - height // 7))
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        found.append(("image", Query((Term(image=buffer.getvalue()),), accept_any_image=True)))
    changes = ("axial", "sagittal", "coronal", "T1", "T2", "FLAIR", "CT", "left", "liver", "brain")
    sums = [(minus, plus) for minus in changes for plus in changes if minus != plus]
    for number, (minus, plus) in enumerate(chance.sample(sums, SUMS)):
        base = Term(id=records[number].id) if number % 2 else Term(text="axial T1 brain MRI")
        found.append(("arithmetic", Query((base, Term(text=minus, weight=-1), Term(text=plus)))))
    return found


def same_results(page: Page, worker: str, client: Client) -> tuple[list[Figure], list[str], list[bytes]]:
    """The overlap of the first ten results with the server's."""
    asked = questions(client)
    theirs = [client.search(query) for _, query in asked]
    ours = page.evaluate(ASK, [worker, [{"path": "/v1/search", "body": query.to_json()} for _, query in asked]])
    shares: dict[str, list[float]] = {}
    same = []
    for (kind, _), mine, other in zip(asked, ours, theirs, strict=True):
        wanted = [each.id for each in other.results]
        shares.setdefault(kind, []).append(
            len({each["id"] for each in mine["results"]} & set(wanted)) / max(1, len(wanted))
        )
        if kind == "text":
            same.append(mine["match"] == other.match)
    figures = [
        Figure(
            f"overlap of the first ten, by {kind}", statistics.mean(each), "", 0.98, 0.995, note=f"{len(each)} queries"
        )
        for kind, each in shares.items()
    ]
    figures.append(
        Figure("texts with the server's judgement of the match", statistics.mean(same), "", note=f"{len(same)} queries")
    )
    images = [query.terms[0].image or b"" for kind, query in asked if kind == "image"]
    return figures, [query.terms[0].text or "" for kind, query in asked if kind == "text"], images


def vectors(
    page: Page, encoder: str, url: str, models: str, texts: Sequence[str], images: Sequence[bytes]
) -> list[Figure]:
    """The least cosines of vectors to the encoder's."""
    model = load_model(find_bundle(models), options=EngineOptions(threads=1))
    pixels = [preprocess(Image.open(BytesIO(image)).convert("RGB"), model.manifest.image) for image in images]
    theirs = [model.embed_texts([model.tokenizer.tokenize(text)])[0] for text in texts]
    theirs += [model.embed_pixels([each])[0] for each in pixels]
    model.close()
    ours = np.array(
        page.evaluate(ENCODE, [encoder, url, list(texts), [base64.b64encode(each).decode() for each in images]])
    )
    cosines = (ours * np.array(theirs)).sum(axis=1)
    return [
        Figure("least cosine of a text's vector", float(cosines[: len(texts)].min()), "", 0.9999),
        Figure("least cosine of an image's vector", float(cosines[len(texts) :].min()), "", 0.999),
    ]


# Waits for the images of the start page.
DRAWN = """async () => {
  const drawn = () => [...document.querySelectorAll(".mosaic .shot img")].filter((each) => each.complete && each.naturalWidth);
  while (drawn().length < 9) await new Promise(requestAnimationFrame);
}"""


def opened(browser: Browser, url: str, received: set[str] | None = None) -> tuple[BrowserContext, Page]:
    """A first visit, until the images of the start page are drawn. `received` gets the addresses of what was received."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    if received is not None:
        context.on("requestfinished", lambda request: received.add(request.url))
    page = context.new_page()
    page.goto(url)
    page.evaluate(DRAWN)
    return context, page


def first_view(browser: Browser, folder: Path, url: str) -> list[Figure]:
    """The bytes that the page and its worker received until the start page was drawn."""
    received: set[str] = set()
    context, _ = opened(browser, url, received)
    paths = [each.removeprefix(url).split("?")[0] or "index.html" for each in received if each.startswith(url)]
    context.close()
    sizes = {path: (folder / path).stat().st_size / 1000 for path in paths}
    pictures = sum(size for path, size in sizes.items() if path.startswith("thumbnails/"))
    # These are read before they are asked for.
    ahead = (
        "page/encoder",
        "data/details",
        "data/about",
        "data/vectors",
        "data/captions",
        "data/neighbours",
        "data/words",
        "data/answers",
    )
    needed = sum(size for path, size in sizes.items() if not path.startswith(ahead))
    scripts = [
        path for path in sizes if path.endswith((".js", ".css", ".html", ".json")) and not path.startswith(ahead)
    ]
    saved = sum(sizes[path] - len(gzip.compress((folder / path).read_bytes())) / 1000 for path in scripts)
    note = f"{pictures:.0f} kB of them pictures"
    return [
        Figure("first view, from a host that compresses scripts", needed - saved, "kB", 300, better="lower", note=note),
        Figure("first view, from a host that compresses nothing", needed, "kB", 300, better="lower", note=note),
        Figure("first view: all that was received until then", sum(sizes.values()), "kB"),
    ]


def times(browser: Browser, url: str, common: Sequence[str]) -> list[Figure]:
    """From Enter to the first result on the screen."""
    known, cold, warm = [], [], []
    for number in range(5):
        context, page = opened(browser, url)
        known.append(page.evaluate(TYPE, [common[number % len(common)], CARD]))
        context.close()
        context, page = opened(browser, url)
        cold.append(page.evaluate(TYPE, [f"an unusual question about the thalami, number {number}", CARD]))
        more = [f"sagittal section with the corpus callosum {number} {other}" for other in range(WARM // 5)]
        warm += [page.evaluate(TYPE, [text, CARD]) for text in more]
        context.close()
    return [
        Figure(
            "a common query, before any model",
            statistics.median(known),
            "ms",
            300,
            better="lower",
            note=f"worst {max(known):.0f}",
        ),
        Figure(
            "a new text, model not there yet",
            statistics.median(cold),
            "ms",
            3000,
            better="lower",
            note=f"worst {max(cold):.0f}; loopback",
        ),
        Figure(
            "a new text, model there",
            statistics.median(warm),
            "ms",
            100,
            50,
            better="lower",
            note=f"worst {max(warm):.0f} of {len(warm)}; until it is on the screen",
        ),
    ]


def larger(folder: Path, out: Path, records: int) -> None:
    """Writes a copy of a site with more records: those that are there again and again, with vectors a little changed."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("images", "thumbnails", "regions", "data"))
    head = json.loads((folder / "site.json").read_bytes())

    def content(name: str) -> bytes:
        file = head["files"][name]
        whole = b"".join((folder / path).read_bytes() for path, _ in file["parts"])
        return gzip.decompress(whole) if file["packed"] else whole

    given = json.loads(content("records"))
    many = [{**given[at % len(given)], "id": f"{given[at % len(given)]['id']}-{at}"} for at in range(records)]
    chance = np.random.default_rng(24)
    files = SiteFiles(out)
    for name in ("vectors", "captions"):
        rows = np.frombuffer(content(name), "<f2").astype(np.float64).reshape(len(given), -1)
        rows = rows[np.arange(records) % len(given)]
        rows = rows + chance.normal(0, 0.02, rows.shape)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        head["files"][name] = files.put_parts("data", name, rows.astype("<f2").tobytes())
    words = out / "words.tmp"
    more = json.loads(content("details"))
    details = [more[at % len(more)] for at in range(records)]
    lines = "\n".join(json.dumps({**each, **detail}) for each, detail in zip(many, details, strict=True))
    subprocess.run(
        [sys.executable, "-P", "-m", "mirage_retriever.words.site", str(words)], input=lines.encode(), check=True
    )
    head["files"]["words"] = files.put_parts("data", "words", words.read_bytes(), packed=True)
    words.unlink()
    for name, several in (("records", many), ("details", details)):
        head["files"][name] = files.put_parts("data", name, json.dumps(several).encode(), packed=True)
    for name, value in (("answers", b"{}"), ("neighbours", bytes(8 * 10 * records))):
        head["files"][name] = files.put_parts("data", name, value, packed=True)
    head["records"] = records
    (out / "site.json").write_text(json.dumps(head))


def search_times(browser: Browser, folder: Path, url: str, records: int) -> list[Figure]:
    """The worker's answers of queries whose vectors it has: the search alone."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(url)
    worker = script(folder, url, "worker")
    texts = [
        "axial T1 brain at the thalami",
        "sagittal section with the corpus callosum",
        "liver with a lesion",
        "left kidney",
    ]
    [listed] = page.evaluate(ASK, [worker, [{"path": "/v1/search", "body": {"k": 20}}]])
    ids = [each["id"] for each in listed["results"]]
    kinds = {
        "by likeness to a record": [{"id": id_, "k": 10, "vectors": "image"} for id_ in ids],
        "by text, words and likeness": [{"text": text, "k": 10} for text in texts],
    }
    figures = []
    for name, bodies in kinds.items():
        asked = [{"path": "/v1/search", "body": body} for body in bodies]
        page.evaluate(ASK, [worker, asked])
        found = [each["ms"] for _ in range(5) for each in page.evaluate(ASK, [worker, asked])]
        figures.append(
            Figure(
                f"{records:,} records searched {name}",
                statistics.median(found),
                "ms",
                50,
                20,
                better="lower",
                note=f"worst {max(found):.0f} of {len(found)}; vector of the query known",
            )
        )
    context.close()
    return figures


def memory(browser: Browser, url: str, image: bytes, folder: Path) -> list[Figure]:
    """The private memory of the tab's process, once it has searched by text and by image."""
    session = browser.new_browser_cdp_session()

    def private() -> float:
        pids = [
            each["id"]
            for each in session.send("SystemInfo.getProcessInfo")["processInfo"]
            if each["type"] == "renderer"
        ]
        largest = 0.0
        for pid in pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kib = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
            largest = max(largest, kib / 1024)
        return largest

    context, page = opened(browser, url)
    time.sleep(1)
    figures = [Figure("memory of the tab, start page", private(), "MiB")]
    page.evaluate(TYPE, ["an unusual question about the thalami", CARD])
    figures.append(Figure("memory of the tab, after a text", private(), "MiB"))
    page.set_input_files("#own", {"name": "own.png", "mimeType": "image/png", "buffer": image})
    page.wait_for_url("**own=**")
    page.wait_for_selector(CARD)
    time.sleep(1)
    figures.append(Figure("memory of the tab, after an own image too", private(), "MiB"))
    context.close()
    return figures


def size_of(folder: Path, below: str = "") -> float:
    """Megabytes of a folder's files."""
    return sum(path.stat().st_size for path in (folder / below).rglob("*") if path.is_file()) / 1e6


def measure(url: str, models: str, records: int) -> Report:
    """Exports the site, opens it in Chromium, and compares it with its server."""
    with tempfile.TemporaryDirectory(prefix="mirage-bench-site-") as name:
        folder = Path(name) / "site"
        command = [
            sys.executable,
            "-m",
            "mirage.cli",
            "export",
            "site",
            str(folder),
            "--models",
            models,
            "--url",
            url,
            "--json",
        ]
        outcome = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        figures = [
            Figure(
                "size of the site",
                size_of(folder),
                "MB",
                note=f"{outcome['records']} records; model {size_of(folder, 'model'):.1f} MB",
            ),
        ]
        with served(folder) as site, sync_playwright() as playwright, Client(url, timeout_s=120) as client:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or "chromium", args=FLAGS)
            figures += first_view(browser, folder, site)
            figures += times(browser, site, client.common_queries())
            context, page = opened(browser, site)
            found, texts, images = same_results(page, script(folder, site, "worker"), client)
            figures += found
            figures += vectors(page, script(folder, site, "encoder"), site, models, texts, images)
            context.close()
            figures += memory(browser, site, images[1], folder)
            many = Path(name) / "many"
            larger(folder, many, records)
            with served(many) as other:
                figures += search_times(browser, many, other, records)
            browser.close()
    return Report(
        "Static site",
        "The demonstration atlas exported, in Chromium without a GPU, from Python's server of files on loopback.",
        figures,
    )


if __name__ == "__main__":
    run("bench.site", __doc__, measure, url="http://localhost:8080", models="mini", records=RECORDS)
