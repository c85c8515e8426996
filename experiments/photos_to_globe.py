"""GLOBE from a folder of photos, on the tiny world, every step by the command a user has.

    bash experiments/photos_to_globe.sh [run=photos_globe] [seed=N] [photos=N] [rl_steps=N] [out=FILE.json]

Photos lie in runs/NAME/photos as a phone leaves them, with their place in the EXIF data and no file of labels. From
there scripts/data/mp16_reason.sh makes seeds, asks two simulated teachers and a looker behind HTTP addresses
(experiments/simulated_teacher.py), verifies, and writes MP16-Reason's train and test file and the reward model's rows;
scripts/train trains a stage 1 that answers with names, the reward model on what the teachers said of localizability,
and GLOBE with three rewards and configs/tiny's gate; scripts/eval/eval_csv.sh scores stage 1 and GLOBE by name and by
distance, beside the ceiling. Stopped or killed, the same command goes on.

What is shown is that every step takes what the one before it leaves. Verified chains are right, so there is little for
RL to repair, and whether it helps is not asked. These teachers say of a photo in fog that everything is hidden, so that
their text alone tells what can be told: the reward model's auc_text_only says so.
"""
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from experiments.ablation import ENVIRONMENT, ROOT, train
from experiments.camera import develop, shots
from experiments.photos_to_stage3 import NEW_TOKENS, WITHIN_KM, begin
from experiments.simulated_teacher import SimulatedTeacher
from gre import config, manifest, provenance
from gre.config import check_least, option

FOG_RATE = 0.15  # the reward model needs photos of which no place can be told
STAGES = ("stage1", "localizability", "globe")
ANSWERING = ("stage1", "globe")


@dataclass
class Config:
    run: str = option("photos_globe", "name of the run: everything lands in runs/NAME")
    seed: int = option(0, "seed of the photos, the teachers' errors and all trainings")
    photos: int = option(12, "photos a known place of the tiny world")
    rl_steps: int = option(10, "steps of GLOBE's RL")
    out: str = option("", "where the result is written; empty: runs/NAME/results.json")

    def __post_init__(self):
        check_least("", self, {"photos": 1, "rl_steps": 1})


def recipe(folder: Path, urls: list[str]) -> dict:
    """The config of scripts/data/mp16_reason.sh: configs/data/mp16_reason.yaml's, for these photos and teachers."""
    made = yaml.safe_load((ROOT / "configs" / "data" / "mp16_reason.yaml").read_text(encoding="utf-8"))
    made |= {"out": str(folder / "data")}
    made["seeds"] = {"photos": str(folder / "photos"), "min_side": 100, "licence": "made here", "out": "${out}/seeds"}
    made["distil"]["teachers"] = [{"model": f"tiny-teacher-{number}", "url": url} for number, url in enumerate(urls)]
    made["cot"]["within_km"] = WITHIN_KM
    made["verify"] |= {"looker": {"model": "tiny-looker", "url": urls[0]}, "min_characters": 60}
    return made


def stage_commands(folder: Path, seed: int, rl_steps: int) -> dict[str, list[str]]:
    """The command of each stage, which trains it into folder/STAGE."""
    data = folder / "data"
    keys = {
        "stage1": ["stage1_globe", f"model_name_or_path={ROOT}/gre/tiny/base",
                   f"data.path={data}/mp16_reason_train.jsonl"],
        "localizability": ["localizability", f"model_name_or_path={folder}/stage1",
                           f"data.path={data}/localizability.jsonl"],
        "globe": ["globe_three", f"model_name_or_path={folder}/stage1", f"data.path={data}/mp16_reason_watched.jsonl",
                  f"judge.model_name_or_path={folder}/localizability", f"rollout.max_new_tokens={NEW_TOKENS}",
                  f"train.max_steps={rl_steps}"]}
    return {name: ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{settings}.yaml", *rest,
                   f"output_dir={folder / name}", f"seed={seed}"] for name, (settings, *rest) in keys.items()}


def score_command(folder: Path, name: str) -> list[str]:
    """The command that lets a stage answer the test file, and scores it."""
    test = folder / "data" / "test"
    return ["bash", f"{ROOT}/scripts/eval/eval_csv.sh", str(folder / name), "score.answer=names",
            "score.min_population=15000", f"benchmark.labels={test / 'mp16_reason_test.csv'}",
            f"benchmark.images={test / 'imgs'}", f"out={folder / 'predictions' / name}.jsonl",
            f"max_new_tokens={NEW_TOKENS}"]


def data(folder: Path, settings: Config) -> dict:
    """Make photos and rows; what was asked and left, for the result."""
    started, taken = time.monotonic(), list(shots(settings.photos, settings.seed, FOG_RATE))
    develop(folder / "photos", settings.photos, settings.seed, FOG_RATE)
    with ExitStack() as stack:
        teachers = [stack.enter_context(SimulatedTeacher(taken, settings.seed + number)) for number in range(2)]
        path = folder / "recipe.yaml"
        provenance.write_atomically(path, yaml.safe_dump(recipe(folder, [one.url for one in teachers]),
                                                         sort_keys=False))
        subprocess.run(["bash", f"{ROOT}/scripts/data/mp16_reason.sh", str(path)], check=True, env=ENVIRONMENT)
        answered = sum(one.answered for one in teachers)
    cards = {step: json.loads((folder / "data" / where / "card.json").read_text(encoding="utf-8")) for step, where in (
        ("seeds", "seeds"), ("distil", "chains"), ("cot", "right"), ("verify", "verified"), ("reason", "."))}
    return {"photos": cards["seeds"]["counts"]["rows"], "questions_answered_in_this_call": answered,
            "teachers": cards["distil"]["outcomes"], "right": cards["cot"]["counts"],
            "verified": {"rows": cards["verify"]["rows"], "dropped": cards["verify"]["counts"]["first"]},
            "reason": {name: count for name, count in cards["reason"]["counts"].items()
                       if not name.startswith(("cities", "countries"))},
            "seconds_in_this_call": round(time.monotonic() - started, 1)}


def measure(folder: Path) -> dict:
    """What the stages measured, and the scores of those that answer."""
    found = {}
    for name in ANSWERING:
        subprocess.run(score_command(folder, name), check=True, env=ENVIRONMENT)
        scores = json.loads((folder / "predictions" / f"{name}.scores.json").read_text(encoding="utf-8"))
        found[name] = {key: scores[key] for key in ("n", "unparsed", "all", "names", "places")}
    metrics = {name: manifest.read_manifest(folder / name)["metrics"] for name in STAGES}
    return {"steps": {name: one["steps"] for name, one in metrics.items()},
            "train_seconds": {name: one["train_seconds"] for name, one in metrics.items()},
            "reward_model": {key: metrics["localizability"][key] for key in (
                "auc", "auc_text_only", "auc_swapped_pictures", "calibration_error", "rows", "n")}, "scores": found}


def run(settings: Config) -> None:
    """Make what is missing, measure, and write the result."""
    settled = {"seed": settings.seed, "photos": settings.photos, "rl_steps": settings.rl_steps}
    folder = begin(settings.run, settled)
    made = data(folder, settings)
    for name, command in stage_commands(folder, settings.seed, settings.rl_steps).items():
        print(f"\n----- {name} " + "-" * (60 - len(name)), flush=True)
        train(folder / name, [command])
    result = {"commit": provenance.commit(), "command": "bash experiments/photos_to_globe.sh " + " ".join(
        f"{key}={value}" for key, value in {"run": settings.run, **settled}.items()), "data": made, **measure(folder)}
    path = Path(settings.out) if settings.out else folder / "results.json"
    provenance.write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
