"""Handing a model from one stage to the next: `model/`, then `manifest.json`, written last.

    runs/NAME/STAGE/{config.yaml, metrics.jsonl, samples.jsonl, checkpoints/, model/, manifest.json}

A manifest exists only when the stage is complete. It names the parent and the hashes of parent, data and config, so
that a checkpoint can be traced to the base it grew from, and the instructions of the rows it was trained on, so that it
is asked the same afterwards. Paths in it are relative or shortened: no home folder gets published.
"""
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import GenerationConfig

import gre
from gre.config import UserError
from gre.models import folder as model_folder
from gre.models import hub
from gre.models.vlm import PixelBudget, load_model, load_processor, own_budget, pixel_budget
from gre.provenance import commit, file_hash, public_path, versions, write_atomically
from gre.text.instructions import record as record_of

MANIFEST = "manifest.json"
BASE = "base"  # the stage of a plain Hugging Face folder
HASHED = (".safetensors", ".json", ".jinja", ".txt")  # weights, config, tokenizer, processor, chat template
PICKLED = ".bin"  # weights of old CLIP and BERT folders; our own models are never read from it
FILES = [f"*{suffix}" for suffix in HASHED]


@dataclass(frozen=True)
class Parent:
    """A model a stage starts from. `manifest` is None for a plain folder."""

    name: str
    model_dir: Path
    stage: str
    sha256: str
    pixel_budget: PixelBudget
    manifest: dict | None
    verified: bool

    @property
    def instructions(self) -> dict | None:
        """What it was trained on (`gre.text.instructions.record`); None where no manifest says so."""
        return (self.manifest or {}).get("instructions")

    def record(self) -> dict:
        """What a child's manifest says about this parent."""
        return {"path": self.name, "stage": self.stage, "sha256": self.sha256, "verified": self.verified}


def begin(output_dir: str | Path) -> Path:
    """The stage's folder, made and marked unfinished: a manifest left by an earlier run is removed, and said so."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        print(f"{folder} holds a finished stage, which this run replaces", flush=True)
        (folder / MANIFEST).unlink()
    return folder


def check_accepted(accept: str) -> None:
    """Raise UserError unless accept_parent is one of its two values."""
    if accept not in ("verified", "any"):
        raise UserError(f"accept_parent is {accept!r}: write 'verified' or 'any'")


def verify_parent(path: str | Path, stages: Collection[str], accept: str = "verified") -> Parent:
    """The parent at `path`: a stage's folder, or (when `stages` holds BASE) a plain Hugging Face folder or hub name.

    stages: the stages it may come from. accept: "verified", or "any" to take an unfinished, altered or wrong-stage one.
    Raises UserError with the reason and the remedy.
    """
    check_accepted(accept)
    folder = _local_folder(str(path))
    if folder.name == "model" and _is_stage(folder.parent):
        folder = folder.parent
    if _is_stage(folder):
        return _stage_parent(folder, stages, accept == "any")
    model_folder.check(folder)
    if BASE not in stages and accept != "any":
        raise UserError(f"{path} is a plain model, and this stage starts from {_either(stages)}: name that stage's "
                        "folder or write accept_parent=any")
    name = str(path) if not Path(path).exists() else public_path(folder)
    return Parent(name, folder, BASE, model_hash(folder), own_budget(load_processor(folder)), None, BASE in stages)


def child_budget(parent: Parent, min_pixels: int | None, max_pixels: int | None,
                 accept: str = "verified") -> PixelBudget:
    """The parent's pixel budget, or the one the config names; a trained parent's budget may not change silently."""
    own = parent.pixel_budget
    budget = PixelBudget(own.min_pixels if min_pixels is None else min_pixels,
                         own.max_pixels if max_pixels is None else max_pixels)
    if parent.stage != BASE and budget != own and accept != "any":
        raise UserError(f"{parent.name} was trained with min_pixels={own.min_pixels} max_pixels={own.max_pixels}, and "
                        f"min_pixels={budget.min_pixels} max_pixels={budget.max_pixels} is asked for: leave both out, "
                        "or write accept_parent=any")
    return budget


def finish(output_dir: str | Path, *, stage: str, parent: Parent, data: Iterable[str | Path],
           instructions: Iterable[str], metrics: dict, made_of: Mapping[str, Any] = MappingProxyType({})) -> dict:
    """Check `model/` by loading it, then write the manifest, last and atomically. Returns the manifest.

    data: the files the stage read. instructions: of every row it was trained on. metrics: numbers only; one that is
    not finite is an error. made_of: what a checkpoint of the same run has in common with it.
    """
    folder = Path(output_dir)
    budget = check_model(folder / "model")
    _check_finite(metrics, "metrics")
    manifest = {
        "stage": stage, "gre": gre.__version__, "commit": commit(), "versions": versions(),
        "model_sha256": model_hash(folder / "model"), "config_sha256": file_hash(folder / "config.yaml"),
        "parent": parent.record(), "data": [{"path": public_path(path), "sha256": file_hash(path)} for path in data],
        "instructions": record_of(instructions), "pixel_budget": asdict(budget), "metrics": metrics,
        "made_of": dict(made_of),
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    return manifest


def check_model(folder: Path) -> PixelBudget:
    """Load everything the next stage needs. Raises UserError for a missing or unexpected weight, processor, chat
    template or generation config; returns the pixel budget the saved processor works with."""
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} holds no weights; with ZeRO-3 set stage3_gather_16bit_weights_on_model_save")
    model_folder.check(folder)
    try:
        GenerationConfig.from_pretrained(folder)
        processor, _ = load_processor(folder), load_model(folder, torch.bfloat16)  # looked at, not used
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} does not load: {error}") from error
    return pixel_budget(processor)


def read_manifest(folder: Path) -> dict:
    """A stage's manifest. Raises UserError when the stage is unfinished or the file unreadable."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is unfinished (no {MANIFEST}): let that stage end, or write "
                        "accept_parent=any") from None
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST} is not JSON ({error}): train that stage again") from None


def model_hash(folder: Path) -> str:
    """sha256 over names and contents of the files that make the model: weights, config, tokenizer, processor."""
    digest, files = hashlib.sha256(), list(folder.iterdir())
    if model_folder.holds_adapter(folder):
        files += (folder / model_folder.BASE).iterdir()
    loaded = HASHED if any(path.suffix == ".safetensors" for path in files) else (*HASHED, PICKLED)
    for path in sorted(path for path in files if path.suffix in loaded):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def _stage_parent(folder: Path, stages: Collection[str], accept_any: bool) -> Parent:
    if not (folder / "model").is_dir():
        raise UserError(f"{folder} holds no model: that stage has not come to its end")
    model_folder.check(folder / "model")
    name, sha256 = public_path(folder), model_hash(folder / "model")
    if accept_any and not (folder / MANIFEST).exists():
        budget = pixel_budget(load_processor(folder / "model"))
        return Parent(name, folder / "model", "unknown", sha256, budget, None, False)
    manifest = read_manifest(folder)
    faults = []
    if manifest["stage"] not in stages:
        faults.append(f"is a {manifest['stage']} checkpoint, and this stage starts from {_either(stages)}")
    if manifest["model_sha256"] != sha256:
        faults.append(f"was altered after it was finished (model/ has sha256 {sha256[:12]}, its manifest says "
                      f"{manifest['model_sha256'][:12]})")
    if faults and not accept_any:
        raise UserError(f"{name} {' and '.join(faults)}: name another model, or write accept_parent=any")
    return Parent(name, folder / "model", manifest["stage"], sha256, PixelBudget(**manifest["pixel_budget"]), manifest,
                  not faults)


def _local_folder(path: str) -> Path:
    """`path` as a folder; a name on the Hub (`owner/name`) is fetched, weights in safetensors only."""
    if Path(path).is_dir():
        return Path(path).absolute()
    if hub.is_name(path):
        return hub.fetch(path, FILES)
    raise UserError(f"there is no model folder {path}: train that stage first or name another model_name_or_path")


def _is_stage(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / "config.yaml").exists()


def _either(stages: Collection[str]) -> str:
    return " or ".join(sorted(stages))


def _check_finite(value, name: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{name}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} is {value}: the stage is not handed on")
