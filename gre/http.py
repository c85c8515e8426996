"""JSON requests to a server that may be busy or away for a moment. Connections, timeouts and retries are openai's.

For the LLMs of evaluation, the endpoints predictions come from, and our own `vllm serve`. Ours is what openai lacks: a
line for every failed try, a key that no message shows, no redirect that would carry it to another host. No torch.
"""
import base64
import io
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from PIL import Image
from tqdm import tqdm

from gre.config import UserError

TRIES = 8    # half a minute: openai pauses 0.5 s, doubled up to 8 s; a Retry-After of up to two minutes wins
SHOWN = 500  # characters of an answer in a message
T = TypeVar("T")


class Refused(UserError):
    """The server will not answer this request. status: of its answer; said: what it answered."""

    def __init__(self, message: str, status: int, said: str):
        super().__init__(message)
        self.status, self.said = status, said


class Unanswered(UserError):
    """The last try failed too. failure: how."""

    def __init__(self, message: str, failure: str):
        super().__init__(message)
        self.failure = failure


@dataclass
class _Request:
    """What a thread is asking, through all tries."""

    what: str
    read: Callable[[bytes], Any]
    tries: int
    final: frozenset[int]
    tried: int = 0
    failure: str = ""  # of the last try
    refused: int = 0  # the status that says so
    said: str = ""
    answer: Any = None


class Connection:
    """Asks one server. May be used from several threads."""

    def __init__(self, url: str, key: str = "", *, if_refused: str, if_away: str):
        """url: paths are appended to it. key: sent as a bearer token; empty: none is. if_refused, if_away: remedies
        for messages. Nothing is sent here. Raises UserError for an address or a proxy of no use."""
        from openai import Omit, OpenAI  # takes seconds, and not everybody who could ask does

        self.url, self.if_refused, self.if_away = url.rstrip("/"), if_refused, if_away
        try:
            # No connection is used twice: vLLM closes them after an error, unannounced, and the next request may be one
            # that is sent once. As many are open as threads ask.
            self.http = _Transport(key, trust_env=not is_this_machine(httpx2.URL(url).host),
                                   limits=httpx2.Limits(max_keepalive_connections=0))
        except (httpx2.InvalidURL, ImportError, ValueError) as error:
            raise UserError(f"{url} cannot be asked ({error}): check it, and the environment's HTTP_PROXY, HTTPS_PROXY "
                            "and ALL_PROXY") from None
        self.headers = {"Authorization": f"Bearer {key}" if key else Omit()}
        self.openai = OpenAI(base_url=url, http_client=self.http, api_key="not sent")  # else it looks for one

    def post(self, path: str, body: Mapping, read: Callable[[bytes], T], *, where: str, timeout_s: float,
             tries: int = TRIES, final: frozenset[int] = frozenset()) -> T:
        """What `read` makes of the answer to `body`; where it raises ValueError, the answer is asked for again.

        where: what it is about, for messages. timeout_s: seconds to wait for each part of a try. final: statuses openai
        would retry in vain. Raises Refused when the server refuses, and Unanswered when the last try failed too.
        """
        from openai import OpenAIError

        request = self.http.current.request = _Request(f"{where}: {self.url}{path}", read, tries, final)
        try:
            self.openai.post(path, cast_to=httpx2.Response, body=body, options={
                "headers": self.headers, "max_retries": tries - 1, "timeout": timeout_s})
        except OpenAIError:
            proxy = _proxy(self.url)
            if request.refused:
                raise Refused(f"{request.what} refuses the request ({request.failure}). {self.if_refused}{proxy}",
                              request.refused, request.said) from None
            raise Unanswered(f"{request.what} gave no answer in {request.tried} tries (the last: {request.failure}). "
                             f"{self.if_away}{proxy}", request.failure) from None
        return request.answer


class _Transport(httpx2.Client):
    """What openai sends with: reads the answer to each try, or tells why there is none. It follows no redirects."""

    def __init__(self, key: str, **settings):
        super().__init__(**settings)
        self.key, self.current = key, threading.local()

    def send(self, request: httpx2.Request, **options) -> httpx2.Response:
        mine: _Request = self.current.request
        mine.tried += 1
        try:
            response = super().send(request, **options)
            if response.is_success:
                mine.answer = mine.read(response.content)
                return response
        except httpx2.RequestError as error:  # no connection, a timeout, half an answer
            self._failed(mine, f"{type(error).__name__}: {error}")
            raise
        except ValueError as error:
            self._failed(mine, f"an answer that cannot be read ({error})")
            raise httpx2.DecodingError(mine.failure, request=request) from None  # which openai retries
        status, after = response.status_code, response.headers.get("Retry-After", "")
        if status in mine.final:
            response.headers["x-should-retry"] = "false"  # openai heeds it
        if status in mine.final or status < 500 and status not in (408, 409, 429):  # what openai does not retry
            mine.refused, mine.said = status, response.text.replace(self.key, "***") if self.key else response.text
        self._failed(mine, f"HTTP {status} {after and f'(Retry-After {after}) '}{response.text}")
        return response

    def _failed(self, mine: _Request, failure: str) -> None:
        mine.failure = (failure.replace(self.key, "***") if self.key else failure)[:SHOWN]
        if mine.tried < mine.tries and not mine.refused:
            tqdm.write(f"{mine.what}: {mine.failure}; try {mine.tried} of {mine.tries}", file=sys.stderr)


def png_uri(image: Image.Image) -> str:
    """A photo as a data: URI, PNG."""
    return data_uri(image, "PNG")


def data_uri(image: Image.Image, form: str) -> str:
    """A photo as a data: URI. form: PNG, or JPEG, which is a tenth as long and not quite the same."""
    stream = io.BytesIO()
    image.save(stream, format=form, **({"compress_level": 1} if form == "PNG" else {"quality": 95}))
    return f"data:image/{form.lower()};base64," + base64.b64encode(stream.getvalue()).decode()


def _proxy(url: str) -> str:
    """A sentence about the proxy that was asked for this address, if one was: it may be what fails."""
    address = httpx2.URL(url)
    if is_this_machine(address.host) or proxy_bypass(address.host):
        return ""
    proxy = getproxies().get(address.scheme) or getproxies().get("all")
    if not proxy:
        return ""
    parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")  # it may hold a password
    where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return (f". All of it went through the proxy {where}, as {address.scheme.upper()}_PROXY or ALL_PROXY says: where "
            f"that is in the way, add {address.host} to NO_PROXY")


def is_this_machine(host: str) -> bool:
    """Whether a proxy must not be asked: to it, localhost is another machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
