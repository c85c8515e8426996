"""What a person should look at while a run goes on: one line on the screen, one in OUTPUT/alarms.jsonl.

An alarm is raised when a number leaves its range, and again only after it has been back. The ranges are wide on
purpose: inside them a run may still be bad. (What stops a run: gre/judge/guard.py and a number that is not finite.)
"""
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from accelerate import PartialState
from transformers import TrainerCallback

from gre.config import option
from gre.training.trainer.checkpoints import cut_back, file_state

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


def ring(path: Path, step: int, name: str, value: float, meaning: str) -> None:
    """Print an alarm and append it to the file, on the main process."""
    if PartialState().is_main_process:
        print(f"ALARM, step {step}: {name} is {value:.4g}: {meaning}", flush=True)
        with open(path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, "name": name, "value": value, "meaning": meaning}) + "\n")
