"""Training rows for a judge: how they are encoded, and which are kept for measuring."""
import random
from collections.abc import Sequence
from pathlib import Path

from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.data.images import load_image, picture_size
from gre.data.records import JudgeRow
from gre.judge.model import RIGHT, Question, judge_group, judge_prompt
from gre.models.packing import Group
from gre.models.vlm import encode_text, prompt_length
from gre.training.data import Loader


def encode(processor, row: JudgeRow, load: Loader = load_image, question: Question = RIGHT) -> Group:
    """A Judge row as a group whose one scored token is the verdict."""
    prompt = judge_prompt(processor, load(row.image), question)
    return judge_group(processor, prompt, [question.text(row.chain, row.answer)], [row.label], question)


def length(processor, row: JudgeRow, question: Question = RIGHT) -> int:
    """Tokens of a Judge row, the verdict included; of its photo only the header is read."""
    prompt = prompt_length(processor, question.instruction, *picture_size(row.image))
    return prompt + len(encode_text(processor, question.text(row.chain, row.answer))) + 1


def split_by_photo(rows: Sequence[JudgeRow], held_out_share: float, seed: int) -> tuple[list[JudgeRow], list[JudgeRow]]:
    """(training rows, held-out rows), no photo in both. A photo is its file's content, whatever its name."""
    photos = photo_hashes(row.image for row in rows)
    unique = sorted(set(photos.values()))
    random.Random(seed).shuffle(unique)
    held = set(unique[:max(2, round(held_out_share * len(unique)))])
    train = [row for row in rows if photos[row.image] not in held]
    return train, [row for row in rows if photos[row.image] in held]


def check_split(train_rows: Sequence[JudgeRow], held_out: Sequence[JudgeRow]) -> None:
    """Raise UserError unless both parts hold True and False rows: neither training nor a measure means anything else.
    """
    assert not {row.image for row in train_rows} & {row.image for row in held_out}, "a photo is in both parts"
    for name, rows in (("training", train_rows), ("held-out", held_out)):
        if {row.label for row in rows} != {True, False}:
            raise UserError(f"the {len(rows)} {name} Judge rows do not hold both labels: data.path needs more "
                            "rows, of more photos; or write another held_out_share")


def deal_pictures(rows: Sequence[JudgeRow], seed: int) -> dict[Path, Path]:
    """For every photo of the rows another one of them, each serving once. Needs two photos."""
    photos = sorted({row.image for row in rows})
    random.Random(seed).shuffle(photos)
    return dict(zip(photos, photos[1:] + photos[:1], strict=True))
