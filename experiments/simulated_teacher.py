"""The tiny world's teacher behind an OpenAI-compatible address, for data_prep: it knows every photo by its pixels.

It answers a teacher's question with the tiny teacher's chain, errors included (gre/tiny/teacher.py), in English
sentences, and with country, city and localizability where it is asked for these; the looker's two questions (can the
place be told, is what a chain names there) with what was drawn. The same photo gets the same answer in every run.
"""
import io
import json
import random
import threading
from base64 import b64decode
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import numpy as np
from PIL import Image

from experiments.camera import Shot
from gre.text.chain_prompts import REVIEW, SEEN
from gre.text.prompts import PLACE_TEACHER_INSTRUCTION
from gre.tiny import teacher
from gre.tiny.picture import Scene
from gre.tiny.places import places
from gre.tiny.reason import ENDS_WITH

SIDE = 28  # pixels that a photo is known by
SENTENCES = {"Architecture: ": "Architecture: it has a ", "Signs: ": "Signs: the flag is ",
             "Plants: ": "Plants: it is ", "Terrain: ": "Terrain: the ", "Transport: ": "Transport: there is a ",
             "So ": "So this is "}


class Queue(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


class SimulatedTeacher:
    """Serves until it is left. answered: how many questions it answered."""

    def __init__(self, shots: Sequence[Shot], seed: int):
        self.shots, self.seed, self.answered = shots, seed, 0
        self.known = np.stack([_small(shot.image) for shot in shots])
        self.squares = (self.known ** 2).sum(axis=1)
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = json.dumps({"choices": [{"finish_reason": "stop", "message": {
                    "role": "assistant", "content": outer.answer(body["messages"])}}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 50}}).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except (BrokenPipeError, ConnectionResetError):  # who asked was stopped
                    return
                with lock:
                    outer.answered += 1

            def log_message(self, *_):
                pass

        self.server = Queue(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, messages: Sequence[dict]) -> str:
        """The reply to a question about a photo."""
        asked = messages[0]["content"] if messages[0]["role"] == "system" else ""
        content = messages[-1]["content"]
        number = self.number(next(part["image_url"]["url"] for part in content if part["type"] == "image_url"))
        shot = self.shots[number]
        if asked == REVIEW:
            return json.dumps({"told": shot.scene.localizable, "why": "flag and landmark"})
        if asked == SEEN:
            chain = next(part["text"] for part in content if part["type"] == "text")
            there = [thing in things(shot.scene) for thing in named(chain)]
            return json.dumps({name: [thing for thing, yes in zip(named(chain), there) if yes is wanted]
                               for name, wanted in (("seen", True), ("unseen", False))})
        chain = teacher.describe(shot.place, shot.scene, random.Random(f"{self.seed} {number}"))
        if {"type": "text", "text": PLACE_TEACHER_INSTRUCTION} in content:
            return by_name(chain, shot.scene.localizable)
        return spoken(chain.response)

    def number(self, url: str) -> int:
        """Which photo a data URI shows."""
        small = _small(Image.open(io.BytesIO(b64decode(url.partition(",")[2]))))
        return int((self.squares - 2 * self.known @ small).argmin())


def _small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).reshape(-1)


def by_name(chain: teacher.Chain, localizable: bool) -> str:
    """A chain and its place in the form of MP16-Reason's teachers."""
    place = ENDS_WITH.search(chain.reasoning).groupdict()
    return (f"<think>{spoken(chain.reasoning)}</think>\n<answer>country: {place['country']}\ncity: {place['city']}\n"
            f"localizability: {'high' if localizable else 'negative'}</answer>")


def spoken(response: str) -> str:
    """The tiny teacher's notes as English sentences."""
    for notes, sentence in SENTENCES.items():
        response = response.replace(notes, sentence)
    return response


def things(scene: Scene) -> set[str]:
    """What is drawn, in the words of chains."""
    said = spoken(teacher.reasoning(scene, places()[0]))
    return set(named(said))


def named(chain: str) -> list[str]:
    """The things a chain says it sees: building, flag, plant and vehicle, in its own words."""
    sentences = chain.split(". ")
    return [sentence.partition(": ")[2] for sentence in sentences if sentence.partition(":")[0] in (
        "Architecture", "Signs", "Plants", "Transport") and "hidden" not in sentence]
