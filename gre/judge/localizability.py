"""GLOBE's reward model: a judge of whether a place can be told from its picture, and the guard against gaming it.

It is trained and asked as the judge is, with another question (`gre.judge.model.LOCALIZABLE`): rows, template,
training, serving and the number itself are the judge's. Its labels are teachers': not whether an answer is right. So
it cannot be measured on a policy's completions, and its gate asks more of held-out rows than the judge's does
(docs/rewards.md).
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather
from PIL import Image
from torch import Tensor

from gre.config import UserError, check_least, option
from gre.data.images import load_image
from gre.data.records import JudgeRow, ReasonRow
from gre.judge.model import LOCALIZABLE, Judge, ServedJudge
from gre.judge.quality import ask, auc, held_out_metrics
from gre.judge.reward import AskedConfig, Checked, judge_parent, load_judge
from gre.rewards.answers import Answers
from gre.rewards.localizability import localizability_rewards
from gre.training.data import Loader
from gre.training.rl import Setup
from gre.training.watching.alarms import ring
from gre.training.watching.completions import rank_correlation

STAGE = "localizability"      # that trains such a model
MIN_AUC = 0.85                # below that it says too little to be a reward; the tiny world's came to 1.00
MAX_CALIBRATION_ERROR = 0.15  # R_loc is a probability; judges of the tiny world came to 0.05 to 0.11
BLIND = 0.05                  # so near to it is the AUC without pictures when pictures add nothing
GREY = (127, 127, 127)
GUARD_PICTURES = 16           # of a window: the tiny run meets 43 unlocalizable ones on average, 32 or more in 97 %
REMEDY = ("name the localizability.jsonl that scripts/data/mp16_reason.sh makes of photos and teachers (data.path; "
          "docs/data.md), or another file whose rows have response and localizability")
NUMBERS = ("auc", "auc_text_only", "calibration_error", "n")


@dataclass
class LocalizabilityConfig(AskedConfig):
    """The reward model and what is asked of it."""

    min_auc: float = option(MIN_AUC, "lowest AUC, on held-out rows, RL starts with")
    max_rise: float = option(0.1, f"how far its mean on the last {GUARD_PICTURES} unlocalizable pictures may rise "
                                  f"above that on the first {GUARD_PICTURES}; beyond, the run stops. 1 never stops one")

    def __post_init__(self):
        super().__post_init__()
        check_least("judge.", self, {"max_rise": 0})


def judge_row(row: ReasonRow) -> JudgeRow:
    """A row of a teacher's reasoning and verdict as a judge is trained on. Raises UserError where either is missing."""
    if row.localizable is None or not row.response:
        missing = "localizability" if row.localizable is None else "response"
        raise UserError(f"row {row.id} has no {missing}, and the reward model learns from a teacher's reasoning and "
                        f"whether it found the picture localizable: {REMEDY}. Published rows do not say it")
    return JudgeRow(row.id, row.image, LOCALIZABLE.instruction, row.response, "", row.localizable, row.truth)


def check_labels(rows: Sequence[JudgeRow], path: str) -> None:
    """Raise UserError where all rows of a file say the same: verified rows are all localizable."""
    if len(labels := {row.label for row in rows}) == 1:
        said = "yes" if labels == {True} else "no"
        raise UserError(f"{path}: all {len(rows):,} rows say {said} of localizability, and the reward model learns "
                        f"from both; verification leaves out what is not: {REMEDY}")


def metrics_of(judge: Judge, rows: Sequence[JudgeRow], seed: int, batch_size: int) -> dict:
    """A judge's held-out metrics, and auc_text_only: the AUC when every picture is a grey one of its size. A model that
    does as well there has learned teachers' phrases and looks at no picture."""
    questions = [(row.image, LOCALIZABLE.text(row.chain)) for row in rows]
    blind = ask(judge, questions, batch_size, grey).p_true.numpy()
    return {**held_out_metrics(judge, rows, seed, batch_size), "auc_text_only": auc(blind, [row.label for row in rows])}


def grey(path: Path) -> Image.Image:
    """A grey picture of the photo's size."""
    return Image.new("RGB", load_image(path).size, GREY)


def check_gate(metrics: Mapping[str, float], min_auc: float) -> None:
    """Raise UserError when a reward model's held-out AUC or calibration falls short: it would reward noise."""
    for name in ("auc", "calibration_error"):
        if metrics.get(name) is None:
            raise UserError(f"the reward model's {name} was not measured: train it by stages/{STAGE}.py")
    again = "Train another one, in another output_dir, on more or cleaner rows"
    if not metrics["auc"] >= min_auc:
        raise UserError(f"the reward model's AUC on held-out rows is {metrics['auc']:.3f}, below "
                        f"judge.min_auc={min_auc}, so RL does not start. {again}, or lower judge.min_auc")
    if not metrics["calibration_error"] <= MAX_CALIBRATION_ERROR:
        raise UserError(f"the reward model's calibration error on held-out rows is {metrics['calibration_error']:.3f}, "
                        f"above {MAX_CALIBRATION_ERROR}, so RL does not start: its probabilities are none. {again}, "
                        "or for another number of steps")


def blindness(metrics: Mapping[str, float]) -> str:
    """What is to be said of a reward model that tells as well without pictures; empty for one that looks at them."""
    if metrics.get("auc_text_only", 0.0) < metrics["auc"] - BLIND:
        return ""
    return (f"the reward model tells as well without pictures (AUC {metrics['auc_text_only']:.3f} on grey ones, "
            f"{metrics['auc']:.3f} on the photos): it has learned how teachers' reasoning sounds, R_loc will reward "
            "that, and the guard on unlocalizable pictures sees little. Rows whose reasoning does not give the label "
            "away teach it to look")


def check(settings: LocalizabilityConfig, setup: Setup) -> Checked:
    """The reward model of a stage, good enough by its manifest. Raises UserError when it is not, or not there."""
    parent = judge_parent(settings, setup.stage.config, STAGE)
    metrics = (parent.manifest or {}).get("metrics", {})
    measured = {name: metrics[name] for name in NUMBERS if name in metrics}
    check_gate(measured, settings.min_auc)
    if PartialState().is_main_process and (warning := blindness(measured)):
        print(f"warning: {warning}", flush=True)
    return Checked(load_judge(settings, setup, parent, LOCALIZABLE), parent, measured)


def p_yes_rewards(judge: Judge | ServedJudge, batch_size: int, groups: list[Answers],
                  load: Loader = load_image) -> list[list[float]]:
    """R_loc of every completion; a photo is shown to the reward model once per group."""
    def p_yes(asked: list[tuple[Path, str]]) -> list[float]:
        questions = [(image, LOCALIZABLE.text(chain)) for image, chain in asked]
        return ask(judge, questions, batch_size, load).p_true.tolist()

    return localizability_rewards(p_yes, groups)


class UnlocalizableGuard:
    """Stops the run when R_loc rises on pictures from which no place can be told: the policy has learned to please the
    reward model. Rows say which (`localizability`); where none does, nothing is seen.

    The mean over the last GUARD_PICTURES such pictures is compared with that over the first so many, however many steps
    they came in; no picture is in both. Those of one step count as their mean.
    """

    def __init__(self, max_rise: float, alarms: str | Path):
        self.max_rise, self.alarms = max_rise, Path(alarms)
        self.first: list[float] = []
        self.last: list[float] = []

    def observe(self, step: int, mean: float, pictures: int) -> None:
        """Take a step's mean R_loc on its unlocalizable pictures, of which it had so many."""
        seen = [*self.first, *[mean] * pictures]
        self.first, self.last = seen[:GUARD_PICTURES], [*self.last, *seen[GUARD_PICTURES:]][-GUARD_PICTURES:]
        if len(self.last) < GUARD_PICTURES:
            return
        before, now = (sum(window) / GUARD_PICTURES for window in (self.first, self.last))
        if now - before <= self.max_rise:
            return
        why = (f"R_loc has a mean of {now:.3f} on the last {GUARD_PICTURES} unlocalizable pictures, after {before:.3f} "
               f"on the first {GUARD_PICTURES}, a rise above judge.max_rise={self.max_rise}: the policy pleases the "
               "reward model where there is nothing to tell a place by")
        ring(self.alarms, step, "reward/localizability", now, why)
        raise UserError(f"step {step}: {why}. Look into samples.jsonl, then lower weights.localizability, train the "
                        "reward model on such completions, or end the stage earlier with train.max_steps")

    def state_dict(self) -> dict:
        """Both windows, as JSON takes them."""
        return {"first": list(self.first), "last": list(self.last)}

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state_dict` was taken."""
        self.first, self.last = list(state["first"]), list(state["last"])


def numbers(groups: Sequence[Answers], r_loc: Tensor, right: Tensor) -> dict[str, float]:
    """Of a step, over all processes: localizability/unlocalizable, the mean R_loc on pictures marked so, and
    localizability/unlocalizable_pictures, how many there are; localizability/with_place, the mean over groups of the
    rank correlation of R_loc with the place reward, and localizability/with_place_groups, how many have one. A number
    without a meaning is left out.

    r_loc, right (prompts, G): what the completions earned.
    """
    marked = [row.tolist() for group, row in zip(groups, r_loc) if group.row.localizable is False]
    flat = [value for row in marked for value in row]
    ranked = [value for a, b in zip(r_loc.tolist(), right.tolist())
              if (value := rank_correlation(a, b)) is not None]
    local = torch.tensor([[sum(flat), len(flat), len(marked), sum(ranked), len(ranked)]], dtype=torch.float64,
                         device=PartialState().device)
    total, count, pictures, correlation, held = np.asarray(gather(local).sum(0).cpu()).tolist()
    found = {"localizability/unlocalizable": total / count,
             "localizability/unlocalizable_pictures": pictures} if count else {}
    return found | ({"localizability/with_place": correlation / held, "localizability/with_place_groups": held}
                    if held else {})
