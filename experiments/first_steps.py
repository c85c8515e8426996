"""The first steps of every tiny stage, to the last bit: what a change that must change no number is held to.

    bash experiments/first_steps.sh [run=quickstart] [out=FILE.json] [against=FILE.json]

Reads the data and models of a finished quickstart run and trains three steps of each stage, on one process and one
thread. What is logged, but for seconds, the samples and the weights go into FILE.json; with against=, the same file of
another commit, made from the same run, everything must be equal. Exit status 1 names what is not.
"""
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gre import config, provenance
from gre.config import UserError, option

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["train.max_steps=3", "train.logging_steps=1", "train.save_steps=0", "train.per_device_batch_size=8"]
FORM_STEPS = 60  # after which a stage 1 says True and False, which the paper's stage 2 starts from


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    out: str = option("", "where the result is written; empty: runs/NAME/first_steps/results.json")
    against: str = option("", "the result of another commit, which must be the same")


def commands(run: Path, out: Path) -> dict[str, list[str]]:
    """The keys of each stage, in order, each trained into out/NAME. `form` makes the parent of stage2_verdict."""
    data, base = run / "data", ROOT / "gre" / "tiny" / "base"
    watched = [f"validation.data={data}/validation/validation.jsonl", "validation.eval_every=2"]
    prompts = [f"data.path={data}/gre_seed/gre_seed.jsonl", f"guards.places={data}/places.csv", *watched]
    return {
        "stage1": [f"model_name_or_path={base}", f"data.path={data}/gre_cot/gre_cot.json", *watched, *SHORT],
        "judge": [f"model_name_or_path={run}/stage1", f"data.path={data}/gre_judge/gre_judge.json",
                  f"policy.model_name_or_path={run}/stage1", f"policy.data={data}/validation/validation.jsonl",
                  "policy.num_photos=32", *SHORT],
        "stage2": [f"model_name_or_path={run}/stage1", f"judge.model_name_or_path={run}/judge", *prompts, *SHORT],
        "form": [f"model_name_or_path={base}", f"data.path={data}/gre_cot/gre_cot_form.json",
                 f"train.max_steps={FORM_STEPS}", "train.save_steps=0"],
        "stage2_verdict": [f"model_name_or_path={out}/form", f"data.path={data}/gre_judge/gre_judge.json",
                           "held_out_share=0.02", *SHORT],
        "stage3": [f"model_name_or_path={run}/stage2", *prompts, *SHORT]}


def train(name: str, keys: list[str], out: Path) -> None:
    """Train a stage by its script. Raises UserError with what it said last when it fails."""
    shutil.rmtree(out / name, ignore_errors=True)
    stage = "stage1" if name == "form" else name
    command = ["bash", f"{ROOT}/scripts/train/{stage}.sh", f"{ROOT}/configs/tiny/{stage}.yaml",
               f"output_dir={out / name}", *keys]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")


def seen(folder: Path) -> dict:
    """What a stage left, without what may differ between two machines."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    log = [{name: value for name, value in line.items()
            if not name.startswith(("seconds/", "train_runtime")) and not name.endswith("per_second")}
           for line in lines]
    found = {"log": log, "weights": provenance.file_hash(folder / "model" / "model.safetensors")}
    if (folder / "samples.jsonl").exists():
        found["samples"] = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    return found


def differences(ours: dict, theirs: dict) -> list[str]:
    """What is not the same in two results, by stage and kind."""
    return [f"{stage}: {kind}" for stage, found in ours["stages"].items()
            for kind in found if found[kind] != theirs["stages"].get(stage, {}).get(kind)]


def run(settings: Config) -> None:
    """Train, write down and compare."""
    folder = Path("runs") / settings.run
    if not (folder / "stage3" / "manifest.json").exists():
        raise UserError(f"{folder} is no finished quickstart: bash scripts/quickstart.sh run={settings.run}")
    out = (folder / "first_steps").absolute()
    subprocess.run([sys.executable, "-m", "gre.tiny.form", f"data={folder}/data"], check=True)
    stages = {}
    for name, keys in commands(folder.absolute(), out).items():
        print(f"[{name}]", flush=True)
        train(name, keys, out)
        stages[name] = seen(out / name)
    made = {"commit": provenance.commit(), "command": f"bash experiments/first_steps.sh run={settings.run}",
            "versions": provenance.versions(), "stages": stages}
    target = Path(settings.out) if settings.out else out / "results.json"
    provenance.write_atomically(target, json.dumps(made, indent=1) + "\n")
    print(f"{target} holds the first steps of {', '.join(stages)}")
    if settings.against:
        wrong = differences(made, json.loads(Path(settings.against).read_text(encoding="utf-8")))
        print(f"not as in {settings.against}: {', '.join(wrong)}" if wrong else f"the same as in {settings.against}")
        raise SystemExit(bool(wrong))


if __name__ == "__main__":
    config.main(run, Config, __doc__)
