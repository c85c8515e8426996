"""A stand-in for the Hugging Face Hub that gives files: what huggingface_hub asks to list and fetch a repository."""
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository. kind: model or dataset; files: path → content, those that end in .bin as LFS. stop_after: bytes
    after which one answer stops: its connection is closed, or, with stall, stays open without a word until `go_on`."""

    repo: str
    kind: str
    files: dict[str, bytes]
    licence: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    stop_after: int | None = None
    stall: bool = False
    go_on: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    url: str = ""


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(path: str, content: bytes) -> dict:
    """A file as the Hub lists it."""
    sha256 = hashlib.sha256(content).hexdigest()
    lfs = {"lfs": {"oid": sha256, "size": len(content), "pointerSize": 130}} if path.endswith(".bin") else {}
    return {"type": "file", "path": path, "size": len(content), "oid": git_hash(content), **lfs}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The stand-in, answering at hub.url."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Answering,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Answering(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        api = re.fullmatch(rf"/api/{hub.kind}s/{hub.repo}(?:/(revision|tree)/([^/]+))?", path)
        at = re.fullmatch(rf"/{'datasets/' if hub.kind == 'dataset' else ''}{hub.repo}/resolve/{COMMIT}/(.+)", path)
        if at and at[1] in hub.files:
            if hub.gated:
                return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            return self._file(at[1], hub.files[at[1]])
        if not api:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound" if at else "RepoNotFound"})
        if (api[2] or "main") not in ("main", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if api[1] == "tree":
            return self._json([{"type": "directory", "path": "imgs", "oid": "0" * 40},
                               *(entry(*one) for one in hub.files.items())])
        return self._json({"id": hub.repo, "sha": COMMIT, "lastModified": "2025-06-01T00:00:00.000Z", "siblings": [],
                           "private": False, "gated": "auto" if hub.gated else False, "tags": [],
                           "cardData": hub.licence or None})

    do_HEAD = do_GET

    def _file(self, path: str, content: bytes) -> None:
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        headers = {"ETag": f'"{entry(path, content).get("lfs", {"oid": git_hash(content)})["oid"]}"',
                   "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _json(self, value) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.hub.stop_after
        if limit is not None and len(content) > limit:
            self.hub.stop_after = None
            self.wfile.write(content[:limit])
            self.hub.stopped.set()
            if self.hub.stall:
                self.hub.go_on.wait(60)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass
