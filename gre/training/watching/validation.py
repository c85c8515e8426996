"""Validation: greedy answers to a fixed slice of photos, every so many steps, and the best checkpoint by them.

Parser, distance and sampler are those of evaluation and rewards. Nothing random is drawn, so that training with and
without it gives the same weights.
"""
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from gre.config import UserError, check_least, option
from gre.data.hashes import photo_hashes
from gre.data.images import load_image
from gre.data.records import DataConfig, Keys, SeedRow, read_seed
from gre.geo.accuracy import GEOSCORE_MAX, geoscore
from gre.geo.point import LatLon
from gre.models.vlm import encode_prompt
from gre.rewards.answers import distance_km
from gre.rewards.format import format_reward
from gre.rollout.generate import TransformersRollout
from gre.training.trainer.ranks import turns
from gre.training.trainer.resumable import ResumableTrainer

BATCH_SIZE = 64  # answers generated at a time
NUM_PHOTOS = 64  # asked about, at most; the same ones every time
KEYS = Keys("validation.data", image_root="")
Distance = Callable[[str, LatLon], float | None]  # (answer, truth) -> km, None where it says no place
SLICE_SEED = 0  # every run is asked about the same photos, whatever its seed


@dataclass
class ValidationConfig:
    """Greedy answers while training."""

    eval_every: int = option(0, "steps between two evaluations; 0: none. The best checkpoint by them is kept")
    data: str = option("", "rows like GRE30K-Seed's, of photos that are not trained on")
    max_new_tokens: int = option(2048, "longest answer in tokens, the end token included")

    def __post_init__(self):
        check_least("validation.", self, {"eval_every": 0, "max_new_tokens": 1})


def validation_rows(config: ValidationConfig, on_bad_row: str) -> list[SeedRow]:
    """The fixed slice; empty when there is no evaluation. on_bad_row: the stage's own."""
    if not config.eval_every:
        return []
    if not config.data:
        raise UserError(f"validation.eval_every={config.eval_every} needs photos: set validation.data, or set "
                        "eval_every to 0")
    rows = read_seed(DataConfig(config.data, on_bad_row=on_bad_row), KEYS)
    return random.Random(SLICE_SEED).sample(rows, min(NUM_PHOTOS, len(rows)))


def warn_of_trained(validated: Sequence[SeedRow], trained: Iterable[Path]) -> None:
    """Say so when photos that are validated on are trained on, too: what the model says of them flatters it."""
    known = set(photo_hashes(trained).values()) if validated else set()
    hashes = photo_hashes(row.image for row in validated)
    both = sum(hashes[row.image] in known for row in validated)
    if both and PartialState().is_main_process:
        print(f"warning: {both} of the {len(validated)} photos of validation.data are trained on: validation will "
              "flatter this model, and the best checkpoint by it is the one that knows them best. Name other photos",
              file=sys.stderr, flush=True)


def quality(text: str, finished: bool, row: SeedRow, distance: Distance = distance_km) -> tuple[float, float]:
    """(GeoScore, reward) of an answer. The reward is GeoScore / 5000 + format, 0 to 2: the same in every stage and at
    every theta, so that its values can be compared."""
    score = geoscore(distance(text, row.truth))
    return score, score / GEOSCORE_MAX + format_reward(text, finished)


class Validation(TrainerCallback):
    """Logs eval/geoscore, eval/reward and eval/truncated every `every` steps, raised to where a run may be cut, and has
    the checkpoint of the highest eval/reward kept."""

    def __init__(self, trainer: ResumableTrainer, processor, config: ValidationConfig, rows: Sequence[SeedRow],
                 distance: Distance = distance_km):
        self.trainer, self.processor, self.rows, self.config = trainer, processor, rows, config
        self.distance = distance
        self.every = -(-config.eval_every // trainer.border) * trainer.border
        self.best: float | None = None
        self.rollout = TransformersRollout.of(processor.tokenizer, trainer.model.config.text_config.vocab_size,
                                              config.max_new_tokens, batch_size=BATCH_SIZE)

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every:
            return
        logs, due = self.measure(self.trainer.model_wrapped), control.should_log
        self.trainer.log(logs)
        control.should_log = due  # Trainer takes it that the step's own log has been written
        if self.best is None or logs["eval/reward"] > self.best:
            self.best, self.trainer.best_step = logs["eval/reward"], state.global_step
            control.should_save = True

    def measure(self, model) -> dict[str, float]:
        """Means over all photos; processes share them, and make the same number of model calls."""
        accelerator = self.trainer.accelerator
        sums = torch.zeros(4, device=accelerator.device)
        for batch, counted in turns(accelerator, len(self.rows), BATCH_SIZE):
            prompts = [encode_prompt(self.processor, self.rows[i].instruction, load_image(self.rows[i].image))
                       for i in batch]
            with self.trainer.accelerator.autocast():
                answers = self.rollout.generate(model, prompts, 1, batch, seed=SLICE_SEED, step=0, greedy=True)
            for i, (answer,) in list(zip(batch, answers, strict=True))[:counted]:
                text = self.processor.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
                sums += torch.tensor([*quality(text, answer.finished, self.rows[i], self.distance),
                                      not answer.finished, 1.0], device=accelerator.device)
        *totals, count = accelerator.reduce(sums, reduction="sum").tolist()
        return {name: total / count
                for name, total in zip(("eval/geoscore", "eval/reward", "eval/truncated"), totals, strict=True)}


def add_validation(trainer: ResumableTrainer, processor, config: ValidationConfig, rows: Sequence[SeedRow],
                   distance: Distance = distance_km) -> None:
    """Have the trainer validated as `config` says, which may be not at all. distance: how far an answer is; by default
    its coordinates are."""
    if config.eval_every:
        trainer.add_callback(Validation(trainer, processor, config, rows, distance))
