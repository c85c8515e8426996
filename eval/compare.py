"""Our numbers beside the published ones: `python -m eval.compare scores=[A.json,B.json] [table=FILE.md] [page=F.html]`.

From what eval.score wrote with out=. Printed, and written with table=: one table, ours with interval, n, protocol and
command, others' as eval/benchmarks/published.yaml has them (eval/scoring/peers.py); nothing is typed. With page=, one
page about the benchmark (eval/drawing/page.py): that table, the quality of the chains where it was scored, maps, and
the best and the worst photos of the first model. With pairs= or seeds=, what only several models can say
(eval/scoring/several.py). Both need the prediction files that the scores name, checked by their hash.
"""
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import predictions
from eval.drawing import cues, page
from eval.predictions import Prediction
from eval.scoring import columns, peers, printed, several
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data.annotations import Indicator


@dataclass
class Config:
    scores: list[str] = option(REQUIRED, "files that eval.score wrote with out=, such as scores=[a.json,b.json]")
    table: str = option("", "file for the table: .md, .csv (numbers at full precision) or .tex; empty: only print")
    pairs: list[str] = option([], "measures to test every pair of models by, such as pairs=[geoscore,within_25_km], "
                              "with Holm over all of it; empty: no tests")
    seeds: bool = option(False, "the scores are of seeds of one model: mean, spread, interval over seeds and places")
    out: str = option("", "JSON file for pairs and seeds; empty: only print")
    page: str = option("", "HTML file for the page; empty: none")
    images: str = option("", "folder that the predictions' photos are relative to; empty: where benchmarks.yaml "
                         "says, and no photos where that is not there")
    photos: int = option(4, "best, and as many worst, photos shown on the page")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": config.scores, "writes": [*filter(None, [config.table, config.page, config.out])]}


def run(config: Config) -> None:
    """Print the table; write it and the page where they are asked for.

    Raises UserError for a file without scores, for two benchmarks in one table and, with page=, for scores whose
    predictions are gone or were altered and for models that did not answer the same rows.
    """
    several.check_measures(config.pairs)
    scores = list(map(read, config.scores))
    table = peers.markdown(scores)
    if config.table:
        provenance.write_atomically(Path(config.table), peers.table(scores, Path(config.table)))
    if config.page:
        answers, known = {}, {}
        for path, one in zip(config.scores, scores):
            answers[peers.name(one)], known[peers.name(one)] = answered(one, Path(path).parent)
        if len(answers) < len(scores):
            raise UserError(f"two of {', '.join(config.scores)} are of prediction files with the same name: rename one")
        first, *others = answers
        for other in others:
            predictions.check_same_rows(answers[first], answers[other], (first, other))
        provenance.write_atomically(Path(config.page), page.page(scores, answers, known, config.images, config.photos))
    tests = tested(config, scores) if config.pairs or config.seeds else {}
    if config.out:
        provenance.write_atomically(Path(config.out), json.dumps(tests, indent=2, allow_nan=False) + "\n")
    print(table, end="")
    printed.show_several(tests)


def tested(config: Config, scores: Sequence[Mapping]) -> dict:
    """What is asked of more than one model: {"pairs": …, "seeds": …, "commit", "command", "draws", "seed"}."""
    if named := [one for one in scores if not one["protocol"]["answer"].startswith("coordinates")]:
        raise UserError(f"{peers.name(named[0])} is scored by names: compare two such files with eval.score other=…")
    files = {peers.name(one): columns.read(unaltered(one["files"]["predictions"], Path(path).parent))
             for path, one in zip(config.scores, scores)}
    if len(files) < len(scores):
        raise UserError(f"two of {', '.join(config.scores)} are of prediction files with the same name: rename one")
    draws, seed = (scores[0]["protocol"][key] for key in ("draws", "seed"))
    return {"commit": provenance.commit(), "command": shlex.join(["python", "-m", "eval.compare", *sys.argv[1:]]),
            "draws": draws, "seed": seed,
            "pairs": several.pairs(files, config.pairs, draws, seed) if config.pairs else [],
            "seeds": several.seeds(files, draws, seed) if config.seeds else {}}


def read(path: str | Path) -> dict:
    """What eval.score wrote. Raises UserError for another file."""
    try:
        scores = json.loads(Path(path).read_text(encoding="utf-8"))
        scores["files"]["predictions"]["from_scores"], scores["protocol"]["answer"]
        scores["all"]["predictions"]["within_1_km"]["effective_clusters"]
        return scores
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no scores ({type(error).__name__}: {error}): write it with eval.score … out="
                        f"{path}") from None


def answered(scores: Mapping, folder: Path) -> tuple[list[Prediction], dict[str, list[Indicator]]]:
    """(rows, cues of those whose indicators are known) of the prediction file that scores were made from.
    folder: of the scores."""
    path = unaltered(scores["files"]["predictions"], folder)
    rows, known = [], {}
    for row, fields in predictions.stream(path):
        rows.append(row)
        if (own := cues.read(fields, f"{path} row {row.id}")) is not None:
            known[row.id] = list(own)
    if chain := scores.get("chain"):
        text = unaltered(chain["files"]["rows"], folder).read_text(encoding="utf-8")
        for line in text.removesuffix("\n").split("\n"):
            fields = json.loads(line)
            known[fields["id"]] = [Indicator(**one) for one in fields["indicators"] + fields["naming"]]
    return rows, known


def unaltered(file: Mapping, folder: Path) -> Path:
    """The path of a file that scores in `folder` were made from. Raises UserError for one that is gone or another."""
    path = Path(os.path.normpath(folder / file["from_scores"]))
    if not path.exists() or provenance.file_hash(path) != file["sha256"]:
        raise UserError(f"{path} is gone or is not the file that was scored: scores and predictions move together; put "
                        "it back, or score it again")
    return path


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
