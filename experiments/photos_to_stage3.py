"""From a folder of photos to a trained model, on the tiny world, every step by the command a user has.

    bash experiments/photos_to_stage3.sh [run=photos] [seed=N] [photos=N] [steps=SHARE] [out=FILE.json]

Photos of the tiny world lie in runs/NAME/photos as a phone leaves them, JPEG and HEIC, with their place in the EXIF
data and no file of labels. From there scripts/data/gre30k.sh makes seeds, asks a simulated teacher behind an HTTP
address (experiments/simulated_teacher.py), makes Judge and CoT rows, verifies and inspects; scripts/train trains stage
1, judge, stage 2 and stage 3 with configs/tiny, for a share `steps` of their steps; stage 1, 2 and 3 answer
photos that lie in another folder of the same kind, and a page shows the answers. Stopped or killed, the same command
goes on: no question is asked again, and a stage goes on from its last checkpoint.

What is shown is that every step takes what the one before it leaves. With few steps a judge is too weak for the gate
before RL, so the gate is open here (judge.min_auc=0, judge.min_rank_correlation=-1), and whether RL helps is not asked.
"""
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from eval import predict, score
from experiments.ablation import ENVIRONMENT, ROOT, train
from experiments.camera import develop, shots
from experiments.simulated_teacher import SimulatedTeacher
from gre import config, manifest, provenance
from gre.config import UserError, check_least, option
from gre.tiny.places import places
from gre.tiny.world import INSTRUCTION

STAGES = ("stage1", "judge", "stage2", "stage3")
ANSWERING = ("stage1", "stage2", "stage3")
TEST_EACH = 3       # photos a place
WITHIN_KM = 50      # of a right answer: districts lie 22 km from the centre that the teacher names, and it rounds
NEW_TOKENS = 160    # the chains are longer than the quickstart's
AT_LEAST = {"stage1": 100}  # steps: after fewer no answer can be read, and there is nothing to measure a judge on
OPEN_GATE = ("judge.min_auc=0", "judge.min_rank_correlation=-1")


@dataclass
class Config:
    run: str = option("photos", "name of the run: everything lands in runs/NAME")
    seed: int = option(0, "seed of the photos, the teacher's errors and all trainings")
    photos: int = option(60, "photos a known place of the tiny world")
    steps: float = option(0.25, "share of the steps that configs/tiny trains each stage for")
    out: str = option("", "where the result is written; empty: runs/NAME/results.json")

    def __post_init__(self):
        check_least("", self, {"photos": 1, "steps": 0})


def recipe(folder: Path, url: str) -> dict:
    """The config of scripts/data/gre30k.sh: configs/data/gre30k.yaml's, for these photos."""
    made = yaml.safe_load((ROOT / "configs" / "data" / "gre30k.yaml").read_text(encoding="utf-8"))
    asked = {"model": "tiny-teacher", "url": url}
    made |= {"out": str(folder / "data"), "steps": [step for step in made["steps"] if step != "regions"]}
    made["seeds"] = {"photos": str(folder / "photos"), "min_side": 100, "instruction": INSTRUCTION,
                     "licence": "made here", "out": "${out}/seeds"}
    made["split"] |= {"cot": 0.4, "judge": 0.4, "seed": 0.2}
    made["distil"]["teachers"] = [asked]
    made["judge"]["within_km"] = WITHIN_KM
    made["cot"]["chains"] = ["${distil.out}"]
    made["verify"] |= {"looker": asked, "min_characters": 60}
    return made


def stage_commands(folder: Path, seed: int, share: float) -> dict[str, list[str]]:
    """The command of each stage, which trains it into folder/STAGE."""
    data = folder / "data"
    prompts = [f"data.path={data}/gre_seed/gre_seed.jsonl", f"guards.places={folder}/places.csv",
               f"rollout.max_new_tokens={NEW_TOKENS}"]
    watched = [f"validation.data={data}/test/seeds.jsonl", f"validation.max_new_tokens={NEW_TOKENS}"]
    keys = {
        "stage1": [f"model_name_or_path={ROOT}/gre/tiny/base", f"data.path={data}/gre_cot/gre_cot.json", *watched],
        "judge": [f"model_name_or_path={folder}/stage1", f"data.path={data}/gre_judge/gre_judge.json",
                  f"policy.model_name_or_path={folder}/stage1", f"policy.data={data}/test/seeds.jsonl",
                  f"policy.max_new_tokens={NEW_TOKENS}", f"policy.true_within_km={WITHIN_KM}"],
        "stage2": [f"model_name_or_path={folder}/stage1", f"judge.model_name_or_path={folder}/judge", *OPEN_GATE,
                   *prompts, *watched],
        "stage3": [f"model_name_or_path={folder}/stage2", *prompts, *watched]}
    return {name: ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{name}.yaml",
                   f"output_dir={folder / name}", f"train.max_steps={steps_of(name, share)}", *keys[name],
                   f"seed={seed}"] for name in STAGES}


def steps_of(stage: str, share: float) -> int:
    """A share of the steps that configs/tiny trains a stage for, and no fewer than AT_LEAST."""
    content = yaml.safe_load((ROOT / "configs" / "tiny" / f"{stage}.yaml").read_text(encoding="utf-8"))
    return max(AT_LEAST.get(stage, 1), round(content["train"]["max_steps"] * share))


def data(folder: Path, settings: Config) -> dict:
    """Make photos and rows; what was asked and left, for the result."""
    started = time.monotonic()
    develop(folder / "photos", settings.photos, settings.seed)
    develop(folder / "test_photos", TEST_EACH, settings.seed + 1)
    (folder / "places.csv").write_text("name,lat,lon\n" + "".join(
        f"{place.city},{place.centre.lat_deg},{place.centre.lon_deg}\n" for place in places()), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "data_prep.seeds", f"photos={folder / 'test_photos'}",
                    f"out={folder / 'data' / 'test'}", "min_side=100", f"instruction={INSTRUCTION}"], check=True,
                   env=ENVIRONMENT)
    with SimulatedTeacher(list(shots(settings.photos, settings.seed)), settings.seed) as teacher:
        path = folder / "recipe.yaml"
        provenance.write_atomically(path, yaml.safe_dump(recipe(folder, teacher.url), sort_keys=False))
        subprocess.run(["bash", f"{ROOT}/scripts/data/gre30k.sh", str(path)], check=True, env=ENVIRONMENT)
        answered = teacher.answered
    cards = {step: json.loads((folder / "data" / where / "card.json").read_text(encoding="utf-8")) for step, where in (
        ("seeds", "seeds"), ("distil", "chains"), ("judge", "gre_judge"), ("cot", "cot_unverified"),
        ("verify", "gre_cot"))}
    return {"photos": {"files": len(list((folder / "photos").iterdir())), **cards["seeds"]["counts"]["rows"],
                       "left_out": cards["seeds"]["counts"]["faults"]},
            "questions_answered_in_this_call": answered, "teacher": cards["distil"]["outcomes"],
            "judge_rows": cards["judge"]["counts"], "blind_auc": cards["judge"]["blind_auc"],
            "cot_rows": cards["cot"]["counts"], "verified": {"rows": cards["verify"]["rows"],
                                                             "dropped": cards["verify"]["counts"]["first"]},
            "seconds_in_this_call": round(time.monotonic() - started, 1)}


def measure(folder: Path, seed: int) -> dict:
    """Answers of all stages to the photos of the other folder, their scores, and a page about them."""
    out, found = folder / "predictions", {}
    out.mkdir(exist_ok=True)
    for name in ANSWERING:
        predict.run(predict.Config(model=str(folder / name), data=str(folder / "data/test/seeds.jsonl"),
                                   out=str(out / f"{name}.jsonl"), max_new_tokens=NEW_TOKENS))
        scores = score.run(score.Config(str(out / f"{name}.jsonl"), out=str(out / f"{name}.scores.json"),
                                        seed=seed))
        found[name] = {"all": scores["all"], "unparsed": scores["unparsed"], "n": scores["n"]}
    subprocess.run([sys.executable, "-m", "eval.compare",
                    f"scores=[{','.join(str(out / f'{name}.scores.json') for name in ANSWERING)}]",
                    f"table={folder / 'report.md'}", f"page={folder / 'report.html'}",
                    f"images={folder / 'data/test'}"], check=True, env=ENVIRONMENT)
    metrics = {name: manifest.read_manifest(folder / name)["metrics"] for name in STAGES}
    return {"steps": {name: one["steps"] for name, one in metrics.items()},
            "train_seconds": {name: one["train_seconds"] for name, one in metrics.items()},
            "judge": {key: metrics["judge"][key] for key in ("auc", "auc_on_policy") if key in metrics["judge"]},
            "scores": found}


def begin(run: str, settled: dict) -> Path:
    """The run's folder. Raises UserError for a run begun with other settings than `settled`."""
    if Path(run).name != run:
        raise UserError(f"run={run!r} is not a plain name: the run lands in runs/NAME")
    folder = Path("runs") / run
    kept = folder / "asked.json"
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != settled:
        raise UserError(f"{folder} was begun with {kept.read_text(encoding='utf-8').strip()}: name another run=")
    provenance.write_atomically(kept, json.dumps(settled) + "\n")
    return folder


def run(settings: Config) -> None:
    """Make what is missing, measure, and write the result."""
    settled = {"seed": settings.seed, "photos": settings.photos, "steps": settings.steps}
    folder = begin(settings.run, settled)
    made = data(folder, settings)
    for name, command in stage_commands(folder, settings.seed, settings.steps).items():
        print(f"\n----- {name} " + "-" * (60 - len(name)), flush=True)
        train(folder / name, [command])
    result = {"commit": provenance.commit(), "command": "bash experiments/photos_to_stage3.sh " + " ".join(
        f"{key}={value}" for key, value in {"run": settings.run, **settled}.items()), "data": made,
        **measure(folder, settings.seed)}
    path = Path(settings.out) if settings.out else folder / "results.json"
    provenance.write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(f"{path}; {folder / 'report.html'}")


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
