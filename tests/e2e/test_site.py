"""A static site in Chromium: it finds what its server finds, asks nothing of anybody, and works without a network."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from mirage.client import Client
from mirage.queries import Query, Term
from mirage.uploads import Upload
from mirage_inference.encoder.model import load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions
from mirage_launcher.bundles import find_bundle
from tests.support.paths import chromium
from tests.support.static_site import ASK, ENCODE, script, served
from tests.support.waiting import until

from .conftest import ARGUMENTS, PATIENCE_MS, cards, search

# `wait_for_function` fails if it looks twice: the site's policy lets no text be run as a script.
SERVED = "navigator.serviceWorker.ready.then(() => true)"
# How far cosines of the page and of the server may differ.
NEAR = 0.003
# Of so many queries of each kind; `python -m bench.site` takes more.
TEXTS, IMAGES, SUMS = 24, 6, 8
TYPED = (
    "axial T1 brain MRI",
    "sagital brainstem",
    "coronal hippocampi FLAIR",
    '"lateral ventricles"',
    "brain -axial",
    "stroke",
    "a broken ankle",
    "thalamus",
    "cerebellar",
    "MR imaging of the corpus callosum",
    "simulated lesion left",
    "T2-weighted transverse",
)
# What texts deny, and words that stand in one text and do not belong together.
WORDED = (
    "Chest X-ray with a large right pneumothorax.",
    "Chest X-ray. No pneumothorax or pleural effusion.",
    "Pneumothorax is not seen; small pleural effusion on the left.",
    "CT of the chest without contrast. Pulmonary embolism cannot be excluded.",
    "Embolism, pulmonary, in the right lower lobe.",
    "Septic pulmonary emboli with cavitation.",
    "Pulmonary vein and subclavian artery are normal.",
    "A lateral ventricle on the left is enlarged.",
    "The left and right ventricles of the heart, no thrombus.",
    "Abscess of the left brain.",
    "No change in size of the brain abscess.",
    "The gallbladder is absent.",
    "Gallbladder free of stones, no wall thickening.",
    "Free fluid in the pelvis.",
    "Fracture of the distal radius. No dislocation.",
    "No fracture\nLung mass of the left upper lobe",
    "Renal artery and vein are patent.",
    "Stenosis of the left renal artery.",
    "Negative for fracture; degenerative changes of the lumbar spine.",
    "Sin derrame pleural, ni\u00f1o o ni\u00f1a sano.",
    "Lungs clear, neither mass nor nodule, right kidney with a cyst.",
    "Head CT without contrast, no acute hemorrhage.",
)
ASKED_IN_WORDS = (
    "pneumothorax", "no pneumothorax", "pleural effusion", "left pleural effusion", "without contrast", "non-contrast CT",
    "pulmonary embolism", "pulmonary artery", "left ventricle", "right ventricle", "brain abscess", "septic emboli",
    "gallbladder", "absent gallbladder", "gallbladder stones", "free fluid", "fracture", "radius fracture", "dislocation",
    "MRI of an averaged brain, T1, axial, MNI z = -32 mm", "brain -3T", "density -100 HU",
    "renal artery", "renal vein", "lung mass", "left lung mass", '"pleural effusion"', "derrame pleural",
    "left renal artery stenosis", "lumbar fracture", "chest X-ray pneumothorax", "subclavian vein", "renal cyst",
    "pulmonary vein, artery", "hemorrhage", "fracture without dislocation", "thrombus -heart", "ni\u00f1o o pulmonary mass",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """An exported site, and where a plain server of files shows it: below a path."""

    folder: Path
    url: str

    def script(self, name: str) -> str:
        """The address of a script of the page."""
        return script(self.folder, self.url, name)


@pytest.fixture(scope="module")
def site(system: Any, models: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The atlas of the system as a site."""
    root = tmp_path_factory.mktemp("www")
    with served(root) as url:
        folder = root / "teaching" / "atlas"
        assert export(system, folder, "--models", models) > 100
        yield Site(folder, f"{url}teaching/atlas/")


def unlike(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> list[str]:
    """Returns the places at which two lists of results differ. Results by likeness may exchange places if their cosines differ by
    less than NEAR; the last one may be another one that is as near.
    """
    found = [] if len(here) == len(there) == len({each["id"] for each in here}) else ["other numbers of results"]
    twins = {each["id"]: each for each in there}
    for place, (one, other) in enumerate(zip(here, there, strict=False)):
        twin = twins.get(one["id"], there[-1] | {"id": one["id"], "matched": one["matched"]})
        same = (one["section"], one["matched"]) == (twin["section"], twin["matched"])
        moved = one["id"] != other["id"]
        if one["section"] == "likeness":
            same = same and abs(one["cosine"] - twin["cosine"]) < NEAR
            moved = moved and not (other["section"] == "likeness" and abs(one["cosine"] - other["cosine"]) < NEAR)
        if moved or not same:
            found.append(f"{place}: {one['id']} for {other['id']}")
    return found


def test_lists_that_differ_by_more_than_two_runtimes_are_unlike() -> None:
    def found(*each: tuple[str, str, float]) -> list[dict[str, Any]]:
        return [{"id": name, "section": part, "cosine": cosine, "matched": {}} for name, part, cosine in each]

    list_of = found(("a", "words", 0.9), ("b", "likeness", 0.5), ("c", "likeness", 0.499))
    assert unlike(list_of, list_of) == []
    assert unlike([list_of[0], list_of[2], list_of[1]], list_of) == []
    assert unlike([list_of[1], list_of[0], list_of[2]], list_of) == ["0: b for a", "1: a for b"]
    exchanged = found(("a", "words", 0.9), ("c", "likeness", 0.5), ("b", "likeness", 0.4))
    assert unlike(exchanged, found(("a", "words", 0.9), ("b", "likeness", 0.5), ("c", "likeness", 0.4))) == [
        "1: c for b",
        "2: b for c",
    ]
    far = [*list_of[:2], *found(("d", "likeness", 0.4))]
    assert unlike(far, list_of) == ["2: d for c"]
    assert unlike(list_of[:2], list_of) == ["other numbers of results"]
    assert unlike([*list_of[:2], list_of[1]], list_of) == ["other numbers of results"]


def export(system: Any, folder: Path, *options: str) -> int:
    """Exports a site; returns how many records it has."""
    command = [*system.command_line, "export", "site", str(folder), *options, "--url", system.http_url, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=500)
    return int(json.loads(done.stdout)["records"])


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(4 * PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def asked(context: BrowserContext) -> list[str]:
    """The addresses that the page and its workers asked for."""
    found: list[str] = []
    context.on("request", lambda request: found.append(request.url))
    return found


@pytest.fixture
def reader(context: BrowserContext, asked: list[str], site: Site) -> Iterator[Page]:
    """A reader's first visit. The page must log no error and ask no other origin."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(site.url)
    expect(page.locator(".mosaic .shot img").first).to_be_visible(timeout=4 * PATIENCE_MS)
    yield page
    assert wrong == []
    assert [url for url in asked if not url.startswith((site.url, "blob:", "data:"))] == []


def serve_changed(context: BrowserContext, name: str, script: str) -> None:
    """Answers requests for a script of the site with another text."""
    context.route(f"**/{name}", lambda route: route.fulfill(body=script, content_type="text/javascript"))


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """The share of the server's results that the site has too."""
    return len(set(first) & set(second)) / max(1, len(first))


def texts_of(client: Client) -> list[str]:
    """What people typed, and clauses of captions."""
    captions = [record.caption for record in client.records(limit=200).records]
    clauses = [
        part.strip() for at in (-1, 0) for caption in captions for part in caption.split(";")[0].split(",")[at:][:1]
    ]
    return [*TYPED, *dict.fromkeys(clause for clause in clauses if len(clause) > 3)][:TEXTS]


def test_the_site_finds_what_its_server_finds(reader: Page, site: Site, system: Any) -> None:
    """The first ten results by text, image and arithmetic; and what is said of the match."""
    with Client(system.http_url, timeout_s=120) as client:
        ids = [record.id for record in client.records(limit=IMAGES).records]
        texts = [Query((Term(text=text),)) for text in texts_of(client)]
        images = [Query((Term(image=client.image(id_).data),), accept_any_image=True) for id_ in ids]
        words = ("axial", "sagittal", "coronal", "T1", "T2", "FLAIR", "left", "thalami")
        sums = [
            Query((Term(text="brain MRI"), Term(text=minus, weight=-1), Term(text=plus)))
            for minus in words
            for plus in words
            if minus != plus
        ][:SUMS]
        sums += [Query((Term(id=ids[0]), Term(text="sagittal", weight=0.5)), vectors="caption")]
        queries = [*texts, *images, *sums]
        expected = [client.search(query) for query in queries]
    bodies = [{"path": "/v1/search", "body": query.to_json()} for query in queries]
    found = reader.evaluate(ASK, [site.script("worker"), bodies])
    shares = {"text": [], "image": [], "sum": []}  # type: dict[str, list[float]]
    same: list[bool] = []
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        kind = "text" if number < len(texts) else "image" if number < len(texts) + len(images) else "sum"
        share = overlap([each.id for each in theirs.results], [each["id"] for each in ours["results"]])
        shares[kind].append(share)
        if theirs.results and kind == "text":
            same.append((ours["match"], ours["results"][0]["section"]) == (theirs.match, theirs.results[0].section))
            assert theirs.words is not None
            assert ours["words"] == theirs.words.model_dump(mode="json")
    # Not all: until the engine tidies up, its counts of words contain what other tests deleted, which changes scores a little.
    assert np.mean(same) >= 0.9
    means = {kind: float(np.mean(each)) for kind, each in shares.items()}
    print("overlap at 10:", means, {kind: len(each) for kind, each in shares.items()})
    # Among few queries one pair of images that are equally near weighs more.
    assert all(mean >= (0.98 if len(shares[kind]) >= 20 else 0.95) for kind, mean in means.items()), means


def test_what_texts_deny_or_say_apart_is_judged_as_the_server_does(
    context: BrowserContext, system: Any, models: str, tmp_path: Path
) -> None:
    """In another collection than the active one."""
    pictures = [BytesIO() for _ in WORDED]
    for number, picture in enumerate(pictures):
        Image.linear_gradient("L").rotate(16 * number).save(picture, "PNG")
    uploads = [
        Upload(
            id=f"worded-{number}",
            caption=caption,
            image=picture.getvalue(),
            labels={"modality": ["ct" if "CT" in caption else "x-ray"]},
            history="Suspected pneumothorax." if number % 5 == 0 else "",
            licence="CC0-1.0",
            source="Drawn for a test",
        )
        for number, (caption, picture) in enumerate(zip(WORDED, pictures, strict=True))
    ]
    queries = [Query((Term(text=text),), collection="worded") for text in ASKED_IN_WORDS]
    with Client(system.http_url, timeout_s=120) as client:
        client.create_collection("worded")
        try:
            outcomes = client.upsert(uploads, collection="worded")
            assert [each for each in outcomes if each.error] == []
            while True:
                # Likeness is measured at any time, and judged from then on.
                calibration = client.collection("worded").calibration
                assert export(system, tmp_path / "site", "--models", models, "--collection", "worded") == len(WORDED)
                theirs = [client.search(query).model_dump(mode="json") for query in queries]
                if client.collection("worded").calibration == calibration:
                    break
        finally:
            client.delete_collection("worded")
    with served(tmp_path / "site") as url:
        page = context.new_page()
        page.goto(url)
        bodies = [{"path": "/v1/search", "body": query.to_json()} for query in queries]
        ours = page.evaluate(ASK, [script(tmp_path / "site", url, "worker"), bodies])
    for text, here, there in zip(ASKED_IN_WORDS, ours, theirs, strict=True):
        assert (text, here["match"]) == (text, there["match"])
        assert (text, *unlike(here["results"], there["results"])) == (text,)
    assert {reply["match"] for reply in theirs} >= {"good", "weak"}


def test_vectors_in_the_browser_are_those_of_the_encoder(
    reader: Page, site: Site, system: Any, models: str, disc: bytes, drawing: bytes
) -> None:
    with Client(system.http_url, timeout_s=120) as client:
        texts = [*texts_of(client), "naïve “quotes” &amp; Größe", "x " * 200]
        pictures = [client.image(record.id).data for record in client.records(limit=IMAGES).records]
    tall = BytesIO()
    Image.open(BytesIO(drawing)).resize((40, 900)).save(tall, "PNG")
    pictures += [disc, drawing, tall.getvalue()]
    model = load_model(find_bundle(models), options=EngineOptions(threads=1))
    try:
        theirs = [model.embed_texts([model.tokenizer.tokenize(text)])[0] for text in texts]
        pixels = [preprocess(Image.open(BytesIO(each)).convert("RGB"), model.manifest.image) for each in pictures]
        theirs += [model.embed_pixels([each])[0] for each in pixels]
    finally:
        model.close()
    import base64

    encoded = [base64.b64encode(each).decode() for each in pictures]
    ours = np.array(reader.evaluate(ENCODE, [site.script("encoder"), site.url, texts, encoded]))
    cosines = (ours * np.array(theirs)).sum(axis=1)
    print("least cosine of texts", cosines[: len(texts)].min(), "of images", cosines[len(texts) :].min())
    assert cosines[: len(texts)].min() >= 0.9999
    assert cosines[len(texts) :].min() >= 0.999


def test_a_common_query_is_answered_before_the_model_is_there(reader: Page, asked: list[str], system: Any) -> None:
    with Client(system.http_url) as client:
        common = client.common_queries()[0]
    search(reader, common)
    expect(cards(reader).first).to_be_visible()
    cards(reader).first.hover()
    cards(reader).first.get_by_role("link", name="Similar").click()
    expect(reader.get_by_text("Similar to this image").first).to_be_visible()
    expect(cards(reader).first).to_be_visible()
    assert [url for url in asked if "/model/" in url] == []


def test_an_own_image_is_searched_with_and_asks_nobody(reader: Page, asked: list[str], disc: bytes) -> None:
    search(reader, "sagittal brainstem and what is next to it")
    expect(cards(reader).first).to_be_visible()
    reader.set_input_files("#own", {"name": "own.png", "mimeType": "image/png", "buffer": disc})
    expect(reader.get_by_text("It never leaves this page")).to_be_visible()
    expect(cards(reader).first).to_be_visible()
    asked.clear()
    other = BytesIO()
    Image.effect_noise((300, 200), 60).save(other, "PNG")
    reader.set_input_files("#own", {"name": "other.png", "mimeType": "image/png", "buffer": other.getvalue()})
    expect(reader.get_by_text("other.png")).to_be_visible()
    expect(cards(reader).first).to_be_visible()
    # Pictures of what was found, and the icon, are files of the site; the own image goes nowhere.
    own = ("/thumbnails/", "/images/", "/page/icon.svg")
    assert [url for url in asked if not url.startswith("blob:") and not any(each in url for each in own)] == []


def test_it_works_without_a_network_once_it_is_kept(reader: Page, context: BrowserContext) -> None:
    reader.evaluate(SERVED)
    reader.get_by_role("button", name="Keep all of it").click()
    expect(reader.get_by_text("All of it is kept on this device.")).to_be_visible(timeout=6 * PATIENCE_MS)
    context.set_offline(True)
    reader.reload()
    search(reader, "a coronal section at the hippocampi")
    expect(cards(reader).first).to_be_visible()
    cards(reader).first.locator("a.shot").click()
    image = reader.locator(".stage img").first
    expect(image).to_be_visible()
    assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 0
    reader.goto(reader.url.split("#")[0] + "#/compare?q=axial+brain&minus=axial&plus=sagittal")
    expect(reader.locator(".effect")).not_to_have_text("\u00a0")
    reader.get_by_role("link", name="Quality").click()
    expect(reader.get_by_role("heading", level=1)).to_have_text("How good is the search?")
    context.set_offline(False)


def test_what_needs_a_server_says_so(reader: Page) -> None:
    search(reader, "axial brain at the thalami")
    expect(cards(reader).first).to_be_visible()
    reader.get_by_role("button", name="Explain").click()
    expect(reader.get_by_text("This needs a server")).to_be_visible()


def test_bad_input_is_explained(reader: Page, site: Site) -> None:
    [reply] = reader.evaluate(
        ASK, [site.script("worker"), [{"path": "/v1/search", "body": {"text": "x" * 10_000, "k": 5}}]]
    )
    assert (reply["code"], reply["status"]) == ("TEXT_TOO_LONG", 422)
    assert "2000" in reply["detail"]
    for name, kind, data, text in (
        ("report.pdf", "application/pdf", b"%PDF-1.7 nothing", "report.pdf"),
        ("half.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(400), "Image unreadable"),
    ):
        reader.set_input_files("#own", {"name": name, "mimeType": kind, "buffer": data})
        expect(reader.get_by_text(text).first).to_be_visible()


def test_a_truncated_file_is_named(context: BrowserContext, site: Site) -> None:
    whole = next(site.folder.glob("data/words-*.bin")).read_bytes()
    context.route("**/data/words-*", lambda route: route.fulfill(body=whole[: len(whole) // 2]))
    page = context.new_page()
    page.goto(site.url + "#/?q=some+unusual+words")
    expect(page.get_by_text("A file is damaged")).to_be_visible(timeout=4 * PATIENCE_MS)


def test_a_renewed_site_asks_to_load_the_page_again(context: BrowserContext, site: Site) -> None:
    context.route("**/data/words-*", lambda route: route.fulfill(status=404))
    page = context.new_page()
    page.goto(site.url + "#/?q=some+unusual+words")
    expect(page.get_by_text("The site has changed")).to_be_visible(timeout=4 * PATIENCE_MS)


def test_a_worker_whose_script_does_not_come_is_replaced_by_one_with_the_same_policy(
    context: BrowserContext, site: Site
) -> None:
    # So it is in Firefox without a network.
    context.add_init_script("""{
      const made = URL.createObjectURL;
      const lost = new Blob(['import "./nowhere.js"'], {type: "text/javascript"});
      URL.createObjectURL = (blob) => made(blob.type === lost.type ? lost : blob);
    }""")
    page = context.new_page()
    page.goto(site.url)
    expect(page.locator(".mosaic .shot img").first).to_be_visible(timeout=4 * PATIENCE_MS)
    until(lambda: page.evaluate("navigator.serviceWorker.controller !== null"))
    with context.expect_event(
        "response", lambda response: "/page/worker-" in response.url and response.from_service_worker
    ) as caught:
        page.reload()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert caught.value.header_value("content-security-policy") == policy
    search(page, "a coronal section at the hippocampi")
    expect(cards(page).first).to_be_visible()


def test_a_browser_whose_storage_is_blocked_searches_and_says_that_it_keeps_nothing(
    context: BrowserContext, site: Site
) -> None:
    context.add_init_script("Object.defineProperty(window, 'indexedDB', {value: null});")
    [worker] = site.folder.glob("page/worker-*.js")
    refusing = "caches.open = async () => { throw new DOMException('', 'SecurityError'); };\n"
    for path in (worker, site.folder / "sw.js"):
        serve_changed(context, path.name, refusing + path.read_text())
    page = context.new_page()
    page.goto(site.url + "#/?q=axial+brain+at+the+thalami")
    expect(cards(page).first).to_be_visible(timeout=4 * PATIENCE_MS)
    page.get_by_role("button", name="Keep all of it").click()
    expect(page.get_by_text("its storage is full or blocked")).to_be_visible()


def test_a_browser_whose_storage_is_full_searches_and_says_that_it_keeps_no_more(
    context: BrowserContext, site: Site
) -> None:
    page = context.new_page()
    session = context.new_cdp_session(page)
    origin = "/".join(site.url.split("/")[:3])
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 200_000})
    page.goto(site.url + "#/?q=axial+brain+at+the+thalami")
    expect(cards(page).first).to_be_visible(timeout=4 * PATIENCE_MS)
    page.get_by_role("button", name="Keep all of it").click()
    expect(page.get_by_text("its storage is full or blocked")).to_be_visible(timeout=4 * PATIENCE_MS)
    search(page, "a coronal section at the hippocampi")
    expect(cards(page).first).to_be_visible()


def test_a_browser_without_simd_searches_by_words_and_says_so(browser: Browser, site: Site, disc: bytes) -> None:
    # V8 has no SIMD in WebAssembly on a processor that is as old as this.
    old = browser.browser_type.launch(
        executable_path=chromium(), args=[*ARGUMENTS, "--js-flags=--no-enable-ssse3 --no-enable-sse4-1"], timeout=90_000
    )
    try:
        page = old.new_page()
        page.set_default_timeout(4 * PATIENCE_MS)
        page.goto(site.url + "#/?q=axial+brain+at+the+thalami")
        expect(cards(page).first).to_be_visible(timeout=4 * PATIENCE_MS)
        expect(page.get_by_text("lacks WebAssembly with SIMD")).to_be_visible()
        page.set_input_files("#own", {"name": "own.png", "mimeType": "image/png", "buffer": disc})
        expect(page.get_by_text("This browser is too old for the model")).to_be_visible()
    finally:
        old.close()


def test_the_model_may_be_on_one_other_host(
    context: BrowserContext, asked: list[str], system: Any, models: str, tmp_path: Path
) -> None:
    """The page's policy allows requests to it, and to no third one; all of it can be kept."""
    folder, elsewhere = tmp_path / "site", tmp_path / "files"
    with (
        served(folder) as url,
        served(elsewhere, allowed=url.rstrip("/")) as assets,
        served(elsewhere, allowed=url.rstrip("/")) as third,
    ):
        export(system, folder, "--models", models, "--limit", "12", "--assets-url", f"{assets}atlas")
        elsewhere.joinpath("atlas").mkdir(parents=True)
        folder.joinpath("model").rename(elsewhere / "atlas" / "model")
        page = context.new_page()
        page.goto(url + "#/?q=axial+brain+at+the+thalami")
        expect(cards(page).first).to_be_visible(timeout=4 * PATIENCE_MS)
        fetched = {each for each in asked if "/model/" in each}
        assert fetched
        assert all(each.startswith(f"{assets}atlas/model/") for each in fetched)
        tried = "url => fetch(url).then(() => 'answered', () => 'refused')"
        path = fetched.pop().removeprefix(assets)
        assert page.evaluate(tried, assets + path) == "answered"
        assert page.evaluate(tried, third + path) == "refused"
        page.evaluate(SERVED)
        page.get_by_role("button", name="Keep all of it").click()
        expect(page.get_by_text("All of it is kept on this device.")).to_be_visible(timeout=6 * PATIENCE_MS)
        context.set_offline(True)
        page.reload()
        search(page, "a coronal section at the hippocampi")
        expect(cards(page).first).to_be_visible()
        context.set_offline(False)
