"""A data file under review, and the command that serves it, as a process that can be killed."""
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import photos
from tests.helpers.paths import ROOT

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'too'"


def cot_row(number: int, image: int | None = None) -> dict:
    """A row whose answer lies 0.1 degrees north of the truth: 11.1 km."""
    lat = 48.0 + number % 40
    said = f"<think>Chain {number}. {EVIL}</think><answer>{lat + 0.1:.2f}, 2.0</answer>"
    return {"image": f"images/{number if image is None else image}.jpg", "gt_lat": lat, "gt_lon": 2.0,
            "licence": "CC BY 4.0", "conversations": [
                {"from": "human", "value": f"<image>\nWhere is this, {number}?"},
                {"from": "gpt", "value": said}]}


def write_cot(folder: Path, count: int, pictures: int | None = None) -> Path:
    """A GRE30K-CoT file of rows 0 … count-1. pictures: fewer photos, which rows share."""
    for number in range(pictures or count):
        photos.folder(folder / "imgs", {f"{number}.jpg": photos.jpeg(number)})
    path = folder / "rows.json"
    path.write_text(json.dumps([cot_row(number, number % (pictures or count)) for number in range(count)]))
    return path


class Served:
    """`python -m data_prep.review FILE name=…`, running."""

    def __init__(self, path: Path, name: str, port: int = 0):
        self.log = path.parent / "review.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "data_prep.review", str(path), f"name={name}", f"port={port}"], stdout=log,
                stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
        end = time.monotonic() + 120
        while not (found := re.search(r"^open (http://127\.0\.0\.1:(\d+)/\?token=(\S+))$", self.log.read_text(), re.M)):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        self.address, self.port, self.token = found[1], int(found[2]), found[3]
        self.origin = f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: dict | None = None, **headers: str) -> tuple[int, dict, str]:
        """(status, headers, text) of an answer. headers: in place of those of the page; None leaves one out."""
        own = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"review{self.port}={self.token}", "Origin": self.origin,
               **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {name: value for name, value in own.items() if value is not None})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def interrupt(self) -> str:
        """Ctrl-C; returns what was printed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
