"""Answers by any endpoint that speaks OpenAI's protocol: one client, for hosted models and `vllm serve` alike.

The key comes from the environment and is written nowhere. A busy or unreachable endpoint is tried again a few times,
with a line each; then the run stops, and the same command resumes where it stopped. What the server does to a photo
and which sampling defaults it adds is its own business: `vllm serve` needs --generation-config vllm to leave a folder's
repetition penalty out.
"""
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from tqdm import tqdm

from gre import http
from gre.answering.engines import Answer, Decoding, Interrupted, Said
from gre.config import UserError, option
from gre.llm import CUT_OFF, FILTERED, completion, filtered, in_form

ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")  # how servers say that the model ended its answer


@dataclass
class EndpointConfig:
    """Where an OpenAI-compatible endpoint is, and how patiently it is asked."""

    url: str = option("", "OpenAI-compatible endpoint, such as http://localhost:8000/v1; model= is a name there")
    key_variable: str = option("OPENAI_API_KEY", "environment variable that holds the key; unset: none is sent")
    fields: dict[str, Any] = option({}, "further fields of a request; null leaves one out (endpoint.fields.seed=null)")
    system: str = option("", "system prompt, sent before the photo's question; empty: none")
    accept_status: list[int] = option([], "statuses that count as a refusal of the photo instead of stopping the run; "
                                          "one whose body names a filter always does")
    concurrency: int = option(16, "requests at a time")
    tries: int = option(http.TRIES, "times a request is sent while the endpoint is busy or unreachable; pauses double "
                                    "from 0.5 s to 8 s, the server's Retry-After wins")
    timeout_s: float = option(300.0, "seconds a request may take")


def check(config: EndpointConfig) -> None:
    """Raises UserError for an address that would put a secret into the record, and for numbers that make no sense."""
    parts = urlsplit(config.url)
    if parts.scheme not in ("http", "https") or parts.username or parts.password or parts.query:
        raise UserError("endpoint.url must look like https://host/v1, without a key or a password in it: the key "
                        f"belongs into the environment variable {config.key_variable}")
    if config.concurrency < 1 or config.tries < 1:
        raise UserError("endpoint.concurrency and endpoint.tries are at least 1")


def by_endpoint(config: EndpointConfig, model: str, max_pixels: int, decoding: Decoding) -> Answer:
    """max_pixels: larger photos are made smaller before they are sent, as PNG."""
    endpoint = http.Connection(
        config.url, os.environ.get(config.key_variable, ""),
        if_refused=f"Check model=, endpoint.fields and the key in ${config.key_variable}",
        if_away="Finished batches are kept: run the same command when the endpoint is back")

    system = [{"role": "system", "content": config.system}] if config.system else []

    def one(instruction: str, image: Image.Image, row: int, sample: int) -> Said:
        seed = int(np.random.SeedSequence([decoding.seed, row, sample]).generate_state(1)[0] >> 1)
        body = {"model": model, "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature,
                "messages": [*system, {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": data_uri(image, max_pixels)}},
                    {"type": "text", "text": instruction}]}],
                **({"seed": seed} if decoding.temperature else {}), **config.fields}
        body = {name: value for name, value in body.items() if value is not None}
        read = partial(_said, max_tokens=decoding.max_new_tokens)
        try:
            return endpoint.post("/chat/completions", body, read, where=f"row {row + 1}", tries=config.tries,
                                 timeout_s=config.timeout_s)
        except http.Refused as error:
            if not filtered(error, config.accept_status):
                raise
            tqdm.write(f"row {row + 1}: HTTP {error.status} counts as a refusal: {error.said[:http.SHOWN]}",
                       file=sys.stderr)
            return Said("", False, True, f"HTTP {error.status} {error.said[:http.SHOWN]}")

    def answer(instructions: Sequence[str], images: Sequence[Image.Image], keys: Sequence[int]) -> list[list[Said]]:
        with ThreadPoolExecutor(config.concurrency) as pool:
            running = [[pool.submit(one, *asked, sample) for sample in range(decoding.samples)]
                       for asked in zip(instructions, images, keys)]
            try:
                return [[future.result() for future in samples] for samples in running]
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                done = {at: [future.result() for future in samples] for at, samples in enumerate(running)
                        if not any(future.cancelled() or future.exception() for future in samples)}
                raise Interrupted(done) from error

    return answer


def data_uri(image: Image.Image, max_pixels: int) -> str:
    """The photo as PNG, made smaller where it has more than max_pixels."""
    width, height = image.size
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        image = image.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.BICUBIC)
    return http.png_uri(image)


def _said(content: bytes, max_tokens: int) -> Said:
    """Raises ValueError for what is no answer: it is asked for again, and then stops the run, since what a server
    leaves out is not the model's fault."""
    answer = completion(content)
    finish = (answer.finish or "").lower()
    if finish in CUT_OFF:
        finished = False
    elif answer.finish is None:  # some servers say none: the limit tells
        finished = answer.tokens is None or answer.tokens < max_tokens
    elif finish in ENDED or finish == FILTERED:
        finished = finish in ENDED
    else:
        raise ValueError(f"finish_reason is {answer.finish!r}")
    refused = True if answer.refusal or finish == FILTERED else None
    if answer.text is None and finished and not refused:
        raise ValueError("its message holds no content" + (
            ", only reasoning: is the server's reasoning parser made for this model?" if answer.reasoning else ""))
    return Said(in_form(answer.reasoning, answer.text or answer.refusal), finished, refused)
