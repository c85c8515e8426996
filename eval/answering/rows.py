"""Which rows are answered, what each asks, and which place it belongs to."""
import json
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig
from gre.answering import question
from gre.answering.model import Model, question_to
from gre.config import UserError, expanded
from gre.data.records import DataConfig, Keys, SeedRow, read_seed

KEYS = Keys("data", "image_root", drop="")


def read_rows(name: str, model: Model, *, data: str, image_root: str, benchmark: BenchmarkConfig, prompt: str
              ) -> tuple[list[SeedRow], Path, Path, dict]:
    """(rows, the file they stand in, the folder of their photos, what to record about benchmark and question).

    name: the model's, for messages. Raises UserError unless one of data and benchmark is named, and where nobody says
    what is asked.
    """
    if bool(data) == bool(benchmark.name):
        raise UserError("name what is to be answered: either data=FILE or benchmark.name=NAME")
    if data:
        if prompt:
            raise UserError("prompt= is for benchmarks: the rows of data= say themselves what they ask")
        rows = read_seed(DataConfig(path=data, image_root=image_root), KEYS)
        asked = [row.instruction for row in rows]
        question.warn(name, data, asked, model.trained_on)
        return rows, Path(data), Path(image_root or Path(data).parent).resolve(), {
            "question": question.record(question.DATA, asked, model.trained_on)}
    if image_root:
        raise UserError("image_root= is for data=FILE: name the photos of a benchmark with benchmark.images=")
    return _benchmark_rows(name, model, benchmark, read_prompt(prompt))


def _benchmark_rows(name: str, model: Model, benchmark: BenchmarkConfig, prompt: str
                    ) -> tuple[list[SeedRow], Path, Path, dict]:
    prompt, source = question_to(name, model, prompt)
    rows = reader.read(benchmark, prompt)
    labels, images = reader.files(benchmark)
    asked = question.record(source, [prompt] * len(rows), model.trained_on)
    return rows, labels, images.resolve(), {"benchmark": reader.record(benchmark), "question": asked}


def read_prompt(prompt: str) -> str:
    """The prompt itself, or the content of the file that `@FILE` names."""
    if not prompt.startswith("@"):
        return prompt
    try:
        return Path(expanded(prompt[1:])).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt={prompt} cannot be read ({error}): name a text file after the @") from None


def place_names(rows: Sequence[SeedRow], sidecar: str) -> list[str]:
    """The place of each row: what intervals resample.

    sidecar: JSON lines with `image` (relative to that file) and `place`. Without one, rows with one and the same
    coordinate are one place. Raises UserError when the sidecar lacks a photo.
    """
    if not sidecar:
        return [f"{row.truth.lat_deg}, {row.truth.lon_deg}" for row in rows]
    folder = Path(sidecar).resolve().parent
    try:
        lines = Path(sidecar).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        named = {(folder / line["image"]).resolve(): line["place"] for line in map(json.loads, lines)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{sidecar} does not name places ({type(error).__name__}: {error}): it needs JSON lines with "
                        "image and place, or leave places= empty") from None
    if unnamed := [row.id for row in rows if row.image.resolve() not in named]:
        raise UserError(f"{sidecar} names no place for {len(unnamed)} photos, the first is row {unnamed[0]}")
    return [named[row.image.resolve()] for row in rows]
