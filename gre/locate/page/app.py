"""The web page as an application of Starlette: its files, its map's land, asking about a photo, keeping a correction.

Nothing is loaded from elsewhere, and the page may not: the Content-Security-Policy names this server alone, and a tile
server where one is configured. Another site that the same browser shows can ask nothing here: a photo is taken only as
application/octet-stream, which browsers do not send across sites unless they are allowed to, and names of this host
that somebody else's DNS made up are refused.
"""
import asyncio
import ipaddress
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gre.data.raw import DataError
from gre.geo.land import outlines
from gre.geo.places import gazetteer
from gre.locate.located import MIN_POPULATION
from gre.locate.locator import Locator
from gre.locate.page.asking import answer
from gre.locate.page.corrections import Corrections
from gre.text.answers import parse_answer

MAX_BYTES = 50 * 2**20  # of a photo's file
MAX_WAITING = 8  # photos that may be located, or kept, at once; one page sends one at a time
UPLOAD_S = 60
KEEPER = ThreadPoolExecutor(1, "keep")  # a photo at a time is decoded to be kept, whatever the models are doing


class Refused(Exception):
    """What cannot be done for a client: an HTTP status and why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Page:
    """What is shown. locators: by the name they are shown under; tiles: an address with {z}, {x} and {y}, or empty."""

    locators: dict[str, Locator]
    corrections: Corrections | None
    tiles: str

    async def settings(self, request: Request) -> Response:
        """What the page's script has to know."""
        return JSONResponse({
            "models": [{"name": name, "question": locator.question, "samples": locator.decoding.samples}
                       for name, locator in self.locators.items()],
            "keep": self.corrections is not None, "tiles": self.tiles, "maxBytes": MAX_BYTES})

    async def locate(self, request: Request) -> Response:
        """The lines of `gre.locate.page.asking` about the photo that is sent. model=: its place; exif=1: tell its
        position."""
        locator = self._asked(request)
        return StreamingResponse(answer(locator, await _photo(request), request.query_params.get("exif") == "1"),
                                 media_type="application/x-ndjson")

    async def keep(self, request: Request) -> Response:
        """Keep the photo that is sent with the place= it was taken at."""
        if self.corrections is None:
            raise Refused(403, "corrections are not kept: start the page with --keep FOLDER")
        place = parse_answer(request.query_params.get("place", ""))
        if place is None:
            raise Refused(400, "this is no one place: write latitude and longitude, such as 48.86, 2.35")
        question, photo = self._asked(request).question, await _photo(request)
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                KEEPER, self.corrections.keep, photo, question, place)
        except OSError as error:
            raise Refused(507, f"{self.corrections.folder} cannot be written ({error.strerror or error}): make room "
                               "there, or put back what was moved away, and keep it again") from None
        (near,) = gazetteer(MIN_POPULATION).nearest([place])
        return JSONResponse({"latitude": place.lat_deg, "longitude": place.lon_deg, "rows": rows,
                             "near": f"{near.city.name}, {near.country.name} ({near.distance_km:,.0f} km away)"})

    def _asked(self, request: Request) -> Locator:
        model = request.query_params.get("model", "0")
        at = int(model) if re.fullmatch("[0-9]{1,9}", model) else len(self.locators)
        if at >= len(self.locators):
            raise Refused(400, f"there are {len(self.locators)} models, counted from 0")
        return list(self.locators.values())[at]


class Waiting:
    """At most MAX_WAITING photos inside, from their first byte to the last of the answer."""

    def __init__(self, app):
        self.app, self.inside = app, 0

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self.inside >= MAX_WAITING:
            await _refused(Refused(503, f"{self.inside} photos are waiting already: try again in a moment"))(
                scope, receive, send)
            return
        self.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= 1


class Addressed:
    """Refuses requests to a host that is neither a numeric address nor one of these names: a site may give its own
    name this machine's address, and then counts as this server in a browser."""

    def __init__(self, app, names: Collection[str]):
        self.app, self.names = app, {name.lower() for name in names}

    async def __call__(self, scope, receive, send) -> None:
        app = self.app
        if scope["type"] == "http" and not self._known(host := Request(scope).headers.get("host", "")):
            app = _refused(Refused(400, f"{host!r} is no name of this page: open it by its numeric address, or "
                                        "start it with --host NAME"))
        await app(scope, receive, send)

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Headers:
    """What every answer tells a browser: load nothing from elsewhere, be shown in no frame, say nobody where from."""

    def __init__(self, app, tiles: str):
        elsewhere = f" {urlsplit(tiles).scheme}://{urlsplit(tiles).netloc}" if tiles else ""
        policy = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                  f"img-src data:{elsewhere}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        self.app, self.own = app, [(name.encode(), value.encode()) for name, value in (
            ("content-security-policy", policy), ("x-content-type-options", "nosniff"), ("cache-control", "no-store"),
            ("referrer-policy", "origin" if tiles else "no-referrer"))]  # some tile servers ask who uses them

    async def __call__(self, scope, receive, send) -> None:
        async def with_headers(message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self.own]}
            await send(message)

        await self.app(scope, receive, with_headers)


def application(page: Page, names: Collection[str]) -> Starlette:
    """The application. names: by which it may be addressed, beside numeric addresses."""
    outline = [[[round(float(lat), 2), round(float(lon), 2)] for lon, lat in ring] for ring in outlines()]

    async def land(request: Request) -> Response:
        return JSONResponse(outline)

    return Starlette(
        routes=[Route("/settings", page.settings), Route("/land", land),
                Route("/locate", page.locate, methods=["POST"]),
                Route("/keep", page.keep, methods=["POST"]),
                Mount("/", StaticFiles(directory=Path(__file__).with_name("static"), html=True))],
        middleware=[Middleware(Headers, tiles=page.tiles),
                    Middleware(Addressed, names=names), Middleware(Waiting)],
        exception_handlers={
            Refused: lambda request, error: _refused(error),
            DataError: lambda request, error: _refused(Refused(400, str(error))),
            ClientDisconnect: lambda request, error: Response(status_code=400)})  # nobody reads it


def _refused(why: Refused) -> Response:
    return JSONResponse({"error": str(why)}, why.status)


async def _photo(request: Request) -> bytes:
    """The file that is sent. Raises Refused for one that is too large or comes too slowly."""
    if request.headers.get("content-type") != "application/octet-stream":
        raise Refused(415, "a photo is sent as application/octet-stream")
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise Refused(413, f"the file is larger than {MAX_BYTES >> 20} MiB: make it smaller")
    except TimeoutError:
        raise Refused(408, f"the photo did not arrive within {UPLOAD_S} s") from None
    return bytes(content)
