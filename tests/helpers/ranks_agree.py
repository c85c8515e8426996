"""A job of two_ranks.py (tests/training/test_ranks_agree.py): half of the groups or rows on each process, the numbers
of all on both."""
import json
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image

from gre.data.records import JudgeRow
from gre.geo.point import LatLon
from gre.judge.verdict import HeldOut
from gre.models.vlm import load_processor
from gre.rewards.answers import Answers
from gre.rewards.curriculum import Curriculum, CurriculumConfig
from gre.rollout.completion import Completion
from gre.training.watching.completions import CompletionNumbers
from gre.training.watching.metrics import Meter
from stages import stage3
from tests.helpers.paths import TINY_BASE
from tests.helpers.sft import Row


def groups() -> list[tuple[Answers, list[float]]]:
    """Four groups of two completions with what a judge says of them; the last has one that cannot be read."""
    made = []
    for i, lons in enumerate([(0.1, 9.0), (0.2, 30.0), (0.3, 0.4), (90.0, None)]):
        row = Row(f"seed:{i}", None, "?", "")
        row.truth = LatLon(0.0, 0.0)
        texts = [f"<think>{'a' * i}</think><answer>{'?' if lon is None else f'0.0, {lon}'}</answer>" for lon in lons]
        made.append((Answers(row, texts, [True, True]), [0.9 - 0.2 * i, 0.5]))
    return made


def numbers(mine: list[tuple[Answers, list[float]]]) -> dict:
    """What is logged, and where theta stands after a step, given this process's groups."""
    answers, p_true = [group for group, _ in mine], torch.tensor([judged for _, judged in mine])
    curriculum = Curriculum(CurriculumConfig(levels_km=[2500.0, 200.0], window=1))
    stage3.on_rollout(CompletionNumbers({}), curriculum, 1, answers, {}, Meter())
    sums = stage3.step_of_all(Curriculum(CurriculumConfig(levels_km=[2500.0, 200.0])), answers)
    return {"completions": CompletionNumbers({})(answers, p_true), "sums": list(vars(sums).values()),
            "theta_km": curriculum.theta_km}


class Answering:
    """A rollout that says of row 0 True, of row 1 False, of row 2 something else, and so on; asked: the rows."""

    batch_size = 2

    def __init__(self, tokenizer):
        self.words, self.asked = [tokenizer(word).input_ids for word in ("True", "False", "Where")], []

    def generate(self, model, prompts, num_generations, keys, **_) -> list[list[Completion]]:
        self.asked.append(list(keys))
        return [[Completion(torch.tensor(self.words[key % 3]), True, torch.zeros(1))] * num_generations for key in keys]


def verdicts(folder: Path) -> dict:
    """What five held-out rows give, and which rows this process asks about, call by call."""
    processor = load_processor(TINY_BASE)
    image = folder / f"photo-{PartialState().process_index}.png"
    Image.new("RGB", (56, 56), (1, 2, 3)).save(image)
    rows = [JudgeRow(f"judge:{i}", image, "", "a chain", f"{i}, 2", True, LatLon(0.0, 0.0)) for i in range(5)]
    rollout = Answering(processor.tokenizer)
    found = HeldOut(processor, rollout, rows, num_generations=2, seed=0).evaluate(None)
    return {"found": {way: shares.tolist() for way, shares in found.items()}, "asked": rollout.asked}


def main(folder: Path) -> None:
    rank = PartialState(cpu=True).process_index
    said = {"numbers": numbers(groups()[2 * rank:2 * rank + 2]), "verdicts": verdicts(folder)}
    (folder / f"{rank}.json").write_text(json.dumps(said))
