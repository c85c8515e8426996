"""A GRPO trainer over rows of pictures, paid for what the sampled texts differ in."""
import copy
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gre.models.attention import shared_prefix
from gre.models.vlm import banned_tokens, encode_prompt
from gre.rollout.generate import TransformersRollout
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.grpo import GRPOConfig, GRPOTrainer
from gre.training.watching.metrics import MetricsFile


@dataclass
class Row:
    id: str
    image: Path


def four_rows(folder: Path) -> list[Row]:
    for i in range(4):
        Image.new("RGB", (56 + 28 * (i % 3), 56), (60 * i, 200 - 40 * i, 90)).save(folder / f"{i}.png")
    return [Row(f"seed:{i}", folder / f"{i}.png") for i in range(4)]


def short(groups):
    """Pays for what the sampled texts differ in."""
    return [[1.0 / (1 + len(text) % 5) for text in group.texts] for group in groups]


def trainer_of(tiny_vlm, rows, folder, *, grpo=None, reference=True, rewards=None, max_new_tokens=6,
               tokens_per_pass=0, **train):
    """A trainer whose policy and, if asked for, reference start from the tiny model."""
    stock, processor = tiny_vlm
    model = copy.deepcopy(stock)
    shared_prefix.install(model)
    frozen = None
    if reference:
        frozen = copy.deepcopy(model)
        for parameter in frozen.parameters():  # another policy than the one trained, so that the KL has a gradient
            parameter.data.mul_(1.02)
    settings = TrainConfig(**{"learning_rate": 3e-3, "warmup_steps": 0, "lr_scheduler_type": "constant",
                              "per_device_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 1, **train})
    tokenizer = processor.tokenizer
    rollout = TransformersRollout(tokenizer.eos_token_id, tokenizer.pad_token_id,
                                  banned_tokens(tokenizer, model.config.text_config.vocab_size), max_new_tokens)
    return GRPOTrainer(
        model, training_arguments(settings, folder, seed=0), rows=rows,
        encode=lambda row: encode_prompt(processor, "where?", Image.open(row.image)),
        rewards=rewards or {"short": short}, rollout=rollout, tokenizer=tokenizer, reference=frozen,
        grpo=grpo or GRPOConfig(num_generations=3, beta=0.04 if reference else 0.0), samples=folder / "samples.jsonl",
        tokens_per_pass=tokens_per_pass, callbacks=[MetricsFile(folder / "metrics.jsonl")])
