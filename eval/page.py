"""One page about one benchmark: `python -m eval.page scores=[A.json,B.json] images=DIR out=report.html`.

From what eval.score wrote with out=, and the prediction files it names (checked by their hash): our numbers beside the
published ones, a map of medians by country and one of errors for each model, and photos with what every model said
about them side by side: the best and the worst of the first model. Self-contained: no script, no network; what models
wrote is escaped.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from eval import heat, peers, photos, predictions, tables, worldmap
from eval.predictions import Prediction
from gre import provenance
from gre.config import REQUIRED, UserError, main, option


@dataclass
class Config:
    scores: list[str] = option(REQUIRED, "files that eval.score wrote with out=, such as scores=[a.json,b.json]")
    out: str = option(REQUIRED, "HTML file to write")
    images: str = option("", "folder that the predictions' pictures are relative to; empty: no photos")
    photos: int = option(4, "best, and as many worst, photos shown")


def run(config: Config) -> None:
    """Write the page. Raises UserError for scores whose predictions are gone or were altered, and for models that did
    not answer the same rows."""
    scores = list(map(peers.read, config.scores))
    answers = {name: rows for name, rows in map(answered, scores)}
    if len(answers) < len(scores):
        raise UserError(f"two of {', '.join(config.scores)} are of prediction files with the same name: rename one")
    first, *others = answers
    for other in others:
        predictions.check_same_rows(answers[first], answers[other], (first, other))
    provenance.write_atomically(Path(config.out), page(scores, answers, config))


def answered(scores: Mapping) -> tuple[str, list[Prediction]]:
    """(name, rows) of the prediction file that scores were made from."""
    file = scores["files"]["predictions"]
    path = Path(file["path"])
    if not path.exists() or provenance.file_hash(path) != file["sha256"]:
        raise UserError(f"{path} is gone or is not the file that was scored: run this from the folder eval.score ran "
                        "in, or score it again")
    return peers.name(scores), predictions.read(path)


def page(scores: Sequence[Mapping], answers: Mapping[str, Sequence[Prediction]], config: Config) -> str:
    """The whole document."""
    style = resources.files("eval").joinpath("report.css").read_text(encoding="utf-8")
    title = peers.benchmark(scores) or "Own data"
    sections = [f"<h1>{escape(title)}</h1>", "<h2>Beside what others reported</h2>", standing(scores),
                "<h2>By country</h2>", heat.explained(), worldmap.land()]
    for name, rows in answers.items():
        heats = heat.by_country(rows)
        sections += ["<div class='grid2'>", heat.figure(name, heats), worldmap.errors(name, rows), "</div>",
                     heat.table(heats)]
    if config.images:
        for label, indices in zip(("Best", "Worst"), photos.best_and_worst(next(iter(answers.values())),
                                                                           config.photos)):
            sections += [f"<h2>{label} of {escape(next(iter(answers)))}</h2>",
                         photos.side_by_side(answers, Path(config.images), indices)]
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(title)}</title><style>{style}</style></head><body>" + "\n".join(sections)
            + "</body></html>\n")


def standing(scores: Sequence[Mapping]) -> str:
    """The table of eval.peers as HTML."""
    return tables.table(peers.HEAD, [[escape(cell).replace("**", "").replace("`", "") for cell in row]
                                     for row in peers.rows(scores)], style="prose")


if __name__ == "__main__":
    main(run, Config, __doc__, lambda config: {"reads": config.scores, "writes": [config.out]})
