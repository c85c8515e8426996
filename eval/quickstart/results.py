"""results.json of a run: `python -m eval.quickstart.results run=runs/NAME data=runs/NAME/data`.

Reads runs/NAME/predictions/*.jsonl, the stages' manifests and configs, and phases.json (what the phases took).
Nothing is filled in: a missing file, row or metric is an error. What results.json has no field for (intervals of each
checkpoint, test on new places, judge rewards) goes to scores.json beside it.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from eval import predictions
from eval.answering import controls
from eval.predictions import Prediction
from eval.quickstart import numbers
from gre import manifest, provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import DataConfig, read_cot, read_judge, read_seed

CHECKPOINTS = ("base", "stage1", "stage2", "stage3")
CONTROLS = ("constant", "blank", "swapped")
PHASES = ("world", "stage1", "judge", "stage2", "stage3", "evaluation")
VERDICT = "verdict"  # stage 2's other mode: the policy itself judges, and a judge may be there or not
DATA = {"cot": "gre_cot/gre_cot.json", "judge": "gre_judge/gre_judge.json", "seed": "gre_seed/gre_seed.jsonl",
        "validation": "validation/validation.jsonl", "test": "test/test.jsonl",
        "test_new_places": "test_new_places/test_new_places.jsonl"}
NEW_PLACES = "test_new_places"


@dataclass
class Config:
    run: str = option(REQUIRED, "the run's folder, runs/NAME")
    data: str = option(REQUIRED, "the data folder, laid out as gre.tiny.world writes it")
    seed: int = option(0, "the run's seed; also that of the bootstrap")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [f"{config.run}/predictions", f"{config.run}/phases.json", config.data],
            "writes": [f"{config.run}/results.json", f"{config.run}/scores.json"]}


def run(config: Config) -> None:
    """Assemble and write results.json and scores.json from the predictions on disk."""
    folder = Path(config.run)
    write(folder, *assemble(folder, Path(config.data), config.seed, seconds(folder, PHASES)))


def write(folder: Path, results: dict, scores: dict) -> None:
    """Write both files; numbers that are not finite are refused."""
    for name, content in (("results.json", results), ("scores.json", scores)):
        provenance.write_atomically(folder / name, json.dumps(content, indent=2, allow_nan=False) + "\n")


def assemble(folder: Path, data: Path, seed: int, seconds: dict[str, float]) -> tuple[dict, dict]:
    """(results, scores) of the run in `folder`. seconds: wall time by phase. UserError names what is missing."""
    rows = read_data(data)
    test_ids = [row.id for row in rows["test"]]
    thetas_km = list(stage_config(folder, "stage3").gps.thetas_km)
    files = {name: load(folder, name, test_ids) for name in (*CHECKPOINTS, "blank", "swapped")}
    point = controls.best_constant([row.truth for split in ("cot", "seed") for row in rows[split]])
    files["constant"] = controls.constant_predictions(files["stage1"], point)
    for name in files:
        predictions.check_same_rows(files[name], files["stage1"], (name, "stage1"))
    judged = read_judged(folder, test_ids) if has_judge(folder) else None

    def over(a: str, b: str) -> dict:
        return {"geoscore": numbers.geoscore_gain(files[a], files[b], (a, b), seed)}

    test_places = [row.place for row in files["stage1"]]
    gains = {"stage2_over_stage1": over("stage2", "stage1"), "stage3_over_stage1": over("stage3", "stage1"),
             "stage3_over_stage2": over("stage3", "stage2"), "stage1_over_constant": over("stage1", "constant")}
    if judged is not None:
        gains["stage2_over_stage1"]["judge_reward"] = numbers.gain(judged["stage2"], judged["stage1"], test_places,
                                                                   seed)

    results = {
        "commit": provenance.commit(), "seed": seed, "rows": {split: len(rows[split]) for split in DATA},
        "rollout": rollout(folder),
        "checkpoints": {name: numbers.summary(files[name], thetas_km) for name in CHECKPOINTS},
        "controls": {name: numbers.summary(files[name], thetas_km) for name in CONTROLS},
        "gain": gains, "judge": None if judged is None else judge_block(folder), "seconds": seconds}
    new_ids = [row.id for row in rows[NEW_PLACES]]
    new = {name: load(folder, f"{NEW_PLACES}/{name}", new_ids) for name in CHECKPOINTS}
    scores = {
        "constant": {"lat": point.lat_deg, "lon": point.lon_deg}, "thetas_km": thetas_km,
        "geoscore": {name: numbers.geoscore_interval(files[name], seed) for name in (*CHECKPOINTS, *CONTROLS)},
        "cut_off": {name: numbers.cut_off(files[name]) for name in (*CHECKPOINTS, *CONTROLS)},
        "judge_reward": judged and {name: sum(judged[name]) / len(test_ids) for name in CHECKPOINTS},
        **({VERDICT: metric(folder, "stage2", "metrics", VERDICT)} if mode(folder) == VERDICT else {}),
        NEW_PLACES: {name: numbers.summary(new[name], thetas_km) for name in CHECKPOINTS},
        f"{NEW_PLACES}_cut_off": {name: numbers.cut_off(new[name]) for name in CHECKPOINTS},
        f"{NEW_PLACES}_geoscore": {name: numbers.geoscore_interval(new[name], seed) for name in CHECKPOINTS},
        f"{NEW_PLACES}_gain": numbers.geoscore_gain(new["stage3"], new["stage1"], ("stage3", "stage1"), seed)}
    return results, scores


def read_data(data: Path) -> dict[str, list]:
    """All rows of a data folder, checked, by the names results.json gives the splits."""
    readers = {"cot": read_cot, "judge": read_judge}
    return {split: readers.get(split, read_seed)(DataConfig(path=str(data / file))) for split, file in DATA.items()}


def load(folder: Path, name: str, ids: list[str]) -> list[Prediction]:
    """One prediction file of the run, complete and in the order of `ids`."""
    path = folder / "predictions" / f"{name}.jsonl"
    return predictions.check_complete(predictions.read(path), ids, str(path))


def stage_config(folder: Path, stage: str):
    """The resolved config a stage ran with."""
    path = folder / stage / "config.yaml"
    if not path.exists():
        raise UserError(f"there is no {path}: train {stage} first")
    return OmegaConf.load(path)


def rollout(folder: Path) -> dict[str, str]:
    """The engine that wrote stage 3's rollouts, and its version."""
    return {name: metric(folder, "stage3", "metrics", "rollout", name) for name in ("engine", "version")}


def mode(folder: Path) -> str:
    """What rewarded stage 2: `judge` or `verdict`, as its manifest says."""
    return manifest.read_manifest(folder / "stage2")["metrics"].get("mode", "judge")


def has_judge(folder: Path) -> bool:
    """Whether a judge belongs to the run. In stage 2's paper form it may be missing: its numbers are null."""
    return mode(folder) != VERDICT or (folder / "judge").exists()


def judge_block(folder: Path) -> dict:
    """How good the judge is: on held-out rows, and on completions of stage 1 (by stage 2's gate; in the paper's form,
    which has none, by the judge's own training)."""
    names = ("auc", "auc_swapped_pictures", "auc_on_policy", "calibration_error", "n")
    return {name: metric(folder, "stage2", "metrics", "judge", name)
            if name == "auc_on_policy" and mode(folder) != VERDICT
            else metric(folder, "judge", "metrics", name) for name in names}


def metric(folder: Path, stage: str, *names: str):
    """One value of a stage's manifest, by the names that lead to it. UserError when the stage is unfinished or never
    measured it."""
    value = manifest.read_manifest(folder / stage)
    for name in names:
        value = value.get(name)
        if value is None:
            raise UserError(f"{folder / stage / manifest.MANIFEST} has no {'.'.join(names)}: it was not measured; "
                            f"train {stage} again")
    return value


def seconds(folder: Path, phases: Sequence[str]) -> dict[str, float]:
    """Wall time of the named phases. Raises UserError for one that the quickstart did not measure."""
    path = folder / "phases.json"
    measured = read_json(path, "the quickstart writes it")
    if missing := [phase for phase in phases if "seconds" not in measured.get(phase, {})]:
        raise UserError(f"{path} has no seconds of {', '.join(missing)}: let the quickstart run to its end")
    return {phase: measured[phase]["seconds"] for phase in phases}


def read_judged(folder: Path, ids: list[str]) -> dict[str, list[float]]:
    """The judge's rewards of each checkpoint's greedy answers, in the order of `ids` (judged.py writes them)."""
    path = folder / "predictions" / "judge_rewards.json"
    rewards = read_json(path, "eval.quickstart.judged writes it")
    for name in CHECKPOINTS:
        if set(rewards.get(name, ())) != set(ids):
            raise UserError(f"{path} does not hold {name}'s rewards of the {len(ids)} test rows: delete it and run "
                            "eval.quickstart.judged again")
    return {name: [rewards[name][row_id] for row_id in ids] for name in CHECKPOINTS}


def read_json(path: Path, origin: str) -> dict:
    """A JSON object. Raises UserError saying where the file should have come from."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {path}: {origin}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): {origin}; delete it and run that again") from None


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON-lines file. Raises UserError naming the file and the line."""
    if not path.exists():
        raise UserError(f"there is no {path}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path} line {number} is not JSON ({error})") from None
    return rows


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
