"""What stops a run whose policy games the judge."""
from collections.abc import Mapping
from pathlib import Path

from gre.config import UserError
from gre.training.watching.alarms import ring

GUARD_STEPS = 20  # that the mean is taken over


class JudgeGuard:
    """Stops the run when the judge's P(True) no longer follows nearness: the policy has learned to please the judge.

    The rank correlation of P(True) with minus the true distance, within groups, is averaged over the groups of the last
    `steps` steps that had any. Once that many are there and the mean is below `minimum`, `observe` raises UserError.
    A verdict that knows nothing of the distance gives 0, with a standard error of about 0.5 / sqrt(groups) for groups
    of 8: 0.02 over 20 steps of 36 prompts, 0.03 over 20 of 16. On samples of two runs of the tiny world's stage 2 the
    judge gave 0.30 (24 groups, standard deviation 0.45) and 0.33 (25), the length of the text 0.00 (20, 0.59). A
    minimum of 0.05 lies between, nearer to nothing: what stops a run is a judge that is not followed at all.
    """

    def __init__(self, minimum: float, steps: int, alarms: str | Path):
        self.minimum, self.steps, self.alarms, self.window = minimum, steps, Path(alarms), []

    def observe(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take a step's numbers, with `p_true`, into the window."""
        if "rank_correlation" not in numbers:
            return
        names = ("rank_correlation", "rank_correlation_groups", "p_true", "distance_km/median", "think_characters")
        self.window = [*self.window, [step, *(numbers[name] for name in names)]][-self.steps:]
        correlation, groups = self.mean()
        if len(self.window) < self.steps or correlation >= self.minimum:
            return
        first, last = self.window[0], self.window[-1]
        changes = ", ".join(f"{name} {a:.4g} to {b:.4g}" for name, a, b in zip(
            ("P(True)", "median distance in km", "characters of a chain"), first[3:], last[3:]))
        why = (f"over {self.steps} steps and {groups:.0f} groups P(True) has a mean rank correlation of "
               f"{correlation:.3f} with nearness, below judge.min_rank_correlation={self.minimum}: the policy pleases "
               f"the judge without coming nearer (from step {first[0]} to {last[0]}: {changes})")
        ring(self.alarms, step, "rank_correlation", correlation, why)
        raise UserError(f"step {step}: {why}. Look into samples.jsonl, then train the judge on such completions, raise "
                        "grpo.beta, end the stage earlier with train.max_steps, or lower judge.min_rank_correlation")

    def mean(self) -> tuple[float, float]:
        """(mean correlation over the groups of the window, how many groups)."""
        groups = sum(entry[2] for entry in self.window)
        return sum(entry[1] * entry[2] for entry in self.window) / groups, groups

    def state_dict(self) -> dict:
        """The window, as JSON takes it."""
        return {"window": [list(entry) for entry in self.window]}

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state_dict` was taken."""
        self.window = [list(entry) for entry in state["window"]]
