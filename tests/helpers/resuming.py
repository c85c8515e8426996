"""Trainers that draw random numbers wherever they can, and ways to end them: what resuming is tried on."""
import copy
import hashlib
import json
import random
import signal
from functools import partial
from pathlib import Path

import numpy as np
from accelerate.utils import broadcast_object_list
from PIL import Image
from torch.nn import functional
from transformers import TrainerCallback

from gre.models.attention import shared_prefix
from gre.models.vlm import banned_tokens, encode_prompt
from gre.rollout.generate import TransformersRollout
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.grpo import GRPOConfig, GRPOTrainer
from gre.training.sft import SFTTrainer
from gre.training.trainer import checkpoints
from gre.training.watching.metrics import MetricsFile
from tests.helpers.sft import Row, encode


class Killed(BaseException):
    """Stands for kill -9: nothing below the test catches it."""


def six_rows(folder: Path) -> list[Row]:
    """At two rows a step an epoch has three steps, so that six steps cross into a second one."""
    for i in range(6):
        Image.new("RGB", (56 + 28 * (i % 3), 56), (30 * i, 200 - 20 * i, 90)).save(folder / f"{i}.png")
    return [Row(f"row:{i}", folder / f"{i}.png", "Where?", f"<answer>4{i}.1, {i}.5</answer>") for i in range(6)]


def noisy(model):
    """A copy of the model with dropout, so that training draws from torch, numpy and Python at every forward pass."""
    model = copy.deepcopy(model)
    shared_prefix.install(model)

    def drop(module, inputs, output):
        if not module.training:
            return output
        noise = 1 + 0.01 * random.random() + 0.01 * float(np.random.random())
        return functional.dropout(output, 0.2) * noise

    model.model.language_model.norm.register_forward_hook(drop)
    return model


class Remembers(TrainerCallback):
    """A count that moves the weights, as a curriculum's level does through its reward."""

    def __init__(self):
        self.steps = 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps += 1
        for parameter in model.parameters():
            parameter.grad.mul_(1 + 0.1 * self.steps)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class KillAt(TrainerCallback):
    """Kills at the end of a step, before anything of it is logged or saved."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


class TellAt(KillAt):
    """Sends SIGTERM, or other signals, at the beginning of a step."""

    def __init__(self, step, *numbers):
        super().__init__(step)
        self.numbers = numbers or (signal.SIGTERM,)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            for number in self.numbers:
                signal.raise_signal(number)

    def on_step_end(self, *args, **kwargs):
        pass


def sft(tiny_vlm, rows, folder, *callbacks, **train):
    settings = TrainConfig(**{"learning_rate": 3e-3, "warmup_steps": 2, "per_device_batch_size": 1, "save_steps": 2,
                              "gradient_accumulation_steps": 2, "max_steps": 6, "logging_steps": 3, **train})
    return SFTTrainer(noisy(tiny_vlm[0]), training_arguments(settings, folder, seed=0), rows,
                      partial(encode, tiny_vlm[1]), callbacks=[MetricsFile(folder / "metrics.jsonl"), Remembers(),
                                                               *callbacks])


def grpo(tiny_vlm, rows, folder, *callbacks, num_iterations=1, **train):
    stock, processor = tiny_vlm
    settings = TrainConfig(**{"learning_rate": 3e-3, "warmup_steps": 2, "per_device_batch_size": 1, "save_steps": 2,
                              "gradient_accumulation_steps": 2, "max_steps": 6, "logging_steps": 3, **train})
    tokenizer = processor.tokenizer
    rollout = TransformersRollout(tokenizer.eos_token_id, tokenizer.pad_token_id,
                                  banned_tokens(tokenizer, stock.config.text_config.vocab_size), 5)
    return GRPOTrainer(
        noisy(stock), training_arguments(settings, folder, seed=0), rows=rows,
        encode=lambda row: encode_prompt(processor, "where?", Image.open(row.image)),
        rewards={"short": lambda groups: [[1.0 / (1 + len(text) % 5) for text in group.texts] for group in groups]},
        rollout=rollout, tokenizer=tokenizer, reference=None,
        grpo=GRPOConfig(num_generations=2, beta=0.0, num_iterations=num_iterations), samples=folder / "samples.jsonl",
        callbacks=[MetricsFile(folder / "metrics.jsonl"), Remembers(), *callbacks])


KINDS = {"sft": sft, "grpo": grpo, "grpo_twice": partial(grpo, num_iterations=2)}


def start(kind, tiny_vlm, rows, folder, *callbacks, **train):
    """Train as a stage does, from the newest checkpoint."""
    folder.mkdir(exist_ok=True)
    trainer = KINDS[kind](tiny_vlm, rows, folder, *callbacks, **train)
    made_of = {"kind": kind}
    found = [checkpoints.newest(folder / "checkpoints", made_of)[0] if trainer.is_world_process_zero() else None]
    trainer.train_or_stop(made_of, broadcast_object_list(found)[0])
    return weights_hash(trainer)


def weights_hash(trainer):
    digest = hashlib.sha256()
    for name, value in sorted(trainer.model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def lines(path):
    """The lines of a file, without what time it took."""
    timed = ("seconds/", "train_runtime", "train_samples", "train_steps")
    return [{name: value for name, value in json.loads(line).items() if not name.startswith(timed)}
            for line in path.read_text().splitlines()]
