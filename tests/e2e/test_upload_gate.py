"""An image that is dropped, pasted or chosen is looked at before it is searched."""

import base64
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

Choose = Callable[..., None]


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


def hand_over(page: Page, data: bytes, kind: str) -> None:
    """Drops or pastes a file as a browser would."""
    script = """([data, kind]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "handed.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        const event = kind === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: transfer })
            : new ClipboardEvent("paste", { ...options, clipboardData: transfer });
        document.body.dispatchEvent(event);
    }"""
    page.evaluate(script, [base64.b64encode(data).decode(), kind])


def test_a_section_is_guessed_and_narrows_the_facets(page: Page, choose: Choose, section: bytes) -> None:
    page.goto("/")
    choose(section)
    guess = page.locator("#guess")
    expect(guess).to_contain_text("Seems to be a medical image")
    expect(guess).to_contain_text("Modality: MR")
    expect(cards(page)).to_have_count(12)
    narrow = guess.get_by_role("button", name="Modality: MR")
    if narrow.count():
        narrow.click()
        expect(page.get_by_role("combobox", name="Modality", exact=True)).to_have_value("mr")
        expect(cards(page)).to_have_count(12)


def test_a_drawing_is_declined_politely_and_searched_on_request(page: Page, choose: Choose, drawing: bytes) -> None:
    page.goto("/")
    choose(drawing)
    expect(page.get_by_role("alert")).to_contain_text("does not look like a medical image")
    assert cards(page).count() == 0
    page.get_by_role("button", name="Search anyway").click()
    expect(cards(page)).to_have_count(12)
    page.locator("#chosen").get_by_role("button", name="Remove").click()
    expect(page.locator("#guess")).to_be_hidden()


def test_a_dropped_and_a_pasted_image_are_queries(page: Page, disc: bytes) -> None:
    for kind in ("drop", "paste"):
        page.goto("/")
        expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
        hand_over(page, disc, kind)
        expect(page.locator("#chosen")).to_contain_text("handed.png")
        expect(cards(page)).to_have_count(12)


def test_a_server_without_guesses_is_searched_all_the_same(page: Page, choose: Choose, disc: bytes) -> None:
    page.goto("/")
    page.route("**/v1/classify", lambda route: route.fulfill(status=404, json={"code": "ROUTE_NOT_FOUND"}))
    choose(disc)
    expect(cards(page)).to_have_count(12)
    expect(page.locator("#guess")).to_be_hidden()
