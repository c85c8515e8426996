"""What stages 2 and 3 share: from a parent and named rewards to a trained policy handed on."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from gre import handoff
from gre.config import REQUIRED, UserError, option
from gre.data.images import load_image
from gre.data.records import DataConfig, JudgeRow, SeedRow, read_seed
from gre.models.packing import Prompt
from gre.models.vlm import ModelConfig, encode_prompt, load_model, load_processor
from gre.rewards.format import format_reward
from gre.rollout.rollout import Rollout
from gre.training import resume
from gre.training.arguments import TrainConfig, training_arguments, weight_dtype
from gre.training.callbacks import MetricsFile
from gre.training.finish import hand_on, training_metrics
from gre.training.grpo import Answers, GRPOConfig, GRPOTrainer, OnRollout, Reward
from gre.training.guards import Alarms, GuardsConfig
from gre.training.pictures import Loader, TrainingData, picture_loader
from gre.training.resume import Stateful
from gre.training.rollouts import RolloutConfig, choose_engine, make_rollout
from gre.training.sft import fitting_rows, row_prompt_length
from gre.training.trained import load_trained
from gre.training.validation import ValidationConfig, validation_rows, watch


@dataclass
class RLConfig:
    """Keys of a stage of RL; each adds those of its reward."""

    output_dir: str = option(REQUIRED, "folder of this stage, such as runs/NAME/stage2")
    model_name_or_path: str = option(REQUIRED, "the folder of the stage before")
    accept_parent: str = option("verified", "verified, or any: take an unfinished, altered or wrong-stage parent")
    seed: int = option(0, "seed of row order and sampling")
    data: TrainingData = option(TrainingData, "GRE30K-Seed")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig(learning_rate=1e-6), "the optimiser")
    grpo: GRPOConfig = option(GRPOConfig, "the group and the loss")
    rollout: RolloutConfig = option(RolloutConfig, "sampling")
    guards: GuardsConfig = option(GuardsConfig, "what is watched besides")
    validation: ValidationConfig = option(ValidationConfig, "greedy answers while training")


@dataclass
class Policy:
    """A stage's start: its arguments, its verified parent, the parent's processor, the rows it will be asked, those it
    is watched on, and what samples its answers."""

    args: TrainingArguments
    parent: handoff.Parent
    processor: object
    rows: list[SeedRow] | list[JudgeRow]
    validation: list[SeedRow]
    rollout: Rollout


def start(config: RLConfig, parent_stages: set[str], read: Callable[[DataConfig], list] = read_seed,
          prompt_length: Callable[[Any, Any], int] = row_prompt_length) -> Policy:
    """Verify the parent and count the tokens of every row, before anything is trained. UserError says what is wrong.

    read: the rows of `config.data`. prompt_length: (processor, row) -> tokens of its prompt.
    """
    args = training_arguments(config.train, config.output_dir, config.seed, config.model.gradient_checkpointing)
    parent = handoff.verify_parent(config.model_name_or_path, parent_stages, config.accept_parent)
    budget = handoff.child_budget(parent, config.model.min_pixels, config.model.max_pixels, config.accept_parent)
    processor = load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
    rows = fitting_rows(read(config.data),
                        lambda row: prompt_length(processor, row) + config.rollout.max_new_tokens,
                        config.model.max_length, drop=config.data.on_bad_row == "drop")
    if choose_engine(config.rollout.engine) != "transformers" and config.data.cache_gib:
        raise UserError("data.cache_gib keeps processed pictures, and vLLM processes pictures itself: write "
                        "data.cache_gib=0 or rollout.engine=transformers")
    rollout = make_rollout(config.rollout, parent, processor, config.model.max_length,
                           torch.bfloat16 if config.train.bf16 else torch.float32, config.output_dir)
    return Policy(args, parent, processor, rows, validation_rows(config.validation), rollout)


def encode(processor, row: SeedRow, load: Loader = load_image) -> Prompt:
    """A row's prompt; its picture is decoded here."""
    return encode_prompt(processor, row.instruction, load(row.image))


def train(config: RLConfig, policy: Policy, rewards: dict[str, Reward], *, stage: str,
          encode: Callable[[Any, Any, Loader], Prompt] = encode, measure: Callable[[Any], dict] | None = None,
          on_rollout: OnRollout | None = None, labels: Sequence[bool] | None = None, metrics: dict | None = None,
          made_of: dict[str, str] | None = None, stateful: dict[str, Stateful] | None = None) -> None:
    """Train the parent on `rewards` and hand on `config.output_dir`.

    encode: (processor, row, how to load a picture) -> prompt. on_rollout, labels: see GRPOTrainer. metrics: what else
    the manifest shall hold; measure: the same, from the trained model, on every rank. made_of: sha256 of what else the
    weights come from. stateful: what a resumed run has to remember.
    """
    folder, model_dir = Path(config.output_dir), policy.parent.model_dir
    model = load_trained(model_dir, config.model, config.train, config.seed)
    reference = None
    if config.grpo.beta:  # always the parent, after a resume too: under an adapter the policy still holds it
        reference = model if config.model.lora.r else load_model(model_dir, weight_dtype(config.train, config.model))
    begun = resume.begin(config, policy.args, policy.parent, engine=policy.rollout.engine, **(made_of or {}))
    load = picture_loader(policy.processor, config.data, folder)
    trainer = GRPOTrainer(
        model, policy.args, rows=policy.rows, encode=partial(encode, policy.processor, load=load), rewards=rewards,
        rollout=policy.rollout, tokenizer=policy.processor.tokenizer,
        reference=reference, grpo=config.grpo, samples=folder / "samples.jsonl", on_rollout=on_rollout, labels=labels,
        tokens_per_pass=config.train.tokens_per_pass,
        callbacks=[MetricsFile(folder / "metrics.jsonl"), Alarms(folder / "alarms.jsonl")], stateful=stateful)
    watch(trainer, policy.processor, config.validation, policy.validation)
    resume.train(trainer, begun)
    measured = measure(trainer.model_wrapped) if measure else {}
    hand_on(trainer, policy.processor, folder, stage=stage, parent=policy.parent, data=[config.data.path],
            instructions=[row.instruction for row in policy.rows],
            metrics={**training_metrics(trainer), "rows": len(policy.rows), **(metrics or {}), **measured,
                     "rollout": {"engine": policy.rollout.engine, "version": policy.rollout.version}})
    resume.end(begun, policy.processor, trainer.best_step)


def format_rewards(groups: list[Answers]) -> list[list[float]]:
    """The format reward of every completion."""
    return [[format_reward(text, finished) for text, finished in zip(group.texts, group.finished, strict=True)]
            for group in groups]
