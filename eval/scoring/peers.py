"""The table of our numbers beside the published ones, as rows of text and as Markdown. Nothing in it is typed."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.benchmarks import published
from eval.scoring import export, printed
from gre.config import UserError
from gre.geo.accuracy import THRESHOLDS_KM

HEAD = ("system", *(f"≤ {km} km" for km in THRESHOLDS_KM), "n", "protocol", "command or source")
MEASURES = (*(f"within_{km}_km" for km in THRESHOLDS_KM), "geoscore", "median_km", "mean_km")
CSV_HEAD = ("system", "reported_by", *(f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")), "n",
            "effective_clusters", "note", "protocol", "source")
NOT_GIVEN = "–"


def benchmark(scores: Sequence[Mapping]) -> str | None:
    """The benchmark that all of them are of; None where none is named. UserError where they differ."""
    names = {printed.benchmark(score) for score in scores}
    if len(names) > 1:
        raise UserError(f"the scores are of different benchmarks ({', '.join(map(str, names))}): one table each")
    return names.pop()


def name(scores: Mapping) -> str:
    """A file of ours by the path of its predictions."""
    return Path(scores["files"]["predictions"]["path"]).with_suffix("").name


def rows(scores: Sequence[Mapping]) -> list[list[str]]:
    """The table's rows, ours first, as text in the order of HEAD."""
    return [_ours(one) for one in scores] + [_theirs(row) for row in others(scores)]


def markdown(scores: Sequence[Mapping]) -> str:
    """The table with a heading."""
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"

    return (f"## {benchmark(scores) or 'Own data'}\n\n" + line(HEAD) + "|---" * len(HEAD) + "|\n"
            + "".join(map(line, rows(scores)))
            + "\nPercent of photos. Ours with 95 % intervals over clusters; where others give none, gaps of a few "
              "points may be luck.\n")


def table(scores: Sequence[Mapping], path: Path) -> str:
    """The table in the form of a file: .csv, .tex or .md. UserError for another."""
    if path.suffix == ".csv":
        return export.csv_text(CSV_HEAD, [*map(_ours_csv, scores), *map(_theirs_csv, others(scores))])
    if path.suffix == ".tex":
        return export.latex(HEAD, [[cell.replace("**", "").replace("`", "") for cell in row] for row in rows(scores)])
    if path.suffix == ".md":
        return markdown(scores)
    raise UserError(f"table={path}: name a .md, .csv or .tex file")


def others(scores: Sequence[Mapping]) -> list[published.Published]:
    """The published rows of the benchmark that the scores are of."""
    bench = benchmark(scores)
    return [row for row in published.read(bench) if row.cot_score is None] if bench else []


def _ours_csv(scores: Mapping) -> list:
    estimates = [scores["all"]["predictions"][measure] for measure in MEASURES]
    _, *_, protocol, command = _ours(scores)
    return [name(scores), "ours", *(one[key] for one in estimates for key in ("value", "low", "high")), scores["n"],
            estimates[0]["effective_clusters"], printed.incomplete(scores), protocol, command]


def _theirs_csv(row: published.Published) -> list:
    system, *_, protocol, source = _theirs(row)
    shares = [None if share is None else share / 100 for share in row.within_percent]
    values = [*shares, None, None, row.mean_km]
    return [row.system, row.reported_by, *(cell for value in values for cell in (value, None, None)), None, None,
            system.removeprefix(row.system).strip(" ()"), protocol, source]


def _ours(scores: Mapping) -> list[str]:
    protocol = scores["protocol"]
    distance = f"{protocol['within']} on a {protocol['distance']}"
    how = "; ".join(filter(None, [protocol["answer"], printed.asked(scores), printed.decoding(scores), distance]))
    incomplete = printed.incomplete(scores)
    return [f"**ours: {name(scores)}**" + (f" ({incomplete})" if incomplete else ""),
            *(_interval(scores["all"]["predictions"][f"within_{km}_km"]) for km in THRESHOLDS_KM), f"{scores['n']:,}",
            f"{how}; unread answers are wrong: {printed.unparsed(scores)}",
            f"`{scores['command']}`, commit {scores['commit'][:12]}"]


def _interval(estimate: Mapping) -> str:
    return f"{printed.percent(estimate['value'])} ({printed.between(estimate, printed.percent)})"


def _percent(share: float) -> str:
    """As published, with a decimal at least: 28.0, 0.05."""
    return f"{share:g}" if "." in f"{share:g}" else f"{share:.1f}"


def _theirs(row: published.Published) -> list[str]:
    marks = [mark for mark in (row.note, "" if row.comparable else "not comparable") if mark]
    return [row.system + (f" ({'; '.join(marks)})" if marks else ""),
            *(NOT_GIVEN if share is None else _percent(share) for share in row.within_percent), NOT_GIVEN, row.protocol,
            f"{row.paper}; reported by {row.reported_by}, table {row.table}: {row.source}"]
