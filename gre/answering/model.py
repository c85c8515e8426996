"""The checkpoint that is asked: which it is, what it was trained on, and how large its photos are."""
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from gre import manifest
from gre.answering import engines, question
from gre.answering.engines import Answer, Decoding
from gre.config import UserError
from gre.models.vlm import PixelBudget

DTYPES = ("auto", "float32", "bfloat16")
STAGES = (manifest.BASE, "stage1", "stage2", "stage3", "globe")


@dataclass(frozen=True)
class Model:
    """Who is asked. record: what the prediction file says of it; plain: no stage of ours; sized: somebody said how
    large its photos are; trained_on: the questions of its manifest, None where none says so; folder and dtype: None
    where it is not here."""

    record: dict
    plain: bool
    sized: bool
    trained_on: dict | None
    budget: PixelBudget
    folder: Path | None
    dtype: str | None


def on_disk(path: str, dtype: str = "auto", min_pixels: int | None = None, max_pixels: int | None = None,
            accept_parent: str = "verified") -> Model:
    """A stage's folder, or a plain model folder. dtype: one of DTYPES; min_pixels, max_pixels: of a plain model.

    Raises UserError for another dtype, and for a checkpoint that is unfinished, altered or of another kind.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}: write one of {', '.join(DTYPES)}")
    parent = manifest.verify_parent(path, STAGES, accept_parent)
    budget = manifest.child_budget(parent, min_pixels, max_pixels, accept_parent)
    plain = parent.stage == manifest.BASE
    return Model({"stage": parent.stage, "sha256": parent.sha256}, plain, not plain or None not in (
                 min_pixels, max_pixels), parent.instructions, budget, parent.model_dir,
                 stored_dtype(parent.model_dir) if dtype == "auto" else dtype)


def check_folder(path: str) -> None:
    """Raise UserError unless a folder is there: whoever locates photos has nothing fetched, and a name that is mistyped
    may be one on the Hub."""
    if not os.path.isdir(path):
        raise UserError(f"there is no model folder {os.path.abspath(path)}: name that of a stage, such as "
                        "runs/NAME/stage3, or of a model; nothing is fetched here")


def question_to(name: str, model: Model, prompt: str) -> tuple[str, str]:
    """(what is asked about every photo, who says so); see `gre.answering.question.choose`. Raises UserError too for a
    plain model of which nobody says what it is asked and how large its photos are."""
    if model.plain and not (prompt and model.sized):
        raise UserError(f"{name} has no manifest that says what it is asked and how large its photos are: "
                        "write prompt=… min_pixels=… max_pixels=…; both decide the number")
    return question.choose(prompt, name, model.trained_on)


def stored_dtype(folder: Path) -> str:
    """float32 or bfloat16, as the folder's config.json says. Raises UserError for another type, or none."""
    dtype = str(AutoConfig.from_pretrained(folder).dtype).removeprefix("torch.")
    if dtype not in DTYPES[1:]:
        raise UserError(f"the config.json in {folder} says {dtype} for the type of its weights: write dtype=float32 or "
                        "dtype=bfloat16")
    return dtype


def in_process(model: Model, engine: str, decoding: Decoding, batch_size: int, instructions: Collection[str]) -> Answer:
    """Who answers for a model that is here. engine: transformers or vllm; instructions: all that will be asked."""
    if engine == "vllm":
        from gre.answering.vllm_offline import by_vllm

        return by_vllm(model.folder, model.budget, decoding, model.dtype, instructions)
    return engines.by_transformers(model.folder, model.budget, decoding, model.dtype, batch_size)
