"""How good a judge is, on rows and on completions it never saw, and whether it may reward a policy."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from gre.config import UserError, check_least, option
from gre.data.images import load_image
from gre.data.records import JudgeRow, SeedRow
from gre.judge.model import Judge, ServedJudge, Verdicts, completion_text
from gre.judge.rows import deal_pictures
from gre.models.vlm import encode_prompt
from gre.rewards.answers import distance_km
from gre.rollout.completion import Rollout
from gre.training.data import Loader

BINS = 10              # of the calibration error
NUM_PHOTOS = 64        # a judge is measured on, by a policy's own completions
NUM_GENERATIONS = 4    # of each
TRUE_WITHIN_KM = 200.0
MIN_AUC = 0.7          # of a judge that may reward, unless stage 2's config says another


@dataclass
class PolicyConfig:
    """The policy whose completions the judge will reward, for measuring it there."""

    model_name_or_path: str | None = option(None, "stage 1's folder; null: not measured, and RL will refuse the judge")
    data: str = option("", "GRE30K-Seed rows; photos the judge saw are left out")
    num_photos: int = option(NUM_PHOTOS, f"photos sampled, at most, {NUM_GENERATIONS} completions each")
    max_new_tokens: int = option(2048, "longest completion in tokens; stage 2's rollout.max_new_tokens")
    temperature: float = option(1.0, "sampling temperature; stage 2's rollout.temperature")
    batch_size: int = option(64, "completions generated at a time")
    true_within_km: float = option(TRUE_WITHIN_KM, "an answer this near to the truth is right")

    def __post_init__(self):
        check_least("policy.", self, {"num_photos": 1, "max_new_tokens": 1, "temperature": 0, "batch_size": 1,
                                      "true_within_km": 0})


def ask(judge: Judge | ServedJudge, questions: Sequence[tuple[Path, str]], batch_size: int = 8,
        load: Loader = load_image) -> Verdicts:
    """Verdicts on (photo, text of `Question.text`) pairs, in their order. Each photo is loaded and forwarded once.

    batch_size: photos at a time.
    """
    by_photo: dict[Path, list[int]] = {}
    for number, (photo, _) in enumerate(questions):
        by_photo.setdefault(photo, []).append(number)
    p_true, outside = torch.empty(len(questions)), torch.empty(len(questions))
    photos = list(by_photo)
    for start in range(0, len(photos), batch_size):
        batch = photos[start:start + batch_size]
        verdicts = judge.p_true([judge.prompt(load(photo)) for photo in batch],
                                [[questions[number][1] for number in by_photo[photo]] for photo in batch])
        numbers = [number for photo in batch for number in by_photo[photo]]
        p_true[numbers], outside[numbers] = verdicts.p_true, verdicts.outside
    return Verdicts(p_true, outside)


def held_out_metrics(judge: Judge, rows: Sequence[JudgeRow], seed: int, batch_size: int = 8) -> dict:
    """AUC, the same with photos dealt to other rows, calibration error, accuracy and mass outside True and False."""
    texts = [judge.question.text(row.chain, row.answer) for row in rows]  # as it was trained and will be asked
    labels = np.array([row.label for row in rows])
    dealt = deal_pictures(rows, seed)
    own = ask(judge, [(row.image, text) for row, text in zip(rows, texts, strict=True)], batch_size)
    swapped = ask(judge, [(dealt[row.image], text) for row, text in zip(rows, texts, strict=True)], batch_size)
    p_true = own.p_true.numpy()
    return {"auc": auc(p_true, labels), "auc_swapped_pictures": auc(swapped.p_true.numpy(), labels),
            "calibration_error": calibration_error(p_true, labels),
            "accuracy": float(np.mean((p_true > 0.5) == labels)), "outside_mass": float(own.outside.mean()),
            "n": len(rows)}


def sample_completions(model, processor, rollout: Rollout, rows: Sequence[SeedRow], num_generations: int,
                       seed: int) -> list[list[str]]:
    """`num_generations` completions of the policy for each row, as text."""
    prompts = [encode_prompt(processor, row.instruction, load_image(row.image)) for row in rows]
    sampled = rollout.generate(model, prompts, num_generations, list(range(len(rows))), seed=seed, step=0)
    return [[processor.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in completions]
            for completions in sampled]


def on_policy_metrics(judge: Judge | ServedJudge, rows: Sequence[SeedRow], completions: Sequence[Sequence[str]],
                      true_within_km: float, batch_size: int = 8) -> dict:
    """The judge's AUC on sampled completions, right when their answer lies within `true_within_km` of the truth.

    Completions without a readable answer are left out, as RL pays them nothing without asking. The AUC is None when all
    answers are right or all are wrong: it has no meaning then.
    """
    questions, labels = [], []
    for row, texts in zip(rows, completions, strict=True):
        for text in texts:
            error_km = distance_km(text, row.truth)
            if error_km is not None:
                questions.append((row.image, completion_text(text)))
                labels.append(error_km <= true_within_km)
    p_true = ask(judge, questions, batch_size).p_true.numpy()
    total = sum(map(len, completions))
    return {"auc_on_policy": auc(p_true, labels) if 0 < sum(labels) < len(labels) else None, "n_on_policy": len(labels),
            "right_on_policy": sum(labels) / max(1, len(labels)), "unparsed_on_policy": (total - len(labels)) / total}


def sampling(rollout: Rollout) -> dict[str, float]:
    """What decides the distribution of a policy's completions, for a judge's manifest."""
    return {"temperature": rollout.temperature, "max_new_tokens": rollout.max_new_tokens}


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that a true row scores above a false one, ties counting half (area under the ROC curve).

    Raises ValueError when the labels are all of one kind, where it has no meaning.
    """
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    true, false = np.sort(scores[labels]), scores[~labels]
    if not len(true) or not len(false):
        raise ValueError("the AUC needs rows labelled True and rows labelled False")
    twice_below = np.searchsorted(true, false, "left") + np.searchsorted(true, false, "right")  # a tie counts once
    return float(1 - twice_below.sum() / (2 * len(true) * len(false)))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Expected calibration error over ten equal bins of P(True): mean |share of true rows - mean P(True)| of a bin,
    weighted by its rows (Guo et al. 2017)."""
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=labels - probabilities, minlength=BINS)  # rows of a bin x (share - mean)
    return float(np.abs(gaps).sum() / len(labels))


def check_gate(metrics: dict, min_auc: float) -> float:
    """The lower AUC of a judge's manifest metrics: on held-out Judge rows and on the policy's own completions.

    Raises UserError when it is below `min_auc` or was not measured: such a judge would reward noise.
    """
    where = {"auc": "on held-out Judge rows", "auc_on_policy": "on stage 1's own completions"}
    for name, rows in where.items():
        if name in metrics and metrics[name] is None:
            raise UserError(f"the judge's AUC {rows} has no meaning, so RL does not start: the answers were all right, "
                            "all wrong or unreadable. Name a better stage 1 or sample more of it (policy.num_photos)")
        if name not in metrics:
            raise UserError(f"the judge's AUC {rows} was not measured ({name} is missing from its manifest), so RL "
                            "does not start: train the judge with policy.model_name_or_path and policy.data")
    for name, rows in where.items():
        if not metrics[name] >= min_auc:
            raise UserError(f"the judge's AUC {rows} is {metrics[name]:.3f}, below judge.min_auc={min_auc}, so RL does "
                            "not start: its verdicts would reward noise. Train another judge, in another output_dir, "
                            "on more or cleaner rows or for more steps, or lower judge.min_auc")
    return min(metrics[name] for name in where)
