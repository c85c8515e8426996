"""The judge: a vision-language model fine-tuned on GRE30K-Judge to say True or False about a chain and its answer.

The paper trains the policy itself to judge (its RL stage I); here the judge is a model of its own, whose P(True) of the
policy's chains is stage 2's reward. Photos are split before training: its quality is measured on photos it never saw,
and, when `policy.model_name_or_path` names a stage 1 checkpoint, on that policy's own completions too. The measures go
into the manifest, and RL refuses a judge that falls short (gre/judge/reward.py). The hashes of the photos it was
trained and measured on go into photos.json: RL must not ask it about them.

    python -m stages.judge configs/gre7b/judge.yaml model_name_or_path=Qwen/Qwen2.5-VL-7B-Instruct \
        policy.model_name_or_path=runs/x/stage1 policy.data=dataset/gre_seed/gre_seed.jsonl
"""
from dataclasses import dataclass
from functools import partial

from gre import manifest
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import DataConfig, JudgeRow, Keys, SeedRow, read_judge, read_seed
from gre.judge.fit import fit
from gre.judge.model import RIGHT, Judge
from gre.judge.photos import unseen, write_photos
from gre.judge.quality import (
    MIN_AUC,
    NUM_GENERATIONS,
    PolicyConfig,
    check_gate,
    held_out_metrics,
    on_policy_metrics,
    sample_completions,
    sampling,
)
from gre.judge.rows import check_split, length, split_by_photo
from gre.leave import leave
from gre.models.vlm import load_processor
from gre.rollout.generate import TransformersRollout
from gre.text.prompts import JUDGE_INSTRUCTION
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage, StageConfig

PARENTS = {manifest.BASE, "stage1"}
AT_ONCE = 16  # photos judged at a time when it is measured


@dataclass
class Config(StageConfig):
    """Keys of the judge."""

    model_name_or_path: str = option(REQUIRED, "the parent: the base, or a stage 1 checkpoint")
    held_out_share: float = option(0.1, "share of photos kept for measuring")
    policy: PolicyConfig = option(PolicyConfig, "measuring on the policy's completions")


def run(config: Config) -> None:
    """Train on GRE30K-Judge, measure and hand on `output_dir`."""
    stage, train_rows, held_out, seeds, policy = read(config)
    metrics = fit(stage, train_rows, RIGHT)
    if stage.args.process_index == 0:
        metrics |= measure(config, stage, held_out, policy, seeds)
        metrics["photos_sha256"] = write_photos(stage.folder, {row.image for row in (*train_rows, *held_out)})
    stage.finish(metrics, instructions=[JUDGE_INSTRUCTION] * len(train_rows),
                 data=[config.policy.data] if policy else [])


def read(config: Config) -> tuple[Stage, list[JudgeRow], list[JudgeRow], list[SeedRow], manifest.Parent | None]:
    """All that is read before training: (stage, rows, held-out rows, rows for a policy to answer, that policy)."""
    check_inputs(config)
    rows = read_judge(config.data)
    seeds = policy_rows(config)
    stage = Stage("judge", config, PARENTS)
    policy = policy_parent(config)
    rows = stage.fitting(rows, partial(length, stage.processor))
    train_rows, held_out = split_by_photo(rows, config.held_out_share, config.seed)
    check_split(train_rows, held_out)
    seeds = unseen(seeds, rows, config.policy.num_photos, config.seed)
    if policy and not seeds:
        raise UserError(f"the judge saw every photo of {config.policy.data}: set policy.data to other photos")
    seeds = stage.askable(seeds, config.policy.data)
    return stage, train_rows, held_out, seeds, policy


def policy_rows(config: Config) -> list[SeedRow]:
    """The rows to ask a policy about; none where none is named."""
    if config.policy.model_name_or_path is None:
        return []
    data = DataConfig(config.policy.data, on_bad_row=config.data.on_bad_row)
    return read_seed(data, Keys("policy.data", image_root=""))


def policy_parent(config: Config) -> manifest.Parent | None:
    """The policy to measure on, verified, or None when none is named."""
    if config.policy.model_name_or_path is None:
        return None
    return manifest.verify_parent(config.policy.model_name_or_path, {"stage1"}, config.accept_parent)


def measure(config: Config, stage: Stage, held_out: list, policy: manifest.Parent | None, seeds: list) -> dict:
    """The quality of the saved judge, on this process alone."""
    folder = stage.folder / "model"
    judge = Judge(stage.load_frozen(folder), load_processor(folder))
    metrics = held_out_metrics(judge, held_out, config.seed, AT_ONCE)
    if policy is not None:
        rollout, texts = completions_of(config.policy, stage.load_frozen(policy.model_dir),
                                        load_processor(policy.model_dir), seeds, config.seed)
        metrics |= on_policy_metrics(judge, seeds, texts, config.policy.true_within_km, AT_ONCE)
        metrics |= {"policy_sha256": policy.sha256, "policy_sampling": sampling(rollout)}
    print("judge: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float)),
          flush=True)
    try:
        check_gate(metrics, MIN_AUC)
    except UserError as error:
        print(f"judge: stage 2 would refuse this judge as it is: {error}", flush=True)
    return metrics


def completions_of(settings: PolicyConfig, model, processor, seeds: list,
                   seed: int) -> tuple[TransformersRollout, list[list[str]]]:
    """(what sampled, what the policy answers to the seed rows)."""
    rollout = TransformersRollout.of(processor.tokenizer, model.config.text_config.vocab_size, settings.max_new_tokens,
                                     temperature=settings.temperature, batch_size=settings.batch_size)
    return rollout, sample_completions(model, processor, rollout, seeds, NUM_GENERATIONS, seed)


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
