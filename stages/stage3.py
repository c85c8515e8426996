"""Stage 3, RL on coordinates: GRPO on the format and on the GPS reward, starting from stage 2.

The paper's reward is 2 / (1 + e^(d / theta)) of the distance d, with a theta it does not state; ours is its mean over
`gps.thetas_km`, so that near misses and far ones can both be told apart, or, with `gps.curriculum.levels_km`, the
reward at one theta that is refined by a rule of ours (gre/rewards/curriculum.py). `gps.shape` takes the distance
rewards of other systems. Its 8 completions a prompt and KL weight 0.04 are kept. The distance and the reader of answers
are those of the evaluation. No supervised loss.

    python -m stages.stage3 configs/gre7b/stage3.yaml model_name_or_path=runs/x/stage2 output_dir=runs/x/stage3
"""
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import PartialState
from accelerate.utils import gather
from torch import Tensor

from gre.config import main, option
from gre.data.records import SeedRow
from gre.leave import leave
from gre.rewards import answers
from gre.rewards.answers import Answers
from gre.rewards.curriculum import Curriculum, CurriculumConfig, Step
from gre.rewards.format import format_rewards
from gre.rewards.gps import DistanceConfig, distance_rewards, gps_rewards
from gre.training import rl
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage
from gre.training.watching.alarms import GuardsConfig
from gre.training.watching.completions import CompletionNumbers, read_places
from gre.training.watching.metrics import Meter

PARENTS = {"stage2"}


@dataclass
class GPSConfig(DistanceConfig):
    """The reward of a distance, and its curriculum."""

    curriculum: CurriculumConfig = option(CurriculumConfig, "pay at one theta, which is refined step by step, instead")

    def __post_init__(self):
        super().__post_init__()
        if self.curriculum.levels_km and self.shape != "logistic":
            raise ValueError(f"gps.curriculum.levels_km refines the theta of the logistic shape, and gps.shape is "
                             f"{self.shape}: leave one of them out")


@dataclass
class Config(rl.RLConfig):
    """Keys of stage 3."""

    guards: GuardsConfig = option(GuardsConfig, "what is watched besides")
    gps: GPSConfig = option(GPSConfig, "the GPS reward")


def run(config: Config) -> None:
    """Train and hand on `output_dir`."""
    numbers, setup = CompletionNumbers(read_places(config.guards.places)), rl.prepare(*read(config))
    curriculum = Curriculum(config.gps.curriculum) if config.gps.curriculum.levels_km else None
    gps = partial(curriculum_rewards, curriculum) if curriculum else partial(distance_rewards, config.gps)
    rl.train(setup, rl.Recipe(rewards={"format": format_rewards, "gps": gps},
                              on_rollout=partial(on_rollout, numbers, curriculum),
                              stateful={"curriculum": curriculum} if curriculum else {}))


def read(config: Config) -> tuple[Stage, list[SeedRow], list[SeedRow]]:
    """All that is read before training: (stage, rows, rows to validate on)."""
    check_inputs(config)
    read_places(config.guards.places)
    return rl.read("stage3", config, PARENTS)


def curriculum_rewards(curriculum: Curriculum, groups: list[Answers]) -> list[list[float]]:
    """The GPS reward of every completion's answer at the theta the curriculum stands at."""
    return gps_rewards([curriculum.theta_km], groups)


def on_rollout(numbers: CompletionNumbers, curriculum: Curriculum | None, step: int, groups: list[Answers],
               rewards: dict[str, Tensor], meter: Meter) -> None:
    """Log what the completions are like, and let the curriculum look at them."""
    meter.add_numbers(numbers(groups))
    if curriculum is not None:
        meter.add_numbers({"theta_km": curriculum.theta_km})
        if curriculum.observe(step_of_all(curriculum, groups)) and PartialState().is_main_process:
            print(f"step {step}: the next step is paid at theta = {curriculum.theta_km:g} km", flush=True)


def step_of_all(curriculum: Curriculum, groups: list[Answers]) -> Step:
    """A step's sums over all processes, the same on each."""
    distances_km = [[answers.distance_km(text, group.row.truth) for text in group.texts] for group in groups]
    local = Step.of(distances_km, curriculum.theta_km, curriculum.next_theta_km)
    sums = torch.tensor([list(vars(local).values())], dtype=torch.float64, device=PartialState().device)
    return Step(*gather(sums).sum(0).tolist())


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
