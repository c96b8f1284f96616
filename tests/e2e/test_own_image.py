"""An own image: chosen, dropped or pasted; kept in the browser, guessed about, and searched with."""

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.support.dicom_builder import dicom

from .conftest import cards, check_with_axe

Choose = Callable[..., None]


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


def test_a_section_is_guessed_about_in_words_and_narrows_the_results(
    page: Page, choose: Choose, section: bytes
) -> None:
    page.goto("/")
    choose(section)
    own = page.get_by_role("complementary", name="Your image")
    expect(own).to_contain_text("Looks like a medical image")
    expect(own).to_contain_text("is not stored there")
    assert own.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(cards(page).first).to_be_visible()
    own.get_by_role("link", name="Show only MR").click()
    expect(page.get_by_role("button", name="Remove the filter Modality: MR")).to_be_visible()
    expect(own.get_by_role("link", name="Show only MR")).to_have_count(0)


def test_it_survives_a_reload_but_is_not_part_of_the_link(page: Page, choose: Choose, section: bytes) -> None:
    page.goto("/")
    choose(section, "mine.png")
    expect(cards(page).first).to_be_visible()
    page.reload()
    expect(page.get_by_text("mine.png")).to_be_visible()
    expect(cards(page).first).to_be_visible()
    page.goto("/?own=0123456789ab")
    expect(page.get_by_role("alert")).to_contain_text("Own images are not part of a link.")


def test_a_drawing_is_declined_politely_and_searched_on_request(page: Page, choose: Choose, drawing: bytes) -> None:
    page.goto("/")
    choose(drawing)
    expect(page.get_by_role("alert")).to_contain_text("does not look like a medical image")
    assert cards(page).count() == 0
    page.get_by_role("button", name="Search anyway").click()
    expect(page.locator(".grid .card, .alike").first).to_be_visible()
    page.get_by_role("link", name="Remove").click()
    expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_and_a_pasted_image_are_queries(page: Page, section: bytes, kind: str) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()
    hand_over(page, section, kind)
    expect(page.get_by_text("handed.png")).to_be_visible()
    expect(cards(page).first).to_be_visible()


def test_several_files_are_all_kept_and_the_first_is_searched(page: Page, section: bytes, disc: bytes) -> None:
    page.goto("/")
    files: list[FilePayload] = [
        {"name": n, "mimeType": "image/png", "buffer": d} for n, d in (("a.png", section), ("b.png", disc))
    ]
    page.set_input_files("#own", files)
    expect(page.get_by_text("a.png")).to_be_visible()
    page.get_by_role("link", name="b.png").click()
    expect(page.get_by_text("b.png")).to_be_visible()


def test_a_dicom_file_is_shown(page: Page, choose: Choose) -> None:
    page.goto("/")
    choose(dicom(np.arange(2400, dtype=np.int16).reshape(40, 60)), "scan.dcm")
    picture = page.get_by_role("complementary", name="Your image").locator("img")
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [60, 40]


HEIC = b"\0\0\0\x18ftypheic" + bytes(40)
GIF = io.BytesIO()
Image.new("L", (20, 20)).save(GIF, "GIF")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("page.pdf", b"%PDF-1.7 and more", "Save the page as an image"),
        ("photo.heic", HEIC, "Share it as JPEG"),
        ("loop.gif", GIF.getvalue(), "Use PNG, JPEG, WebP or DICOM."),
        ("nothing.png", b"", "The file is empty."),
    ],
)
def test_a_file_that_cannot_be_used_says_what_to_do(
    page: Page, choose: Choose, name: str, data: bytes, said: str
) -> None:
    page.goto("/?q=axial+T1+brain+MRI")
    expect(cards(page).first).to_be_visible()
    choose(data, name)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(f"{name} was not used.")
    expect(alert).to_contain_text(said)
    expect(cards(page).first).to_be_visible()
    alert.get_by_role("button", name="Close").click()
    expect(alert).to_have_count(0)


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()
    page.evaluate("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(20 * 2 ** 20 + 1)], "huge.png"));
        document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
    }""")
    expect(page.get_by_role("alert")).to_contain_text("Choose a file under 20 MB.")


def test_a_file_that_is_no_image_is_refused_by_the_server_with_its_code(page: Page, choose: Choose) -> None:
    page.goto("/")
    choose(b"plain text and no image")
    expect(page.get_by_role("alert")).to_contain_text("IMAGE_FORMAT_UNSUPPORTED")


def test_axe_finds_nothing_wrong(page: Page, choose: Choose, section: bytes) -> None:
    page.goto("/")
    choose(section)
    expect(cards(page).first).to_be_visible()
    check_with_axe(page)
