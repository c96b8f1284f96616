"""One image at its own address: view, keys, case, text and report."""

import re
from html import escape
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from mirage.client import Client

from .conftest import cards, check_with_axe, open_page

SEARCH = "/?q=axial+T1+brain+MRI"


@pytest.fixture(scope="module")
def record(system: Any) -> Any:
    with Client(system.http_url) as client:
        return client.search("axial T1 brain MRI", k=1).results[0]


def look(page: Page) -> tuple[str, str]:
    return (
        page.locator(".moving").evaluate("node => node.style.transform"),
        page.locator(".light").evaluate("node => node.style.filter"),
    )


def test_an_image_has_its_own_address_and_history_entry(page: Page) -> None:
    page.goto(SEARCH)
    chosen = str(cards(page).first.get_attribute("data-id"))
    cards(page).first.locator("a.shot").click()
    expect(page.get_by_role("button", name="Hide answer")).to_be_visible()
    assert page.url.endswith(f"/i/{chosen}")
    expect(page.get_by_label("Next image").first).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(re.compile(f"/i/{chosen}$"))
    page.go_back()
    expect(cards(page).first).to_have_attribute("data-id", chosen)


def test_a_link_to_an_image_stands_alone(page: Page, record: Any) -> None:
    page.goto(f"/i/{record.id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text((record.title or record.caption)[:30])
    expect(page.locator(".told").first).to_have_text(record.caption)
    picture = page.locator(".stage img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == record.width
    cited = page.locator(".cite-box")
    for part in (record.licence, record.source.rstrip("."), f"/i/{record.id}"):
        expect(cited).to_contain_text(part)
    page.get_by_text("Record details").click()
    expect(page.get_by_role("heading", name="From the dataset")).to_be_visible()


def test_the_citation_and_the_link_are_copied(browser: Browser, system: Any, record: Any) -> None:
    with open_page(browser, system.http_url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"/i/{record.id}")
        page.get_by_role("button", name="Copy citation").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert record.licence in page.evaluate("navigator.clipboard.readText()")
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_role("button", name="Copied")).to_have_count(2)
        assert page.evaluate("navigator.clipboard.readText()") == f"{system.http_url}/i/{record.id}"


def test_h_hides_the_answer_and_keeps_it_hidden_on_the_next_image(page: Page) -> None:
    page.goto(SEARCH)
    cards(page).first.locator("a.shot").click()
    heading = page.get_by_role("heading", level=1)
    title = heading.inner_text()
    expect(page.get_by_role("heading", name="Caption")).to_be_visible()
    page.keyboard.press("h")
    expect(heading).to_have_text("What do you see?")
    expect(page.get_by_role("heading", name="Caption")).to_have_count(0)
    expect(page).not_to_have_title(re.compile(re.escape(title)))
    page.keyboard.press("ArrowRight")
    expect(heading).to_have_text("What do you see?")
    page.get_by_role("button", name="Show answer").click()
    expect(heading).not_to_have_text("What do you see?")


def test_keys_zoom_pan_invert_and_change_the_light(page: Page, record: Any) -> None:
    page.goto(f"/i/{record.id}")
    level = page.locator(".level")
    expect(level).to_have_text("100 %")
    plain = look(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(level).to_have_text("196 %")
    page.keyboard.press("Shift+ArrowRight")
    assert "-10%" in look(page)[0]
    page.keyboard.press("i")
    page.keyboard.press("Shift+B")
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    assert look(page)[1] == "brightness(110%) contrast(90%) invert(1)"
    page.keyboard.press("0")
    expect(level).to_have_text("100 %")
    assert look(page) == plain
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_wheel_and_drag_move_a_zoomed_image_and_light_another(page: Page, record: Any) -> None:
    page.goto(f"/i/{record.id}")
    box = page.locator(".stage").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(dx: float, dy: float) -> None:
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx, y + dy, steps=3)
        page.mouse.up()

    drag(40, 0)
    assert look(page)[1] == "brightness(100%) contrast(120%)"
    page.mouse.move(x, y)
    page.mouse.wheel(0, -100)
    expect(page.locator(".level")).to_have_text("140 %")
    drag(box["width"] / 10, 0)
    (moved,) = re.findall(r"translate\(([\d.]+)%", look(page)[0])
    assert float(moved) == pytest.approx(10, abs=0.5)
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("Adjust").click()
    page.get_by_label("Brightness").fill("150")
    assert look(page)[1].startswith("brightness(150%)")


def test_a_swipe_goes_to_the_next_image(browser: Browser, system: Any) -> None:
    with open_page(browser, system.http_url, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        page.goto(SEARCH)
        cards(page).first.locator("a.shot").click()
        expect(page.locator(".stage")).to_be_visible()
        before = page.url
        page.locator(".stage").evaluate("""stage => {
            const send = (type, x) => stage.dispatchEvent(new PointerEvent(type, {
                pointerId: 7, pointerType: "touch", isPrimary: true, clientX: x, clientY: 300, bubbles: true }));
            stage.setPointerCapture = () => {};
            send("pointerdown", 300); send("pointermove", 200); send("pointerup", 150);
        }""")
        expect(page).not_to_have_url(before)


def test_a_wrong_caption_is_reported(page: Page, system: Any, record: Any) -> None:
    page.goto(f"/i/{record.id}")
    page.get_by_text("Report a problem").click()
    page.get_by_label("What is wrong?").select_option("wrong-caption")
    page.get_by_label("Comment").fill("it is <b>coronal</b>")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    with Client(system.http_url) as client:
        newest = client.flags(limit=1)[0]
    assert (newest.record_id, newest.reason, newest.comment) == (record.id, "wrong-caption", "it is <b>coronal</b>")


def test_a_shared_link_has_a_preview(system: Any, record: Any) -> None:
    html = httpx.get(f"{system.http_url}/i/{record.id}").text
    assert f'<meta property="og:title" content="{escape(record.title or record.caption[:200])}">' in html
    (image,) = re.findall(r'<meta property="og:image" content="([^"]+)">', html)
    assert httpx.get(image).headers["content-type"] == "image/webp"
    assert "og:title" not in httpx.get(f"{system.http_url}/i/no-such-record").text


@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (320, 640)])
def test_the_image_is_large_whole_and_accessible(
    browser: Browser, system: Any, record: Any, size: tuple[int, int]
) -> None:
    width, height = size
    with open_page(browser, system.http_url, viewport={"width": width, "height": height}, bypass_csp=True) as page:
        page.goto(f"/i/{record.id}")
        expect(page.locator(".stage img")).to_be_visible()
        page.wait_for_load_state("networkidle")
        bar, image = page.get_by_role("banner").bounding_box(), page.locator(".sheet-of").bounding_box()
        assert bar
        assert image
        assert image["y"] - (bar["y"] + bar["height"]) <= 120
        assert image["y"] + image["height"] <= height
        assert image["width"] >= min(300, width - 40)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        check_with_axe(page)
