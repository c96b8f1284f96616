"""The viewer: zoom, pan, brightness and contrast by key, wheel and pointer; marks on a record."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mirage.client import Client

SEARCH = "/?q=axial+T1+brain+MRI"


def open_first(page: Page) -> Any:
    page.goto(SEARCH)
    first = page.locator("#answer .card:not(.skeleton) .frame").first
    first.focus()
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer.locator("img").first).to_be_visible()
    return viewer


def look(viewer: Any) -> tuple[str, str]:
    image = viewer.locator(".frame img")
    return image.evaluate("i => i.style.transform"), image.evaluate("i => i.style.filter")


def moved(viewer: Any) -> tuple[float, ...]:
    """How far the image is moved, in px to the right and down."""
    return tuple(map(float, re.findall(r"(-?[\d.e-]+)px", look(viewer)[0])))


def shifted(viewer: Any) -> list[float]:
    """How far the image is moved to the right and down, in px."""
    return [float(number) for number in re.findall(r"-?[\d.]+", look(viewer)[0])][:2]


def test_keys_zoom_pan_and_change_the_light(page: Page) -> None:
    viewer = open_first(page)
    expect(viewer.locator(".level")).to_have_text("100 %")
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(viewer.locator(".level")).to_have_text("196 %")
    before = look(viewer)[0]
    page.keyboard.press("ArrowRight")
    assert look(viewer)[0] != before
    expect(viewer).to_contain_text("1 of 12")
    page.keyboard.press("Shift+B")
    page.keyboard.press("c")
    assert look(viewer)[1] == "brightness(110%) contrast(90%)"
    page.keyboard.press("0")
    assert look(viewer) == ("translate(0px, 0px) scale(1)", "brightness(100%) contrast(100%)")
    page.keyboard.press("ArrowRight")
    expect(viewer).to_contain_text("2 of 12")


def test_wheel_drag_and_click_move_a_zoomed_image(page: Page) -> None:
    viewer = open_first(page)
    box = viewer.locator(".frame").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -100)
    expect(viewer.locator(".level")).to_have_text("140 %")
    page.mouse.down()
    page.mouse.move(x + 30, y + 20, steps=3)
    page.mouse.up()
    assert moved(viewer) == pytest.approx((30, 20), abs=1)
    # One click instead of a drag: the point comes to the middle.
    page.mouse.click(x + 30, y + 20)
    assert moved(viewer) == pytest.approx((0, 0), abs=1)


def test_sliders_and_buttons_do_the_same(page: Page) -> None:
    viewer = open_first(page)
    viewer.get_by_label("Brightness").last.fill("150")
    viewer.get_by_role("button", name="Zoom in").click()
    assert look(viewer)[1].startswith("brightness(150%)")
    expect(viewer.locator(".level")).to_have_text("140 %")
    viewer.get_by_role("button", name="Reset the view").click()
    expect(viewer.locator(".level")).to_have_text("100 %")


def test_a_wrong_caption_is_marked(page: Page, system: Any) -> None:
    viewer = open_first(page)
    viewer.get_by_text("Something is wrong with this record").click()
    viewer.get_by_label("What is wrong").select_option("wrong-caption")
    viewer.get_by_label("Comment").fill("it is <b>coronal</b>")
    viewer.get_by_role("button", name="Send").click()
    expect(viewer.get_by_role("status").last).to_contain_text("Thank you")
    with Client(system.http_url) as client:
        newest = client.flags(limit=1)[0]
    assert (newest.reason, newest.comment) == ("wrong-caption", "it is <b>coronal</b>")


def test_the_datasets_own_words_are_shown(page: Page) -> None:
    viewer = open_first(page)
    expect(viewer.locator(".own")).to_contain_text("own words")


def test_the_main_journey_needs_no_mouse(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("sagittal FLAIR brain")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .card:not(.skeleton)")).to_have_count(12)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('frame')"):
            break
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    page.keyboard.press("Tab")
    for _ in range(4):
        if page.evaluate("document.activeElement.textContent") == "Find similar":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Similar to")).to_be_visible()
