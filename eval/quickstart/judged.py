"""What the judge thinks of greedy answers: P(True) of each, 0 without asking where no answer can be read.

Written to runs/NAME/predictions/judge_rewards.json as {checkpoint: {row id: reward}}. All checkpoints' answers about
one photo share its forward pass.
"""
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from eval.predictions import Prediction
from gre import manifest, provenance
from gre.judge.model import Judge, completion_text
from gre.judge.quality import ask
from gre.models import vlm

PICTURES_AT_ONCE = 8


def write(folder: Path, answers: Mapping[str, Sequence[Prediction]], pictures: Path) -> None:
    """Judge `answers` (checkpoint → the same rows in the same order) with the run's judge and write the rewards.

    pictures: the folder the rows' images are relative to. Raises UserError for an unfinished or altered judge.
    """
    parent = manifest.verify_parent(folder / "judge", {"judge"})
    budget = parent.pixel_budget
    processor = vlm.load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge = Judge(vlm.load_model(parent.model_dir).to(device).eval(), processor)
    values = rewards(judge, answers, pictures)
    provenance.write_atomically(folder / "predictions" / "judge_rewards.json", json.dumps(values, indent=1) + "\n")


def rewards(judge: Judge, answers: Mapping[str, Sequence[Prediction]], pictures: Path) -> dict[str, dict[str, float]]:
    """{checkpoint: {row id: P(True), or 0 for an unreadable answer}}."""
    values: dict[str, dict[str, float]] = {name: {} for name in answers}
    rows = list(zip(*answers.values(), strict=True))  # per photo, one prediction of each checkpoint
    for start in tqdm(range(0, len(rows), PICTURES_AT_ONCE), desc="judge", unit="batch"):
        said = [(name, row) for predictions in rows[start:start + PICTURES_AT_ONCE]
                for name, row in zip(answers, predictions)]
        readable = [(pictures / row.image, completion_text(row.text)) for _, row in said if row.answer is not None]
        verdicts = iter(ask(judge, readable, PICTURES_AT_ONCE).p_true.tolist())
        for name, row in said:
            values[name][row.id] = 0.0 if row.answer is None else next(verdicts)
    return values
