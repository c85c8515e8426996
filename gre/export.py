"""A stage's model as one plain Hugging Face folder: an adapter is merged into its weights, once.

    python -m gre.export model=runs/NAME/stage3 out=FOLDER [dtype=bfloat16] [scores=FILE.json] [licence=apache-2.0]

Merging rounds: out/README.md, the model card, says by how much, relative to what was trained. Nothing leaves this
machine unless push=OWNER/NAME asks for it.
"""
from dataclasses import dataclass
from pathlib import Path

import httpx2
import torch

from gre import config, manifest
from gre.card import card, read_scores
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
    scores: str = option("", "what eval.score wrote about this stage with out=, for the card; empty: none")
    licence: str = option("", "of the base, as the Hub spells it, such as apache-2.0; empty: the card says unknown")
    push: str = option("", "OWNER/NAME on the Hugging Face Hub to upload the folder to, private where it is new; "
                           "empty: nothing is sent")
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
    scores = read_scores(settings.scores, parent) if settings.scores else None
    dtype = getattr(torch, settings.dtype)
    model = load_model(parent.model_dir, dtype)
    adapter = model_folder.holds_adapter(parent.model_dir)
    error = lora.merge(model) if adapter else 0.0
    model.save_pretrained(out)
    load_processor(parent.model_dir).save_pretrained(out)
    readable_as_others(out)
    merged = error if adapter else None
    write_atomically(out / "README.md", card(parent, settings.dtype, merged, settings.licence, scores))
    print(f"{out}: {parent.stage} of {parent.name} in {settings.dtype}"
          + (f", its adapter merged; rounding is {error:.2%} of what the adapter changes" if adapter else ""),
          flush=True)
    if settings.push:
        print(f"pushed to {push(out, settings.push)}", flush=True)


def push(folder: Path, name: str) -> str:
    """Upload the folder to the Hub's repository `name`, made private where it is new; returns its address.

    Raises UserError when the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi  # takes seconds
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        repository = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by gre-suite")
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        raise UserError(f"{folder} is written, and {name} took no upload ({type(error).__name__}: "
                        f"{str(error).splitlines()[0]}): log in (hf auth login), then hf upload {name} {folder}"
                        ) from error
    return str(repository)


if __name__ == "__main__":
    config.main(run, Config, __doc__)
