"""What a real browser makes of a page: chromium or google-chrome, without a window. The tests that ask one are skipped
where there is none."""
import json
import shutil
import subprocess
from html import unescape
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>addEventListener('load', () => {
  const all = (what) => [...document.querySelectorAll(what)], box = (e) => e.getBoundingClientRect();
  const hit = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const texts = all('svg').flatMap(s => [...s.querySelectorAll('text')].map((e, i, own) => own.slice(i + 1)
    .filter(o => hit(box(e), box(o))).map(o => e.textContent + ' on ' + o.textContent)).flat());
  document.body.dataset.seen = JSON.stringify({
    width: innerWidth, needs: document.documentElement.scrollWidth,
    outside: all('body *').filter(e => !e.closest('svg, table.cards thead')
      && (box(e).right > innerWidth + 1 || box(e).left < -1)).length,
    scrolled: all('body *').filter(e => !e.closest('svg') && e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1
      ).map(e => e.tagName + ' ' + e.textContent.slice(0, 40)),
    overlapping: texts, pictures: document.images.length,
    loaded: [...document.images].filter(i => i.naturalWidth > 0).length,
    marks: all('blockquote mark').filter(e => box(e).width > 5 && getComputedStyle(e).backgroundColor
      != getComputedStyle(e.parentElement).backgroundColor).length});
})</script>"""


def seen(html: str, folder: Path, width: int) -> dict:
    """The page in a window of `width` pixels: what its layout needs, how many elements lie outside, which scroll
    sideways in a box of their own, which texts of a drawing lie on others, photos, and marks with a colour."""
    frame = folder / "frame.html"  # a headless window cannot be as narrow as a phone: a frame can
    (folder / "probed.html").write_text(html.replace("</body>", PROBE + "</body>"))
    frame.write_text(f"<iframe id=f src=probed.html width={width} height=800 style='border:0'></iframe><script>"
                     "addEventListener('load', () => setTimeout(() => { document.body.dataset.seen = "
                     "f.contentDocument.body.dataset.seen; }, 200))</script>")
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--window-size=1400,900", "--dump-dom",
         frame.as_uri()], capture_output=True, text=True, timeout=120)
    return json.loads(unescape(shown.stdout.split('data-seen="')[1].split('"')[0]))
