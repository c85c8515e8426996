"""A seeds folder of a few photos at known places, and a teacher of them behind a real HTTP server."""
import csv
import io
import json
import signal
import subprocess
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self

from PIL import Image

from data_prep import chains, photos
from data_prep.seeds.__main__ import Config, run
from tests.helpers.llm_endpoint import Server
from tests.helpers.paths import ROOT
from tests.helpers.photos import folder, jpeg

PLACES = {  # name, country: where
    ("Paris", "France"): (48.8566, 2.3522), ("Sydney", "Australia"): (-33.8688, 151.2093),
    ("Tokyo", "Japan"): (35.6897, 139.6922), ("Cairo", "Egypt"): (30.0444, 31.2357),
    ("Lima", "Peru"): (-12.0464, -77.0428), ("Nairobi", "Kenya"): (-1.2864, 36.8172),
    ("Oslo", "Norway"): (59.9127, 10.7461), ("Lisbon", "Portugal"): (38.7167, -9.1333)}
NAMES = list(PLACES)


def kill_in_step(command: list[str], step: str, after_s: float) -> None:
    """Run a chain of data_prep and kill -9 it `after_s` seconds into a step."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if line.startswith(f"----- {step} "):
            time.sleep(after_s)
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()


def seeds(path: Path, count: int = 8) -> Path:
    """A seeds folder of `count` photos. Photo n shows nothing and was taken at the n-th place, over and over."""
    folder(path / "photos", {f"{n}.jpg": jpeg(n) for n in range(count)})
    with open(path / "photos.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("image", "lat", "lon"), *(
            (f"photos/{n}.jpg", *PLACES[NAMES[n % len(NAMES)]]) for n in range(count))])
    run(Config(table=str(path / "photos.csv"), out=str(path / "seeds"), min_side=100))
    return path / "seeds"


def photo_number(body: dict) -> int:
    """Which photo a request shows: photos are told apart by their mean colour."""
    return _number(next(part for part in body["messages"][-1]["content"] if part["type"] == "image_url")[
        "image_url"]["url"])


@cache
def _number(url: str) -> int:
    image = Image.open(io.BytesIO(b64decode(url.partition(",")[2])))
    return min(range(len(_MEANS)), key=lambda n: sum((a - b) ** 2 for a, b in zip(_MEANS[n], _mean(image))))


def _mean(image: Image.Image) -> tuple[int, ...]:
    return image.convert("RGB").resize((4, 4), Image.Resampling.BOX).tobytes()


_MEANS = [_mean(Image.open(io.BytesIO(jpeg(n)))) for n in range(32)]


def chain(number: int, off: float = 0.0, more: str = "") -> str:
    """A good teacher's chain about a photo. off: degrees of latitude by which its answer misses."""
    city, country = NAMES[number % len(NAMES)]
    lat, lon = PLACES[city, country]
    return (f"<think>The roofs and the poles along the street are of a kind that is common there. The signs are in the "
            f"language of {country}. The trees and the light fit the climate of the region, and the ground is flat. "
            f"The cars drive on the side that they drive on in {country}.{more} So this is {city}, {country}.</think>"
            f"<answer>{lat + off:.4f}, {lon:.4f}</answer>")


def usual(text: str, **message) -> tuple[int, dict, str]:
    """A whole answer of an endpoint."""
    return 200, {}, json.dumps({
        "choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})


class TeacherServer:
    """Answers (status, headers, body) as `answer(photo number, times it was asked about)` says; None: silence.
    asked: how often each photo was asked about; replied: how often an answer was sent in full."""

    def __init__(self, answer: Callable[[int, int], tuple[int, dict, str] | None]):
        self.asked: Counter[int] = Counter()
        self.bodies: list[dict] = []
        self.quiet = threading.Event()
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = photo_number(body)
                with lock:
                    outer.asked[number] += 1
                    outer.bodies.append(body)
                    times = outer.asked[number]
                said = answer(number, times)
                if said is None:
                    outer.quiet.wait(10)
                    return
                status, headers, text = said
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": len(text.encode()), **headers}.items():
                        self.send_header(name, str(value))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except (BrokenPipeError, ConnectionResetError):
                    pass  # who asked was killed

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.quiet.set()
        self.server.shutdown()
        self.server.server_close()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_chains(out: Path, made: Path, said: Callable[[int, str], str | None], teachers: tuple[str, ...] = ("m",),
                 finish: str = "stop") -> Path:
    """A folder of chains as distil writes it. said: (photo number, teacher) → response, None for no answer."""
    out.mkdir(parents=True)
    rows = [chains.of(photo, chains.TEACHER, teacher, finish, response) for photo in photos.read(made)
            for teacher in teachers if (response := said(photo.row - 1, teacher)) is not None]
    (out / "chains.jsonl").write_text("".join(chains.line(row) + "\n" for row in rows))
    (out / "card.json").write_text(json.dumps({"kind": "chains", "seeds_sha256": chains.seeds_hash(made)}))
    return out
