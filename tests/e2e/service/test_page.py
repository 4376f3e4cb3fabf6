"""The reward service's web page in a real browser, from phone to desktop width, with the embedded judge."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.schemas import CandidateScore, ScoreResponse
from tests.support.browser import complaints, headless
from tests.support.serving import reward_service, serving

METHODS = ("score_logit", "yes_no_logit", "verifier")
WIDTHS = (360, 800, 1400)
CANDIDATES = ("done.png", "half.png", "wrong.png")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""Directory for screenshots of the page, for reviewing changes to it."""


@pytest.fixture(scope="module")
def url(shapes_dir: Path) -> Iterator[str]:
    with reward_service(shapes_dir / "judge") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless() as found:
        yield found


@pytest.fixture(params=["light"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=request.param)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    """The page with its methods loaded; checks afterwards that no errors occurred in it."""
    found = context.new_page()
    wrong = complaints(found)
    found.goto(url)
    expect(found.get_by_label("score_logit", exact=True)).to_be_checked()
    yield found
    assert wrong == []


@pytest.fixture
def folder(shapes_dir: Path) -> Path:
    return shapes_dir / "samples" / "00"


def fill(page: Page, folder: Path, candidates: tuple[str, ...] = CANDIDATES) -> None:
    page.locator("#source").set_input_files(folder / "source.png")
    page.locator("#candidates").set_input_files([folder / name for name in candidates])
    page.locator("#instruction").fill(_instruction(folder))


def choose(page: Page, methods: tuple[str, ...]) -> None:
    for box in page.locator("#methods input").all():
        box.set_checked(box.get_attribute("value") in methods)


def score(page: Page) -> Locator:
    page.get_by_role("button", name="Score", exact=True).click()
    cards = page.locator(".candidate")
    expect(cards).not_to_have_count(0, timeout=60_000)
    return cards


def _instruction(folder: Path) -> str:
    return (folder / "instruction.txt").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def expected(url: str, shapes_dir: Path) -> list[ScoreResponse]:
    """The service's response for each of METHODS, requested without a browser."""
    folder = shapes_dir / "samples" / "00"
    files = [("source", (folder / "source.png").read_bytes())]
    files += [("candidates", (folder / name).read_bytes()) for name in CANDIDATES]
    forms = [{"instruction": _instruction(folder), "method": method} for method in METHODS]
    answers = [httpx.post(f"{url}/v1/score", files=files, data=form, timeout=60.0) for form in forms]
    return [ScoreResponse.model_validate(answer.raise_for_status().json()) for answer in answers]


def test_it_shows_what_the_service_answers_by_candidate_and_method(
    page: Page, folder: Path, expected: list[ScoreResponse]
) -> None:
    expect(page.get_by_label("API key")).to_be_hidden()
    fill(page, folder)
    choose(page, METHODS)
    cards = score(page)
    expect(cards).to_have_count(len(CANDIDATES))
    for index, name in enumerate(CANDIDATES):
        card = cards.nth(index)
        expect(card.locator("figcaption")).to_have_text(name)
        for cell, answer in zip(card.locator(".cell").all(), expected, strict=True):
            result = answer.results[index]
            assert isinstance(result, CandidateScore)
            expect(cell.locator("h3")).to_contain_text(answer.method)
            assert float(cell.locator(".score").inner_text()) == pytest.approx(result.score, abs=1e-3)
            expect(cell).to_contain_text("score mass")
            bars = dict(zip(*(cell.locator(f".bar {tag}").all_inner_texts() for tag in ("b", "span")), strict=True))
            shown = {label: float(share) for label, share in bars.items()}
            assert shown == pytest.approx(result.distribution or {}, abs=6e-3)
            expect(cell.locator(".principles li")).to_have_count(len(result.details.get("principles", [])))
    expect(cards.nth(0).locator(".best")).not_to_have_count(0)


@pytest.mark.parametrize("context", ["light", "dark"], indirect=True)
def test_it_fits_every_width(page: Page, folder: Path, request: pytest.FixtureRequest) -> None:
    fill(page, folder)
    page.get_by_text("Options", exact=True).click()
    choose(page, METHODS)
    score(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{overflow} px too wide at {width}"
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is None or box["x"] + box["width"] <= width
        if SCREENSHOTS:
            scheme = request.node.callspec.params["context"]
            page.screenshot(path=f"{SCREENSHOTS}/page-{width}-{scheme}.png", full_page=True)


def test_copied_curl_gives_the_same_scores(page: Page, folder: Path, expected: list[ScoreResponse]) -> None:
    fill(page, folder)
    page.get_by_role("button", name="Copy as curl").click()
    command = page.locator("dialog pre").inner_text()
    ran = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    found = ScoreResponse.model_validate_json(ran.stdout)
    scores = [one.score for one in found.results if isinstance(one, CandidateScore)]
    assert scores == pytest.approx([one.score for one in expected[0].results if isinstance(one, CandidateScore)])


def test_prompts_can_be_read(page: Page, folder: Path) -> None:
    fill(page, folder)
    page.get_by_role("button", name="Show prompt").click()
    expect(page.locator("dialog pre")).to_contain_text(f"Instruction: {_instruction(folder)}")


def test_it_says_what_is_missing_and_keeps_the_rest(page: Page, folder: Path) -> None:
    page.locator("#candidates").set_input_files(folder / "done.png")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Choose the original image first.")
    page.locator("#source").set_input_files(folder / "source.png")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Enter the edit instruction.")
    page.locator("#instruction").fill(_instruction(folder))
    expect(score(page)).to_have_count(1)
    expect(page.locator("#problem")).to_be_empty()


def test_a_candidate_that_is_no_image_is_told_beside_the_others(page: Page, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "<img src=x onerror=alert(1)>.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    fill(page, folder)
    page.locator("#candidates").set_input_files([folder / "done.png", broken])
    cards = score(page)
    expect(cards).to_have_count(2)
    expect(cards.nth(0).locator(".score")).to_have_count(1)
    expect(cards.nth(1).locator(".problem")).to_contain_text("candidate 1: not a readable image")
    # The file's name is shown as text, not markup.
    expect(cards.nth(1).locator("figcaption")).to_have_text(broken.name)


def test_what_the_service_refuses_is_told_in_its_words(context: BrowserContext, url: str, folder: Path) -> None:
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_label("score_logit", exact=True)).to_be_checked()
    fill(page, folder)
    page.get_by_text("Options", exact=True).click()
    page.locator("#composite").fill('{"rule": "mean", "weights": {"score_logt": 1}}')
    choose(page, ("composite",))
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("score_logt")
    assert page.locator("#instruction").input_value() == _instruction(folder)


def test_pictures_can_be_dropped(page: Page, folder: Path) -> None:
    drop = """([zone, bytes]) => {
        const moved = new DataTransfer();
        moved.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
        document.querySelector(zone).dispatchEvent(new DragEvent("drop", { dataTransfer: moved, cancelable: true }));
    }"""
    for zone, name in (("#drop-source", "source.png"), ("#drop-candidates", "done.png")):
        page.evaluate(drop, [zone, list((folder / name).read_bytes())])
    page.locator("#instruction").fill(_instruction(folder))
    expect(score(page).locator("figcaption")).to_have_text("dropped.png")


def test_a_service_with_a_key_asks_for_it(context: BrowserContext, shapes_dir: Path, folder: Path) -> None:
    settings = Settings(model=str(shapes_dir / "judge"), engine="transformers", api_key="sesame")
    with serving(create_app(settings)) as url:
        page = context.new_page()
        page.goto(url)
        expect(page.get_by_role("status")).to_have_text("this service requires an API key")
        page.get_by_label("API key").fill("sesame")
        page.get_by_label("API key").blur()
        expect(page.get_by_label("score_logit", exact=True)).to_be_checked(timeout=60_000)
        expect(page.get_by_role("status")).not_to_contain_text("not ready", timeout=60_000)
        fill(page, folder)
        expect(score(page)).to_have_count(len(CANDIDATES))
