"""An SFT trainer over rows of pictures."""
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from gre.models.packing import Group
from gre.models.vlm import encode_prompt, encode_response
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.sft import SFTTrainer
from gre.training.watching.metrics import MetricsFile


@dataclass
class Row:
    id: str
    image: Path
    instruction: str
    response: str


def encode(processor, row):
    return Group(encode_prompt(processor, row.instruction, Image.open(row.image)),
                 [encode_response(processor, row.response)])


def trainer_of(model, processor, rows, folder, gradient_checkpointing=False, tokens_per_pass=0, **train):
    settings = TrainConfig(**{"learning_rate": 3e-3, "warmup_steps": 0, "lr_scheduler_type": "constant", **train})
    args = training_arguments(settings, folder, seed=0, gradient_checkpointing=gradient_checkpointing)
    return SFTTrainer(model, args, rows, partial(encode, processor), tokens_per_pass=tokens_per_pass,
                      callbacks=[MetricsFile(folder / "metrics.jsonl")])
