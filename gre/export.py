"""A stage's model as one plain Hugging Face folder: an adapter is merged into its weights, once.

    python -m gre.export model=runs/NAME/stage3 out=FOLDER [dtype=bfloat16]

Merging rounds: out/README.md says by how much, relative to what was trained.
"""
from dataclasses import dataclass
from pathlib import Path

import torch

from gre import config, manifest
from gre.config import REQUIRED, UserError, option
from gre.models import folder as model_folder
from gre.models import lora
from gre.models.vlm import load_model, load_processor
from gre.provenance import readable_as_others, write_atomically

DTYPES = ("bfloat16", "float32")
STAGES = {"stage1", "judge", "stage2", "stage2_verdict", "stage3", "globe", "localizability", "unknown"}


@dataclass
class Config:
    model: str = option(REQUIRED, "the stage's folder")
    out: str = option(REQUIRED, "folder that is written; it must not exist")
    dtype: str = option("bfloat16", "type of the weights: bfloat16, or float32, which rounds nothing worth naming")
    accept_parent: str = option("verified", "verified, or any: take an unfinished or altered stage")

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}: write {' or '.join(DTYPES)}")
        manifest.check_accepted(self.accept_parent)


def run(settings: Config) -> None:
    """Write the folder and print where it is and what rounding did."""
    out = Path(settings.out)
    if out.exists():
        raise UserError(f"{out} is there already: write another out, or remove it")
    parent = manifest.verify_parent(settings.model, STAGES, settings.accept_parent)
    dtype = getattr(torch, settings.dtype)
    model = load_model(parent.model_dir, dtype)
    adapter = model_folder.holds_adapter(parent.model_dir)
    error = lora.merge(model) if adapter else 0.0
    model.save_pretrained(out)
    load_processor(parent.model_dir).save_pretrained(out)
    readable_as_others(out)
    write_atomically(out / "README.md", card(parent, settings.dtype, error if adapter else None))
    print(f"{out}: {parent.stage} of {parent.name} in {settings.dtype}"
          + (f", its adapter merged; rounding is {error:.2%} of what the adapter changes" if adapter else ""),
          flush=True)


def card(parent: manifest.Parent, dtype: str, error: float | None) -> str:
    """The model card. error: of merging, relative to the change; None where nothing was merged."""
    asked = [each["text"] for each in (parent.instructions or {}).get("texts", [])]
    lines = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text", "---", "",
             f"# {parent.stage} of {parent.name}", "",
             f"Exported from a stage whose `model/` has sha256 `{parent.sha256}`. Weights: {dtype}."]
    if error is not None:
        lines += ["", f"It was trained as an adapter in float32 beside frozen weights. Merged into {dtype}, rounding "
                      f"is {error:.2%} of what the adapter changes (relative Frobenius norm, over all layers)."]
    if asked:
        lines += ["", "It was trained on this question; ask it the same:", "", *(f"> {text}" for text in asked[:1])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    config.main(run, Config, __doc__)
