"""Predictions → numbers: `python -m eval.score FILE.jsonl [other=FILE.jsonl] [out=FILE.json] [key=value …]`.

Answers are coordinates, no geocoder; distance on a sphere of radius 6371.0088 km; within means <=; an answer that
cannot be read, refusals included, counts as wrong (GeoScore 0, 20,015 km) and stays in the denominator. Intervals are
95 %, from a bootstrap that resamples clusters: the author of a photo where the line names one, else its place, else the
row alone. With `other`, a second model's predictions of the same rows, the paired difference and its p-values too.
min_population= adds country, continent and city by the offline gazetteer of that cut, areas=osv5m OSV-5M's own four
levels; with answer=names the gazetteer turns the names answered into the coordinates that are scored, as GLOBE does.
With chain=, what eval.chain said of the same predictions stands beside the numbers.
docs/evaluation.md defines everything; eval/scoring/columns.py lists what a line may carry (labels to break down by,
names).
"""
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from eval import predictions
from eval.scoring import areas, columns, export, measures, named, printed, reported, samples
from eval.scoring.columns import Columns
from eval.scoring.measures import DRAWS
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.geo.places import Gazetteer, gazetteer
from gre.geo.point import NO_ANSWER_KM

ANSWERS = ("coordinates", "names")
OSV5M = "osv5m"


@dataclass
class Config:
    predictions: str = option(REQUIRED, "prediction file to score; `predictions=` may be left out for FILE.jsonl")
    other: str = option("", "another model's predictions of the same rows, to compare with; empty: none")
    out: str = option("", "JSON file for all numbers and where they come from; empty: only print")
    tables: str = option("", "folder for all numbers as CSV, tables as LaTeX and every row's distance; empty: none")
    answer: str = option("coordinates", f"what counts as the answer: {' or '.join(ANSWERS)} (country and city, turned "
                         "into coordinates by the gazetteer)")
    other_answer: str = option("", "what counts as the answer of other; empty: the same. So a model that names places "
                               "is compared with one that gives coordinates")
    min_population: int | None = option(None, "cut of the offline gazetteer (500, 1000, 5000 or 15000): also score "
                                        "country, continent and city; null: no gazetteer")
    areas: str = option("", f"{OSV5M}: also score country, region, sub-region and city as OSV-5M's own code does")
    chain: str = option("", "the quality of the chains in predictions, as eval.chain wrote it with out=; empty: none")
    rows: int | None = option(None, "rows the benchmark has; a file with another number is refused. null: not checked")
    draws: int = option(DRAWS, "bootstrap resamples, and sign flips where not all can be counted")
    seed: int = option(0, "seed of the bootstrap and of the sign flips")
    report_to: str = option("none", "none, or wandb: also a run of Weights & Biases with the numbers of each file")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write. Raises UserError for settings that do not go together."""
    check(config)
    return {"reads": [config.predictions, *filter(None, [config.other, config.chain])],
            "writes": [*filter(None, [config.out, config.tables])]}


def run(config: Config) -> dict:
    """Score, print, and write `config.out`; returns what is written. Raises UserError for a row that is none, another
    number of rows than `config.rows`, and files that do not pair up."""
    check(config)
    paths = {"predictions": config.predictions, **({"other": config.other} if config.other else {})}
    predictions.check_out(config.out, list(paths.values()))
    answers = {"predictions": config.answer, "other": config.other_answer or config.answer}
    cities = None if config.min_population is None else gazetteer(config.min_population)
    files = {name: columns.read(path, cities if answers[name] == "names" else None) for name, path in paths.items()}
    if config.rows is not None and len(files["predictions"].keys) != config.rows:
        raise UserError(f"{config.predictions} has {len(files['predictions'].keys)} rows and the benchmark has "
                        f"{config.rows}: predict the rest; a smaller benchmark is another benchmark")
    chain = read_chain(config) if config.chain else None
    places = {}
    if by_names := {name: file for name, file in files.items() if answers[name] == "names"}:
        made, places["by_name"] = by_name(by_names, cities, config)
        files |= made
    if cities is not None:
        files, places["gazetteer"] = by_place(files, cities)
    if config.areas:
        files, places["osv5m"] = by_osv5m(files)
    first = files["predictions"]
    if config.other:
        check_pairs(first, files["other"], (config.predictions, config.other))
    numbers = measures.estimate(files, config.draws, config.seed)
    scores = {
        "commit": provenance.commit(), "command": shlex.join(["python", "-m", "eval.score", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("numpy", "haversine")},
        "files": {name: origin(Path(path), config.out) for name, path in paths.items()},
        "protocol": {"answer": said_how(config.answer, cities), "other_answer": said_how(answers["other"], cities),
                     "distance": "sphere of radius 6371.0088 km", "within": "<=",
                     "unreadable_km": NO_ANSWER_KM, "draws": config.draws, "seed": config.seed},
        "n": len(first.keys),
        "unparsed": {name: int(np.isnan(file.distance_km).sum()) for name, file in files.items()},
        "refused": {name: int(file.refused.sum()) for name, file in files.items()},
        "filtered": {name: int(file.filtered.sum()) for name, file in files.items()},
        "cut_off": {name: int((file.cut_off & np.isnan(file.distance_km)).sum()) for name, file in files.items()},
        "in_names": {name: file.in_names for name, file in files.items()},
        "clusters": {"by": first.clustered_by, "count": len(first.clusters),
                     "largest": int(first.clusters.sizes.max())},
        "all": numbers.pop(()),
        "samples": {name: samples.scored(file.truths, file.samples) for name, file in files.items()
                    if file.samples and None not in file.samples},
        "chain": chain,
        "places": places,
        "names": {way: blocks for way in first.names if (blocks := {
            key[2]: block for key, block in numbers.items() if key[:2] == ("name", way)})},
        "slices": {field: {key[2]: block for key, block in numbers.items() if key[:2] == ("slice", field)}
                   for field in first.slices},
    }
    if config.other:
        scores["p"] = measures.p_values(first, files["other"], config.draws, config.seed)
    if config.out:  # before anything is printed: `| head` may end the command
        provenance.write_atomically(Path(config.out), json.dumps(scores, indent=2, allow_nan=False) + "\n")
    if config.tables:
        export.write(Path(config.tables), scores, files)
    if config.report_to == reported.WANDB:
        reported.to_wandb(scores)
    printed.show(scores, paths)
    return scores


def check(config: Config) -> None:
    """Raises UserError for settings that do not go together."""
    if config.draws < 1:
        raise UserError(f"draws is {config.draws}: an interval needs some, such as {DRAWS}")
    for key, answer in (("answer", config.answer), ("other_answer", config.other_answer or config.answer)):
        if answer not in ANSWERS:
            raise UserError(f"{key} is {answer!r}: write {' or '.join(ANSWERS)}")
    if config.other_answer and not config.other:
        raise UserError("other_answer= says how other= is read, and there is none")
    if "names" in (config.answer, config.other_answer) and config.min_population is None:
        raise UserError("answer=names needs a geocoder: write min_population=15000 or another cut of the gazetteer")
    if config.report_to not in ("none", reported.WANDB):
        raise UserError(f"report_to is {config.report_to!r}: write none or {reported.WANDB}")
    if config.report_to == reported.WANDB and not find_spec("wandb"):
        raise UserError("report_to=wandb, and wandb is not installed: EXTRAS=wandb bash environment.sh installs it")
    if config.areas not in ("", OSV5M):
        raise UserError(f"areas is {config.areas!r}: write {OSV5M} or leave it empty")
    if config.areas and not find_spec("reverse_geocoder"):
        raise UserError("areas=osv5m asks the package reverse_geocoder, as OSV-5M's own code does: EXTRAS=osv5m bash "
                        "environment.sh installs it, or pip install -e '.[osv5m]'; or leave areas empty")


def said_how(answer: str, cities: Gazetteer | None) -> str:
    """What counted as the answer, in words."""
    return "coordinates, no geocoder" if answer == "coordinates" else f"names, by {cities}"


def read_chain(config: Config) -> dict:
    """What eval.chain wrote, provenance included, and the file's hash. UserError unless it is of these predictions."""
    path, of = config.chain, config.predictions
    try:
        chain = json.loads(Path(path).read_text(encoding="utf-8"))
        scored, _ = chain["files"]["predictions"]["sha256"], chain["all"]["quality"]["effective_clusters"]
        rows = chain["files"]["rows"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"chain={path} is nothing that eval.chain wrote ({type(error).__name__}: {error}): write it "
                        f"with eval.chain {of} … out={path}") from None
    if scored != provenance.file_hash(of):
        raise UserError(f"chain={path} scores the chains of another prediction file than {of}: run eval.chain "
                        "on this one")
    rows |= seen_from(Path(path).with_name(Path(rows["path"]).name), config.out)
    return {"path": provenance.public_path(path), "sha256": provenance.file_hash(path), **chain}


def by_name(files: Mapping[str, Columns], cities: Gazetteer, config: Config) -> tuple[dict[str, Columns], dict]:
    """(the files with the names' coordinates as answers, and which names are right; what to report beside them:
    gazetteer, outcomes, whose names are the truth, ceiling). Samples are left out: they are measured by coordinates."""
    made, outcomes = {}, {}
    for name, file in files.items():
        points, outcomes[name] = named.located(file.said, cities)
        right, sources = named.right(file, cities)
        globe = named.globe_right(file)
        distance_km = named.distances(file.truths, points)
        made[name] = replace(file, answers=points, distance_km=distance_km,
                             refused=file.refused & np.isnan(distance_km), samples=[],
                             names={**file.names, "by_name": right, **({"globe": globe} if globe else {})})
    first = next(iter(made.values()))
    truth, from_whom = named.true_names(first, cities)
    points, found = named.located(truth, cities)
    ceiling = replace(first, distance_km=named.distances(first.truths, points), slices={}, names={})
    estimates = measures.estimate({"ceiling": ceiling}, config.draws, config.seed)[()]["ceiling"]
    return made, {**cities.provenance, "outcomes": outcomes, "truth": sources,
                  "ceiling": {"names": from_whom, "outcomes": found, "estimates": estimates}}


def by_place(files: Mapping[str, Columns], cities: Gazetteer) -> tuple[dict[str, Columns], dict]:
    """(the files with country, continent and city by the gazetteer, the country as a slice, and the continent where the
    benchmark names none; what to report beside them)."""
    made = {}
    for name, file in files.items():
        right, sources, labels = areas.by_gazetteer(file, cities)
        made[name] = replace(file, names={**file.names, "gazetteer": right},
                             slices={kind: np.array(own) for kind, own in labels.items()} | file.slices)
    return made, {**cities.provenance, "truth": sources}


def by_osv5m(files: Mapping[str, Columns]) -> tuple[dict[str, Columns], dict]:
    """(the files with OSV-5M's four levels, which geocoder named the answers)."""
    made = {}
    for name, file in files.items():
        right, geocoder = areas.by_osv5m(file)
        made[name] = replace(file, names={**file.names, "osv5m": right})
    return made, {"geocoder": geocoder}


def check_pairs(a: Columns, b: Columns, names: tuple[str, str]) -> None:
    """Raises UserError unless both files hold the same rows, clustered and labelled alike."""
    predictions.check_same_keys(a.keys, b.keys, names)
    same = {"author": np.array_equal(a.clusters.index, b.clusters.index),
            **{field: field in a.slices and field in b.slices and np.array_equal(a.slices[field], b.slices[field])
               for field in {**a.slices, **b.slices}},
            **{f"gt_{level}": a.true_names[level] == b.true_names[level] for level in a.true_names}}
    if unequal := [field for field, equal in same.items() if not equal]:
        raise UserError(f"{names[0]} and {names[1]} differ in {', '.join(unequal)} of the same rows: predict both from "
                        "the same data file")


def origin(path: Path, out: str) -> dict:
    """What is known of a prediction file: its path and hash, and what eval.predict wrote beside it, or None."""
    beside = path.with_suffix(".json")
    made_with = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
    return {"path": provenance.public_path(path), **seen_from(path, out), "sha256": provenance.file_hash(path),
            "made_with": made_with}


def seen_from(path: Path, out: str) -> dict[str, str]:
    """Where a file lies from the folder of `out`, so that it is found again from anywhere; nothing without `out`."""
    return {"from_scores": os.path.relpath(path.absolute(), Path(out).absolute().parent)} if out else {}


if __name__ == "__main__":
    main(run, Config, __doc__, plan, predictions.arguments(sys.argv[1:]))
