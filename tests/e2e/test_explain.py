"""Explanations on the page, in a real browser; the language model is played by a script, which writes a word at a time."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mirage.client import Client
from tests.support.scripted_llm import GENERAL

from .conftest import cards, check_with_axe, open_page, search

SEARCH = "/?q=axial+T1+brain+MRI"
SHIFT = "/compare?q=axial+T1+brain&minus=axial&plus=sagittal"


@pytest.fixture
def reader(browser: Browser, explaining: Any) -> Iterator[Page]:
    """A page before the gateway that explains."""
    with open_page(browser, explaining.http_url) as page:
        yield page


def explain(page: Page) -> Locator:
    """Asks for an explanation and waits for its end."""
    page.get_by_role("button", name="Explain", exact=True).click()
    panel = page.get_by_role("region", name="Explanation")
    expect(panel.locator(".tag")).to_be_visible()
    return panel


def test_an_explanation_names_the_source_of_each_sentence(reader: Page) -> None:
    reader.goto(SEARCH)
    expect(cards(reader).first).to_be_visible()
    first = cards(reader).first.get_attribute("data-id")
    panel = explain(reader)
    expect(panel.locator(".tag")).to_have_text("Written by AI")
    expect(panel).to_contain_text("It can be wrong; check the numbered sources.")
    expect(panel.locator(".sentence")).to_have_count(4)
    expect(panel.locator(".sentence").last).to_contain_text(f"{GENERAL} (general knowledge)")
    expect(panel.locator(".sentence .cite > a")).to_have_text(["1", "2", "3"])
    expect(panel.locator(".sources li").first).to_have_attribute("data-id", str(first))
    panel.locator(".cite > a").first.focus()
    expect(cards(reader).first).to_have_class("card lit")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("button", name="Hide answer")).to_be_visible()
    assert reader.url.endswith(f"/i/{first}")


def test_a_sentence_that_was_withheld_is_counted(reader: Page) -> None:
    reader.goto(SEARCH)
    expect(explain(reader)).to_contain_text("1 sentence was left out: no caption supports it.")


def test_what_the_text_finds_is_shown_on_request(reader: Page) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    panel.get_by_text("What this text finds").click()
    expect(panel.get_by_role("heading", name="Closest to your question")).to_be_visible()
    expect(panel.get_by_role("heading", name="Closest to this text")).to_be_visible()


def wait_until_none_runs(page: Page, explaining: Any) -> None:
    for _ in range(200):
        if explaining.counts()["running"] == 0:
            return
        page.wait_for_timeout(50)
    raise AssertionError("a description is still being written")


def test_stop_and_another_question_stop_the_model(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    explaining.start_llm(token_ms=120)
    reader.goto(SEARCH)
    reader.get_by_role("button", name="Explain", exact=True).click()
    panel = reader.get_by_role("region", name="Explanation")
    panel.get_by_role("button", name="Stop").click()
    expect(panel).to_contain_text("Stopped.")
    wait_until_none_runs(reader, explaining)
    reader.reload()
    reader.get_by_role("button", name="Explain", exact=True).click()
    expect(panel).to_contain_text("Writing")
    search(reader, "sagittal T2 brain")
    expect(reader).to_have_title("sagittal T2 brain · MIRAGE")
    expect(panel).to_have_count(0)
    wait_until_none_runs(reader, explaining)
    explaining.kill_llm()


def test_a_change_of_a_query_and_an_own_image_are_explained(reader: Page, section: bytes) -> None:
    reader.goto(SHIFT)
    expect(explain(reader).locator(".sentence").first).to_be_visible()
    reader.goto("/")
    reader.set_input_files("#own", {"name": "s.png", "mimeType": "image/png", "buffer": section})
    expect(explain(reader).locator(".tag")).to_be_visible()


def test_without_the_model_the_captions_answer_and_say_so(reader: Page, explaining: Any) -> None:
    explaining.kill_llm()
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".tag")).to_have_text("From the captions")
    expect(panel).to_contain_text("not available")
    expect(panel.locator(".cite").first).to_be_visible()


def test_a_sentence_is_reported_on_the_record_that_it_names(reader: Page, explaining: Any) -> None:
    reader.goto(SEARCH)
    panel = explain(reader)
    named = panel.locator(".sources li").nth(1).get_attribute("data-id")
    panel.get_by_label("Sentence", exact=True).select_option(index=1)
    panel.get_by_text("Report a wrong sentence").click()
    panel.get_by_label("Comment").fill("it is the <b>left</b> side")
    panel.get_by_role("button", name="Send").click()
    expect(panel.get_by_text("Thank you.")).to_be_visible()
    with Client(explaining.http_url) as client:
        flag = client.flags(limit=1)[0]
    assert (flag.record_id, flag.reason) == (named, "description")
    assert flag.comment.startswith("“")
    assert flag.comment.endswith("” it is the <b>left</b> side")


def test_an_error_is_named_and_can_be_tried_again(reader: Page) -> None:
    reader.goto(SEARCH)

    def refuse(route: Route) -> None:
        problem = {"code": "QUEUE_FULL", "title": "Queue full", "detail": "Too much work.", "status": 429}
        route.fulfill(status=429, body=json.dumps(problem), content_type="application/problem+json")

    reader.route("**/v1/describe", refuse)
    reader.get_by_role("button", name="Explain", exact=True).click()
    alert = reader.get_by_role("region", name="Explanation").get_by_role("alert")
    expect(alert).to_contain_text("QUEUE_FULL")
    reader.unroute("**/v1/describe", refuse)
    alert.get_by_role("button", name="Try again").click()
    expect(reader.get_by_role("region", name="Explanation").locator(".tag")).to_have_text("Written by AI")
    expect(alert).to_have_count(0)


def answer_with(page: Page, *events: tuple[str, Any]) -> None:
    """Lets a page get the given events as its explanation."""
    body = ": hi\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    page.route("**/v1/describe", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


def found(*ids: str) -> tuple[str, Any]:
    sources = [{"id": each, "caption": each, "labels": {}, "thumbnail_url": "page/icon.svg"} for each in ids]
    return "retrieval", {"results": sources, "match": "good", "query": {"terms": []}, "timings": {}}


def test_checked_sentences_come_in_three_blocks(reader: Page) -> None:
    def said(text: str, block: str | None, kind: str = "caption") -> tuple[str, Any]:
        return "sentence", {"text": text, "ids": [] if kind == "general" else ["b", "a"], "kind": kind, "block": block}

    answer_with(
        reader,
        found("a", "b"),
        said("It is bright.", "see"),
        said("Look left.", "where"),
        said("Fluid is dark on T1.", "apart", "general"),
        ("done", {"shown": 3, "withheld": 2, "source": "model", "notice": "", "finish": "stop"}),
    )
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".block h3")).to_have_text(["What you see", "Where to look", "Do not confuse with"])
    expect(panel.locator(".block").first.locator(".cite > a")).to_have_text(["1", "2"])
    expect(panel.locator(".block").last).to_contain_text("(general knowledge)")
    expect(panel).to_contain_text("2 sentences were left out")


def test_a_text_that_stands_on_nothing_is_not_shown(reader: Page) -> None:
    end = {"shown": 0, "withheld": 3, "source": "model", "notice": "", "finish": "stop"}
    answer_with(reader, found("a"), ("done", end))
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel).to_contain_text("No explanation: it could not be checked against the captions.")
    expect(panel.locator(".sentence")).to_have_count(0)


def test_what_the_model_says_is_text_and_never_markup(reader: Page) -> None:
    text = "<img src=x onerror=\"document.title='pwned'\"> 𝔸 [1](javascript:alert(1))."
    sentence = {"text": text, "ids": ["a"], "kind": "caption", "block": None}
    answer_with(
        reader, found("a"), ("sentence", sentence), ("done", {"source": "model", "withheld": 0, "notice": "<b>n</b>"})
    )
    reader.goto(SEARCH)
    panel = explain(reader)
    expect(panel.locator(".sentence")).to_contain_text(text)
    assert panel.locator("b, [src=x]").count() == 0
    assert "pwned" not in reader.title()


def test_a_stream_that_breaks_off_is_an_error(reader: Page) -> None:
    answer_with(reader, found("a"))
    reader.goto(SEARCH)
    reader.get_by_role("button", name="Explain", exact=True).click()
    expect(reader.get_by_role("region", name="Explanation").get_by_role("alert")).to_contain_text("broke off")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("path", [SEARCH, SHIFT])
def test_an_explanation_is_accessible_on_every_screen(
    browser: Browser, explaining: Any, scheme: Any, width: int, path: str
) -> None:
    size = {"width": width, "height": 844}
    with open_page(browser, explaining.http_url, color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        page.goto(path)
        panel = explain(page)
        panel.get_by_text("Report a wrong sentence").click()
        panel.locator(".cite > a").first.focus()
        check_with_axe(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
