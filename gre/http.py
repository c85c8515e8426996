"""A request to a server that may be busy or away for a moment: JSON goes out, tries are bounded, and each one is told.

For the LLMs of evaluation, the endpoints predictions come from, and our own `vllm serve`. A key is sent and never
shown. No torch.
"""
import base64
import io
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # HTTP: busy, too many, or broken for a moment
LONGEST_WAIT_S = 60.0
T = TypeVar("T")


class Refused(Exception):
    """The server answers that it will not do what is asked."""


class Unanswered(Exception):
    """The server is still busy, broken or out of reach after the last try."""


@dataclass(frozen=True)
class Patience:
    """tries: times a request is sent. wait_s: pause before the second try, doubled each time up to LONGEST_WAIT_S; the
    server's Retry-After wins. timeout_s: seconds a request may take. retried: the statuses that are worth a new try."""

    tries: int = 5
    wait_s: float = 2.0
    timeout_s: float = 300.0
    retried: frozenset[int] = RETRIED


def post(url: str, body: Mapping, read: Callable[[bytes], T], patience: Patience, *, where: str, key: str = "") -> T:
    """What `read` makes of the answer to `body`; ValueError from it counts as no answer. May be used from threads.

    where: what it is about, for messages. Raises Refused and Unanswered, which say why; a line tells of every new try.
    """
    def hidden(text: str) -> str:
        return text.replace(key, "***") if key else text

    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    for attempt in range(1, patience.tries + 1):
        pause = min(patience.wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
        try:
            with _OPENER.open(request, timeout=patience.timeout_s) as response:
                return read(response.read())
        except urllib.error.HTTPError as error:
            said = hidden(f"HTTP {error.code} {error.read(500).decode('utf-8', 'replace')}")
            if error.code not in patience.retried:
                raise Refused(said) from None
            pause = _seconds(error.headers.get("Retry-After"), pause)
        except (OSError, HTTPException) as error:  # no connection, a timeout, half an answer
            said = hidden(f"{type(error).__name__}: {error}")
        except ValueError as error:
            said = hidden(f"an answer that cannot be read ({error})")
        if attempt < patience.tries:
            tqdm.write(f"{where}: {url}: {said}; try {attempt} of {patience.tries}, again in {pause:.0f} s",
                       file=sys.stderr)
            time.sleep(pause)
    raise Unanswered(f"{where}: {url} gave no answer in {patience.tries} tries (the last: {said})")


def png_uri(image: Image.Image) -> str:
    """A picture as a data: URI, PNG."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host: it is an error here."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _seconds(header: str | None, otherwise: float) -> float:
    """Retry-After in seconds; its other form, a date, is not read."""
    return min(float(header), LONGEST_WAIT_S) if header and header.isdigit() else otherwise
