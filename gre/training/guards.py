"""What tells that a run goes wrong: a judge that is being gamed stops it, everything else raises an alarm.

An alarm (gre/training/alarms.py) is raised when a number leaves its range, and again only after it has been back. The
ranges are wide on purpose: inside them a run may still be bad.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from transformers import TrainerCallback

from gre.config import UserError, option
from gre.training.alarms import ring
from gre.training.resume import cut_back, file_state

BASELINE_LOGS = 10  # logs whose mean is "at the start"


@dataclass(frozen=True)
class Range:
    """Where a logged number may lie, and what it means when it does not. relative: in multiples of its mean over the
    first BASELINE_LOGS logs."""

    low: float
    high: float
    meaning: str
    relative: bool = False


RANGES = {
    "zero_spread": Range(0, 0.8, "most groups earn one and the same reward and teach nothing"),
    "entropy": Range(0.01, math.inf, "the policy hardly samples any more: its groups will be copies"),
    "ratio": Range(0.9, 1.1, "the policy has left the one that sampled"),
    "kl": Range(-math.inf, 0.5, "the policy is far from the one this stage started from"),
    "truncated": Range(0, 0.25, "completions reach rollout.max_new_tokens and are cut"),
    "unreadable": Range(0, 0.5, "most answers cannot be read"),
    "think_characters": Range(0.5, 2.0, "chains have half or twice the length they had at the start", relative=True),
    "distinct_answers": Range(0.25, math.inf, "all photos get the same few answers"),
    "chain_to_answer_km": Range(0, 200, "half of the chains name another place than their answer"),
}


@dataclass
class GuardsConfig:
    """What is watched besides the rewards."""

    places: str | None = option(None, "CSV name,lat,lon: do chains end at the place they name? null: not looked at")


class Alarms(TrainerCallback):
    """Raises an alarm for every logged number that leaves its range. A run that starts anew starts the file anew."""

    def __init__(self, path: str | Path):
        self.path, self.ringing, self.start = Path(path), set(), {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and state.global_step == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("")

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name in RANGES.keys() & logs.keys():
            self.look(state.global_step, name, logs[name])

    def look(self, step: int, name: str, value: float) -> None:
        """Compare one number with its range."""
        limits, unit = RANGES[name], 1.0
        if limits.relative:
            first = self.start.setdefault(name, [])
            if len(first) < BASELINE_LOGS:
                first.append(value)
                return
            unit = fmean(first)
        if limits.low * unit <= value <= limits.high * unit:
            self.ringing.discard(name)
        elif name not in self.ringing:
            self.ringing.add(name)
            ring(self.path, step, name, value, f"{limits.meaning} (expected {limits.low * unit:.4g} to "
                                               f"{limits.high * unit:.4g})")

    def state_dict(self) -> dict:
        """What is ringing, how numbers were at the start, and the file's length, as JSON takes them."""
        return {"ringing": sorted(self.ringing), "start": {name: list(values) for name, values in self.start.items()},
                "file": file_state(self.path)}

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state_dict` was taken."""
        self.ringing, self.start = set(state["ringing"]), {name: list(v) for name, v in state["start"].items()}
        cut_back(self.path, state["file"])


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
        """Take a step's `watch` numbers, with `p_true`, into the window."""
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
