"""The review page in a real Chromium, at the width of a desk and of a phone; browser and server die in the middle."""
import json
from pathlib import Path

import pytest

from data_prep.review import decisions
from tests.helpers.browser import BROWSER
from tests.helpers.reviewing import EVIL, Served, write_cot

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome here")]
PATIENCE_MS = 180_000  # a machine under load is slow, not wrong
DESK, PHONE = {"viewport": {"width": 1280, "height": 900}}, {
    "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chromium():
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path):
    running = [Served(write_cot(tmp_path, 4), "anna")]
    yield running
    for one in running:
        one.kill()


@pytest.fixture
def opened(chromium, served):
    """Opens the page on a device. Nothing may be asked of another host, no error logged, no dialog opened."""
    contexts, wrong = [], []

    def opened(device: dict):
        context = chromium.new_context(**device)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda asked: asked.url.startswith((served[0].origin, "data:")) or wrong.append(asked.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not any(
            known in said.text for known in ("ERR_CONNECTION", "status of 422", "status of 403")) else None)
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.goto(served[-1].address)
        return page
    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def at_row(page, number: int) -> None:
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text(f"Row {number}")
    page.wait_for_load_state()  # the script, which answers keys, comes after the heading


def says(page, text: str) -> None:
    playwright.expect(page.get_by_role("status")).to_contain_text(text)


def kept(path: Path) -> list[tuple[int, str, str]]:
    return [(one.row, one.decision, one.why) for one in decisions.of_all(path)["anna"].values()]


def test_by_keys_at_a_desk(opened, tmp_path):
    page = opened(DESK)
    at_row(page, 1)
    assert page.evaluate("document.getElementById('photo').naturalWidth") == 256
    shown = page.evaluate("""() => { const box = document.querySelector('svg.map').getBoundingClientRect();
        const bar = document.querySelector('footer').getBoundingClientRect(); return [box.bottom, bar.top, innerHeight,
        bar.bottom]; }""")
    assert shown[0] < shown[1] and shown[3] <= shown[2]  # photo, map and buttons without scrolling
    assert EVIL in page.get_by_role("region", name="reasoning").inner_text()
    page.keyboard.press("a")
    at_row(page, 2)
    says(page, "Row 1 is accepted, and that is saved.")
    page.keyboard.press("e")
    text = page.get_by_label("response")
    playwright.expect(text).to_be_focused()
    assert text.input_value().startswith("<think>Chain 1.")
    text.fill("<think>Mended.</think><answer>lost</answer>")
    page.keyboard.press("Control+Enter")
    says(page, "not saved: no answer can be read in it any more")
    text.fill("<think>Mended.\na & b</think><answer>49.10, 2.0</answer>")
    page.keyboard.press("Control+Enter")
    at_row(page, 3)
    page.keyboard.press("w")
    page.keyboard.type("ear: r is no key here")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    at_row(page, 4)
    page.keyboard.press("ArrowLeft")
    at_row(page, 3)
    playwright.expect(page.get_by_text("You rejected this row.")).to_be_visible()
    page.keyboard.press("ArrowRight")
    at_row(page, 4)
    page.keyboard.press("a")
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text("All 4 rows are decided")
    page.goto(page.url.replace("/done", "/rows/2"))
    at_row(page, 2)
    assert page.get_by_role("region", name="reasoning").inner_text().endswith("Mended.\na & b")
    page.keyboard.press("r")  # another opinion
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text("All 4 rows are decided")
    assert sorted(kept(tmp_path / "rows.json")) == [(1, "accept", ""), (2, "reject", ""),
                                                    (3, "reject", "ear: r is no key here"), (4, "accept", "")]
    lines = (tmp_path / "rows.review.anna.jsonl").read_text().splitlines()
    assert len(lines) == 5 and json.loads(lines[1])["fields"] == {
        "response": "<think>Mended.\na & b</think><answer>49.10, 2.0</answer>"}


def test_by_hand_on_a_phone(opened, tmp_path):
    page = opened(PHONE)
    for number, button in enumerate(("Accept", "Reject"), start=1):
        at_row(page, number)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("""[...document.querySelectorAll('footer :is(button, input)')].every((one) => {
            const box = one.getBoundingClientRect();
            return !box.width || box.left >= 0 && box.right <= 390 && box.bottom <= innerHeight && box.height >= 36;
        })""")
        page.get_by_role("button", name=button).tap()
    at_row(page, 3)
    page.get_by_role("button", name="Edit").tap()
    page.get_by_label("response").fill("<think>By thumb.</think><answer>50.10, 2.0</answer>")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Save edit").tap()
    at_row(page, 4)
    assert kept(tmp_path / "rows.json") == [(1, "accept", ""), (2, "reject", ""), (3, "edit", "")]


def test_every_control_has_a_name_and_is_reached_by_tab(opened):
    page = opened(DESK)
    at_row(page, 1)
    names = []
    for _ in range(7):
        page.keyboard.press("Tab")
        names.append(page.evaluate("""() => { const one = document.activeElement;
            return one.getAttribute('aria-label') || one.labels?.[0]?.firstChild.textContent.trim()
                || one.firstChild.textContent.trim(); }"""))
    assert names == ["next row", "the photo alone, in a new tab", "Question", "Why", "Accept", "Edit", "Reject"]
    assert page.get_by_role("img", name="truth and answer on a map").count() == 1
    assert page.get_by_role("progressbar", name="rows decided").count() == 1


def test_the_server_dies_and_the_browser_dies(opened, served, tmp_path):
    page = opened(DESK)
    page.keyboard.press("a")
    at_row(page, 2)
    served[0].kill()
    page.keyboard.press("a")
    says(page, "Not saved: the server does not answer.")
    page.keyboard.press("e")
    page.get_by_label("response").fill("<think>Long work.</think><answer>49.10, 2.0</answer>")
    served.append(Served(tmp_path / "rows.json", "anna", served[0].port))
    page.keyboard.press("Control+Enter")
    says(page, "Open the address that python -m data_prep.review printed")
    page.goto(served[1].address)
    at_row(page, 2)  # the first that is undecided, and the edit is still there
    says(page, "This edit was begun and not saved.")
    page.keyboard.press("Control+Enter")
    at_row(page, 3)
    page.close()
    again = opened(DESK)  # another browser: nothing but what is on the disk
    at_row(again, 3)
    assert kept(tmp_path / "rows.json") == [(1, "accept", ""), (2, "edit", "")]
    assert "2 of 4 rows are decided" in served[1].interrupt() and "Traceback" not in served[1].log.read_text()
