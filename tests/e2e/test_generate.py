"""Generated images on the page, in a real browser; a script plays the generator."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mirage.client import Client
from mirage.provenance import read_provenance

from .conftest import cards, check_with_axe, open_page, search

SEARCH = "/?q=axial+T1+brain+MRI"
SHIFT = "/compare?q=axial+T1+brain&minus=axial&plus=sagittal"


@pytest.fixture
def maker(browser: Browser, generating: Any) -> Iterator[Page]:
    """A page before a gateway that generates."""
    with open_page(browser, generating.http_url) as page:
        yield page


def begin(page: Page) -> Locator:
    """Asks for an image of the query on the page."""
    page.get_by_role("button", name="Generate", exact=True).first.click()
    return page.get_by_role("region", name="Generated image")


def generate(page: Page) -> Locator:
    """Asks for an image and waits for it."""
    panel = begin(page)
    expect(panel.locator(".made img").first).to_be_visible()
    return panel


def test_an_image_grows_and_ends_next_to_a_real_one(maker: Page, generating: Any) -> None:
    generating.start_generator(step_ms=700)
    maker.goto(SEARCH)
    panel = begin(maker)
    expect(panel.get_by_role("progressbar")).to_be_visible()
    expect(panel).to_contain_text(re.compile(r"Step [1-4] of 4 \((about|less)"))
    expect(panel.get_by_alt_text("Preview of the unfinished generated image")).to_be_visible()
    expect(panel.locator(".made")).to_contain_text("Seed 4611686018427387905")
    expect(panel.get_by_role("progressbar")).to_have_count(0)
    expect(panel).to_contain_text("From the atlas:")
    expect(panel.get_by_role("status")).to_have_text("The generated image is ready.")


def test_an_image_says_how_it_follows_its_text(maker: Page) -> None:
    maker.goto("/?q=unlike+brain")
    panel = generate(maker)
    checks = panel.get_by_role("list", name="Compared with the text by the encoder").get_by_role("listitem")
    expect(checks).to_have_text(
        [
            "Plane: Axial, as asked",
            "Sequence: T1 was asked for; it looks like T2",
            "Lesion: none was asked for; it looks like a lesion",
        ]
    )
    expect(panel).to_contain_text("This generator draws only grey squares. Other prompts are declined.")


def test_a_text_that_cannot_be_drawn_is_declined_with_the_reason(maker: Page, generating: Any) -> None:
    maker.goto("/?q=outside+brain")
    panel = begin(maker)
    expect(panel.get_by_role("alert")).to_contain_text("The generator cannot draw this")
    expect(panel.get_by_role("alert")).to_contain_text("draws only grey squares. It does not know: outside.")
    with Client(generating.http_url) as client:
        assert client.jobs().jobs == ()


def test_what_is_generated_says_so_in_words_everywhere(maker: Page) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    expect(panel.get_by_text("AI-generated", exact=True)).to_have_count(2)
    expect(panel).to_contain_text("Not a real patient; the anatomy can be wrong.")
    alt = panel.locator(".made img").get_attribute("alt")
    assert alt == "AI-generated image for “axial T1 brain MRI”. Not a patient."


def test_a_download_carries_its_name_and_its_provenance(maker: Page, tmp_path: Path) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    with maker.expect_download() as download:
        panel.get_by_role("link", name="Download PNG").click()
    assert download.value.suggested_filename == "mirage-synthetic-job0001-0.png"
    download.value.save_as(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        assert image.info["ai_generated"] == "true"


def test_options_are_the_models_and_reach_the_job(maker: Page, generating: Any) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    panel.get_by_text("Options").click()
    assert panel.get_by_label("Steps").get_attribute("max") == "8"
    panel.get_by_label("Steps").fill("3")
    panel.get_by_label("Closer to the text").fill("1.2")
    panel.get_by_label("Width").fill("64")
    panel.get_by_label("Images").fill("2")
    panel.get_by_label("Seed").fill(str(2**63 - 1))
    panel.get_by_label("Without").fill("lesion")
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.locator(".made")).to_have_count(2)
    expect(panel.locator(".made").first).to_contain_text(f"Seed {2**63 - 1}")
    expect(panel.locator(".made").last).to_contain_text("Seed 0")
    with Client(generating.http_url) as client:
        asked = client.jobs().jobs[0].request
    assert {**asked.raw, "priority": ""} == {
        "prompt": "axial T1 brain MRI",
        "negative_prompt": "lesion",
        "steps": 3,
        "guidance_scale": 1.2,
        "seed": 2**63 - 1,
        "width": 64,
        "height": 128,
        "images": 2,
        "priority": "",
    }
    # Both attempts are there after a reload, the newest large.
    maker.reload()
    panel = generate(maker)
    expect(panel.locator(".made")).to_have_count(2)
    panel.get_by_role("list", name="Attempts").get_by_role("button").last.click()
    expect(panel.locator(".made")).to_have_count(1)


@pytest.mark.parametrize(
    ("label", "keys", "said"),
    [
        ("Seed", "7a", "Seed cannot be read"),
        ("Steps", "1e", "Steps cannot be read"),
        ("Steps", "1000000", "steps must be between 1 and 50"),
    ],
)
def test_an_option_that_is_wrong_is_named_and_can_be_mended(
    maker: Page, generating: Any, label: str, keys: str, said: str
) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    panel.get_by_text("Options").click()
    panel.get_by_label(label).press_sequentially(keys)
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.get_by_role("alert")).to_contain_text(said)
    with Client(generating.http_url) as client:
        assert len(client.jobs().jobs) == 1
    panel.get_by_label(label).fill("2")
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(panel.locator(".made img")).to_be_visible()


def test_a_change_of_a_query_is_generated_in_words(maker: Page, generating: Any) -> None:
    maker.goto(SHIFT)
    generate(maker)
    with Client(generating.http_url) as client:
        assert client.jobs().jobs[0].request.prompt == "axial T1 brain without axial, with sagittal"


@pytest.mark.parametrize("prompt", ["waiting", "brain"])
def test_the_keyboard_cancels_a_job_waiting_or_running(maker: Page, generating: Any, prompt: str) -> None:
    generating.start_generator(step_ms=3000)
    maker.goto(f"/?q={prompt}")
    panel = begin(maker)
    expect(panel).to_contain_text("Waiting" if prompt == "waiting" else "Step")
    panel.get_by_role("button", name=f"Cancel: {prompt}").focus()
    maker.keyboard.press("Enter")
    expect(panel.get_by_text("Cancelled.").first).to_be_attached()
    with Client(generating.http_url) as client:
        assert [job.state for job in client.jobs().jobs] == ["CANCELLED"]


def test_a_job_survives_a_reload_and_another_query(maker: Page, generating: Any) -> None:
    generating.start_generator(step_ms=1500)
    maker.goto(SEARCH)
    expect(begin(maker)).to_contain_text(re.compile(r"Step \d+ of"))
    maker.reload()
    search(maker, "sagittal T2 brain")
    expect(maker).to_have_title("sagittal T2 brain · MIRAGE")
    expect(maker.get_by_role("region", name="Generated image")).to_have_count(0)
    maker.goto(SEARCH)
    generate(maker)
    with Client(generating.http_url) as client:
        assert [job.state for job in client.jobs().jobs] == ["SUCCEEDED"]


def test_jobs_are_listed_kept_up_and_cancelled(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        client.create_job("failing one")
        client.create_job("a fine one")
        waiting = client.create_job("waiting one")
        maker.goto("/")
        maker.get_by_role("link", name="Generated images").click()
        rows = maker.locator(".jobs > li")
        expect(rows.get_by_role("heading")).to_have_text(["waiting one", "a fine one", "failing one"])
        expect(rows.nth(1).locator(".made img")).to_be_visible()
        expect(rows.nth(1)).to_contain_text("AI-generated")
        expect(rows.nth(2)).to_contain_text("MODEL_FAILED")
        late = client.create_job("a late one")
        expect(rows.first.get_by_role("heading")).to_have_text("a late one")
        expect(maker.locator(f"[data-id={late.id}] .made img")).to_be_visible()
        row = maker.locator(f"[data-id={waiting.id}]")
        row.get_by_role("button", name="Cancel: waiting one").click()
        expect(row.get_by_text("Cancelled.").first).to_be_attached()
        assert client.job(waiting.id).state == "CANCELLED"
    maker.reload()
    expect(rows).to_have_count(4)
    rows.first.get_by_role("link", name="Search for this").click()
    expect(maker).to_have_title("a late one · MIRAGE")


def test_a_prompt_that_was_cut_and_a_model_that_failed_are_said(maker: Page) -> None:
    maker.goto("/?q=overlong+brain")
    expect(generate(maker)).to_contain_text("Only the first part of your text was used.")
    maker.goto("/?q=failing+brain")
    panel = begin(maker)
    expect(panel).to_contain_text("MODEL_FAILED")
    expect(panel.get_by_role("button", name="Generate another")).to_be_enabled()


def test_a_full_queue_can_be_tried_again_when_it_says(maker: Page) -> None:
    maker.goto("/?q=crowded+brain")
    alert = begin(maker).get_by_role("alert")
    expect(alert).to_contain_text("QUEUE_FULL")
    expect(alert.get_by_role("button")).to_have_text(re.compile("Try again in [23] s"))
    expect(alert.get_by_role("button", name="Try again", exact=True)).to_be_enabled()


def test_a_job_that_expired_says_so(maker: Page, generating: Any) -> None:
    def expire(route: Route) -> None:
        with Client(generating.http_url) as client:
            job = {**client.jobs().jobs[0].raw, "state": "EXPIRED"}
        body = f"event: done\ndata: {json.dumps(job)}\n\n"
        route.fulfill(body=body, content_type="text/event-stream")

    maker.route("**/v1/jobs/*/events", expire)
    maker.goto("/?q=waiting+brain")
    expect(begin(maker)).to_contain_text("Timed out. Try again when the server is less busy.")


def test_a_watch_that_breaks_is_begun_again(maker: Page, generating: Any) -> None:
    generating.start_generator(step_ms=500)
    broken: list[str] = []

    def breaks(route: Route) -> None:
        broken.append(route.request.url)
        route.fulfill(body=": hello\n\n", content_type="text/event-stream")

    maker.route("**/v1/jobs/*/events", breaks, times=1)
    maker.goto(SEARCH)
    generate(maker)
    assert len(broken) == 1


def test_a_watch_that_breaks_after_an_hour_of_silence_is_begun_again(maker: Page) -> None:
    held: list[Route] = []
    maker.route("**/v1/jobs/*/events", lambda route: held.append(route), times=1)
    maker.clock.install()
    maker.goto(SEARCH)
    with maker.expect_request("**/v1/jobs/*/events"):
        panel = begin(maker)
    maker.clock.fast_forward("01:00:00")
    held[0].abort()
    expect(panel.locator(".made img")).to_be_visible()


def test_a_job_that_waits_shows_its_place_as_it_changes(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        first = client.create_job("waiting")
        maker.goto("/?q=waiting+brain")
        panel = begin(maker)
        expect(panel).to_contain_text("Waiting: 1 job ahead")
        client.cancel_job(first.id)
        expect(panel).to_contain_text("Waiting for the image generator.")


def test_without_a_generator_nothing_is_offered(browser: Browser, explaining: Any) -> None:
    explaining.kill_generator()
    with open_page(browser, explaining.http_url) as page:
        page.goto(SEARCH)
        expect(page.get_by_role("button", name="Explain")).to_be_visible()
        page.wait_for_load_state("networkidle")
        expect(page.get_by_role("button", name="Generate", exact=True)).to_have_count(0)


def test_the_generator_that_comes_along_makes_an_image(page: Page, system: Any) -> None:
    page.goto(SEARCH)
    generate(page)
    with Client(system.http_url) as client:
        (job,) = client.jobs(limit=1).jobs
        said = read_provenance(client.job_image(job.id).data)
    assert said is not None
    assert (said.bundle, said.prompt) == ("mini-generator", job.request.prompt)


def test_a_record_alone_has_no_words_to_generate_from(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        record = client.search("axial T1 brain MRI", k=1).results[0].id
    maker.goto(f"/?similar={record}")
    expect(cards(maker).first).to_be_visible()
    maker.wait_for_load_state("networkidle")
    expect(maker.get_by_role("button", name="Generate", exact=True)).to_have_count(0)


def test_a_prompt_is_text_and_never_markup(maker: Page) -> None:
    maker.goto("/?q=%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D%27pwned%27%22%3E")
    generate(maker)
    assert maker.locator("img[src=x]").count() == 0
    maker.goto("/generated")
    expect(maker.locator(".jobs h2")).to_contain_text("<img src=x")
    assert "pwned" not in maker.title()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("path", [SEARCH, SHIFT, "/generated"])
def test_generated_images_are_accessible_on_every_screen(
    browser: Browser, generating: Any, scheme: Any, width: int, path: str
) -> None:
    with Client(generating.http_url) as client:
        for prompt in ("failing one", "a fine one " + "and-long" * 20, "waiting one"):
            client.create_job(prompt)
    size = {"width": width, "height": 844}
    with open_page(browser, generating.http_url, color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        page.goto(path)
        if path == "/generated":
            expect(page.locator(".made img")).to_be_visible()
        else:
            generate(page).get_by_text("Options").click()
        check_with_axe(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_with_a_key_images_are_fetched_with_it(maker: Page) -> None:
    maker.goto("/")
    maker.evaluate("sessionStorage.setItem('mirage-key', 'k'.repeat(24))")
    asked: list[str] = []
    maker.on(
        "request", lambda sent: asked.append(sent.headers.get("authorization", "")) if "/images/" in sent.url else None
    )
    maker.goto(SEARCH)
    panel = generate(maker)
    expect(panel.locator(".made img")).to_have_attribute("src", re.compile("^blob:"))
    assert asked
    assert all(each == "Bearer " + "k" * 24 for each in asked)
