"""The page about one benchmark that eval.compare writes. Self-contained: no script, no network; what models wrote is
escaped.

Our numbers beside the published ones, curves of accuracy over distance, the quality of the chains where it was scored,
a map of medians by country and one of errors for each model, and photos with what every model said about them side by
side, the cues of the chains marked: the best and the worst of the first model.
"""
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from eval.benchmarks import reader
from eval.drawing import charts, cues, heat, photos, tables, worldmap
from eval.drawing.cues import Cues
from eval.predictions import Prediction
from eval.scoring import peers, printed
from gre.geo import land
from gre.geo.accuracy import THRESHOLDS_KM


def page(scores: Sequence[Mapping], answers: Mapping[str, Sequence[Prediction]], known: Mapping[str, Cues],
         images: str, count: int) -> str:
    """The whole document.

    answers: model → rows. known: model → row id → cues. images: folder of the photos; empty: the benchmark's own.
    count: best, and as many worst, photos shown.
    """
    style = resources.files("eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
    title = peers.benchmark(scores) or "Own data"
    sections = [f"<h1>{escape(title)}</h1>", "<h2>Beside what others reported</h2>", standing(scores),
                "<h2>Accuracy over distance</h2>", "<div class='grid2'>", charts.accuracy(
                    "Photos within a distance",
                    {name: [row.error_km for row in rows] for name, rows in answers.items()}, THRESHOLDS_KM), "</div>",
                *chains(scores), "<h2>By country</h2>", heat.explained(), land.symbol()]
    for name, rows in answers.items():
        heats = heat.by_country(rows)
        sections += ["<div class='grid2'>", heat.figure(name, heats), worldmap.errors(name, rows), "</div>",
                     heat.table(heats)]
    sections += best_and_worst(answers, known, pictures(images, title), count)
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(title)}</title><style>{style}</style></head><body>" + "\n".join(sections)
            + "</body></html>\n")


def pictures(images: str, benchmark: str) -> Path | None:
    """The folder of the photos; None where there is none."""
    folder = Path(images or reader.known().get(benchmark, {}).get("images", ""))
    return folder if images or folder.parts and folder.is_dir() else None


def best_and_worst(answers: Mapping[str, Sequence[Prediction]], known: Mapping[str, Cues], folder: Path | None,
                   count: int) -> list[str]:
    """The photos the first model located best and worst, with what all of them said."""
    first, rows = next(iter(answers.items()))
    if folder is None:
        return [f"<p>No photos: images= names the folder that those of {escape(first)} are in.</p>"]
    sections = [cues.explained(known=any(known.values()), unknown=not all(known.values()))]
    for label, indices in zip(("Best", "Worst"), photos.best_and_worst(rows, count)):
        sections += [f"<h2>{label} of {escape(first)}</h2>", photos.side_by_side(answers, folder, indices, known)]
    return sections


def chains(scores: Sequence[Mapping]) -> list[str]:
    """The quality of the chains, a column a model; of GREval-Bench, that it was left out."""
    found = {peers.name(one): one["chain"] for one in scores if one.get("chain")}
    if not found:
        return [f"<p>{escape(printed.CHAIN_LEFT_OUT)}</p>"] if peers.benchmark(scores) == reader.GREVAL else []
    rows = [(escape(title), *(f"{printed.chain_shown(estimate)} n {estimate['n']}" if estimate else "–"
                              for estimate in (chain["all"].get(measure) for chain in found.values())))
            for measure, title in printed.CHAIN_SHOWN.items()]
    made = "; ".join(
        f"{escape(name)}: {escape(printed.chain_made_with(chain))}, commit {escape(chain['commit'][:12])}, "
        f"{chain['empty_chains']} of {chain['n']} chains empty (0)" for name, chain in found.items())
    others = "; ".join(f"{escape(row['system'])} {row['cot_score']:g}"
                       for row in next(iter(found.values()))["published_not_comparable"])
    headlines = [f"<p>{escape(name)}: {escape(printed.chain_headline(chain))}.</p>" for name, chain in found.items()]
    return ["<h2>Quality of the chains</h2>", *headlines, tables.table(("", *found), rows),
            f"<p class='soft'>95 % intervals over clusters. {made}. Published and not comparable: {others}.</p>"]


def standing(scores: Sequence[Mapping]) -> str:
    """The table of `peers` as HTML, intervals in small print."""
    def cell(text: str) -> str:
        shown = escape(text).replace("**", "").replace("`", "")
        return re.sub(r"^([\d.]+) \((.*)\)$", r"\1<small>\2</small>", shown)

    return tables.table(peers.HEAD, [[cell(text) for text in row] for row in peers.rows(scores)], style="prose")
