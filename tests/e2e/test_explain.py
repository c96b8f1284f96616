"""Explanations on the page, in a real browser; the language model is played by a script, which writes a word at a time."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mirage.client import Client
from tests.support.scripted_llm import GENERAL

SEARCH = "/?q=axial+T1+brain+MRI"
COMPARE = "/?q=axial+T1+brain&minus=axial&plus=sagittal&view=compare"


@pytest.fixture
def reader(browser: Browser, explaining: Any) -> Iterator[Page]:
    """A page before the gateway that explains; it must log no error and ask no other host."""
    context = browser.new_context(base_url=explaining.http_url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.set_default_navigation_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    host = urlsplit(explaining.http_url).netloc
    page.on(
        "request",
        lambda sent: (
            None
            if urlsplit(sent.url).netloc == host or sent.url.startswith(("blob:", "data:"))
            else wrong.append(sent.url)
        ),
    )
    yield page
    context.close()
    assert wrong == []


def explain(page: Page) -> Locator:
    """Asks for the first explanation on the page and waits for its end."""
    page.get_by_role("button", name=re.compile("^Explain")).first.click()
    panel = page.locator(".explanation").first
    expect(panel.locator(".badge")).to_be_visible()
    return panel


def test_an_explanation_grows_and_names_its_sources(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=60)
    reader.goto(SEARCH)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    said = reader.locator(".said")
    expect(said).to_have_attribute("aria-busy", "true")
    expect(said).to_contain_text("axial")
    growing = said.inner_text()
    panel = reader.locator(".explanation")
    expect(panel.locator(".badge")).to_have_text("Language model")
    expect(said).to_have_attribute("aria-busy", "false")
    assert len(said.inner_text()) > len(growing)
    expect(said.locator(".cite")).to_have_text(["1", "2", "3"])
    shown = reader.locator("#answer .card .caption").all_inner_texts()[:3]
    assert panel.locator(".sources .caption").all_inner_texts() == shown
    expect(panel).to_contain_text("It can be wrong")
    explaining.kill_llm()


def test_general_knowledge_says_so_in_words(reader: Page) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".sentence").last).to_have_text(GENERAL)
    expect(panel.locator(".sentence + .no-source")).to_have_text("general knowledge")


def test_a_citation_lights_up_its_image_and_a_source_its_sentences(reader: Page) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    lit = reader.locator("#answer .card.lit")
    expect(lit).to_have_count(0)
    panel.locator(".cite").nth(1).focus()
    expect(lit).to_have_count(1)
    second = panel.locator(".sources li").nth(1)
    assert lit.get_attribute("data-id") == second.get_attribute("data-id")
    panel.locator(".cite").nth(0).focus()
    assert lit.get_attribute("data-id") != second.get_attribute("data-id")
    second.hover()
    expect(panel.locator(".sentence.lit")).to_have_count(1)
    reader.mouse.move(0, 0)
    expect(panel.locator(".sentence.lit")).to_have_count(0)


def test_a_citation_opens_its_image(reader: Page) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    caption = panel.locator(".sources .caption").nth(2).inner_text()
    panel.locator(".cite").nth(2).focus()
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("dialog").get_by_role("heading")).to_have_text(caption)


def test_both_rankings_are_shown_and_the_results_stay(reader: Page) -> None:
    reader.goto(SEARCH)
    expect(reader.locator("#answer .card:not(.skeleton)")).to_have_count(12)
    before = reader.locator("#answer .card").evaluate_all("cards => cards.map(card => card.dataset.id)")
    panel = explain(reader)
    expect(panel.locator(".thumbs")).to_have_count(2)
    expect(panel.get_by_role("heading", name="By your question")).to_be_visible()
    expect(panel.get_by_role("heading", name="By this explanation")).to_be_visible()
    expect(panel.locator(".best")).to_contain_text("Fits both best")
    assert reader.locator("#answer .card").evaluate_all("cards => cards.map(card => card.dataset.id)") == before


def test_stop_stops_the_model_and_keeps_the_text(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=120)
    reader.goto(SEARCH)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    expect(reader.locator(".said")).to_contain_text("axial")
    button = reader.get_by_role("button", name="Stop the explanation")
    expect(button).to_be_focused()
    reader.keyboard.press("Enter")
    expect(reader.locator(".explanation .notices")).to_contain_text("Stopped")
    expect(reader.locator(".said")).to_contain_text("axial")
    expect(reader.get_by_role("button", name=re.compile("^Explain again"))).to_be_focused()
    for _ in range(100):
        if explaining.counts()["running"] == 0:
            break
        reader.wait_for_timeout(50)
    assert explaining.counts()["running"] == 0
    explaining.kill_llm()


def test_another_query_ends_the_explanation_of_the_one_before(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=120)
    reader.goto(SEARCH)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    expect(reader.locator(".said")).to_contain_text("axial")
    reader.get_by_label("Concept").fill("sagittal T2 brain")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("heading", name="sagittal T2 brain")).to_be_visible()
    expect(reader.locator(".explanation:visible")).to_have_count(0)
    for _ in range(100):
        if explaining.counts()["running"] == 0:
            break
        reader.wait_for_timeout(50)
    assert explaining.counts()["running"] == 0
    explaining.kill_llm()


def test_each_side_of_a_comparison_has_its_own(reader: Page) -> None:
    reader.goto(COMPARE)
    for side in ("base", "shifted"):
        column = reader.locator(f".column.{side}")
        column.get_by_role("button", name=re.compile("^Explain")).click()
        expect(column.locator(".rankings")).to_be_visible()
        first = column.locator(".card").first.get_attribute("data-id")
        assert column.locator(".sources li").first.get_attribute("data-id") == first
    assert reader.locator(".base .said").inner_text() != reader.locator(".shifted .said").inner_text()


def test_a_record_and_an_image_are_explained(reader: Page, explaining: Any, section: bytes) -> None:
    with Client(explaining.http_url) as client:
        record = client.search("axial T1 brain MRI", k=1).results[0].id
    reader.goto(f"/?similar={record}")
    panel = explain(reader)
    assert panel.locator(".sources li").first.get_attribute("data-id") == record
    reader.goto("/")
    reader.set_input_files("#picture", {"name": "s.png", "mimeType": "image/png", "buffer": section})
    expect(explain(reader).locator(".cite").first).to_be_visible()


def test_without_the_model_the_captions_answer_and_say_so(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".badge")).to_have_text("From the captions")
    expect(panel.locator(".notices")).to_contain_text("not available")
    expect(panel.locator(".cite").first).to_be_visible()


def test_sentences_of_the_captions_follow_those_of_a_model_that_is_gone(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=80)
    reader.goto(SEARCH)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    expect(reader.locator(".said .cite").first).to_be_visible()
    explaining.kill_llm()
    panel = reader.locator(".explanation")
    expect(panel.locator(".badge")).to_have_text("From the captions")
    with Client(explaining.http_url) as client:
        whole = client.description("axial T1 brain MRI")
    sentences = [each.text for each in whole.sentences]
    expect(panel.locator(".sentence")).to_have_text(sentences)
    expect(panel.locator(".no-source")).to_have_count(0)


def test_what_does_not_match_is_declined_without_a_text(reader: Page) -> None:
    reader.goto("/?q=how+to+bake+sourdough+bread+with+a+crispy+crust")
    panel = explain(reader)
    expect(panel.locator(".badge")).to_have_text("Not explained")
    expect(panel.locator(".said")).to_be_empty()
    expect(panel.locator(".notices")).to_contain_text("Declined by the script.")
    expect(panel.locator(".rankings")).to_have_count(0)


def test_a_sentence_is_marked_on_the_record_that_it_names(reader: Page, explaining: Any) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    named = panel.locator(".sources li").nth(1).get_attribute("data-id")
    sentence = panel.locator(".sentence").nth(1).inner_text()
    panel.get_by_text("A sentence is wrong").click()
    panel.get_by_label("Sentence").select_option(index=1)
    panel.get_by_label("What is wrong").fill("it is the <b>left</b> side")
    panel.get_by_role("button", name="Send").click()
    expect(panel.locator(".report")).to_contain_text("Thank you")
    with Client(explaining.http_url) as client:
        flag = client.flags(limit=1)[0]
    assert (flag.record_id, flag.reason) == (named, "description")
    assert flag.comment == f"“{sentence}” it is the <b>left</b> side"


def test_an_error_is_named_and_can_be_tried_again(reader: Page) -> None:
    reader.goto(SEARCH)

    def refuse(route: Route) -> None:
        problem = {"code": "QUEUE_FULL", "title": "Queue full", "detail": "Too much work.", "status": 429}
        route.fulfill(status=429, body=json.dumps(problem), content_type="application/problem+json")

    reader.route("**/v1/describe", refuse)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    alert = reader.locator(".explanation [role=alert]")
    expect(alert).to_contain_text("QUEUE_FULL")
    reader.unroute("**/v1/describe", refuse)
    alert.get_by_role("button", name="Try again").click()
    expect(reader.locator(".explanation .badge")).to_have_text("Language model")
    expect(alert).to_have_count(0)


def answer_with(page: Page, body: str) -> None:
    """Lets a page get the given text as its explanation."""
    page.route("**/v1/describe", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


def frames(sentence: dict[str, Any], **done: Any) -> str:
    """The events of an explanation that no server wrote."""
    reply = {"results": [], "match": "good", "query": {"terms": []}, "timings": {}}
    end = {"text": sentence["text"], "sentences": [sentence], "source": "model", "finish": "stop", "notice": "", **done}
    events = [
        ("retrieval", reply),
        ("sentence", sentence),
        ("done", end),
    ]
    return ": hi\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def test_what_the_model_says_is_text_and_never_markup(reader: Page) -> None:
    text = "<img src=x onerror=\"document.title='pwned'\"> 𝔸 ### Response: [1](javascript:alert(1))."
    sentence = {"text": text, "ids": ["no-such"], "kind": "caption", "block": "see"}
    answer_with(reader, frames(sentence, notice="<b>n</b>"))
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".sentence")).to_have_text(text)
    assert panel.locator("img, b, a").count() == 0
    assert "pwned" not in reader.title()


def test_withheld_sentences_are_counted(reader: Page) -> None:
    answer_with(reader, frames({"text": "It is so.", "ids": [], "kind": "general", "block": "where"}, withheld=4))
    reader.goto(SEARCH)
    expect(explain(reader).locator(".notices")).to_contain_text("4 of the model’s sentences")


def test_a_stream_that_breaks_off_is_an_error(reader: Page) -> None:
    answer_with(reader, 'event: sentence\ndata: {"text": "Half a", "ids": []}\n\nevent: sent')
    reader.goto(SEARCH)
    reader.get_by_role("button", name=re.compile("^Explain")).click()
    expect(reader.locator(".explanation [role=alert]")).to_contain_text("broke off")
    expect(reader.locator(".said")).to_have_text("Half a")


def test_whole_sentences_are_read_out(reader: Page) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    spoken = panel.locator("[aria-live=polite]")
    expect(spoken).to_contain_text("(source 1)")
    expect(spoken).to_contain_text("(general knowledge)")
    expect(spoken).to_contain_text("complete")


def test_the_language_model_is_among_the_models_in_use(reader: Page) -> None:
    reader.goto("/?show=models")
    card = reader.locator(".model", has=reader.get_by_role("heading", name="scripted"))
    expect(card.get_by_role("table")).to_contain_text("0.975")
    expect(reader.locator("#models")).to_contain_text("scripted (int4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", [SEARCH, COMPARE, "/?q=how+to+bake+sourdough+bread+with+a+crispy+crust"])
def test_axe_finds_nothing_wrong_with_an_explanation(browser: Browser, explaining: Any, scheme: Any, path: str) -> None:
    context = browser.new_context(base_url=explaining.http_url, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(path, timeout=60_000)
    panel = explain(page)
    if panel.locator(".cite").count():
        panel.get_by_text("A sentence is wrong").click()
        panel.locator(".cite").first.focus()
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    context.close()
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("path", [SEARCH, COMPARE])
def test_a_phone_needs_no_sideways_scrolling_for_an_explanation(browser: Browser, explaining: Any, path: str) -> None:
    context = browser.new_context(base_url=explaining.http_url, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(path, timeout=60_000)
    explain(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_without_motion_nothing_moves(browser: Browser, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=100)
    context = browser.new_context(base_url=explaining.http_url, reduced_motion="reduce")
    page = context.new_page()
    page.goto(SEARCH, timeout=60_000)
    page.get_by_role("button", name=re.compile("^Explain")).click()
    caret = page.locator(".caret")
    expect(caret).to_be_visible()
    assert caret.evaluate("node => getComputedStyle(node).animationName") == "none"
    context.close()
    explaining.kill_llm()
