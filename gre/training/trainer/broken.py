"""The first number that is not finite stops the run, with the batch it came from on disk."""
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainingArguments

from gre.config import UserError
from gre.models.packing import Prompt

FOLDER = "broken_batch"
LOOK = "lower train.learning_rate, or look into these rows"
NAMED = 4  # rows named in the message; all are in the file


def not_finite(norm: Tensor | float | None) -> bool:
    """Whether a gradient's norm is not finite. DeepSpeed says -1 for such a norm, and None where it knows none."""
    return norm is not None and not 0 <= float(norm) < math.inf


def stop(args: TrainingArguments, step: int, what: str, records: Sequence[dict], prompts: Sequence[Prompt],
         tensors: dict[str, Tensor] | None = None, culprits: Collection[str] = (), remedy: str = LOOK) -> NoReturn:
    """Write OUTPUT/broken_batch/rank<N>.json and .safetensors of this process and raise UserError in one line.

    records: what the JSON shall hold of each row, its `id` included; numbers in it that are not finite become text.
    prompts: the rows' prompts; their tensors are stored as "<row's place>.pixel_values" and so on, beside `tensors`.
    culprits: ids of the rows to be named, where they are known.
    """
    folder = Path(args.output_dir).parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"rank{args.process_index}.json"
    stored = {f"{place}.{name}": getattr(prompt, name) for place, prompt in enumerate(prompts)
              for name in ("input_ids", "pixel_values", "image_grid_thw") if getattr(prompt, name) is not None}
    stored = {name: tensor.detach().cpu().clone() for name, tensor in {**stored, **(tensors or {})}.items()}
    save_file(stored, file.with_suffix(".safetensors"))
    file.write_text(json.dumps({"step": step, "what": what, "rows": _plain(list(records))}, ensure_ascii=False,
                               indent=1, allow_nan=False) + "\n", encoding="utf-8")
    ids = [record["id"] for record in records if not culprits or record["id"] in culprits]
    named = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
    raise UserError(f"step {step}: {what} (rows: {named}; the batch is in {file}): {remedy}")


def fields(row: Any) -> dict:
    """A row of the data for the JSON file: every field, paths and places as text."""
    return {name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in vars(row).items()}


def _plain(value: Any) -> Any:
    """`value` as JSON takes it: tensors as lists, numbers that are not finite as text."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
