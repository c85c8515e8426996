"""Two controls that must fail: stage 3 on shuffled truths, and stage 1 simply trained longer.

    bash experiments/null_controls.sh [run=quickstart] [seed=N] [out=FILE.json]

Reads a finished quickstart run. `shuffled` repeats stage 3 with the truths dealt to other rows, from the same parent;
`longer` goes on with stage 1's fine-tuning, from stage 1's checkpoint, for the seconds that stages 2 and 3 took.
Both land in runs/NAME/null and are measured on the same test rows as stage 3. Parts that ended before are kept.
"""
import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from eval import predict, predictions
from eval.quickstart import numbers, results
from experiments.ablation import train
from gre import config, manifest, provenance
from gre.config import UserError, option
from gre.data.records import DataConfig, read_seed, write_seed

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    seed: int = option(0, "seed of the dealing, of both trainings and of the bootstrap")
    out: str = option("", "where the result is written; empty: runs/NAME/null/results.json")


def shuffle_truths(rows: list, seed: int) -> list:
    """The same rows with their truths dealt anew."""
    truths = [row.truth for row in rows]
    random.Random(seed).shuffle(truths)
    return [replace(row, truth=truth) for row, truth in zip(rows, truths, strict=True)]


def stage(name: str, folder: Path, *settings: str) -> list[str]:
    """The command that trains a stage with the tiny config into `folder`."""
    return ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{name}.yaml", f"output_dir={folder}",
            *settings]


def run(settings: Config) -> None:
    """Train both controls, answer the test rows and print the paired gains over stage 1."""
    folder = Path("runs") / settings.run
    data, null, seed = folder / "data", folder / "null", settings.seed
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")

    dealt = data / "gre_seed" / "gre_seed_shuffled.jsonl"  # beside the photos it names
    write_seed(dealt, shuffle_truths(read_seed(DataConfig(path=str(data / results.DATA["seed"]))), seed))
    train(null / "shuffled", [stage("stage3", null / "shuffled", f"model_name_or_path={folder}/stage2",
                                    f"data.path={dealt}", f"guards.places={data}/places.csv", f"seed={seed}")])

    first = manifest.read_manifest(folder / "stage1")["metrics"]
    seconds = sum(manifest.read_manifest(folder / stage)["metrics"]["train_seconds"] for stage in ("stage2", "stage3"))
    steps = round(seconds * first["steps"] / first["train_seconds"])
    train(null / "longer", [stage("stage1", null / "longer", f"model_name_or_path={folder}/stage1", "accept_parent=any",
                                  f"data.path={data / results.DATA['cot']}", f"train.max_steps={steps}",
                                  f"seed={seed}")])

    tokens = results.stage_config(folder, "stage3").rollout.max_new_tokens
    answers = {name: predictions.read(folder / "predictions" / f"{name}.jsonl") for name in results.CHECKPOINTS[1:]}
    for name in ("shuffled", "longer"):
        answers[name] = predict.run(predict.Config(
            model=str(null / name), data=str(data / results.DATA["test"]), places=str(data / "truth.jsonl"),
            out=str(null / f"{name}.jsonl"), max_new_tokens=tokens))
    thetas_km = list(results.stage_config(folder, "stage3").gps.thetas_km)
    gains = {f"{name}_over_stage1": numbers.geoscore_gain(answers[name], answers["stage1"], (name, "stage1"), seed)
             for name in ("stage2", "stage3", "shuffled", "longer")}
    gains |= {f"{name}_over_{other}": numbers.geoscore_gain(answers[name], answers[other], (name, other), seed)
              for name, other in (("shuffled", "stage2"), ("stage3", "longer"))}
    report = {"commit": provenance.commit(),
              "command": f"bash experiments/null_controls.sh run={settings.run} seed={seed}",
              "longer": {"steps": steps, "seconds": seconds},
              "checkpoints": {name: numbers.summary(rows, thetas_km) for name, rows in answers.items()},
              "geoscore_gain": gains}
    out = Path(settings.out) if settings.out else null / "results.json"
    provenance.write_atomically(out, json.dumps(report, indent=2) + "\n")
    for name, gain in gains.items():
        print(f"{name}: {gain['mean']:+.0f} [{gain['low']:+.0f}, {gain['high']:+.0f}]")


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
