"""Predictions → numbers: `python -m eval.score FILE.jsonl [other=FILE.jsonl] [out=FILE.json] [key=value …]`.

Answers are coordinates, no geocoder; distance on a sphere of radius 6371.0088 km; within means <=; an answer that
cannot be read, refusals included, counts as wrong (GeoScore 0, 20,015 km) and stays in the denominator. Intervals are
95 %, from a bootstrap that resamples clusters: the author of a photo where the line names one, else its place, else the
row alone. With `other`, a second model's predictions of the same rows, the paired difference and its p-values too.
docs/evaluation.md defines everything; eval/columns.py lists what a line may carry (labels to break down by, names).
"""
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eval import columns, measures, predictions
from eval.columns import Columns
from eval.predictions import Prediction
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.geo import accuracy
from gre.geo.bootstrap import paired_bootstrap
from gre.geo.point import NO_ANSWER_KM
from gre.rewards.format import format_reward
from gre.rewards.gps import gps_reward

DRAWS = 10_000  # bootstrap resamples, and sign flips where not all can be counted
SHOWN = {**{f"within_{km}_km": f"within {km} km" for km in accuracy.THRESHOLDS_KM}, "geoscore": "GeoScore",
         "median_km": "median km", "mean_km": "mean km"}
SLICE_SHOWN = ("within_25_km", "within_750_km", "geoscore", "median_km")  # the file holds all


@dataclass
class Config:
    predictions: str = option(REQUIRED, "prediction file to score; `predictions=` may be left out for FILE.jsonl")
    other: str = option("", "another model's predictions of the same rows, to compare with; empty: none")
    out: str = option("", "JSON file for all numbers and where they come from; empty: only print")
    rows: int | None = option(None, "rows the benchmark has; a file with another number is refused. null: not checked")
    draws: int = option(DRAWS, "bootstrap resamples, and sign flips where not all can be counted")
    seed: int = option(0, "seed of the bootstrap and of the sign flips")


def summary(rows: Sequence[Prediction], thetas_km: Sequence[float]) -> dict:
    """The numbers of one prediction file, in the form results.json has them."""
    numbers = accuracy.summarize([row.error_km for row in rows])
    rewards = [greedy_reward(row, thetas_km) for row in rows]
    return {"mean_geoscore": numbers["mean_geoscore"], "median_km": numbers["median_km"],
            "mean_reward": sum(rewards) / len(rewards), "within_km": numbers["within_km"], "n": numbers["n"],
            "unparsed": numbers["unparsed"]}


def greedy_reward(row: Prediction, thetas_km: Sequence[float]) -> float:
    """Stage 3's reward of an answer, 0 to 2: format + gps, one fixed function for all checkpoints."""
    return format_reward(row.text, row.finished) + gps_reward(row.error_km, thetas_km)


def geoscores(rows: Sequence[Prediction]) -> list[float]:
    """GeoScore of each row, 0 to 5000."""
    return [accuracy.geoscore(row.error_km) for row in rows]


def gain(a: Sequence[float], b: Sequence[float], places: Sequence[str], seed: int) -> dict[str, float]:
    """Mean of a - b over pictures, with the 95 % interval of the bootstrap over `places`: {"mean", "low", "high"}."""
    return paired_bootstrap(a, b, places, draws=DRAWS, seed=seed)


def geoscore_gain(a: Sequence[Prediction], b: Sequence[Prediction], names: tuple[str, str],
                  seed: int) -> dict[str, float]:
    """How much better `a` locates the same pictures than `b`, in GeoScore points."""
    predictions.check_same_rows(a, b, names)
    return gain(geoscores(a), geoscores(b), [row.place for row in a], seed)


def geoscore_interval(rows: Sequence[Prediction], seed: int) -> dict[str, float]:
    """Mean GeoScore of one file with its interval."""
    return gain(geoscores(rows), [0.0] * len(rows), [row.place for row in rows], seed)


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.predictions, *filter(None, [config.other])], "writes": [*filter(None, [config.out])]}


def run(config: Config) -> dict:
    """Score, print, and write `config.out`; returns what is written. Raises UserError for a row that is none, another
    number of rows than `config.rows`, and files that do not pair up."""
    if config.draws < 1:
        raise UserError(f"draws is {config.draws}: an interval needs some, such as {DRAWS}")
    paths = {"predictions": config.predictions, **({"other": config.other} if config.other else {})}
    files = {name: columns.read(path) for name, path in paths.items()}
    first = files["predictions"]
    if config.rows is not None and len(first.keys) != config.rows:
        raise UserError(f"{config.predictions} has {len(first.keys)} rows and the benchmark has {config.rows}: predict "
                        "the rest; a smaller benchmark is another benchmark")
    if config.other:
        check_pairs(first, files["other"], (config.predictions, config.other))
    numbers = measures.estimate(files, config.draws, config.seed)
    scores = {
        "commit": provenance.commit(), "command": shlex.join(["python", "-m", "eval.score", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("numpy", "haversine")},
        "files": {name: origin(Path(path)) for name, path in paths.items()},
        "protocol": {"answer": "coordinates, no geocoder", "distance": "sphere of radius 6371.0088 km", "within": "<=",
                     "unreadable_km": NO_ANSWER_KM, "draws": config.draws, "seed": config.seed},
        "n": len(first.keys),
        "unparsed": {name: int(np.isnan(file.distance_km).sum()) for name, file in files.items()},
        "refused": {name: int(file.refused.sum()) for name, file in files.items()},
        "clusters": {"by": first.clustered_by, "count": len(first.clusters),
                     "largest": int(first.clusters.sizes.max())},
        "all": numbers.pop(()),
        "names": {key[1]: block for key, block in numbers.items() if key[0] == "name"},
        "slices": {field: {key[2]: block for key, block in numbers.items() if key[:2] == ("slice", field)}
                   for field in first.slices},
    }
    if config.other:
        scores["p"] = measures.p_values(first, files["other"], config.draws, config.seed)
    show(scores, paths)
    if config.out:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        provenance.write_atomically(Path(config.out), json.dumps(scores, indent=2, allow_nan=False) + "\n")
    return scores


def check_pairs(a: Columns, b: Columns, names: tuple[str, str]) -> None:
    """Raises UserError unless both files hold the same rows, clustered and labelled alike."""
    predictions.check_same_keys(a.keys, b.keys, names)
    same = {"author": np.array_equal(a.clusters.index, b.clusters.index),
            **{field: field in a.slices and field in b.slices and np.array_equal(a.slices[field], b.slices[field])
               for field in {**a.slices, **b.slices}},
            **{f"gt_{level}": np.array_equal(np.isnan(a.names[level]), np.isnan(b.names[level]))
               for level in a.names.keys() & b.names.keys()}}
    if unequal := [field for field, equal in same.items() if not equal]:
        raise UserError(f"{names[0]} and {names[1]} differ in {', '.join(unequal)} of the same rows: predict both from "
                        "the same data file")


def origin(path: Path) -> dict:
    """What is known of a prediction file: its path and hash, and what eval.predict wrote beside it, or None."""
    beside = path.with_suffix(".json")
    made_with = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
    return {"path": provenance.public_path(path), "sha256": provenance.file_hash(path), "made_with": made_with}


def show(scores: Mapping, paths: Mapping[str, str]) -> None:
    """Print the numbers."""
    clusters, whole = scores["clusters"], scores["all"]
    by = ", ".join(f"{count} rows by {kind}" for kind, count in clusters["by"].items())
    for name, path in paths.items():
        print(f"{path}: n {scores['n']}, unparsed {scores['unparsed'][name]} ({scores['refused'][name]} refused), "
              "counted as wrong")
    print(f"intervals: 95 %, {scores['protocol']['draws']} draws of {clusters['count']} clusters ({by}; the largest "
          f"has {clusters['largest']})")
    for measure, title in SHOWN.items():
        print(f"  {title:16}", *(f"{shown(whole[name][measure], measure):34}" for name in paths),
              *([f"difference {shown(whole['difference'][measure], measure, '+')}"] if "other" in paths else []))
    for level, block in scores["names"].items():
        print(f"  {level + ' right':16}", *(f"{shown(block[name][f'{level}_right'], 'within'):34}" for name in paths),
              f"n {block['n']}, exact match")
    if "other" in paths:
        show_tests(scores["p"])
    for field, labels in scores["slices"].items():
        for label, block in labels.items():
            print(f"  {field} {label}: n {block['n']}, clusters {block['clusters']};", "; ".join(
                f"{SHOWN[measure]} " + " against ".join(shown(block[name][measure], measure) for name in paths)
                for measure in SLICE_SHOWN))


def show_tests(p: Mapping) -> None:
    """Print the p-values of a comparison."""
    print("  p, sign flips over clusters:", ", ".join(f"{SHOWN[name]} {p['sign_flip'][name]:.4f}"
                                                      for name in p["sign_flip"]))
    print("  p, the five thresholds after Holm:", ", ".join(f"{SHOWN[name]} {value:.4f}"
                                                            for name, value in p["holm"].items()))
    if p["mcnemar"] is None:
        print("  no McNemar test: it takes rows as independent, and here a cluster has several")
    else:
        print("  p, exact McNemar:", ", ".join(f"{SHOWN[name]} {value:.4f}" for name, value in p["mcnemar"].items()))


def shown(estimate: Mapping, measure: str, sign: str = "") -> str:
    """A number with its interval, shares in percent."""
    form = f"{sign},.{0 if measure == 'geoscore' else 1}f"
    scale, unit = (100, " %") if measure.startswith("within") else (1, "")
    low, high = (None if estimate[end] is None else format(estimate[end] * scale, form) for end in ("low", "high"))
    between = "no interval: one cluster" if low is None else f"{low} to {high}"
    return f"{format(estimate['value'] * scale, form)}{unit} [{between}]"


def arguments(argv: Sequence[str]) -> list[str]:
    """A file named without a key is the prediction file, not a config."""
    return [f"predictions={text}" if text.endswith(".jsonl") and ("=" not in text or Path(text).is_file()) else text
            for text in argv]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
