"""Stage 2 in the paper's form: GRPO on the policy's own True or False about GRE30K-Judge rows, starting from stage 1.

Reward 1 when the verdict is the label. Verdicts on photos kept back, before training and after, go into the manifest.
No judge is wanted, no supervised loss. It hands on a stage 2: stage 3 starts from it as from the other.

    python -m stages.stage2_verdict configs/gre7b/stage2_verdict.yaml model_name_or_path=runs/x/stage1 \
        output_dir=runs/x/stage2
"""
from dataclasses import dataclass
from pathlib import Path

from gre.config import main, option
from gre.data.records import JudgeRow, SeedRow
from gre.judge import rows as judge_rows
from gre.judge import verdict
from gre.leave import leave
from gre.rewards.verdict import verdict_rewards
from gre.training import rl
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage

PARENTS = {"stage1"}


@dataclass
class Config(rl.RLConfig):
    """Keys of stage 2 in the paper's form."""

    held_out_share: float = option(0.1, "share of photos kept for measuring")

    def __post_init__(self):
        super().__post_init__()
        if self.handoff == "best":
            raise ValueError("handoff=best is not for this stage: its verdicts are measured on the last model, and "
                             "they go into the manifest of what is handed on")


def run(config: Config) -> None:
    """Train on the policy's own verdicts, measure them on held-out photos, and hand on `output_dir`."""
    stage, rows, validation = read(config)
    asked, rows = judge_rows.split_by_photo(rows, config.held_out_share, config.seed)
    judge_rows.check_split(asked, rows)
    setup = rl.prepare(stage, asked, validation)
    held_out = verdict.HeldOut(setup.stage.processor, setup.rollout, rows, config.grpo.num_generations, config.seed)
    before = held_out.evaluate(setup.stage.load_frozen())
    held_out.check(before, setup.stage.parent.name)
    rl.train(setup, rl.Recipe(
        rewards={"verdict": verdict_rewards}, encode=verdict.encode, metrics={"mode": "verdict"},
        measure=lambda trained: {"verdict": held_out.metrics(before, held_out.evaluate(trained))},
        on_rollout=verdict.VerdictNumbers(Path(config.output_dir) / "alarms.jsonl"),
        labels=[row.label for row in setup.rows]))


def read(config: Config) -> tuple[Stage, list[JudgeRow], list[SeedRow]]:
    """All that is read before training: (stage, rows, rows to validate on)."""
    check_inputs(config)
    return rl.read("stage2", config, PARENTS, verdict.read, verdict.prompt_length)


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
