"""Geo-R's recipe beside GRE's, on the tiny world at equal samples.

    bash experiments/geor.sh [run=quickstart] [seed=N] [out=FILE.json]

Reads a finished quickstart run and trains into runs/NAME/geor: `stage1` on chains of region that the gazetteer writes
for the photos of GRE's stage 1, then `stage3` on distance and format, with as many samples as GRE's stages 2 and 3
together. Arms that ended before are kept and one that was stopped goes on. Both recipes answer the same test photos;
gains are in GeoScore, with 95 % intervals over places. The two first stages do not learn from the same truths: the
gazetteer is told where a photo was taken, and GRE's teacher looks at it and errs.
"""
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.regions import Config as Regions
from data_prep.regions import chain_of_region
from eval import predict, predictions
from eval.quickstart import numbers, results
from experiments.ablation import ROOT, train
from gre import config, manifest, provenance
from gre.config import UserError, option
from gre.data.records import DataConfig, read_cot, write_cot
from gre.geo.places import gazetteer

PAIRS = (("geor_stage3", "geor_stage1"), ("geor_stage1", "stage1"), ("geor_stage3", "stage3"))


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    seed: int = option(0, "seed of both trainings and of the bootstrap")
    out: str = option("", "where the result is written; empty: runs/NAME/geor/results.json")


def write_regions(cot: Path, out: Path) -> None:
    """Stage 1's rows with the chain of region of each photo in place of the teacher's."""
    rows, places = read_cot(DataConfig(path=str(cot))), gazetteer(Regions.min_population)
    write_cot(out, [replace(row, response=chain_of_region(row, near, places))
                    for row, near in zip(rows, places.nearest([row.truth for row in rows]))])


def commands(folder: Path, seed: int) -> dict[str, list[str]]:
    """The command of each stage, which trains it into folder/geor/STAGE."""
    data, ours = folder / "data", folder / "geor"

    def stage(name: str, settings: str, parent: Path, rows: Path, *keys: str) -> list[str]:
        return ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{settings}.yaml",
                f"output_dir={ours / name}", f"model_name_or_path={parent}", f"data.path={rows}", *keys, f"seed={seed}"]

    return {"stage1": stage("stage1", "stage1_geor", ROOT / "gre" / "tiny" / "base", regions(data)),
            "stage3": stage("stage3", "geor", ours / "stage1", data / results.DATA["seed"],
                            f"guards.places={data}/places.csv")}


def regions(data: Path) -> Path:
    """Where the chains of region lie: beside the photos they name."""
    return data / "gre_cot" / "regions.json"


def measure(folder: Path, seed: int) -> dict:
    """Answers of both recipes to the test rows, their scores and the paired gains."""
    data, ours, stage3 = folder / "data", folder / "geor", results.stage_config(folder, "stage3")
    rows = {name: predictions.read(folder / "predictions" / f"{name}.jsonl") for name in ("stage1", "stage3")}
    steps = {name: manifest.read_manifest(folder / name)["metrics"]["steps"] for name in rows}
    for name in ("stage1", "stage3"):
        rows[f"geor_{name}"] = predict.run(predict.Config(
            model=str(ours / name), data=str(data / results.DATA["test"]), places=str(data / "truth.jsonl"),
            out=str(ours / f"{name}.jsonl"), max_new_tokens=stage3.rollout.max_new_tokens))
        steps[f"geor_{name}"] = manifest.read_manifest(ours / name)["metrics"]["steps"]
    return {"arms": {name: {"steps": steps[name], **numbers.summary(said, list(stage3.gps.thetas_km))}
                     for name, said in rows.items()},
            "geoscore_gain": {f"{a}_over_{b}": numbers.geoscore_gain(rows[a], rows[b], (a, b), seed)
                              for a, b in PAIRS}}


def run(settings: Config) -> None:
    """Train what is missing, then measure and print."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    data = folder / "data"
    write_regions(data / results.DATA["cot"], regions(data))
    for name, command in commands(folder, settings.seed).items():
        train(folder / "geor" / name, [command])
    made = {"commit": provenance.commit(),
            "command": f"bash experiments/geor.sh run={settings.run} seed={settings.seed}",
            **measure(folder, settings.seed)}
    provenance.write_atomically(Path(settings.out) if settings.out else folder / "geor" / "results.json",
                                json.dumps(made, indent=1) + "\n")
    for name, arm in made["arms"].items():
        print(f"{name:>12}: GeoScore {arm['mean_geoscore']:5.0f}, within 25 km {arm['within_km']['25']:6.1%}, within "
              f"750 km {arm['within_km']['750']:6.1%}, unparsed {arm['unparsed']}, {arm['steps']} steps")
    for name, gain in made["geoscore_gain"].items():
        print(f"{name}: {gain['mean']:+.0f} [{gain['low']:+.0f}, {gain['high']:+.0f}]")


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
