"""The theta curriculum of the distance reward: from continents to streets, one level at a time.

The paper says that theta is refined when the model "stably" keeps enough reward at the current one, and gives neither
levels nor a rule. The rule here is ours. Over the last `window` steps at this theta

    the mean reward of all completions is at least `min_reward`, and
    in at least `min_spread_share` of the groups the rewards at the next theta would differ by more than MIN_SPREAD,

so that the next theta is neither unearned nor silent. Then theta goes to the next level and the window starts empty. It
never goes up. A step is a rollout: updates made again on the same completions do not count.
"""
from collections.abc import Sequence
from dataclasses import dataclass

from gre.config import option
from gre.rewards.gps import gps_reward

MIN_SPREAD = 0.05  # of the rewards of a group: below it their std is below the floor of the advantages (loss.STD_FLOOR)


@dataclass
class CurriculumConfig:
    """The rule for theta. It is ours: the paper gives none."""

    levels_km: list[float] = option([], "thetas from the coarsest to the finest, such as [2500,750,200,25,1]; empty: "
                                        "no curriculum, the mean over thetas_km is paid")
    window: int = option(50, "window length in steps; it is emptied when theta changes")
    min_reward: float = option(0.6, "mean gps reward over the window that a finer theta takes")
    min_spread_share: float = option(0.3, "share of groups whose rewards must still differ at the next theta")

    def __post_init__(self):
        if self.levels_km:
            gps_reward(0.0, self.levels_km)
        if any(coarse <= fine for coarse, fine in zip(self.levels_km, self.levels_km[1:])):
            raise ValueError(f"gps.curriculum.levels_km must fall, got {self.levels_km}")
        if self.window < 1:
            raise ValueError("gps.curriculum.window must be at least 1")


@dataclass(frozen=True)
class Step:
    """Sums over all prompts of one step, on all processes."""

    reward_sum: float
    completions: int
    groups_with_spread: int  # at the next theta
    groups: int

    @classmethod
    def of(cls, distances_km: Sequence[Sequence[float | None]], theta_km: float, next_theta_km: float | None) -> "Step":
        """From the distances of every group's answers, None where there is none to read."""
        rewards = [gps_reward(distance, [theta_km]) for group in distances_km for distance in group]
        spread = 0 if next_theta_km is None else sum(map(lambda group: has_spread(group, next_theta_km), distances_km))
        return cls(sum(rewards), len(rewards), spread, len(distances_km))


class Curriculum:
    """Where theta stands and what the steps at it were like. Fed with the same sums, every process decides alike."""

    def __init__(self, config: CurriculumConfig):
        self.config, self.level, self.steps = config, 0, []

    @property
    def theta_km(self) -> float:
        """The theta that is paid at."""
        return self.config.levels_km[self.level]

    @property
    def next_theta_km(self) -> float | None:
        """The theta after this one; None at the last."""
        return self.config.levels_km[self.level + 1] if self.level + 1 < len(self.config.levels_km) else None

    def observe(self, step: Step) -> bool:
        """Take a step's sums into the window; whether theta was refined. The next step is the first that is paid so."""
        self.steps = [*self.steps, step][-self.config.window:]
        if self.next_theta_km is None or len(self.steps) < self.config.window:
            return False
        reward = sum(step.reward_sum for step in self.steps) / sum(step.completions for step in self.steps)
        spread = sum(step.groups_with_spread for step in self.steps) / sum(step.groups for step in self.steps)
        if reward < self.config.min_reward or spread < self.config.min_spread_share:
            return False
        self.level, self.steps = self.level + 1, []
        return True

    def state_dict(self) -> dict:
        """Level and window, as JSON takes them."""
        return {"level": self.level, "steps": [list(vars(step).values()) for step in self.steps]}

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state_dict` was taken. ValueError when these levels do not reach so far."""
        if not 0 <= state["level"] < len(self.config.levels_km):
            raise ValueError(f"the checkpoint is at level {state['level']}, gps.curriculum.levels_km has "
                             f"{len(self.config.levels_km)}: resume with the levels it was started with")
        self.level, self.steps = state["level"], [Step(*step) for step in state["steps"]]


def has_spread(distances_km: Sequence[float | None], theta_km: float) -> bool:
    """Whether a group's rewards at this theta differ by more than MIN_SPREAD."""
    rewards = [gps_reward(distance, [theta_km]) for distance in distances_km]
    return max(rewards) - min(rewards) > MIN_SPREAD
