"""RL on verdicts, the paper's RL stage I: on Judge rows the policy itself says True or False.

Its prompts are the judge's template up to the verdict; a completion that is not exactly one of the two words is
unreadable and earns nothing. How well a policy judges is measured on photos it was not trained on, before and after.

Shapes: counts (2, 3) are answers by the row's label (False, True) and by what was said (False, True, unreadable).
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather
from torch import Tensor

from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.data.images import load_image
from gre.data.records import DataConfig, JudgeRow, read_judge
from gre.geo.bootstrap import Interval, paired_bootstrap
from gre.judge import rows
from gre.judge.model import judge_text, verdict_prompt
from gre.models.packing import Prompt
from gre.rewards.answers import Answers
from gre.rewards.verdict import read_verdict
from gre.rollout.completion import Rollout
from gre.text.prompts import JUDGE_INSTRUCTION
from gre.training.data import Loader
from gre.training.trainer.ranks import turns
from gre.training.watching.alarms import ring
from gre.training.watching.metrics import Meter

COLUMNS = {False: 0, True: 1, None: 2}
MOST_OF_ONE = 0.9  # share of the readable answers above which a policy no longer judges but repeats one word


def read(config: DataConfig) -> list[JudgeRow]:
    """GRE30K-Judge rows, with the question that is really asked. Raises DataError as `read_judge` does."""
    return [replace(row, instruction=JUDGE_INSTRUCTION) for row in read_judge(config)]


def encode(processor, row: JudgeRow, load: Loader = load_image) -> Prompt:
    """A row's prompt; its photo is decoded here."""
    return verdict_prompt(processor, load(row.image), judge_text(row.chain, row.answer))


def prompt_length(processor, row: JudgeRow) -> int:
    """Tokens of a row's prompt; of its photo only the header is read."""
    return rows.length(processor, row) - 1


def count(groups: Sequence[Answers]) -> Tensor:
    """Counts (2, 3) of a step's answers."""
    counts = torch.zeros(2, 3)
    for group in groups:
        for text, finished in zip(group.texts, group.finished, strict=True):
            counts[int(group.row.label), COLUMNS[read_verdict(text, finished)]] += 1
    return counts


def numbers(counts: Tensor) -> dict[str, float]:
    """What counts (2, 3) come to; a number that has no meaning is left out.

    balanced_accuracy: the mean over labels of the share of right answers, unreadable ones counted as wrong.
    true_share: of the readable answers. unreadable: of all.
    """
    false, true, unreadable = counts.sum(0).tolist()
    found = {"unreadable": unreadable / (false + true + unreadable)}
    if false + true:
        found["true_share"] = true / (false + true)
    if (counts.sum(1) > 0).all():
        found["balanced_accuracy"] = (counts.diagonal() / counts.sum(1)).mean().item()
    return found


def fault(found: dict[str, float]) -> tuple[str, float, str] | None:
    """(name, value, meaning) of the number that says a step taught next to nothing, else None."""
    if found["unreadable"] == 1:
        return "verdict/unreadable", 1.0, "no answer is True or False, every group is flat"
    if max(found["true_share"], 1 - found["true_share"]) > MOST_OF_ONE:
        return "verdict/true_share", found["true_share"], f"above {MOST_OF_ONE:.0%} of the answers are the same word"
    return None


class VerdictNumbers:
    """Puts a step's numbers, over all processes, into the metrics, and rings in `alarms` at a fault."""

    def __init__(self, alarms: Path):
        self.alarms = alarms

    def __call__(self, step: int, groups: Sequence[Answers], rewards: dict[str, Tensor], meter: Meter) -> None:
        counts = gather(count(groups)[None].to(PartialState().device)).sum(0)
        found = numbers(counts.cpu())
        for name, value in found.items():
            meter.add_sum(f"verdict/{name}", value)
        if alarm := fault(found):
            ring(self.alarms, step, *alarm)


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows, and how they are asked: once greedily, and `num_generations` times as in training."""

    processor: object
    rollout: Rollout
    rows: Sequence[JudgeRow]
    num_generations: int
    seed: int

    def evaluate(self, model) -> dict[str, Tensor]:
        """{"greedy": …, "sampled": …}: of each row the shares (n, 3) of answers False, True and unreadable. Processes
        share the rows, and each must call it."""
        return {"greedy": self._shares(model, 1, greedy=True), "sampled": self._shares(model, self.num_generations)}

    def check(self, parent: dict[str, Tensor], name: str) -> None:
        """Raise UserError when the policy to start from said neither True nor False: RL cannot reward the unsaid."""
        if parent["sampled"][:, :2].sum() == 0:
            raise UserError(
                f"{name} never says True or False: none of {len(self.rows) * self.num_generations} completions on "
                "held-out Judge rows is exactly one of them, so RL has nothing to reward. Take a stage 1 that still "
                "follows instructions, or train one on rows that show this form too")

    def metrics(self, parent: dict[str, Tensor], trained: dict[str, Tensor]) -> dict:
        """Numbers of both policies and the gain in balanced accuracy, with its 95 % interval over photos."""
        hashes = photo_hashes(row.image for row in self.rows)
        photos = [hashes[row.image] for row in self.rows]
        found: dict = {"n": len(self.rows), "photos": len(set(photos))}
        for way in parent:
            found[way] = {"parent": numbers(self._counts(parent[way])), "trained": numbers(self._counts(trained[way])),
                          "gain": self._gain(parent[way], trained[way], photos)}
        return found

    def _shares(self, model, num_generations: int, greedy: bool = False) -> Tensor:
        shares, tokenizer = torch.zeros(len(self.rows), 3), self.processor.tokenizer
        at_once = max(1, self.rollout.batch_size // num_generations)  # photos in memory
        for batch, counted in turns(PartialState(), len(self.rows), at_once):
            prompts = [encode(self.processor, self.rows[i]) for i in batch]
            groups = self.rollout.generate(model, prompts, num_generations, batch, seed=self.seed, step=0,
                                           greedy=greedy)
            for i, group in list(zip(batch, groups, strict=True))[:counted]:
                for one in group:
                    text = tokenizer.decode(one.token_ids, skip_special_tokens=True)
                    shares[i, COLUMNS[read_verdict(text, one.finished)]] += 1 / num_generations
        return gather(shares[None].to(PartialState().device)).sum(0).cpu()

    def _counts(self, shares: Tensor) -> Tensor:
        labels = torch.tensor([row.label for row in self.rows])
        return torch.stack([shares[labels == label].sum(0) for label in (False, True)])

    def _gain(self, parent: Tensor, trained: Tensor, photos: Sequence[str]) -> Interval:
        """Each row weighs what makes both labels weigh the same; its photo's rows are drawn together."""
        labels = np.array([row.label for row in self.rows], dtype=int)
        weights = len(labels) / (2 * np.bincount(labels)[labels])
        a, b = (weights * shares.numpy()[np.arange(len(labels)), labels] for shares in (trained, parent))
        return paired_bootstrap(a, b, photos, seed=self.seed)
