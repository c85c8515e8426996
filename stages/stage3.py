"""Stage 3, RL on coordinates: GRPO on the format and on the GPS reward, starting from stage 2.

The paper's reward is 2 / (1 + e^(d / theta)) of the distance d, with a theta it does not state; ours is its mean over
`gps.thetas_km`, so that near misses and far ones can both be told apart. Its 8 completions a prompt and KL weight 0.04
are kept. The distance and the reader of answers are those of the evaluation. No supervised loss.

    python -m stages.stage3 configs/gre7b/stage3.yaml model_name_or_path=runs/x/stage2 output_dir=runs/x/stage3
"""
from dataclasses import dataclass
from functools import partial

from gre.config import main, option
from gre.geo.point import LatLon, distance_km
from gre.rewards.gps import gps_reward
from gre.text.answers import parse_answer
from gre.training import rl
from gre.training.grpo import Answers

STAGE = "stage3"


@dataclass
class GPSConfig:
    """The reward of a distance."""

    thetas_km: list[float] = option([25.0, 200.0, 750.0, 2500.0], "scales of the reward; the mean over them is paid")

    def __post_init__(self):
        gps_reward(0.0, self.thetas_km)


@dataclass
class Config(rl.RLConfig):
    """Keys of stage 3."""

    gps: GPSConfig = option(GPSConfig, "the GPS reward")


def run(config: Config) -> None:
    """Train and hand on `output_dir`."""
    policy = rl.start(config, parent_stages={"stage2"})
    rewards = {"format": rl.format_rewards, "gps": partial(gps_rewards, config.gps.thetas_km)}
    rl.train(config, policy, rewards, stage=STAGE)


def gps_rewards(thetas_km: list[float], groups: list[Answers]) -> list[list[float]]:
    """The GPS reward of every completion's answer."""
    return [[gps_reward(answer_distance_km(text, group.row.truth), thetas_km) for text in group.texts]
            for group in groups]


def answer_distance_km(text: str, truth: LatLon) -> float | None:
    """From the answer in `text` to the truth; None without a readable answer."""
    point = parse_answer(text)
    return None if point is None else distance_km(point, truth)


def plan(config: Config) -> dict[str, list[str]]:
    """What a run reads and writes."""
    return {"reads": [config.model_name_or_path, config.data.path], "writes": [config.output_dir]}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
