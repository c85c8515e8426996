"""The web page as people meet it: the command, and a real Chromium that drops photos, reads, clicks, types and tabs."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from gre.data.records import DataConfig, read_seed
from tests.helpers import gps, hostile
from tests.helpers.browser import BROWSER
from tests.helpers.paths import ROOT
from tests.helpers.taught import PLACES, write_taught

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome here")]
EVIL = "<img src=x onerror=alert(1)> <script>alert(2)</script> [x](javascript:alert(3))"
START_S = 300


@pytest.fixture(scope="module")
def served(taught, tmp_path_factory):
    """(address, folder) of the page with two checkpoints: the second says Lyon for Paris, and EVIL for Tokyo."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_taught({**PLACES, "paris.png": (PLACES["paris.png"][0], "45.76, 4.84"),
                      "tokyo.png": (PLACES["tokyo.png"][0], EVIL)})
    with open(folder / "page.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gre.locate.page", "--model", str(taught / "run/stage3"), "--model", "run/stage3",
             "--max-new-tokens", "120", "--port", "0", "--keep", "kept"], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    try:
        end = time.monotonic() + START_S
        while not (found := re.search(r"^open (\S+)$", (folder / "page.log").read_text(), re.M)):
            assert process.poll() is None and time.monotonic() < end, (folder / "page.log").read_text()
            time.sleep(0.2)
        yield found[1], folder
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert "Traceback" not in (folder / "page.log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, served):
    """An open page, ready for photos. Nothing may be asked of another host, no error logged, no dialog opened."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    wrong = []
    page.on("request", lambda request: request.url.startswith((served[0], "data:")) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text) if not re.search(
        "status of (400|500|507)|ERR_CONNECTION", message.text) else None)
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto(served[0])
    says(page, "2 models are ready.")
    yield page
    page.close()
    assert not wrong


def says(page, text: str) -> None:
    playwright.expect(page.get_by_role("status").first).to_have_text(text, timeout=120_000)


def answers(page, name: str) -> list[str]:
    """What stands in bold in a photo's card, a text a model."""
    return card(page, name).locator(".where").all_inner_texts()


def card(page, name: str):
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=name))


def marks(page) -> list[str]:
    return [one.get_attribute("class").split()[0] for one in page.locator("#map path:not(.land)").all()]


def photo(taught, name: str) -> bytes:
    return (taught / "imgs" / name).read_bytes()


def test_photos_are_answered_side_by_side_and_marked_on_the_map(page, taught):
    page.evaluate("""() => { window.seen = []; new MutationObserver(() => {
      const said = document.querySelector('blockquote'); if (said) seen.push(said.textContent); }).observe(
      document.querySelector('#answers'), {subtree: true, childList: true, characterData: true}); }""")
    page.get_by_label("Drop photos here").set_input_files([taught / "imgs/paris.png"])
    says(page, "1 photo located.")
    assert answers(page, "paris.png") == ["48.8600, 2.3500", "45.7600, 4.8400"]
    grown = page.evaluate("seen")  # the reasoning, while it was written
    assert "<think>A photo of " in grown and grown[-1] == "A photo of paris.png.\nThe colour says it."
    assert marks(page) == ["answer", "answer"] and page.locator("#legend li").count() == 2
    playwright.expect(page.get_by_role("heading", level=2)).to_have_text("paris.png")
    assert card(page, "paris.png").get_by_role("img", name="paris.png").evaluate("it => it.naturalWidth") == 56
    page.get_by_text("All that it wrote").first.click()
    assert card(page, "paris.png").locator("pre").first.inner_text().endswith("<answer>48.86, 2.35</answer>")


def test_heic_is_shown_and_located_and_its_position_only_where_asked(page, taught):
    heic = gps.saved(Image.open(taught / "imgs/paris.png"), "HEIF", gps.exif(gps.at(51.5, -0.12)), quality=100)
    for name in ("first.heic", "second.heic"):
        page.locator("#photos").set_input_files({"name": name, "mimeType": "image/heic", "buffer": heic})
        playwright.expect(card(page, name).locator(".where")).to_have_text(["48.8600, 2.3500", "45.7600, 4.8400"],
                                                                          timeout=60_000)
        assert card(page, name).get_by_role("img").evaluate("it => it.naturalWidth") == 56
        page.get_by_label("Show the position in a photo’s EXIF data").check()
    assert "EXIF" not in card(page, "first.heic").inner_text()
    says(page, "2 photos located.")
    # From 51.5, -0.12 to 48.86, 2.35 and to 45.76, 4.84: 342 and 735 km.
    assert "EXIF position: 51.5000, -0.1200, 342 km" in card(page, "second.heic").inner_text()
    assert "735 km from the answer" in card(page, "second.heic").inner_text() and marks(page)[-1] == "true"


def test_a_bad_file_is_said_and_the_rest_is_done(page, taught):
    table = hostile.files(PLACES["paris.png"][0])
    sent = [{"name": name, "mimeType": "image/png", "buffer": content} for name, (content, _) in table.items()]
    page.locator("#photos").set_input_files(sent)
    says(page, "5 photos located, 4 could not be.")
    for name, (_, why) in table.items():
        assert bool(why) == (card(page, name).locator(".error").count() == 1), name
    assert "SVG" in card(page, "drawing.svg").inner_text()
    assert answers(page, hostile.QUOTES) == ["48.8600, 2.3500", "45.7600, 4.8400"]


def test_nothing_that_a_model_wrote_is_executed(page, taught):
    page.locator("#photos").set_input_files([taught / "imgs/tokyo.png"])
    says(page, "1 photo located.")
    assert answers(page, "tokyo.png") == ["35.6800, 139.6900", "No one place"]
    page.get_by_text("All that it wrote").last.click()
    assert EVIL in card(page, "tokyo.png").locator("pre").last.inner_text()
    assert page.locator("article img").count() == 1 and page.locator("article a, article script").count() == 0


def test_an_answer_is_corrected_on_the_map_and_by_typing(page, served, taught):
    rows = DataConfig(str(served[1] / "kept/seed.jsonl"))
    page.locator("#photos").set_input_files([taught / "imgs/paris.png"])
    says(page, "1 photo located.")
    page.get_by_role("application", name="Map").click(position={"x": 200, "y": 200})
    clicked = page.get_by_label("Where it was really taken").input_value()
    page.get_by_role("button", name="Keep for training").click()
    playwright.expect(page.locator("#kept")).to_contain_text(f"Kept: paris.png was taken at {clicked}")
    (row,) = read_seed(rows)
    assert f"{row.truth.lat_deg:.4f}, {row.truth.lon_deg:.4f}" == clicked
    assert row.image.is_file()
    page.get_by_label("Where it was really taken").fill("Paris")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#kept")).to_contain_text("Not kept: this is no one place")
    page.get_by_label("Where it was really taken").fill("51°30' N, 0°7' W")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#kept")).to_contain_text("Kept: paris.png was taken at 51.5000, -0.1167, near")
    assert [(row.truth.lat_deg, round(row.truth.lon_deg, 4)) for row in read_seed(rows)] == [(51.5, -0.1167)]
    assert marks(page)[-1] == "true"


def test_it_is_used_by_keyboard_and_everything_has_a_name(page, taught):
    page.locator("#photos").set_input_files([taught / "imgs/tokyo.png", taught / "imgs/paris.png"])
    says(page, "2 photos located.")
    reached = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || "
                                     "document.activeElement.textContent"))
    for name in ("photos", "exif", "map", "Zoom in", "place", "middle", "keep", "All that it wrote",
                 "Show tokyo.png on the map"):
        assert name in reached, (name, reached)
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, input, a, img, summary, [role]')]
      .filter(e => !e.labels?.length && !e.ariaLabel && !e.title && !e.alt && !e.textContent.trim()
      && e.getAttribute('role') !== 'status' && !e.closest('[aria-hidden=true]')).map(e => e.outerHTML)""")
    assert unnamed == []
    page.get_by_role("button", name="Show tokyo.png on the map").press("Enter")
    playwright.expect(page.get_by_role("heading", level=2)).to_have_text("tokyo.png")
    page.get_by_role("button", name="Take the middle of the map").press("Enter")
    lat, lon = page.get_by_label("Where it was really taken").input_value().split(", ")
    assert abs(float(lat) - 35.68) < 1 and abs(float(lon) - 139.69) < 1


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(page, taught, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.locator("#exif").check()
    page.locator("#photos").set_input_files(
        [{"name": f"{'a_very_long_name' * 6}.png", "mimeType": "image/png", "buffer": photo(taught, "paris.png")}])
    says(page, "1 photo located.")
    outside = page.evaluate("""() => [...document.querySelectorAll('body *:not(#map *)')].filter(e => {
      const box = e.getBoundingClientRect(); return box.right > innerWidth + 1 || box.left < -1;
    }).map(e => e.outerHTML.slice(0, 99))""")
    assert outside == [] and page.evaluate("document.documentElement.scrollWidth") == width
    small = page.evaluate("""() => [...document.querySelectorAll('button, #place')].filter(e =>
      e.checkVisibility() && e.getBoundingClientRect().height < 38).map(e => e.outerHTML)""")
    assert small == []  # for a finger


def test_a_server_that_is_gone_is_said(page, taught):
    page.route("**/locate?*", lambda route: route.abort("connectionreset"))
    page.locator("#photos").set_input_files([taught / "imgs/paris.png"])
    playwright.expect(card(page, "paris.png")).to_contain_text("the server does not answer: is it still running?")
    page.unroute("**/locate?*")
    page.locator("#photos").set_input_files([taught / "imgs/tokyo.png"])
    says(page, "1 photo located, 1 could not be.")


def test_a_folder_and_a_file_that_changed_are_told_from_a_server_that_is_gone(page, taught, tmp_path):
    (tmp_path / "holiday").mkdir()
    mouse = {"x": 200, "y": 200, "data": {"items": [], "files": [str(tmp_path / "holiday")], "dragOperationsMask": 1}}
    browser = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, **mouse})
    why = "this file cannot be read: it is a folder, or has changed since it was chosen"
    playwright.expect(card(page, "holiday").locator(".error")).to_have_text(why)
    changed = tmp_path / "changed.png"
    changed.write_bytes(photo(taught, "paris.png"))
    page.locator("#photos").set_input_files([changed])
    says(page, "1 photo located, 1 could not be.")
    changed.write_bytes(photo(taught, "tokyo.png"))
    page.get_by_label("Where it was really taken").fill("1, 2")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#kept")).to_have_text(f"Not kept: {why}")


def test_what_fails_on_the_server_is_said_in_words(page, served, taught):
    page.route("**/locate?*", lambda route: route.fulfill(status=500, body="Internal Server Error"))
    page.locator("#photos").set_input_files([taught / "imgs/paris.png"])
    playwright.expect(card(page, "paris.png")).to_contain_text("the server failed (status 500): its terminal says why")
    page.unroute("**/locate?*")
    page.locator("#photos").set_input_files([taught / "imgs/tokyo.png"])
    says(page, "1 photo located, 1 could not be.")
    (served[1] / "kept/imgs").rename(served[1] / "away")
    page.get_by_label("Where it was really taken").fill("1, 2")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#kept")).to_contain_text("Not kept: kept cannot be written (No such file")
    (served[1] / "away").rename(served[1] / "kept/imgs")
    page.get_by_role("button", name="Keep for training").click()
    playwright.expect(page.locator("#kept")).to_contain_text("Kept: tokyo.png")


def test_the_rest_can_be_stopped(page, taught):
    many = [{"name": f"{at}.png", "mimeType": "image/png", "buffer": photo(taught, "paris.png")} for at in range(200)]
    page.locator("#photos").set_input_files(many)
    page.get_by_role("button", name="Stop").click()
    playwright.expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert page.get_by_role("article").count() < 100
    page.locator("#photos").set_input_files([taught / "imgs/tokyo.png"])
    playwright.expect(card(page, "tokyo.png").locator(".where").first).to_have_text("35.6800, 139.6900")
