"""The table of our numbers beside the published ones, as rows of text and as Markdown. Nothing in it is typed."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.benchmarks import published
from eval.scoring import printed
from gre.config import UserError
from gre.geo.accuracy import THRESHOLDS_KM

HEAD = ("system", *(f"≤ {km} km" for km in THRESHOLDS_KM), "n", "protocol", "command or source")
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
    bench = benchmark(scores)
    return [_ours(one) for one in scores] + ([_theirs(row) for row in published.read(bench) if row.cot_score is None]
                                             if bench else [])


def markdown(scores: Sequence[Mapping]) -> str:
    """The table with a heading."""
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"

    return (f"## {benchmark(scores) or 'Own data'}\n\n" + line(HEAD) + "|---" * len(HEAD) + "|\n"
            + "".join(map(line, rows(scores)))
            + "\nPercent of photos. Ours with 95 % intervals over clusters; where others give none, gaps of a few "
              "points may be luck.\n")


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


def _theirs(row: published.Published) -> list[str]:
    marks = [mark for mark in (row.note, "" if row.comparable else "not comparable") if mark]
    return [row.system + (f" ({'; '.join(marks)})" if marks else ""),
            *(NOT_GIVEN if share is None else f"{share:g}" for share in row.within_percent), NOT_GIVEN, row.protocol,
            f"reported by {row.reported_by}: {row.source}"]
