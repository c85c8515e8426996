"""Which shape of the distance reward trains best: stage 3 is trained once by each, and all answer the same test rows.

    bash experiments/distance_shapes.sh [run=quickstart] [seed=N] [out=FILE.json]

Reads a finished quickstart run, and trains from its stage 2 into runs/NAME/distance_shapes/SHAPE with the quickstart's
own keys: the same rows, steps and completions. An arm that ended before is kept and one that was stopped goes on. Gains
are in GeoScore over the logistic shape, with 95 % intervals over places.
"""
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from eval import predict
from eval.quickstart import numbers, results
from experiments.ablation import ROOT, train
from gre import config, provenance
from gre.config import UserError, option
from gre.rewards.gps import SHAPES


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    seed: int = option(0, "seed of all trainings and of the bootstrap")
    out: str = option("", "where the result is written; empty: runs/NAME/distance_shapes/results.json")


def commands(folder: Path, seed: int) -> dict[str, list[str]]:
    """The command of each arm, which trains it into folder/distance_shapes/SHAPE."""
    data = folder / "data"
    return {shape: ["bash", f"{ROOT}/scripts/train/stage3.sh", f"{ROOT}/configs/tiny/stage3.yaml",
                    f"output_dir={folder / 'distance_shapes' / shape}", f"model_name_or_path={folder / 'stage2'}",
                    f"data.path={data / results.DATA['seed']}", f"guards.places={data}/places.csv",
                    f"validation.data={data / results.DATA['validation']}", f"gps.shape={shape}", f"seed={seed}"]
            for shape in SHAPES}


def measure(folder: Path, seed: int) -> dict:
    """Answers of all arms to the test rows, their scores and the paired gains."""
    data, stage3 = folder / "data", results.stage_config(folder, "stage3")
    answers = {shape: predict.run(predict.Config(
        model=str(folder / "distance_shapes" / shape), data=str(data / results.DATA["test"]),
        places=str(data / "truth.jsonl"), out=str(folder / "distance_shapes" / f"{shape}.jsonl"),
        max_new_tokens=stage3.rollout.max_new_tokens)) for shape in SHAPES}
    return {"arms": {shape: numbers.summary(rows, list(stage3.gps.thetas_km)) for shape, rows in answers.items()},
            "geoscore_gain": {f"{shape}_over_logistic": numbers.geoscore_gain(
                answers[shape], answers["logistic"], (shape, "logistic"), seed) for shape in SHAPES[1:]}}


def run(settings: Config) -> None:
    """Train what is missing, then measure and print."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    for shape, command in commands(folder, settings.seed).items():
        train(folder / "distance_shapes" / shape, [command])
    made = {"commit": provenance.commit(),
            "command": f"bash experiments/distance_shapes.sh run={settings.run} seed={settings.seed}",
            **measure(folder, settings.seed)}
    provenance.write_atomically(Path(settings.out) if settings.out else folder / "distance_shapes" / "results.json",
                                json.dumps(made, indent=1) + "\n")
    for shape, arm in made["arms"].items():
        print(f"{shape:>12}: GeoScore {arm['mean_geoscore']:5.0f}, within 25 km {arm['within_km']['25']:6.1%}, within "
              f"750 km {arm['within_km']['750']:6.1%}, unparsed {arm['unparsed']}")
    for name, gain in made["geoscore_gain"].items():
        print(f"{name}: {gain['mean']:+.0f} [{gain['low']:+.0f}, {gain['high']:+.0f}]")


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
