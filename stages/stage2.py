"""Stage 2, RL on a judge: GRPO on the format and on P(True) of the policy's own chains, starting from stage 1.

The paper trains the policy to say True or False about given chains (stages/stage2_verdict.py); here a judge trained for
that on GRE30K-Judge (stages/judge.py) rewards what the policy itself writes. A judge that cannot tell right from wrong,
on held-out Judge rows or on this policy's completions, is refused before anything is trained, and so are prompts with
photos it has seen. A policy that pleases the judge without coming nearer to the truth is stopped. No supervised loss.

    python -m stages.stage2 configs/gre7b/stage2.yaml model_name_or_path=runs/x/stage1 \
        judge.model_name_or_path=runs/x/judge output_dir=runs/x/stage2
"""
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from gre.config import main, option
from gre.data.records import SeedRow
from gre.judge.guard import GUARD_STEPS, JudgeGuard
from gre.judge.reward import JudgeConfig, check_judge, judge_parent, p_true_rewards, rows_for
from gre.leave import leave
from gre.rewards.answers import Answers
from gre.rewards.format import format_rewards
from gre.training import rl
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage
from gre.training.watching.alarms import GuardsConfig
from gre.training.watching.completions import CompletionNumbers, read_places
from gre.training.watching.metrics import Meter

PARENTS = {"stage1"}


@dataclass
class Config(rl.RLConfig):
    """Keys of stage 2."""

    guards: GuardsConfig = option(GuardsConfig, "what is watched besides")
    judge: JudgeConfig = option(JudgeConfig, "the judge")


def run(config: Config) -> None:
    """Check the judge, train on its verdicts and hand on `output_dir`."""
    numbers = CompletionNumbers(read_places(config.guards.places))
    setup = rl.prepare(*read(config))
    checked = check_judge(config.judge, setup)
    guard = JudgeGuard(config.judge.min_rank_correlation, GUARD_STEPS, Path(config.output_dir) / "alarms.jsonl")
    rl.train(setup, rl.Recipe(
        rewards={"format": format_rewards, "judge": checked.reward(config.judge, config, p_true_rewards)},
        on_rollout=partial(on_rollout, numbers, guard), stateful={"judge_guard": guard},
        made_of={"judge": checked.parent.sha256}, metrics={"judge": {**checked.parent.record(), **checked.measured}}))


def read(config: Config) -> tuple[Stage, list[SeedRow], list[SeedRow]]:
    """All that is read before training: (stage, rows whose photos the judge has not seen, rows to validate on)."""
    check_inputs(config)
    read_places(config.guards.places)
    stage, rows, validation = rl.read("stage2", config, PARENTS)
    if config.judge.model_name_or_path:
        rows = rows_for(judge_parent(config.judge, config), rows, config)
    return stage, rows, validation


def on_rollout(numbers: CompletionNumbers, guard: JudgeGuard, step: int, groups: list[Answers],
               rewards: dict[str, Tensor], meter: Meter) -> None:
    """Log what the completions are like, and stop the run when the judge is being gamed."""
    found = numbers(groups, rewards["judge"])
    meter.add_numbers(found)
    guard.observe(step, found)


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
