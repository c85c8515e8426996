"""Tokens per second of stage 1: rows packed, against batches padded to their longest row.

    python -m bench.sft [shapes=[B4,B8,B16]] [rounds=5] [--json FILE] [key=value …]

B is the rows of a micro-batch; a step has 16 rows on both sides. Answers' lengths are log-normal, as those of chains of
thought are: median 250 tokens, sigma 0.5 of the logarithm, none below 32 or above 1,000 (an assumption, not a
measurement). Photos have one size, so that only answers differ in length. Ours is gre's SFTTrainer.compute_loss; the
peer is transformers alone, at the fastest of its settings. Both start every round from the same weights; when losses or
gradient norms differ by more than 1e-4 no ratio is printed. A micro-batch of one row pads nothing: there is no ratio to
win there. device=cuda: 6 of Qwen2.5-VL-3B's 36 layers in bfloat16, with gradient checkpointing on both sides.
"""
import json
import statistics
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from bench import measure
from bench.plan_memory import random_model
from bench.sides import padded_attention
from bench.workload import NARROW, THREE, Workload, make_groups, packed_flops, padded_flops
from gre.config import UserError, option
from gre.models.attention import shared_prefix
from gre.models.packing import Group
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.sft import SFTTrainer

ROWS = 16  # of a step
SIGMA, SHORTEST, LONGEST = 0.5, 32, 1000
IGNORED = -100  # transformers' label of a token that does not count


@dataclass(frozen=True)
class Chains(Workload):
    """`groups` rows, each a photo with one answer; length: the median."""

    def lengths(self) -> list[list[int]]:
        drawn = np.random.default_rng(0).lognormal(np.log(self.length), SIGMA, self.groups)
        return [[int(length)] for length in drawn.clip(SHORTEST, LONGEST)]


CHAINS = Chains(NARROW, (36, 36), 60, 250, generations=1, groups=ROWS)
ON_CUDA = replace(CHAINS, shape=replace(THREE, layers=6))  # of 36: the peer's head at all positions takes 40 GB
SHAPES = {"B4": 4, "B8": 8, "B16": 16}


@dataclass
class Config:
    """What is measured."""

    shapes: list[str] = option([], f"some of {', '.join(SHAPES)}; empty: all")
    rounds: int = option(5, "interleaved rounds")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    device: str = option("cpu", measure.DEVICE)
    json: str = option("", "file for the results, keyed by shape")


class Side:
    """One way to make the step. Given a model, an optimizer and the micro-batches; bf16: autocast."""

    attention: str

    def __init__(self, model, optimizer, batches: list[list[Group]], folder: Path, bf16: bool):
        self.model, self.optimizer, self.batches, self.bf16 = model, optimizer, batches, bf16
        self.tokens = sum(len(group.completions[0]) for batch in batches for group in batch)

    def select(self) -> None:
        """Put this side's attention into the shared model."""
        self.model.set_attn_implementation({"text_config": self.attention})

    def step(self) -> tuple[float, float]:
        """The whole step; its loss and the norm of its gradient."""
        total = 0.0
        for number in range(len(self.batches)):
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self.loss(number)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm.item()

    def loss(self, number: int) -> Tensor:
        """A micro-batch's part of the step's loss."""
        raise NotImplementedError


class Packed(Side):
    """gre's SFTTrainer."""

    attention = shared_prefix.NAME

    def __init__(self, model, optimizer, batches, folder, bf16):
        super().__init__(model, optimizer, batches, folder, bf16)
        args = training_arguments(TrainConfig(max_steps=1, bf16=bf16), folder, 0, on_cpu=model.device.type == "cpu")
        shared_prefix.install(model)
        self.trainer = SFTTrainer(model, args, [SimpleNamespace(id=str(i)) for i in range(ROWS)], encode=None)

    def loss(self, number):
        return self.trainer.compute_loss(self.model, {"groups": self.batches[number]}, num_items_in_batch=self.tokens)


class Padded(Side):
    """Rows padded on the right to the longest of their micro-batch, through transformers alone."""

    # stock Trainer: a padding mask, the head and the loss at every position. The mask may be left out, since padding on
    # the right is seen by no token that counts; and the head, from the prompts' end on, since all are equally long.
    SETTINGS = {"mask, head everywhere": (True, False), "mask, head where labelled": (True, True),
                "causal, head everywhere": (False, False), "causal, head where labelled": (False, True)}

    def __init__(self, model, optimizer, batches, folder, bf16):
        super().__init__(model, optimizer, batches, folder, bf16)
        self.attention = padded_attention(model.device.type, bf16)
        self.setting = "mask, head everywhere"
        self.inputs = [self._inputs(batch) for batch in batches]

    def _inputs(self, batch: list[Group]) -> dict[str, Tensor]:
        longest = max(len(group.completions[0]) for group in batch)
        prompts, answers = [group.prompt for group in batch], [group.completions[0] for group in batch]

        def stack(make, filler: int = 0) -> Tensor:
            return torch.stack([pad(make(prompt, answer), (0, longest - len(answer)), value=filler)
                                for prompt, answer in zip(prompts, answers, strict=True)])

        def row(prompt, answer: Tensor) -> Tensor:
            return torch.cat([prompt.input_ids, answer])

        inputs = {
            "input_ids": stack(row), "attention_mask": stack(lambda *both: torch.ones_like(row(*both))),
            "mm_token_type_ids": stack(lambda prompt, answer: pad(prompt.mm_token_type_ids, (0, len(answer)))),
            "labels": stack(lambda _, answer: answer, IGNORED),
            "pixel_values": torch.cat([prompt.pixel_values for prompt in prompts]),
            "image_grid_thw": torch.cat([prompt.image_grid_thw for prompt in prompts])}
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    def loss(self, number):
        masked, only_labelled = self.SETTINGS[self.setting]
        inputs = dict(self.inputs[number])
        labels, mask = inputs.pop("labels"), inputs.pop("attention_mask")
        width = labels.shape[1]
        logits = self.model(**inputs, attention_mask=mask if masked else None, use_cache=False,
                            logits_to_keep=width + 1 if only_labelled else 0).logits
        if not only_labelled:
            labels = pad(labels, (logits.shape[1] - width, 0), value=IGNORED)
        scored = logits[:, -labels.shape[1] - 1:-1] if only_labelled else logits[:, :-1]
        labels = labels if only_labelled else labels[:, 1:]
        return cross_entropy(scored.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED,
                             reduction="sum") / self.tokens


def run(config: Config) -> None:
    """Measure every shape, and write after each."""
    if unknown := [name for name in config.shapes if name not in SHAPES]:
        raise UserError(f"shapes holds {unknown[0]}: write some of {', '.join(SHAPES)}")
    torch.set_num_threads(config.threads)
    results = {}
    for name in config.shapes or list(SHAPES):
        results[name] = {**compare(config, ON_CUDA if config.device == "cuda" else CHAINS, SHAPES[name]),
                         **measure.origin("bench.sft", config.device)}
        measure.write(config.json, results)
        print(name, json.dumps(results[name], indent=2), flush=True)


def compare(config: Config, chains: Chains, size: int) -> dict:
    """Seconds, ratio and limit of micro-batches of `size` rows. Raises UserError when the sides differ."""
    return measure.compared(config.device, config.rounds, partial(_compare, config, chains, size))


def _compare(config: Config, chains: Chains, size: int, bf16: bool, rounds: int) -> dict:
    now = measure.clock(config.device, config.threads)
    torch.manual_seed(0)
    model = random_model(chains.shape, config.device).train()
    if config.device == "cuda":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=config.device == "cuda")
    groups = make_groups(chains, model)
    batches = [groups[start:start + size] for start in range(0, len(groups), size)]
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: side(model, optimizer, batches, Path(folder), bf16)
                 for name, side in (("ours", Packed), ("padded", Padded))}
        tried = best_setting(sides["padded"], now)
        start = {name: weight.to("cpu", copy=True) for name, weight in model.state_dict().items()}

        def turn(name: str) -> None:
            model.load_state_dict(start)
            sides[name].select()

        seconds = measure.interleave({name: side.step for name, side in sides.items()}, rounds, now, turn,
                                     partial(check, bf16=bf16), cold=int(bf16))
    spread = measure.ratio(seconds["padded"], seconds["ours"])
    lengths = [length for (length,) in chains.lengths()]
    work = chains.shape, chains.patches, chains.prompt
    tokens = len(lengths) * chains.prompt + sum(lengths)
    padded = [lengths[start:start + size] for start in range(0, len(lengths), size)]
    return {"ratio_vs_padded": spread["median"], "ratio_vs_padded_spread": [spread["min"], spread["max"]],
            "limit": round(padded_flops(*work, padded) / packed_flops(*work, [[length] for length in lengths]), 3),
            "tokens_per_second": {name: round(tokens / statistics.median(values), 1) for name, values in
                                  seconds.items()},
            "padding": round(sum(len(row) * max(row) - sum(row) for row in padded) / tokens, 3), "seconds": seconds,
            "padded_settings_seconds_a_micro_batch": tried, "setting": sides["padded"].setting,
            "attention": {name: side.attention for name, side in sides.items()}, "rows": len(lengths),
            "visual": chains.visual, "prompt": chains.prompt, "lengths": lengths, "parameters": chains.shape.parameters}


def best_setting(padded: Padded, now) -> dict[str, float]:
    """Give the peer the setting whose first micro-batch, forward and backward, was fastest; seconds of all."""
    padded.select()
    seconds = {}
    for setting in [padded.setting, *padded.SETTINGS]:  # the first pass of a process is slow
        padded.setting, start = setting, now()
        with torch.autocast(padded.model.device.type, torch.bfloat16, enabled=padded.bf16):
            loss = padded.loss(0)
        loss.backward()
        seconds[setting] = round(now() - start, 3)
        padded.optimizer.zero_grad(set_to_none=True)
    padded.setting = min(seconds, key=seconds.get)
    return seconds


def check(outcomes: dict[str, tuple[float, float]], bf16: bool) -> None:
    """Raise UserError when loss or gradient differ."""
    (loss, norm), (other, others_norm) = outcomes["ours"], outcomes["padded"]
    measure.check_equal("the loss", loss, other, "padded", bf16)
    measure.check_equal("the norm of the gradient, relative to ours,", 1.0, others_norm / norm, "padded", bf16)


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
