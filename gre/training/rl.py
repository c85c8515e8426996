"""What the stages of RL share: a parent, rows to ask it and an engine to sample from become a trained policy."""
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from gre.config import UserError, option
from gre.data.images import load_image
from gre.data.records import DataConfig, JudgeRow, ReasonRow, SeedRow, read_seed
from gre.models.packing import Prompt
from gre.models.vlm import encode_prompt
from gre.rewards.answers import Reward, distance_km
from gre.rollout.completion import Rollout
from gre.rollout.engines import RolloutConfig, choose_engine, make_rollout
from gre.training.arguments import TrainConfig
from gre.training.data import Loader, row_prompt_length
from gre.training.grpo import GRPOConfig, GRPOTrainer, OnRollout
from gre.training.stage import Stage, StageConfig
from gre.training.trainer.identity import code_hash
from gre.training.trainer.resumable import Stateful
from gre.training.watching.alarms import Alarms
from gre.training.watching.validation import (
    Distance,
    ValidationConfig,
    add_validation,
    validation_rows,
    warn_of_trained,
)


@dataclass
class RLConfig(StageConfig):
    """Keys of a stage of RL; each adds those of its reward."""

    train: TrainConfig = option(TrainConfig(learning_rate=1e-6), "the optimiser")
    grpo: GRPOConfig = option(GRPOConfig, "the group and the loss")
    rollout: RolloutConfig = option(RolloutConfig, "sampling")
    validation: ValidationConfig = option(ValidationConfig, "greedy answers while training")


@dataclass
class Setup:
    """A stage of RL that has been checked and not begun: the rows its policy will be asked, those it is validated on,
    and what samples its completions."""

    stage: Stage
    rows: list[SeedRow] | list[JudgeRow] | list[ReasonRow]
    validation: list[SeedRow]
    rollout: Rollout


def encode(processor, row: SeedRow, load: Loader = load_image) -> Prompt:
    """A row's prompt; its photo is decoded here."""
    return encode_prompt(processor, row.instruction, load(row.image))


@dataclass(frozen=True)
class Recipe:
    """What one stage of RL does differently from another.

    rewards: by name; their sum is maximised, each times its weight, 1 where none is given. encode: (processor, row, how
    to load a photo) -> prompt. distance: how far an answer is where the policy is validated. on_rollout, labels: see
    GRPOTrainer. stateful: what a resumed run has to remember.
    made_of: sha256 of what else the weights come from. metrics: what else the manifest shall hold; measure: the same,
    from the trained model, on every process.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float] = field(default_factory=dict)
    encode: Callable[[Any, Any, Loader], Prompt] = encode
    distance: Distance = distance_km
    on_rollout: OnRollout | None = None
    labels: Sequence[bool] | None = None
    stateful: Mapping[str, Stateful] = field(default_factory=dict)
    made_of: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[Any], dict] = lambda model: {}


def read(name: str, config: RLConfig, parents: Collection[str], read_rows: Callable[[DataConfig], list] = read_seed,
         prompt_length: Callable[[Any, Any], int] = row_prompt_length) -> tuple[Stage, list, list[SeedRow]]:
    """(a stage whose parent is verified, the rows it will ask, those it is validated on), every photo seen and every
    token counted. UserError says what is wrong.

    read_rows: the rows of `config.data`. prompt_length: (processor, row) -> tokens of its prompt.
    """
    rows, validation = read_rows(config.data), validation_rows(config.validation, config.data.on_bad_row)
    stage = Stage(name, config, parents)
    rows = stage.fitting(rows, lambda row: prompt_length(stage.processor, row) + config.rollout.max_new_tokens)
    validation = stage.askable(validation, config.validation.data)
    warn_of_trained(validation, (row.image for row in rows))
    return stage, rows, validation


def prepare(stage: Stage, rows: list, validation: list[SeedRow]) -> Setup:
    """What `read` gave, with an engine to sample from. Raises UserError when that cannot be had."""
    config: RLConfig = stage.config
    if choose_engine(config.rollout.engine) != "transformers" and config.data.cache_gib:
        raise UserError("data.cache_gib keeps processed photos, and vLLM processes photos itself: write "
                        "data.cache_gib=0 or rollout.engine=transformers")
    rollout = make_rollout(config.rollout, stage.parent, stage.processor, config.model.max_length,
                           torch.bfloat16 if config.train.bf16 else torch.float32, config.model.lora.r)
    return Setup(stage, rows, validation, rollout)


def train(setup: Setup, recipe: Recipe) -> None:
    """Train the parent by `recipe` and hand the stage on."""
    stage, rollout = setup.stage, setup.rollout
    config: RLConfig = stage.config
    model = stage.load_trained()
    reference = None
    if config.grpo.beta:  # always the parent, after a resume too: under an adapter the policy still holds it
        reference = model if config.model.lora.r else stage.load_frozen()
    stage.begin(setup.rows, engine=rollout.engine, **recipe.made_of,
                **{f"rewards.{name}": code_hash(reward) for name, reward in recipe.rewards.items()})
    trainer = GRPOTrainer(
        model, stage.args, rows=setup.rows, encode=partial(recipe.encode, stage.processor, load=stage.picture_loader()),
        rewards=recipe.rewards, weights=recipe.weights, rollout=rollout, tokenizer=stage.processor.tokenizer,
        reference=reference, grpo=config.grpo, samples=stage.folder / "samples.jsonl", on_rollout=recipe.on_rollout,
        labels=recipe.labels, tokens_per_pass=config.train.tokens_per_pass, stateful=recipe.stateful,
        callbacks=[*stage.callbacks(), Alarms(stage.folder / "alarms.jsonl")])
    add_validation(trainer, stage.processor, config.validation, setup.validation, recipe.distance)
    stage.train(trainer)
    measured = recipe.measure(trainer.model_wrapped)
    stage.hand_on(trainer, setup.rows, {**recipe.metrics, **measured,
                                        "rollout": {"engine": rollout.engine, "version": rollout.version}})
