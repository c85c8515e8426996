"""Tables for other programs: CSV with every number at full precision, and LaTeX (booktabs) with intervals."""
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.scoring import printed
from eval.scoring.columns import Columns
from gre import provenance
from gre.geo.accuracy import geoscore

HEAD = ("group", "label", "model", "measure", "value", "low", "high", "effective_clusters", "n", "clusters")
COUNTED = ("unparsed", "refused", "filtered", "cut_off")  # answers
WIDE = ("within_1_km", "within_25_km", "within_200_km", "within_750_km", "within_2500_km", "geoscore", "median_km")
WIDE_HEAD = ("", "model", "n", *(printed.SHOWN[measure] for measure in WIDE))
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "≤": r"$\leq$",
            "–": "--", **{sign: "\\" + sign for sign in "&%$#_{}"}}


def write(folder: Path, scores: Mapping, files: Mapping[str, Columns]) -> None:
    """scores.csv: every number of eval.score, a line each, with how many answers cannot be read and why. all.tex,
    slices.tex and names.tex: what it prints. distances.csv: every row of every file."""
    blocks = [("all", "", scores["all"]), *(("slice " + field, label, block) for field, labels in
                                            scores["slices"].items() for label, block in labels.items()),
              *(("name " + way, level, block) for way, levels in scores["names"].items()
                for level, block in levels.items())]
    models = [*files, *(["difference"] if len(files) == 2 else [])]
    _write(folder / "scores.csv", csv_text(HEAD, [
        *(("all", "", model, reason, scores[reason][model], None, None, None, scores["n"], None)
          for reason in COUNTED for model in files),
        *((group, label, model, measure, *(one[key] for key in ("value", "low", "high", "effective_clusters")),
           block["n"], block["clusters"])
          for group, label, block in blocks for model in models for measure, one in block[model].items())]))
    _write(folder / "all.tex", latex((*WIDE_HEAD, "unparsed"), [
        [*_wide("all", model, scores["all"]), printed.unparsed(scores, model) if model in files else ""]
        for model in models]))
    rows = [_wide(label, model, block) for group, label, block in blocks if group.startswith("slice")
            for model in models]
    if rows:
        _write(folder / "slices.tex", latex(WIDE_HEAD, rows))
    rows = [[group.removeprefix("name "), label, model, str(block["n"]),
             printed.shown(block[model][f"{label}_right"], "within")]
            for group, label, block in blocks if group.startswith("name ") for model in models]
    if rows:
        _write(folder / "names.tex", latex(("compared", "level", "model", "n", "right"), rows))
    _write(folder / "distances.csv", csv_text(
        ("model", "id", "gt_lat", "gt_lon", "lat", "lon", "distance_km", "geoscore"),
        [(name, key[0], *key[2:], *(answer or ("", "")), "" if answer is None else distance,
          geoscore(None if answer is None else distance))
         for name, file in files.items()
         for key, answer, distance in zip(file.keys, file.answers, file.distance_km.tolist())]))


def _wide(label: str, model: str, block: Mapping) -> list[str]:
    return [label, model, str(block["n"]), *(printed.shown(block[model][measure], measure) for measure in WIDE)]


def csv_text(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """CSV; None is an empty field."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([head, *rows])
    return stream.getvalue()


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A tabular environment for booktabs."""
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_SPECIAL.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    return "\n".join([r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", line(head), r"\midrule",
                      *map(line, rows), r"\bottomrule", r"\end{tabular}", ""])


def _write(path: Path, text: str) -> None:
    provenance.write_atomically(path, text)
