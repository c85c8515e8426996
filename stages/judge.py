"""The judge: a vision-language model fine-tuned on GRE30K-Judge to say True or False about a chain and its answer.

The paper trains the policy itself to judge (its RL stage I); here the judge is a model of its own, whose P(True) of the
policy's chains is stage 2's reward. Photos are split before training: its quality is measured on photos it never saw,
and, when `policy.model_name_or_path` names a stage 1 checkpoint, on that policy's own completions too. The measures go
into the manifest, and RL refuses a judge that falls short (gre/training/gate.py). The hashes of the photos it was
trained and measured on go into photos.json: RL must not ask it about them.

    python -m stages.judge configs/gre7b/judge.yaml model_name_or_path=Qwen/Qwen2.5-VL-7B-Instruct \
        policy.model_name_or_path=runs/x/stage1 policy.data.path=dataset/gre_seed/gre_seed.jsonl
"""
import gc
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from gre import handoff
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import DataConfig, read_judge, read_seed
from gre.models.judge import Judge
from gre.models.vlm import ModelConfig, load_model, load_processor
from gre.rollout.transformers import TransformersRollout
from gre.text.prompts import JUDGE_INSTRUCTION
from gre.training import judging, resume
from gre.training.arguments import TrainConfig, training_arguments, weight_dtype
from gre.training.callbacks import MetricsFile
from gre.training.finish import save_model, training_metrics
from gre.training.photos import write_photos
from gre.training.pictures import TrainingData, picture_loader
from gre.training.sft import SFTTrainer, fitting_rows
from gre.training.trained import load_trained

STAGE = "judge"


@dataclass
class PolicyConfig:
    """The policy whose completions the judge will reward, for measuring it there."""

    model_name_or_path: str | None = option(None, "stage 1's folder; null: not measured, and RL will refuse the judge")
    data: DataConfig = option(DataConfig, "GRE30K-Seed rows; photos the judge saw are left out")
    num_photos: int = option(64, "photos sampled, at most")
    num_generations: int = option(4, "completions a photo")
    max_new_tokens: int = option(2048, "longest completion in tokens")
    temperature: float = option(1.0, "sampling temperature")
    batch_size: int = option(64, "completions generated at a time")
    true_within_km: float = option(200.0, "an answer this near to the truth is right")


@dataclass
class Config:
    """Keys of the judge."""

    output_dir: str = option(REQUIRED, "folder of this stage, such as runs/NAME/judge")
    model_name_or_path: str = option(REQUIRED, "the parent: the base, or a stage 1 checkpoint")
    accept_parent: str = option("verified", "verified, or any: take an unfinished, altered or wrong-stage parent")
    seed: int = option(0, "seed of the split, row order and sampling")
    held_out_share: float = option(0.1, "share of photos kept for measuring")
    eval_batch_size: int = option(8, "photos judged at a time when measuring")
    data: TrainingData = option(TrainingData, "GRE30K-Judge")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig, "the optimiser")
    policy: PolicyConfig = option(PolicyConfig, "measuring on the policy's completions")


def run(config: Config) -> None:
    """Train, measure and hand on `output_dir`."""
    args = training_arguments(config.train, config.output_dir, config.seed, config.model.gradient_checkpointing)
    parent = handoff.verify_parent(config.model_name_or_path, {handoff.BASE, "stage1"}, config.accept_parent)
    budget = handoff.child_budget(parent, config.model.min_pixels, config.model.max_pixels, config.accept_parent)
    policy = policy_parent(config)
    processor = load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
    rows = fitting_rows(read_judge(config.data), partial(judging.length, processor), config.model.max_length,
                        drop=config.data.on_bad_row == "drop")
    train_rows, held_out = judging.split_by_photo(rows, config.held_out_share, config.seed)
    judging.check_split(train_rows, held_out)
    seeds = judging.unseen(read_seed(config.policy.data), rows, config.policy.num_photos, config.seed) if policy else []
    if policy and not seeds:
        raise UserError(f"the judge saw every photo of {config.policy.data.path}: set policy.data.path to other photos")
    model = load_trained(parent.model_dir, config.model, config.train, config.seed)
    Judge(model, processor)  # refuses a tokenizer without True and False as single tokens
    folder = Path(config.output_dir)
    begun = resume.begin(config, args, parent)
    load = picture_loader(processor, config.data, folder)
    trainer = SFTTrainer(model, args, train_rows, partial(judging.encode, processor, load=load),
                         tokens_per_pass=config.train.tokens_per_pass,
                         callbacks=[MetricsFile(folder / "metrics.jsonl")])
    resume.train(trainer, begun)
    save_model(trainer, processor, folder)
    metrics = {**training_metrics(trainer), "rows": len(train_rows)}
    trainer.accelerator.free_memory()
    del trainer, model
    gc.collect()
    if args.process_index == 0:
        metrics |= measure(config, folder, held_out, policy, seeds, args.device)
        metrics["photos_sha256"] = write_photos(folder, {row.image for row in rows})
        data = [config.data.path, *([config.policy.data.path] if policy else [])]
        handoff.finish(folder, stage=STAGE, parent=parent, data=data,
                       instructions=[JUDGE_INSTRUCTION] * len(train_rows), metrics=metrics)
        resume.end(begun, processor)
    PartialState().wait_for_everyone()


def policy_parent(config: Config) -> handoff.Parent | None:
    """The policy to measure on, verified, or None when none is named."""
    if config.policy.model_name_or_path is None:
        return None
    return handoff.verify_parent(config.policy.model_name_or_path, {"stage1"}, config.accept_parent)


def measure(config: Config, folder: Path, held_out: list, policy: handoff.Parent | None, seeds: list,
            device: torch.device) -> dict:
    """The quality of the saved judge, on this rank alone."""
    model = load_model(folder / "model", weight_dtype(config.train, config.model)).to(device)
    judge = Judge(model, load_processor(folder / "model"))
    metrics = judging.held_out_metrics(judge, held_out, config.seed, config.eval_batch_size)
    if policy is None:
        print("the judge was not measured on a policy: policy.model_name_or_path names none", flush=True)
    else:
        metrics |= judging.on_policy_metrics(judge, seeds, completions_of(config, policy, seeds, device),
                                             config.policy.true_within_km, config.eval_batch_size)
        metrics["policy_sha256"] = policy.sha256
    print("judge: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float)),
          flush=True)
    return metrics


def completions_of(config: Config, policy: handoff.Parent, seeds: list, device: torch.device) -> list[list[str]]:
    """What the policy answers to the seed rows."""
    processor = load_processor(policy.model_dir)
    model = load_model(policy.model_dir, weight_dtype(config.train, config.model)).to(device)
    settings = config.policy
    rollout = TransformersRollout.of(processor.tokenizer, model.config.text_config.vocab_size, settings.max_new_tokens,
                                     temperature=settings.temperature, batch_size=settings.batch_size)
    return judging.sample_completions(model, processor, rollout, seeds, settings.num_generations, config.seed)


def plan(config: Config) -> dict[str, list[str]]:
    """What a run reads and writes."""
    policy = [config.policy.model_name_or_path, config.policy.data.path] if config.policy.model_name_or_path else []
    return {"reads": [config.model_name_or_path, config.data.path, *policy], "writes": [config.output_dir]}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
