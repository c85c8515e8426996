"""Asking a locator on behalf of the web page: one photo at a time, told piece by piece.

What is told is one JSON object a line: `photo` (a small picture of it, as a data: address), `text` (pieces of the
answer as it is written), `exif` (only where asked for), and at the end `answer` or `error`.
"""
import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from gre.data.exif import NoPosition, exif_of, fix
from gre.data.images import UNREADABLE, formats
from gre.data.raw import DataError, RowError
from gre.geo.point import LatLon, distance_km
from gre.http import data_uri
from gre.locate.formats import near, scatter
from gre.locate.located import Located
from gre.locate.locator import Locator
from gre.locate.photos import open_photo

MAX_PIXELS = 100_000_000  # 300 MB once decoded
PREVIEW = (480, 360)  # pixels; no browser but Safari shows HEIC
NAME = "this photo"  # the page does not tell us what the file is called

WORKER = ThreadPoolExecutor(1, "locate")  # models share the device: whoever comes first is answered first
Tell = Callable[[dict], None]


class Gone(Exception):
    """Nobody waits for the answer any more."""


def opened(content: bytes) -> Image.Image:
    """The photo, as `gre.locate.photos.open_photo` gives it. Raises its errors, and RowError, before anything is
    decoded, for one of more than MAX_PIXELS."""
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as header:
            width, height = header.size
    except UNREADABLE:
        width = height = 0  # open_photo has the words for what is wrong
    if width * height > MAX_PIXELS:
        raise RowError(f"{NAME} has {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} are taken here: make it "
                       "smaller")
    return open_photo(content, NAME)


async def answer(locator: Locator, content: bytes, exif: bool) -> AsyncIterator[str]:
    """The lines about one photo. exif: whether its position is told beside the answer. Whoever stops reading stops the
    model at its next token."""
    lines: asyncio.Queue[dict | None] = asyncio.Queue()
    loop, gone = asyncio.get_running_loop(), threading.Event()

    def tell(line: dict | None) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, line)

    def work() -> None:
        try:
            if not gone.is_set():
                _ask(locator, content, exif, tell, gone)
        except Gone:
            pass
        except DataError as error:
            tell({"error": str(error)})
        finally:
            tell(None)

    working = WORKER.submit(work)
    try:
        while (line := await lines.get()) is not None:
            yield json.dumps(line) + "\n"
        working.result()  # a bug is raised here, and breaks the answer off
    finally:
        gone.set()


def _ask(locator: Locator, content: bytes, exif: bool, tell: Tell, gone: threading.Event) -> None:
    def written(text: str) -> None:
        if gone.is_set():
            raise Gone
        tell({"text": text})

    image = opened(content)
    tell({"photo": _preview(image)})
    located = locator.locate(image, on_text=written if locator.engine == "transformers" else None)
    if exif:
        tell({"exif": _position(content, located)})
    tell({"answer": {**located.record(), "near": near(located), "scatter": scatter(located),
                     "finished": located.finished}})


def _preview(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail(PREVIEW)
    return data_uri(small, "JPEG")


def _position(content: bytes, located: Located) -> dict:
    """What the photo says of itself: latitude, longitude and how far the answer is from there, or why it says none."""
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            place = fix(exif_of(image)).place
    except UNREADABLE:
        return {"none": "no EXIF data"}
    except NoPosition as error:
        return {"none": str(error)}
    away = None if located.latitude is None else distance_km(place, LatLon(located.latitude, located.longitude))
    return {"latitude": place.lat_deg, "longitude": place.lon_deg, "distance_km": away}
