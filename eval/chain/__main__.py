"""How good the reasoning is: `python -m eval.chain FILE.jsonl data=GREval-Bench.json out=FILE.json key=value …`.

The chains of a prediction file against GREval-Bench's annotated ones, in three parts: recall of the geographic
indicators (background), RefCLIPScore of what is seen (caption), BERTScore of the conclusions (inference); their mean is
GRE's form, the quality. Ours, grounded, knows precision, whether the conclusion is true, and a judge's F1 of steps. An
LLM behind any OpenAI-compatible endpoint sorts the steps; what the benchmark file lacks (`indicators`, `steps`,
`scene`) it derives from `gt_cot`. All its replies are kept in `cache`: with the same cache the score is reproduced
without an endpoint.

Beside out, OUT.rows.jsonl holds every photo with its annotation, steps and numbers. docs/chain_quality.md has the
definitions; the number is not comparable with the one GRE's paper gives.
"""
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eval import predictions
from eval.benchmarks import published, reader
from eval.benchmarks.reader import GREVAL, BenchmarkConfig
from eval.chain import scoring
from eval.chain.bert import Bert
from eval.chain.scoring import Annotated, Scored
from eval.scoring import columns
from eval.scoring.measures import DRAWS, WITHHELD
from eval.scoring.printed import CHAIN_SHOWN, chain_headline, chain_shown, rescaled
from gre import provenance
from gre.config import REQUIRED, main, option
from gre.geo import shares
from gre.geo.bootstrap import Clusters, paired_bootstrap
from gre.llm import Client, LLMConfig
from gre.manifest import model_hash
from gre.models.clip import Clip
from gre.text.chains import INDICATORS, chain_of


@dataclass
class Config:
    predictions: str = option(REQUIRED, "prediction file to score; `predictions=` may be left out for FILE.jsonl")
    data: str = option("", "GREval-Bench's JSON, with or without the optional fields; empty: where "
                          "benchmarks.yaml says")
    image_root: str = option("", "where its photos lie; empty: beside the file")
    clip: str = option(REQUIRED, "folder of a CLIP model, such as clip-vit-large-patch14")
    bert: str = option(REQUIRED, "folder of the encoder of BERTScore, such as roberta-large")
    bert_layer: int = option(REQUIRED, "its layer to compare; bert-score takes 17 of roberta-large")
    bert_baseline: str = option("", "baseline that scores are rescaled with: a name of bert-score's own, such as "
                                "roberta-large, or a file; empty: bert-score's own of the folder's name; none: raw")
    llm: LLMConfig = option(LLMConfig(), "the LLM that reads chains")
    cache: str = option(REQUIRED, "file of the LLM's replies; one for all models that are compared")
    out: str = option(REQUIRED, "JSON file for the numbers and where they come from")
    draws: int = option(DRAWS, "bootstrap resamples")
    seed: int = option(0, "seed of the bootstrap")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    data = config.data or reader.known()[GREVAL]["labels"]
    return {"reads": [config.predictions, data, config.clip, config.bert],
            "writes": [config.cache, config.out, str(rows_file(config))]}


def rows_file(config: Config) -> Path:
    """Where every photo's numbers are written."""
    return Path(config.out).with_suffix(".rows.jsonl")


def run(config: Config) -> dict:
    """Score, print, and write `config.out`; returns what is written. Raises UserError for rows that do not pair up with
    the benchmark, a model that cannot be loaded, and an LLM that gives no usable reply."""
    predictions.check_out(config.out, [config.predictions])
    data = config.data or str(reader.files(BenchmarkConfig(GREVAL, images=config.image_root))[0])
    rows = scoring.read(data, config.image_root)
    answered = {row.id: (row, columns.cluster(row, fields)) for row, fields in predictions.stream(config.predictions)}
    said = predictions.check_complete([row for row, _ in answered.values()], [row.row.id for row in rows],
                                      config.predictions)
    clip, bert = Clip(config.clip), Bert(config.bert, config.bert_layer, config.bert_baseline)
    client = Client(config.llm, config.cache)
    derived = {name: sum(getattr(row, name) is None for row in rows) for name in ("indicators", "steps", "scene")}
    rows = scoring.derive(rows, client)
    chains, errors_km = [chain_of(row.text) for row in said], [row.error_km for row in said]
    scored = scoring.score(rows, chains, errors_km, client, clip, bert)
    clusters = [answered[row.row.id][1] for row in rows]
    scores = {
        "commit": provenance.commit(), "command": shlex.join(["python", "-m", "eval.chain", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("transformers", "torch", "bert-score", "numpy")},
        "files": {name: {"path": provenance.public_path(path), "sha256": provenance.file_hash(path)}
                  for name, path in (("predictions", config.predictions), ("data", data),
                                     ("cache", config.cache)) if Path(path).exists()},
        "models": {"clip": {"name": Path(config.clip).name, "sha256": model_hash(Path(config.clip))},
                   "bert": {"name": bert.name, "sha256": model_hash(Path(config.bert)), "layer": config.bert_layer,
                            "rescaled_with": bert.baseline.name if bert.baseline else None},
                   "llm": {"name": config.llm.model, "decoding": client.decoding}},
        "protocol": {"steps": "a sentence each", "weights": "equal, ours", "missing_kind": 0, "taxonomy": INDICATORS,
                     "derived_from_gt_cot": derived, "draws": config.draws, "seed": config.seed},
        "n": len(rows), "clusters": len(set(clusters)),
        "empty_chains": sum(not row.steps for row in scored), "cut_off_steps": sum(row.cut_off for row in scored),
        "all": estimates(scored, clusters, config.draws, config.seed),
        "scenes": {scene: estimates(*_slice(scene, rows, scored, clusters), config.draws, config.seed)
                   for scene in sorted({row.scene for row in rows})},
        "published_not_comparable": [{"system": row.system, "cot_score": row.cot_score, "why": row.note}
                                     for row in published.read(GREVAL) if row.cot_score is not None],
    }
    provenance.write_atomically(rows_file(config), "".join(
        json.dumps(scoring.as_json(*pair), ensure_ascii=False) + "\n" for pair in zip(rows, scored)))
    scores["files"]["rows"] = {"path": provenance.public_path(rows_file(config)),
                               "sha256": provenance.file_hash(rows_file(config))}
    provenance.write_atomically(Path(config.out), json.dumps(scores, indent=2, allow_nan=False) + "\n")
    show(scores, config.predictions)
    print(f"LLM: {client.asked} replies asked for, the rest from {config.cache}")
    return scores


def estimates(scored: Sequence[Scored], clusters: Sequence, draws: int, seed: int) -> dict[str, dict]:
    """Measure → mean, 95 % interval (clusters resampled), the photos it can be scored on, and the clusters these are
    worth; too few have no interval, as in eval.score."""
    found = {}
    for name in CHAIN_SHOWN:
        values = [(getattr(row.numbers, name), cluster) for row, cluster in zip(scored, clusters)]
        kept = [(value, cluster) for value, cluster in values if value is not None]
        if kept:
            numbers, labels = zip(*kept)
            grouped = Clusters.of(labels)
            found[name] = {**paired_bootstrap(numbers, [0.0] * len(kept), labels, draws, seed), "n": len(kept),
                           "effective_clusters": round(grouped.effective, 2)}
            if grouped.effective < WITHHELD:
                found[name] |= {"low": None, "high": None}
            elif max(numbers) <= 1:  # counts, and a RefCLIPScore above 1, are no shares
                low, high = shares.no_narrower((found[name]["low"], found[name]["high"]),
                                               grouped.sums(np.array(numbers)), grouped.sizes)
                found[name] |= {"low": low, "high": high}
    return found


def show(scores: dict, name: str) -> None:
    """Print the numbers."""
    print(f"{name}: n {scores['n']}, {scores['clusters']} clusters, {scores['empty_chains']} empty chains (0), "
          f"{scores['cut_off_steps']} steps longer than an encoder reads")
    print(f"  {chain_headline(scores)}")
    print(f"intervals: 95 %, clusters resampled; weights of the parts: equal, our choice; BERTScore "
          f"{rescaled(scores['models']['bert'])}")
    for measure, title in CHAIN_SHOWN.items():
        if estimate := scores["all"].get(measure):
            print(f"  {title:36} {chain_shown(estimate)} n {estimate['n']}")
    for scene, block in scores["scenes"].items():
        print(f"  scene {scene}: quality {block['quality']['mean']:.3f}, n {block['quality']['n']}")
    for row in scores["published_not_comparable"]:
        print(f"  published, not comparable: {row['system']} {row['cot_score']} ({row['why']})")


def _slice(scene: str, rows: Sequence[Annotated], scored: Sequence[Scored], clusters: Sequence) -> tuple[list, list]:
    here = [index for index, row in enumerate(rows) if row.scene == scene]
    return [scored[index] for index in here], [clusters[index] for index in here]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, predictions.arguments(sys.argv[1:]))
