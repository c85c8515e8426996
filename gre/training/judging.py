"""Training rows for a judge, and how good a judge is on rows and on completions it never saw."""
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gre.config import UserError
from gre.data.images import load_image
from gre.data.records import JudgeRow, SeedRow
from gre.geo.point import distance_km
from gre.models.judge import Judge, Verdicts, completion_text, judge_group, judge_prompt, judge_text
from gre.models.packing import Group
from gre.models.vlm import encode_prompt, encode_text, prompt_length
from gre.provenance import file_hash
from gre.rollout.rollout import Rollout
from gre.text.answers import parse_answer
from gre.text.prompts import JUDGE_INSTRUCTION
from gre.training.gate import auc, calibration_error
from gre.training.pictures import Loader
from gre.training.sft import picture_size


def encode(processor, row: JudgeRow, load: Loader = load_image) -> Group:
    """A Judge row as a group whose one scored token is the verdict."""
    prompt = judge_prompt(processor, load(row.image))
    return judge_group(processor, prompt, [judge_text(row.chain, row.answer)], [row.label])


def length(processor, row: JudgeRow) -> int:
    """Tokens of a Judge row, the verdict included; of its picture only the header is read."""
    prompt = prompt_length(processor, JUDGE_INSTRUCTION, *picture_size(row.image))
    return prompt + len(encode_text(processor, judge_text(row.chain, row.answer))) + 1


def split_by_photo(rows: Sequence[JudgeRow], held_out_share: float, seed: int) -> tuple[list[JudgeRow], list[JudgeRow]]:
    """(training rows, held-out rows), no photo in both. A photo is its file's content, whatever its name."""
    photos = {row.id: file_hash(row.image) for row in rows}
    unique = sorted(set(photos.values()))
    random.Random(seed).shuffle(unique)
    held = set(unique[:max(2, round(held_out_share * len(unique)))])
    train = [row for row in rows if photos[row.id] not in held]
    return train, [row for row in rows if photos[row.id] in held]


def check_split(train_rows: Sequence[JudgeRow], held_out: Sequence[JudgeRow]) -> None:
    """Raise UserError unless both parts hold True and False rows: neither training nor a measure means anything else.
    """
    assert not {row.image for row in train_rows} & {row.image for row in held_out}, "a photo is in both parts"
    for name, rows in (("training", train_rows), ("held-out", held_out)):
        if {row.label for row in rows} != {True, False}:
            raise UserError(f"the {len(rows)} {name} Judge rows do not hold both labels: give more rows or another "
                            "held_out_share")


def deal_pictures(rows: Sequence[JudgeRow], seed: int) -> dict[Path, Path]:
    """For every picture of the rows another one of them, each serving once. Needs two pictures."""
    pictures = sorted({row.image for row in rows})
    random.Random(seed).shuffle(pictures)
    return dict(zip(pictures, pictures[1:] + pictures[:1], strict=True))


def ask(judge: Judge, questions: Sequence[tuple[Path, str]], batch_size: int = 8,
        load: Loader = load_image) -> Verdicts:
    """Verdicts on (picture, text of `judge_text`) pairs, in their order. Each picture is loaded and forwarded once.

    batch_size: pictures at a time.
    """
    by_picture: dict[Path, list[int]] = {}
    for number, (picture, _) in enumerate(questions):
        by_picture.setdefault(picture, []).append(number)
    p_true, outside = torch.empty(len(questions)), torch.empty(len(questions))
    pictures = list(by_picture)
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start:start + batch_size]
        verdicts = judge.p_true([judge.prompt(load(picture)) for picture in batch],
                                [[questions[number][1] for number in by_picture[picture]] for picture in batch])
        numbers = [number for picture in batch for number in by_picture[picture]]
        p_true[numbers], outside[numbers] = verdicts.p_true, verdicts.outside
    return Verdicts(p_true, outside)


def held_out_metrics(judge: Judge, rows: Sequence[JudgeRow], seed: int, batch_size: int = 8) -> dict:
    """AUC, the same with pictures dealt to other rows, calibration error, accuracy and mass outside True and False."""
    texts, labels = [judge_text(row.chain, row.answer) for row in rows], np.array([row.label for row in rows])
    dealt = deal_pictures(rows, seed)
    own = ask(judge, [(row.image, text) for row, text in zip(rows, texts, strict=True)], batch_size)
    swapped = ask(judge, [(dealt[row.image], text) for row, text in zip(rows, texts, strict=True)], batch_size)
    p_true = own.p_true.numpy()
    return {"auc": auc(p_true, labels), "auc_swapped_pictures": auc(swapped.p_true.numpy(), labels),
            "calibration_error": calibration_error(p_true, labels),
            "accuracy": float(np.mean((p_true > 0.5) == labels)), "outside_mass": float(own.outside.mean()),
            "n": len(rows)}


def unseen(rows: Sequence[SeedRow], judged: Sequence[JudgeRow], count: int, seed: int) -> list[SeedRow]:
    """At most `count` rows whose photos are not among the judge's, drawn with `seed`."""
    seen = {file_hash(row.image) for row in judged}
    new = [row for row in rows if file_hash(row.image) not in seen]
    return random.Random(seed).sample(new, min(count, len(new)))


def sample_completions(model, processor, rollout: Rollout, rows: Sequence[SeedRow], num_generations: int,
                       seed: int) -> list[list[str]]:
    """`num_generations` completions of the policy for each row, as text."""
    prompts = [encode_prompt(processor, row.instruction, load_image(row.image)) for row in rows]
    sampled = rollout.generate(model, prompts, num_generations, list(range(len(rows))), seed=seed, step=0)
    return [[processor.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in completions]
            for completions in sampled]


def on_policy_metrics(judge: Judge, rows: Sequence[SeedRow], completions: Sequence[Sequence[str]],
                      true_within_km: float, batch_size: int = 8) -> dict:
    """The judge's AUC on sampled completions, right when their answer lies within `true_within_km` of the truth.

    Completions without a readable answer are left out, as RL pays them nothing without asking. The AUC is None when all
    answers are right or all are wrong: it has no meaning then.
    """
    questions, labels = [], []
    for row, texts in zip(rows, completions, strict=True):
        for text in texts:
            point = parse_answer(text)
            if point is not None:
                questions.append((row.image, completion_text(text)))
                labels.append(distance_km(point, row.truth) <= true_within_km)
    p_true = ask(judge, questions, batch_size).p_true.numpy()
    total = sum(map(len, completions))
    return {"auc_on_policy": auc(p_true, labels) if 0 < sum(labels) < len(labels) else None, "n_on_policy": len(labels),
            "right_on_policy": sum(labels) / max(1, len(labels)), "unparsed_on_policy": (total - len(labels)) / total}
