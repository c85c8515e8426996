"""Rows that teach the tiny policy the form of a verdict and nothing else, for stages/stage2_verdict.py.

    python -m gre.tiny.form data=runs/quickstart/data [seed=0]

    DATA/gre_cot/gre_cot_form.json     the rows of gre_cot.json and, between them, judge's questions with blind answers

A real base follows instructions and says True or False when asked to. The tiny one does not after stage 1: the chance
that it answers a judge's question with one of the two words is 1e-9, and RL cannot reward what is never said. Stage 1
on this file says them. The chains asked about are dealt out at random and half of the answers are True whatever is
asked, so that only the form can be learned from them: which answer is right is left to RL.
"""
import random
from dataclasses import dataclass, replace
from pathlib import Path

from gre.config import REQUIRED, main, option
from gre.data.records import CoTRow, DataConfig, read_cot, write_cot
from gre.judge.model import judge_text
from gre.text.answers import split_completion
from gre.text.prompts import JUDGE_INSTRUCTION


@dataclass
class Config:
    data: str = option(REQUIRED, "folder of the tiny world")
    seed: int = option(0, "seed of chains, answers and order")
    every: int = option(4, "one judge's question is asked for so many rows")


def form_rows(rows: list[CoTRow], every: int, rng: random.Random) -> list[CoTRow]:
    """A judge's question about the photo of every `every`-th row and the chain of any row, answered True and False in
    turn."""
    asked = []
    for number, row in enumerate(rng.sample(rows, len(rows) // every)):
        chain, answer = split_completion(rng.choice(rows).response)
        asked.append(replace(row, instruction=JUDGE_INSTRUCTION + judge_text(chain, answer),
                             response=str(number % 2 == 0)))
    return asked


def run(config: Config) -> None:
    folder, rng = Path(config.data) / "gre_cot", random.Random(config.seed)
    rows = read_cot(DataConfig(str(folder / "gre_cot.json")))
    asked = form_rows(rows, config.every, rng)
    write_cot(folder / "gre_cot_form.json", rng.sample([*rows, *asked], len(rows) + len(asked)))
    print(f"{folder / 'gre_cot_form.json'}: {len(rows)} rows and {len(asked)} questions with blind answers")


if __name__ == "__main__":
    main(run, Config, __doc__)
