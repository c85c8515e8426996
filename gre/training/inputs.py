"""What a stage reads, looked for before anything slow: all that is missing is said in one message. No torch.

A stage's own config and `Inputs`, which knows these keys alone, have the same sections.
"""
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gre import config as settings
from gre.config import REQUIRED, UserError, option, shipped
from gre.data.records import DataConfig
from gre.models import folder, hub

STAGES = ("stage2_verdict", "stage1", "judge", "stage2", "stage3", "globe", "localizability")
STARTED = re.compile(rf"#.*\bscripts/train/({'|'.join(STAGES)})\.sh\b")

# What the shipped configs look for: where a path begins -> where it comes from. The first that fits counts.
MAKERS = {
    "dataset/gre_": "GRE's own files are not distributed here",
    "dataset/regions/": "bash scripts/data/gre30k.sh configs/data/regions.yaml makes it",
    "dataset/mp16_reason/localizability": "bash scripts/data/mp16_reason.sh configs/data/mp16_reason.yaml makes it",
    "dataset/mp16_reason/": "bash scripts/data/mp16_reason.sh configs/data/mp16_reason.yaml makes it; published rows "
                            "are dataset/published/mp16-reason/FILE, by python -m data_prep.fetch "
                            "mp16-reason revision=COMMIT",
    "dataset/published/": "python -m data_prep.fetch NAME revision=COMMIT writes dataset/published/NAME",
    "runs/globe/stage1": "bash scripts/train/stage1.sh configs/tiny/stage1_globe.yaml trains it",
    "runs/geor/stage1": "bash scripts/train/stage1.sh configs/tiny/stage1_geor.yaml trains it",
    "runs/geor7b/stage1": "bash scripts/train/stage1.sh configs/geor7b/stage1.yaml trains it",
}


def stage_of(file: str | Path) -> str:
    """The stage a config is for: what its name begins with, else the script that its first line says to start it by, as
    in configs/. Raises UserError."""
    if named := [stage for stage in STAGES if Path(file).name.startswith(stage)]:
        return named[0]
    with open(file, encoding="utf-8") as lines:
        if started := STARTED.match(next(lines, "")):
            return started[1]
    raise UserError(f"{file}: which stage is it for? Let its name begin with {', '.join(STAGES)}, or its first line be "
                    "# bash scripts/train/STAGE.sh")


@dataclass
class Judge:
    model_name_or_path: str | None = option(None, "the judge's folder")


@dataclass
class Weights:
    localizability: float = option(0.0, "what GLOBE's reward model says; 0: it is not asked")


@dataclass
class Policy:
    model_name_or_path: str | None = option(None, "stage 1's folder")
    data: str = option("", "rows to measure a judge on")


@dataclass
class Guards:
    places: str | None = option(None, "CSV name,lat,lon")


@dataclass
class Validation:
    eval_every: int = option(0, "steps between two validations")
    data: str = option("", "rows to validate on")


@dataclass
class Train:
    deepspeed: str | None = option(None, "DeepSpeed's JSON config")


@dataclass
class Inputs:
    """The keys of any stage that name something to read."""

    output_dir: str = option(REQUIRED, "folder of the stage")
    model_name_or_path: str = option(REQUIRED, "the parent")
    data: DataConfig = option(DataConfig, "the rows")
    train: Train = option(Train, "the optimiser")
    judge: Judge = option(Judge, "the judge")
    weights: Weights = option(Weights, "what GLOBE's rewards are worth")
    policy: Policy = option(Policy, "measuring the judge")
    guards: Guards = option(Guards, "what is watched besides")
    validation: Validation = option(Validation, "greedy answers while training")


class Input(NamedTuple):
    """A file or a model, and the key that names it. remedy: what to do where it is missing."""

    key: str
    path: str
    remedy: str


def stage_folder(path: str) -> str:
    """The folder of the stage that a path names, absolute: itself, or the one above its `model/`."""
    folder = Path(path).absolute()
    return str(folder.parent if folder.name == "model" else folder)


def read_inputs(argv: Sequence[str]) -> Inputs:
    """The inputs of `[CONFIG] [key=value …]`. Other keys are left to the stage's own config. Raises ConfigError."""
    return settings.load(Inputs, argv, partial=("", "data", "train", "judge", "weights", "policy", "guards",
                                                 "validation"))


def inputs(config: Any) -> list[Input]:
    """What a stage with this config reads. config: a stage's, or Inputs; a section it lacks reads nothing."""
    judge, policy, guards, validation = (getattr(config, name, None)
                                         for name in ("judge", "policy", "guards", "validation"))
    found = [_model("model_name_or_path", config.model_name_or_path), _rows("data.path", config.data.path)]
    if judge is not None and judge.model_name_or_path:
        found.append(_model("judge.model_name_or_path", judge.model_name_or_path))
    if policy is not None and policy.model_name_or_path:
        found += [_model("policy.model_name_or_path", policy.model_name_or_path), _rows("policy.data", policy.data)]
    if guards is not None and guards.places:
        found.append(Input("guards.places", guards.places, "put a CSV name,lat,lon there, or set it to null"))
    if validation is not None and validation.eval_every:
        found.append(_rows("validation.data", validation.data))
    if config.train.deepspeed:
        found.append(Input("train.deepspeed", config.train.deepspeed, "name a DeepSpeed JSON file, or set it to null"))
    return found


def check_inputs(config: Any) -> None:
    """Raise UserError naming everything a stage with this config reads that is missing or no whole model, and the
    remedy of each."""
    missing = []
    for each in inputs(config):
        if not each.path:
            missing.append(f"{each.key} names nothing: {each.remedy}")
        elif hub.is_name(each.path) and each.key.endswith("model_name_or_path"):
            try:
                hub.fetch(each.path, ["config.json"])
            except UserError as error:
                missing.append(f"{each.key}: {error}")
        # A DeepSpeed file may be this checkout's own; everything else is read where the caller stands.
        elif not (shipped(each.path) if each.key == "train.deepspeed" else Path(each.path)).exists():
            missing.append(f"{each.key}: there is no {each.path}: {each.remedy}")
        elif each.key.endswith("model_name_or_path"):
            try:
                _check_model(Path(each.path))
            except UserError as error:
                missing.append(f"{each.key}: {error}")
    if len(missing) == 1:
        raise UserError(missing[0])
    if missing:
        raise UserError(f"{len(missing)} inputs are missing or not whole" + "".join(f"\n  {line}" for line in missing))


def plan(config: Any) -> dict[str, list[str]]:
    """What a run reads and writes, for --dry-run."""
    return {"reads": [each.path for each in inputs(config)], "writes": [config.output_dir]}


def _check_model(path: Path) -> None:
    """A stage's `model/`, or a plain folder. Of a stage that has not ended `gre.manifest` knows what to say."""
    if (path / "model").is_dir():
        folder.check(path / "model")
    elif not (path / "config.yaml").exists():
        folder.check(path)


def _model(key: str, path: str) -> Input:
    return Input(key, path, f"train that stage first, or name another model folder{_maker(path)}")


def _rows(key: str, path: str) -> Input:
    return Input(key, path, f"put the file there, or write {key}=FILE{_maker(path)}")


def _maker(path: str) -> str:
    return next((f" ({text})" for start, text in MAKERS.items() if path.startswith(start)), "")
