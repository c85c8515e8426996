"""One photo of a finished quickstart as a page of its own: what two checkpoints said about it, and both answers on a
map. README's picture is a screenshot of it, which scripts/pictures.sh takes.

    python -m eval.drawing.example run=runs/quickstart data=runs/quickstart/data out=example.html [row=ID]
"""
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from eval import predictions
from eval.drawing import photos, worldmap
from eval.predictions import Prediction
from gre.config import REQUIRED, UserError, main, option
from gre.geo import land

FIRST, LAST = "stage1", "stage3"


@dataclass
class Config:
    run: str = option(REQUIRED, "the run's folder, with predictions/")
    data: str = option(REQUIRED, "the data folder")
    out: str = option(REQUIRED, "the page")
    row: str = option("", f"the photo; empty: the first that {FIRST} misses by most and {LAST} finds")


def run(config: Config) -> None:
    """Write the page. Raises UserError where there is no such photo."""
    answers = {name: predictions.read(Path(config.run) / "predictions" / f"{name}.jsonl") for name in (FIRST, LAST)}
    at = index_of(answers[FIRST], config.row) if config.row else repaired(answers[FIRST], answers[LAST])
    Path(config.out).write_text(page(answers, at, Path(config.data) / "test"), encoding="utf-8")
    print(f"{config.out}: {answers[FIRST][at].id}")


def index_of(rows: Sequence[Prediction], row_id: str) -> int:
    """The place of a row."""
    for index, row in enumerate(rows):
        if row.id == row_id:
            return index
    raise UserError(f"no row {row_id}: the predictions hold {rows[0].id} and {len(rows) - 1} others")


def repaired(before: Sequence[Prediction], after: Sequence[Prediction]) -> int:
    """The place of the photo that was missed by most, of those that are now found within 25 km. UserError: there is
    none."""
    found = [index for index, row in enumerate(after) if row.error_km is not None and row.error_km <= 25
             and before[index].error_km is not None]
    if not found:
        raise UserError(f"{LAST} finds no photo within 25 km: name one by row=ID")
    return max(found, key=lambda index: before[index].error_km)


def page(answers: dict[str, list[Prediction]], at: int, images: Path) -> str:
    """The document. images: the folder the rows' images are relative to."""
    style = resources.files("eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
    maps = "".join(worldmap.errors(name, [rows[at]]) for name, rows in answers.items())
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'><title>one photo</title><style>" + style
            + "body { padding: 1rem; } path.arc { stroke-width: 1.2; opacity: 1; }</style></head><body>"
            + photos.side_by_side(answers, images, [at]) + land.symbol() + f"<div class='grid2'>{maps}</div>"
            + "</body></html>\n")


if __name__ == "__main__":
    main(run, Config, __doc__)
