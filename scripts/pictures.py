"""Takes the pictures of README and docs/gallery.md, of what a finished quickstart made and of its models at work.

    python scripts/pictures.py [run=quickstart] [row=ID]
"""
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from eval.drawing import example
from gre.config import UserError, main, option

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHAPTERS = {  # of report.html: picture → heading
    "stages": "What each stage did", "curves": "Training curves", "said": "What was said in training",
    "errors": "Errors on the map", "countries": "By country", "worst": "Worst of stage 3"}
CUT = """title => {
  const head = [...document.querySelectorAll('h2')].find(it => it.textContent === title);
  const chapter = document.createElement('section');
  head.before(chapter);
  let node = head;
  do { const next = node.nextSibling; chapter.append(node); node = next; } while (node && node.nodeName !== 'H2');
  chapter.id = 'cut'; chapter.style.padding = '.1rem 1rem 1rem';
}"""
PHOTOS = 4  # located by command
COMPARED = 2  # of them, on the page: seed 0's stages differ about it


@dataclass
class Config:
    run: str = option("quickstart", "a finished run of scripts/quickstart.sh, under runs/")
    row: str = option("", "README's photo; empty: the first that stage1 misses by most and stage3 finds")


def run(config: Config) -> None:
    """Write every picture. Raises UserError where the run is not finished, or there is no Chromium."""
    folder = Path("runs", config.run)
    if not (folder / "report.html").exists():
        raise UserError(f"{folder} holds no report.html: bash scripts/quickstart.sh run={config.run} makes it")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise UserError("there is no chromium or google-chrome here (Debian: apt-get install chromium)")
    (DOCS / "gallery").mkdir(exist_ok=True)
    with sync_playwright() as tools, tempfile.TemporaryDirectory() as work:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1080, "height": 640}, device_scale_factor=1.25)
        html = Path(work, "page.html")
        example.run(example.Config(str(folder), str(folder / "data"), str(html), config.row))
        page.goto(html.as_uri())
        save(page, DOCS / "example.png", full_page=True)
        report(page, folder / "report.html")
        photos = sorted((folder / "data/test/imgs").iterdir())[:PHOTOS]
        subprocess.run([sys.executable, "-m", "gre.locate", *photos, "--model", folder / "stage3", "--samples", "8",
                        "--map", html], check=True, stdout=subprocess.DEVNULL)
        page.goto(html.as_uri())
        save(page, DOCS / "gallery/map.png")
        with served(folder / "stage1", folder / "stage3") as address:
            local_page(page, address, photos[COMPARED])
        browser.close()


def report(page: Page, path: Path) -> None:
    """The chapters of a report."""
    for name, title in CHAPTERS.items():
        page.goto(path.resolve().as_uri())
        page.evaluate(CUT, title)
        save(page.locator("#cut"), DOCS / f"gallery/{name}.png")


def local_page(page: Page, address: str, photo: Path) -> None:
    """The page on which photos are dropped, when one is answered."""
    page.goto(address)
    page.get_by_label("Drop photos here").set_input_files([photo])
    expect(page.get_by_role("status").first).to_have_text("1 photo located.", timeout=600_000)
    save(page, DOCS / "gallery/page.png", full_page=True)


@contextmanager
def served(*models: Path) -> Iterator[str]:
    """The address of the local page with these models."""
    command = [sys.executable, "-m", "gre.locate.page", "--port", "0"]
    for model in models:
        command += ["--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if found := re.search(r"^open (\S+)$", line):
                    yield found[1]
                    return
            raise UserError("the local page did not start, see above")
        finally:
            process.terminate()


def save(what: Page | Locator, path: Path, **arguments: bool) -> None:
    """A screenshot, as small as PNG makes it."""
    Image.open(io.BytesIO(what.screenshot(**arguments))).convert("RGB").save(path, optimize=True)
    print(path, flush=True)


if __name__ == "__main__":
    main(run, Config, __doc__)
