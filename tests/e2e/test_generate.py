"""Synthetic images on the page, in a real browser; a script plays the generator."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mirage.client import Client
from mirage.provenance import read_provenance

from .conftest import open_page

SEARCH = "/?q=axial+T1+brain+MRI"
COMPARE = "/?q=axial+T1+brain&minus=axial&plus=sagittal&view=compare"


@pytest.fixture
def maker(browser: Browser, generating: Any) -> Iterator[Page]:
    """A page before a gateway that generates."""
    with open_page(browser, generating.http_url) as page:
        yield page


def generate(page: Page) -> Locator:
    """Asks for an image of the first query on the page and waits for it."""
    page.get_by_role("button", name=re.compile("^Generate:")).first.click()
    panel = page.locator(".synthesis").first
    expect(panel.locator(".made:not(.unfinished) img")).to_be_visible()
    return panel


def test_an_image_grows_and_ends_beside_a_real_one(maker: Page, generating: Any) -> None:
    generating.start_generator(step_ms=700)
    maker.goto(SEARCH)
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    panel = maker.locator(".synthesis")
    expect(panel.get_by_role("progressbar")).to_be_visible()
    expect(panel).to_contain_text(re.compile("Step [1-4] of 4, (about|less)"))
    expect(panel.get_by_alt_text("Preview of the unfinished synthetic image")).to_be_visible()
    expect(panel).to_contain_text("Synthetic, unfinished")
    expect(maker.locator("#jobs-count")).to_have_text("1 in the making")
    made = panel.locator(".made:not(.unfinished)")
    expect(made.locator("img")).to_be_visible()
    expect(made).to_contain_text("Seed 4611686018427387905")
    expect(panel.get_by_role("progressbar")).to_have_count(0)
    expect(panel.locator(".beside")).to_contain_text(maker.locator("#answer .card .caption").first.inner_text())
    expect(panel.locator("[aria-live=polite]")).to_have_text("The synthetic image is ready.")
    expect(maker.locator("#jobs-count")).to_be_hidden()


def test_what_is_synthetic_says_so_in_words_everywhere(maker: Page) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    expect(panel.get_by_role("heading", name="Synthetic image")).to_be_visible()
    expect(panel.locator(".badge")).to_have_text("AI-generated")
    expect(panel.locator(".made .mark")).to_have_text("Synthetic")
    expect(panel.locator(".beside .mark")).to_contain_text("From the atlas")
    alt = panel.locator(".made img").get_attribute("alt")
    assert alt == "Synthetic image, made by a model for “axial T1 brain MRI”. Not a patient."
    expect(panel).to_contain_text("not for diagnosis")


def test_a_download_carries_its_name_and_its_provenance(maker: Page, tmp_path: Path) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    with maker.expect_download() as download:
        panel.get_by_role("link", name="Download synthetic image 1 as PNG").click()
    assert download.value.suggested_filename == "mirage-synthetic-job0001-0.png"
    download.value.save_as(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        assert image.info["ai_generated"] == "true"


def test_options_are_the_models_and_reach_the_job(maker: Page, generating: Any) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    expect(panel.locator("details")).not_to_have_attribute("open", "")
    panel.get_by_text("Options").click()
    assert panel.get_by_label("Steps").get_attribute("max") == "8"
    assert panel.get_by_label("Width").locator("option").all_inner_texts() == ["64", "128", "192", "256"]
    panel.get_by_label("Steps").fill("3")
    panel.get_by_label("Guidance").fill("1.2")
    panel.get_by_label("Width").select_option("64")
    panel.get_by_label("Images").select_option("2")
    panel.get_by_label("Seed").fill(str(2**63 - 1))
    panel.get_by_label("Without").fill("lesion")
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.locator(".made:not(.unfinished)")).to_have_count(2)
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
    maker.reload()
    expect(maker.locator(".synthesis .made")).to_have_count(2)
    maker.get_by_text("Options").click()
    expect(maker.get_by_label("Steps")).to_have_value("3")


def test_an_option_out_of_range_is_refused_by_name_and_can_be_mended(maker: Page) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    panel.get_by_text("Options").click()
    panel.get_by_label("Steps").fill("1000000")
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.get_by_role("alert")).to_contain_text("steps must be between 1 and 10")
    panel.get_by_label("Steps").fill("2")
    maker.get_by_role("button", name=re.compile("^Generate again:")).click()
    expect(panel.locator(".made:not(.unfinished) img")).to_be_visible()
    expect(panel.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(
    ("label", "keys", "told"),
    [
        ("Seed", "-1", "seed must be a whole number between 0 and 2^63-1; -1 was asked for"),
        ("Seed", "7a", "seed must be a whole number between 0 and 2^63-1; 7a was asked for"),
        ("Seed", "1e5", "seed must be a whole number between 0 and 2^63-1; 1e5 was asked for"),
        ("Steps", "1e", "steps must be a number between 1 and 8"),
        ("Guidance", "--", "guidance_scale must be a number between 1 and 2"),
    ],
)
def test_a_field_that_cannot_be_read_is_told_and_makes_no_job(
    maker: Page, generating: Any, label: str, keys: str, told: str
) -> None:
    maker.goto(SEARCH)
    panel = generate(maker)
    panel.get_by_text("Options").click()
    panel.get_by_label(label).fill("")
    panel.get_by_label(label).press_sequentially(keys)
    panel.get_by_role("button", name="Generate another").click()
    expect(panel.get_by_role("alert")).to_contain_text(told)
    with Client(generating.http_url) as client:
        assert len(client.jobs().jobs) == 1
    panel.get_by_label(label).fill("2")
    maker.get_by_role("button", name=re.compile("^Generate again:")).click()
    expect(panel.locator(".made:not(.unfinished) img")).to_be_visible()
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_both_sides_of_a_comparison_have_their_own(maker: Page, generating: Any) -> None:
    maker.goto(COMPARE)
    for side, prompt in (("base", "axial T1 brain"), ("shifted", "axial T1 brain without axial, with sagittal")):
        column = maker.locator(f".column.{side}")
        column.get_by_role("button", name=f"Generate: {prompt}", exact=True).click()
        expect(column.locator(".made:not(.unfinished) img")).to_be_visible()
        expect(column.locator(".beside")).to_contain_text(column.locator(".card .caption").first.inner_text())
    with Client(generating.http_url) as client:
        prompts = [job.request.prompt for job in client.jobs().jobs]
    assert prompts == ["axial T1 brain without axial, with sagittal", "axial T1 brain"]


@pytest.mark.parametrize("prompt", ["waiting", "brain"])
def test_the_keyboard_cancels_a_job_waiting_or_running(maker: Page, generating: Any, prompt: str) -> None:
    generating.start_generator(step_ms=3000)
    maker.goto(f"/?q={prompt}")
    maker.get_by_role("button", name=re.compile("^Generate:")).focus()
    maker.keyboard.press("Enter")
    button = maker.get_by_role("button", name=f"Cancel the synthetic image: {prompt}")
    expect(button).to_be_focused()
    expect(maker.locator(".progress")).to_contain_text("Waiting" if prompt == "waiting" else "Step")
    maker.keyboard.press("Enter")
    expect(maker.locator(".synthesis .notices")).to_contain_text("Cancelled")
    expect(maker.get_by_role("button", name=re.compile("^Generate again:"))).to_be_focused()
    with Client(generating.http_url) as client:
        assert [job.state for job in client.jobs().jobs] == ["CANCELLED"]


def test_a_job_survives_a_reload_and_another_query(maker: Page, generating: Any) -> None:
    generating.start_generator(step_ms=1500)
    maker.goto(SEARCH)
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    expect(maker.locator(".progress")).to_contain_text("Step")
    maker.reload()
    expect(maker.locator(".synthesis .progress")).to_contain_text("Step")
    maker.get_by_label("Concept").fill("sagittal T2 brain")
    maker.keyboard.press("Enter")
    expect(maker.get_by_role("heading", name="sagittal T2 brain")).to_be_visible()
    expect(maker.locator(".synthesis:visible")).to_have_count(0)
    maker.goto(SEARCH)
    expect(maker.locator(".synthesis .made:not(.unfinished) img")).to_be_visible()
    with Client(generating.http_url) as client:
        assert [job.state for job in client.jobs().jobs] == ["SUCCEEDED"]


def test_jobs_are_listed_kept_up_and_cancelled(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        client.create_job("failing one")
        client.create_job("a fine one")
        waiting = client.create_job("waiting one")
        maker.goto("/")
        maker.get_by_role("link", name="Synthetic images").click()
        rows = maker.locator(".job")
        expect(rows.get_by_role("heading")).to_have_text(["waiting one", "a fine one", "failing one"])
        expect(rows.nth(1).locator(".made img")).to_be_visible()
        expect(rows.nth(1).locator(".badge")).to_have_text("AI-generated")
        expect(rows.nth(2)).to_contain_text("MODEL_FAILED")
        expect(rows.nth(0).locator(".badge")).to_be_hidden()
        late = client.create_job("a late one")
        expect(rows.first.get_by_role("heading")).to_have_text("a late one")
        expect(maker.locator(f"[data-id={late.id}] .made img")).to_be_visible()
        row = maker.locator(f"[data-id={waiting.id}]")
        row.get_by_role("button", name="Cancel: waiting one").click()
        expect(row).to_contain_text("Cancelled")
        assert client.job(waiting.id).state == "CANCELLED"
    maker.reload()
    expect(rows).to_have_count(4)
    rows.first.get_by_role("link", name="Search this").click()
    expect(maker.get_by_role("heading", name="a late one")).to_be_visible()


def test_a_job_beyond_the_first_page_is_kept_up_until_it_is_gone(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        oldest, second = client.create_job("waiting oldest"), client.create_job("waiting second")
        for _ in range(20):
            client.create_job("waiting")
        maker.goto("/?show=jobs")
        maker.get_by_role("button", name="Load more").click()
        row = maker.locator(f"[data-id={oldest.id}]")
        expect(row).to_contain_text("Waiting")
        client.cancel_job(oldest.id)
        expect(row).to_contain_text("Cancelled")
        gone = {"code": "JOB_NOT_FOUND", "status": 404}
        maker.route(f"**/v1/jobs/{second.id}", lambda route: route.fulfill(status=404, json=gone))
        expect(maker.locator(f"[data-id={second.id}]")).to_have_count(0)
        expect(maker.locator(".job")).to_have_count(21)


def test_a_prompt_that_was_cut_and_a_model_that_failed_are_told(maker: Page) -> None:
    maker.goto("/?q=overlong+brain")
    expect(generate(maker).locator(".notices")).to_contain_text("reads only the beginning")
    maker.goto("/?q=failing+brain")
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    expect(maker.locator(".synthesis .notices")).to_contain_text("MODEL_FAILED")
    expect(maker.get_by_role("button", name=re.compile("^Generate again:"))).to_be_visible()


def test_a_full_queue_can_be_tried_again_when_it_says(maker: Page) -> None:
    maker.goto("/?q=crowded+brain")
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    alert = maker.locator(".synthesis [role=alert]")
    expect(alert).to_contain_text("QUEUE_FULL")
    expect(alert.get_by_role("button")).to_have_text(re.compile("Try again in [23] s"))
    expect(alert.get_by_role("button", name="Try again", exact=True)).to_be_enabled()


def test_a_queue_that_nobody_serves_is_told(maker: Page) -> None:
    maker.goto("/?q=waiting+brain")
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    panel = maker.locator(".synthesis .progress")
    expect(panel).to_contain_text("next in the queue")
    expect(panel).to_contain_text("no worker is free, or none is running")


def test_a_job_that_expired_says_so(maker: Page, generating: Any) -> None:
    def expire(route: Route) -> None:
        with Client(generating.http_url) as client:
            job = {**client.jobs().jobs[0].raw, "state": "EXPIRED"}
        body = f"event: done\ndata: {json.dumps(job)}\n\n"
        route.fulfill(body=body, content_type="text/event-stream")

    maker.route("**/v1/jobs/*/events", expire)
    maker.goto("/?q=waiting+brain")
    maker.get_by_role("button", name=re.compile("^Generate:")).click()
    expect(maker.locator(".synthesis .notices")).to_contain_text("not finished within its deadline")


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
        maker.get_by_role("button", name=re.compile("^Generate:")).click()
    maker.clock.fast_forward("01:00:00")
    held[0].abort()
    expect(maker.locator(".synthesis .made:not(.unfinished) img")).to_be_visible()


def test_a_job_that_waits_shows_its_place_as_it_changes(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        first = client.create_job("waiting")
        maker.goto("/?q=waiting+brain")
        maker.get_by_role("button", name=re.compile("^Generate:")).click()
        progress = maker.locator(".synthesis .progress")
        expect(progress).to_contain_text("Waiting: 1 job ahead")
        client.cancel_job(first.id)
        expect(progress).to_contain_text("next in the queue")


def test_without_a_generator_nothing_is_offered(browser: Browser, explaining: Any) -> None:
    explaining.kill_generator()
    with open_page(browser, explaining.http_url) as page:
        page.goto(SEARCH)
        expect(page.get_by_role("button", name=re.compile("^Explain"))).to_be_visible()
        page.wait_for_load_state("networkidle")
        expect(page.get_by_role("button", name=re.compile("^Generate"))).to_have_count(0)
        expect(page.locator("#jobs-link")).to_be_hidden()


def test_the_generator_that_comes_along_makes_an_image(page: Page, system: Any) -> None:
    page.goto(SEARCH)
    panel = generate(page)
    expect(panel).to_contain_text("AI-generated")
    with Client(system.http_url) as client:
        (job,) = client.jobs(limit=1).jobs
        said = read_provenance(client.job_image(job.id).data)
    assert said is not None
    assert (said.bundle, said.prompt) == ("mini-generator", job.request.prompt)


def test_an_image_or_a_record_alone_has_no_words_to_generate_from(maker: Page, generating: Any) -> None:
    with Client(generating.http_url) as client:
        record = client.search("axial T1 brain MRI", k=1).results[0].id
    maker.goto(f"/?similar={record}")
    expect(maker.get_by_role("button", name=re.compile("^Explain"))).to_be_visible()
    expect(maker.locator("#jobs-link")).to_be_visible()
    expect(maker.get_by_role("button", name=re.compile("^Generate"))).to_have_count(0)


def test_a_prompt_is_text_and_never_markup(maker: Page) -> None:
    maker.goto("/?q=%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D%27pwned%27%22%3E")
    panel = generate(maker)
    assert panel.locator("img").count() == 2
    maker.goto("/?show=jobs")
    expect(maker.locator(".job h3")).to_contain_text("<img src=x")
    assert "pwned" not in maker.title()


@pytest.mark.parametrize(
    ("scheme", "path"), [("light", SEARCH), ("dark", SEARCH), ("dark", COMPARE), ("light", "/?show=jobs")]
)
def test_axe_finds_nothing_wrong(browser: Browser, generating: Any, scheme: Any, path: str) -> None:
    with Client(generating.http_url) as client:
        for prompt in ("failing one", "a fine one", "waiting one"):
            client.create_job(prompt)
    with open_page(browser, generating.http_url, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(path)
        if path == "/?show=jobs":
            expect(page.locator(".job .made img")).to_be_visible()
        else:
            generate(page).get_by_text("Options").click()
        results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("path", [SEARCH, COMPARE, "/?show=jobs"])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, generating: Any, path: str) -> None:
    with Client(generating.http_url) as client:
        client.create_job("a fine one " + "and-long" * 20)
    with open_page(browser, generating.http_url, viewport={"width": 390, "height": 844}) as page:
        page.goto(path)
        if path == "/?show=jobs":
            expect(page.locator(".job .made img")).to_be_visible()
        else:
            generate(page).get_by_text("Options").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


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
