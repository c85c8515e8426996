"""Can country or city be told from the photo alone? Three reviewers answer, people or LLMs; two noes drop a photo.

People's answers are a CSV with the columns sample_id, reviewer, told (yes or no), a line for each photo and reviewer.
"""
import csv
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gre.config import UserError
from gre.data.images import load_image
from gre.data.raw import DataError
from gre.llm import Client, LLMConfig, Question, picture, read_json
from gre.text.chain_prompts import REVIEW

REVIEWERS = 3
NOES = 2  # that drop a photo
COLUMNS = ("sample_id", "reviewer", "told")


def read(path: Path, known: Collection[str]) -> dict[str, dict[str, bool]]:
    """Sample id → reviewer → whether the place can be told. known: the ids there are.

    Raises DataError naming file, line and remedy for a line that cannot be used, and a reviewer's second or a fourth
    answer.
    """
    answers: dict[str, dict[str, bool]] = defaultdict(dict)
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise DataError(f"{path}: no column {', '.join(missing)}. Its header is {','.join(COLUMNS)}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            sample_id, reviewer, told = ((row[name] or "").strip() for name in COLUMNS)
            if sample_id not in known:
                raise DataError(f"{where}: there is no sample {sample_id!r}. Correct the id or remove the line")
            if not reviewer or told.lower() not in ("yes", "no"):
                raise DataError(f"{where}: needs a reviewer's name and yes or no under told, got {reviewer!r} and "
                                f"{told!r}. Correct the line")
            if reviewer in answers[sample_id] or len(answers[sample_id]) == REVIEWERS:
                raise DataError(f"{where}: sample {sample_id} has answers of {', '.join(answers[sample_id])} already, "
                                f"and {REVIEWERS} people answer once each. Remove a line")
            answers[sample_id][reviewer] = told.lower() == "yes"
    return dict(answers)


def ask(pictures: Mapping[str, Path], models: Sequence[str], llm: LLMConfig, cache: Path,
        max_pixels: int) -> dict[str, dict[str, bool]]:
    """The same from three LLMs at one endpoint. Raises UserError unless they are three different ones."""
    if len(set(models)) != REVIEWERS or len(models) != REVIEWERS:
        raise UserError(f"reviewers={','.join(models)}: name {REVIEWERS} different LLMs; one asked again says the same")
    answers: dict[str, dict[str, bool]] = {sample_id: {} for sample_id in pictures}
    for model in models:
        client = Client(replace(llm, model=model), cache)
        told = client.answers([_question(sample_id, path, max_pixels) for sample_id, path in pictures.items()],
                              f"reviewed by {model}")
        for sample_id, yes in zip(pictures, told):
            answers[sample_id][model] = yes
    return answers


def _question(sample_id: str, path: Path, max_pixels: int) -> Question[bool]:
    def read(reply: str) -> bool:
        value = read_json(reply)
        if not isinstance(value, dict) or type(value.get("told")) is not bool:
            raise ValueError("expected an object with told, true or false")
        return value["told"]
    return Question(f"review of sample {sample_id}", [
        {"role": "system", "content": REVIEW},
        {"role": "user", "content": [picture(load_image(path, max_pixels))]}], read)
