"""The review page as an application of Starlette: rows, their photos, and decisions, which are on the disk before they
are confirmed.

Nobody but who was given the address is answered: it holds a token, which a cookie carries from then on, so that neither
other accounts of this machine nor other pages of the same browser read rows or decide. A decision is taken from this
page's own origin alone, and names of this machine that somebody else's DNS made up are refused. Photos are decoded and
written anew: no metadata, no file of another type.
"""
import io
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from data_prep.review import page
from data_prep.review.decisions import DECISIONS, EDIT, Decision, Journal
from data_prep.review.rows import Item
from gre.config import UserError
from gre.data.images import load_image
from gre.data.raw import BadRow
from gre.errors import message_of

HOSTS = ("127.0.0.1", "localhost")
SHOWN_PIXELS = 4_000_000  # of a photo: signs can be read
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin"}


class Refused(Exception):
    """What is not done: an HTTP status and why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


class Review:
    """The rows of a file under one annotator's review."""

    def __init__(self, items: Sequence[Item], journal: Journal, name: str, file: str):
        self.items, self.journal, self.name, self.file = items, journal, name, file
        self.token = secrets.token_urlsafe()

    def undecided(self, start: int = 0) -> int | None:
        """The first row from `start` on, then from the beginning, that nobody of this name decided about."""
        order = (*range(start, len(self.items)), *range(start))
        return next((at for at in order if self.items[at].sha256 not in self.journal.latest), None)

    def counts(self) -> Counter[str]:
        """Rows by what was decided."""
        latest = self.journal.latest
        return Counter(latest[one.sha256].decision for one in self.items if one.sha256 in latest)

    def first(self, request: Request) -> Response:
        """To the first row that is undecided."""
        return RedirectResponse(self._address(self.undecided()), 303)

    def row(self, request: Request) -> Response:
        at = self._at(request)
        said = self.journal.latest.get(self.items[at].sha256)
        return HTMLResponse(page.row(self.items, at, said, self.counts().total(), self.name))

    def photo(self, request: Request) -> Response:
        stream = io.BytesIO()
        try:
            load_image(self.items[self._at(request)].row.image, SHOWN_PIXELS).save(stream, "JPEG", quality=90)
        except UserError as error:
            raise Refused(404, str(error)) from None
        return Response(stream.getvalue(), media_type="image/jpeg")

    def done(self, request: Request) -> Response:
        counts = self.counts()
        return HTMLResponse(page.done(self.items, self.name, {what: counts[what] for what in DECISIONS}, self.file))

    async def decide(self, request: Request) -> Response:
        """Keep the decision that is sent. Answered when it is on the disk."""
        at = self._at(request)
        try:
            said = Decision(row=self.items[at].number, **json.loads(await request.body()))
        except (ValueError, TypeError) as error:
            raise Refused(400, f"this is no decision: {error}") from None
        await run_in_threadpool(self._keep, self.items[at], said)
        return JSONResponse({"next": self._address(self.undecided(at))})

    def _keep(self, item: Item, said: Decision) -> None:
        if said.sha256 != item.sha256:
            raise Refused(409, "the file has changed since this page was shown: open it again")
        if said.decision not in DECISIONS or not isinstance(said.why, str) or not isinstance(said.fields, dict) or (
                not all(isinstance(text, str) for text in said.fields.values())):
            raise Refused(400, "this is no decision")
        changed = {name: text for name, text in said.fields.items()  # a browser writes every end of a line as \n
                   if text != item.fields.get(name, "").replace("\r\n", "\n")} if said.decision == EDIT else {}
        try:
            if said.decision == EDIT:
                item.edited(changed)
                if not changed:
                    raise BadRow("nothing is changed: accept the row, or change it")
            self.journal.add(Decision(item.number, item.sha256, said.decision, changed, said.why.strip()))
        except BadRow as error:
            raise Refused(422, f"not saved: {error}") from None
        except OSError as error:
            raise Refused(507, f"not saved: {message_of(error) or error}") from error

    def _at(self, request: Request) -> int:
        at = request.path_params["at"] - 1
        if not 0 <= at < len(self.items):
            raise Refused(404, f"there are {len(self.items)} rows, counted from 1")
        return at

    @staticmethod
    def _address(at: int | None) -> str:
        return "/done" if at is None else f"/rows/{at + 1}"


def application(review: Review) -> Starlette:
    """The application."""
    async def report_css(request: Request) -> Response:
        style = resources.files("eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
        return Response(style, media_type="text/css")

    async def guard(request: Request, answer: RequestResponseEndpoint) -> Response:
        response = _turned_away(request, review.token) or await answer(request)
        response.headers.update(HEADERS)
        return response

    return Starlette(
        routes=[Route("/", review.first), Route("/rows/{at:int}", review.row),
                Route("/rows/{at:int}", review.decide, methods=["POST"]), Route("/photos/{at:int}", review.photo),
                Route("/done", review.done), Route("/static/report.css", report_css),
                Mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
                    Middleware(BaseHTTPMiddleware, dispatch=guard)],
        exception_handlers={Refused: _refused})


def _turned_away(request: Request, token: str) -> Response | None:
    """The answer to who may not ask, and to who comes with the token; None for everybody else."""
    cookie = f"review{request.url.port or ''}"  # a browser sends cookies to every port
    given = request.query_params.get("token", "")
    if request.method == "GET" and secrets.compare_digest(given.encode(), token.encode()):
        response = RedirectResponse(request.url.path, 303)
        response.set_cookie(cookie, token, httponly=True, samesite="lax")
        return response
    if not secrets.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
        said = "Open the address that python -m data_prep.review printed: it has changed if it was started again."
        return JSONResponse({"error": said}, 403) if request.method == "POST" else PlainTextResponse(said + "\n", 403)
    if request.method != "GET" and request.headers.get("origin") != f"http://{request.headers['host']}":
        return JSONResponse({"error": "decisions are taken from this page alone"}, 403)
    return None


def _refused(request: Request, error: Refused) -> Response:
    if request.method == "POST":
        return JSONResponse({"error": str(error)}, error.status)
    return PlainTextResponse(str(error), error.status)
