"""The view that reads an image step by step: the student first, then the evidence, the reading last."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from mirage.client import Client

from .conftest import check_with_axe, open_page

Choose = Callable[..., None]
NOTE = "a bright rim, perhaps fluid"
SECTIONS = ["2 · Look in order", "3 · What similar images were said to show", "4 · The reading", "5 · In one word"]


def write(page: Page, text: str = NOTE) -> None:
    """Writes a note on the item that is chosen."""
    page.get_by_role("textbox", name="what do you see?").fill(text)


def reveal(page: Page) -> None:
    """Shows the evidence, with or without notes."""
    page.get_by_role("button", name="show the evidence").click()


def step(page: Page, name: str) -> Locator:
    """One of the steps."""
    return page.get_by_role("region", name=name)


def complete(page: Page) -> None:
    expect(page.get_by_role("status").filter(has_text="The reading is complete.")).to_be_visible()


def answer_with(page: Page, *events: tuple[str, Any]) -> None:
    """Lets a page get the given events as its reading."""
    body = ": hi\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    page.route("**/v1/read", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


KIND = (
    "kind",
    {
        "medical": "medical",
        "modality": {"value": "x-ray", "score": 0.97, "sure": True, "source": "classified", "others": []},
        "body_part": {"value": "chest", "score": 0.6, "sure": False, "source": "classified", "others": []},
        "name": "chest-x-ray",
    },
)
CHECKLIST = (
    "checklist",
    {"name": "chest-x-ray", "title": "Chest X-ray", "items": [{"id": "lungs", "title": "Lungs", "text": "Compare."}]},
)


def label(value: str, cases: int) -> dict[str, Any]:
    share = cases / 20
    figures = {"share": share, "low": share / 2, "high": min(1, share * 1.5), "prior": 0.1, "lift": share / 0.1}
    return {"value": value, "cases": cases, **figures, "enough": cases >= 3, "ids": []}


EVIDENCE = (
    "evidence",
    {
        "cases": 20,
        "records": 400,
        "where": {"modality": ["x-ray"]},
        "facets": [{"facet": "finding", "labelled": 20, "values": [label("pneumonia", 12), label("nodule", 2)]}],
        "guesses": [],
    },
)
DONE = ("done", {"finish": "complete", "disclaimer": "Not for diagnosis.", "engine": "openai", "withheld": 2})


def reading(text: str, state: str = "supported", **more: Any) -> tuple[str, Any]:
    return "reading", {"item": "lungs", "text": text, "source": "model", "state": state, "ids": [], **more}


def test_the_student_writes_first_and_then_sees_the_evidence(page: Page, choose: Choose, section: bytes) -> None:
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request))
    page.goto("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Read").click()
    choose(section, "mine.png")
    expect(step(page, "1 · What kind of image?")).to_contain_text("MR, ")
    picture = page.get_by_role("img", name="Your image")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    complete(page)
    # Everything has come, and nothing of it is shown.
    expect(page.get_by_role("heading", level=2)).to_have_text(["1 · What kind of image?", SECTIONS[0]])
    write(page)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("textbox", name="what do you see?")).to_have_value("")
    reveal(page)
    for name in SECTIONS:
        expect(step(page, name)).to_be_visible()
    expect(step(page, SECTIONS[1])).to_contain_text("nearest cases")
    expect(step(page, SECTIONS[2])).to_contain_text(f"You: {NOTE}")
    expect(step(page, SECTIONS[2])).to_contain_text("no reading model installed")
    expect(page.locator("main")).to_contain_text("not for diagnosis")
    # The notes stay in the page.
    assert not [each.url for each in sent if NOTE in (each.post_data or "")]
    kept = page.evaluate("""async () => {
        const opened = await new Promise((done) => {
            const asked = indexedDB.open("mirage", 1);
            asked.onsuccess = () => done(asked.result);
        });
        const images = opened.transaction("own").objectStore("own").getAll();
        await new Promise((done) => { images.onsuccess = done; });
        return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, images.result, document.cookie]);
    }""")
    assert "mine.png" in kept
    assert NOTE not in kept


def test_notes_are_saved_only_as_a_file_that_the_student_asks_for(
    page: Page, choose: Choose, section: bytes, tmp_path: Path
) -> None:
    page.goto("/read")
    choose(section)
    expect(page.get_by_role("link", name="Download my notes")).to_have_count(0)
    write(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download my notes").click()
    download.value.save_as(tmp_path / "notes.txt")
    saved = (tmp_path / "notes.txt").read_text()
    assert f": {NOTE}" in saved
    assert "not for diagnosis" in saved


def test_a_kind_is_corrected_and_notes_stay(page: Page, choose: Choose, section: bytes) -> None:
    page.goto("/read")
    choose(section)
    complete(page)
    write(page)
    kind = step(page, "1 · What kind of image?")
    kind.get_by_role("button", name="Change").click()
    # The first is what was recognised, the second the most frequent one, which is right.
    expect(kind.get_by_label("Body part").locator("option").nth(2)).to_be_attached()
    kind.get_by_label("Body part").select_option(index=2)
    expect(kind).to_contain_text("as you say")
    assert "where=body_part%3D" in page.url
    kind.get_by_label("Body part").select_option("")
    expect(kind).not_to_contain_text("as you say")
    expect(page.get_by_role("textbox", name="what do you see?")).to_have_value(NOTE)


def test_a_record_is_read_without_its_caption_and_back_keeps_the_notes(page: Page, system: Any) -> None:
    with Client(system.http_url) as client:
        record = client.search("coronal T1 brain", k=1, where={"modality": ["mr"]}).results[0]
    page.goto(f"/i/{record.id}")
    page.get_by_role("link", name="Read it step by step").click()
    expect(step(page, "1 · What kind of image?")).to_contain_text("as the record says")
    expect(page.get_by_role("img", name="The image to read")).to_be_visible()
    expect(page.get_by_text(record.caption)).to_have_count(0)
    write(page)
    reveal(page)
    complete(page)
    near = step(page, "6 · Compare with").locator(".near li").first
    expect(near).to_be_visible()
    assert near.get_attribute("data-id") != record.id
    near.get_by_role("link").click()
    expect(page.get_by_role("button", name="Hide answer")).to_be_visible()
    page.go_back()
    expect(step(page, SECTIONS[2])).to_contain_text(f"You: {NOTE}")


def test_a_question_in_words_is_answered_without_an_image(page: Page) -> None:
    page.goto("/read")
    page.get_by_label("ask about a finding").fill("What does hydrocephalus look like on MRI?")
    page.get_by_role("button", name="Ask").click()
    complete(page)
    expect(step(page, "In one word")).to_contain_text("Hydrocephalus")
    expect(step(page, "Good to know")).to_be_visible()
    expect(page.get_by_role("button", name="show the evidence")).to_have_count(0)
    page.goto("/read?q=what+is+the+weather+tomorrow+in+paris")
    expect(page.get_by_role("alert")).to_contain_text("does not seem to be about medicine")


def test_a_drawing_is_declined_and_read_on_request(page: Page, choose: Choose, drawing: bytes) -> None:
    page.goto("/read")
    choose(drawing)
    expect(page.get_by_role("alert")).to_contain_text("does not look like a medical image")
    expect(step(page, SECTIONS[0])).to_have_count(0)
    page.get_by_role("button", name="Read it anyway").click()
    complete(page)
    expect(step(page, SECTIONS[0])).to_be_visible()


def test_a_file_that_is_no_image_is_refused_with_its_code(page: Page, choose: Choose) -> None:
    page.goto("/read")
    choose(b"plain text and no image")
    expect(page.get_by_role("alert")).to_contain_text("IMAGE_FORMAT_UNSUPPORTED")
    choose(b"%PDF-1.7 and more", "page.pdf")
    expect(page.get_by_role("alert").filter(has_text="page.pdf was not used.")).to_be_visible()
    page.goto("/read?own=0123456789ab")
    expect(page.get_by_role("alert")).to_contain_text("Own images are not part of a link.")
    page.goto("/read?id=no-such-record")
    expect(page.get_by_role("alert")).to_contain_text("RECORD_NOT_FOUND")


def test_a_reading_is_stopped_and_begun_again(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/read", lambda route: held.append(route))
    page.goto("/read?q=pneumothorax")
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    page.unroute("**/v1/read")
    page.get_by_role("button", name="Read again").click()
    complete(page)


def test_a_contradiction_is_shown_as_one_and_counts_have_their_figures(page: Page) -> None:
    claim = "There is no pneumonia."
    text = "The model says that there is no pneumonia. The evidence says otherwise."
    summary = reading("Pneumonia is seen in 12 of the 20 nearest cases.", item="", source="summary")
    answer_with(page, KIND, CHECKLIST, EVIDENCE, reading(text, "contradicted", claim=claim), summary, DONE)
    page.goto("/read?id=x")
    reveal(page)
    row = page.get_by_role("row", name="Pneumonia")
    expect(row).to_contain_text("12 of 20")
    expect(row).to_contain_text("30 % to 90 % · 6 times as often as in all (10 %)")
    few = page.get_by_role("row", name="Nodule")
    expect(few).to_contain_text("not enough cases")
    expect(few).not_to_contain_text("times as often")
    said = step(page, SECTIONS[2])
    expect(said.locator(".notice")).to_contain_text("The evidence contradicts the model.")
    expect(said).to_contain_text("2 sentences of the model were left out")
    expect(said.get_by_role("heading", name="Summary, by a language model")).to_be_visible()
    expect(said).to_contain_text("Pneumonia is seen in 12 of the 20 nearest cases.")
    expect(said.get_by_text(claim, exact=True)).to_be_hidden()
    said.get_by_text("What the model wrote").click()
    expect(said.get_by_text(claim, exact=True)).to_be_visible()


def test_a_label_that_is_found_no_better_than_by_chance_is_not_shown(page: Page) -> None:
    figure = {"name": "AUROC", "group": "finding pneumonia", "value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.5}
    kept = {"evaluations": [{"subject": "read", "figures": [figure]}]}
    page.route("**/v1/quality*", lambda route: route.fulfill(json=kept))
    named = {"state": "named", "finding": "pneumonia", "text": "Pneumonia: 12 of 20.", "properties": []}
    known = {"notes": [{"text": "Pneumonia is an infection.", "title": "pneumonia", "provider": "glossary"}]}
    events = (KIND, CHECKLIST, EVIDENCE, reading("Pneumonia: 12 of 20."), ("label", named), ("context", known), DONE)
    answer_with(page, *events)
    page.goto("/read?id=x")
    reveal(page)
    expect(step(page, SECTIONS[3])).to_contain_text("Not shown")
    expect(step(page, SECTIONS[1])).to_contain_text("1 label is not shown")
    expect(page.get_by_role("row", name="Nodule")).to_be_visible()
    expect(page.locator("main").get_by_text("pneumonia")).to_have_count(0)


def test_what_comes_from_outside_names_source_and_licence_and_is_never_markup(page: Page) -> None:
    hostile = "<img src=x onerror=\"document.title='pwned'\">"
    notes = [
        {"text": hostile, "title": "Wiki", "url": "https://wiki.example/a", "licence": "CC BY-SA", "provider": "wiki"},
        {"text": "B.", "title": "script", "url": "javascript:alert(1)", "licence": "", "provider": "searxng"},
    ]
    named = {"state": "named", "finding": "pneumonia", "text": hostile, "properties": []}
    events = (KIND, CHECKLIST, EVIDENCE, reading(hostile), ("label", named), ("context", {"notes": notes, "sent": "x"}))
    answer_with(page, *events, DONE)
    page.goto("/read?id=x")
    reveal(page)
    context = step(page, "7 · Good to know")
    expect(context.get_by_role("listitem").first).to_contain_text("wiki · Wiki · CC BY-SA")
    expect(context.get_by_role("listitem").last).to_contain_text("no licence stated")
    expect(context.get_by_role("link")).to_have_count(1)
    expect(context).to_contain_text("Only this was sent to other sites: x.")
    assert page.locator("main [src=x]").count() == 0
    assert "pwned" not in page.title()


def test_an_image_from_outside_is_shown_from_memory_with_its_source_and_licence(page: Page) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(file, "JPEG")
    note = {
        **{"text": "Air.", "title": "Pneumothorax", "url": "https://wiki.example/a", "provider": "wikipedia"},
        **{
            "licence": "CC BY-SA",
            "image": base64.b64encode(file.getvalue()).decode(),
            "image_credit": "A. Author, CC0",
        },
    }
    named = {"state": "named", "finding": "pneumothorax", "text": "Pneumothorax.", "properties": []}
    answer_with(page, KIND, CHECKLIST, EVIDENCE, ("label", named), ("context", {"notes": [note]}), DONE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/read?id=x")
    reveal(page)
    figure = step(page, "7 · Good to know").get_by_role("figure")
    image = figure.get_by_role("img", name="Pneumothorax")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 32)
    expect(image).to_have_attribute("src", re.compile("^blob:"))
    expect(figure).to_contain_text("Image: A. Author, CC0")
    assert any("/v1/read" in each for each in asked)
    assert not any("wiki.example" in each for each in asked)


def test_a_reading_that_breaks_off_is_an_error_and_keeps_what_came(page: Page) -> None:
    answer_with(page, KIND, CHECKLIST)
    page.goto("/read?id=x")
    expect(page.get_by_role("alert").filter(has_text="broke off")).to_be_visible()
    expect(step(page, SECTIONS[0])).to_be_visible()


@pytest.mark.parametrize(("scheme", "width", "locale"), [("light", 1280, "en-GB"), ("dark", 390, "es-ES")])
def test_a_reading_is_accessible_on_every_screen(
    browser: Browser, system: Any, section: bytes, scheme: Any, width: int, locale: str
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}, "locale": locale}
    with open_page(browser, system.http_url, bypass_csp=True, **options) as page:
        page.goto("/read")
        check_with_axe(page)
        page.set_input_files("#own", {"name": "s.png", "mimeType": "image/png", "buffer": section})
        page.locator("textarea").fill(NOTE)
        page.locator(".notes .primary").click()
        expect(page.locator("#context")).to_be_visible()
        page.locator("#kind ~ button").click()
        expect(page.locator(".correction select").first).to_be_visible()
        check_with_axe(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
