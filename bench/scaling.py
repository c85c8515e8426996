"""How the time of our update grows with G, V, L and the number of groups, against what the FLOPs say.

    python -m bench.scaling [rounds=3] [svg=docs/scaling.svg] [json=FILE]

One of the four is varied at a time. Fitted by least squares: seconds = a (visual tokens) + b (text tokens) + c, with
every prompt counted once (P + G L); and the same with every prompt counted G times (G (P + L)), which is what the cost
would be if prompts were forwarded with every completion. a / b is compared with the FLOPs of a visual and a text token.
"""
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench import measure
from bench.sides import Job, Ours
from bench.workload import Workload, packed_flops
from gre.config import main, option
from gre.models.shapes import Shape

SHAPE = Shape(192, 512, 4, 4, 2, 1000, True, 96, 48, 4, 1)
BASE = Workload(SHAPE, (24, 24), 40, 60, 8)
VARIED = {
    "G": [replace(BASE, generations=count) for count in (2, 4, 8, 16)],
    "V": [replace(BASE, grid=(side, side)) for side in (12, 24, 36, 48)],
    "L": [replace(BASE, length=length) for length in (15, 30, 60, 120)],
    "groups": [replace(BASE, groups=count) for count in (1, 2, 3, 4)],
}


@dataclass
class Config:
    """What is measured."""

    rounds: int = option(3, "rounds over all shapes; the median counts")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    svg: str = option("", "file for the plot")
    json: str = option("", "file for the result")


def run(config: Config) -> None:
    """Measure, fit, plot and print."""
    torch.set_num_threads(config.threads)
    works = list(dict.fromkeys(work for row in VARIED.values() for work in row))
    with tempfile.TemporaryDirectory() as folder:
        sides = {str(number): _step(work, Path(folder) / str(number)) for number, work in enumerate(works)}
        for step in sides.values():
            step()  # the first time is slower
        seconds = measure.interleave(sides, config.rounds, measure.clock("cpu", config.threads))
    medians = {work: float(np.median(seconds[str(number)])) for number, work in enumerate(works)}
    result = {"all": {**fits(medians), "seconds": {
        name: {str(value(name, work)): round(medians[work], 4) for work in row} for name, row in VARIED.items()},
        **measure.origin("bench.scaling")}}
    measure.write(config.json, result)
    print(json.dumps(result, indent=2))
    if config.svg:
        Path(config.svg).write_text(plot(medians), encoding="utf-8")


def _step(work: Workload, folder: Path):
    side = Ours(Job(work, "cpu", folder))
    return lambda: side.step(learn=False)


def value(name: str, work: Workload) -> int:
    """What is varied, of a workload."""
    return {"G": work.generations, "V": work.visual, "L": work.length, "groups": work.groups}[name]


def tokens(work: Workload, times: int = 1) -> list[float]:
    """Visual tokens, text tokens and 1; times: how often a prompt is counted."""
    return [times * work.groups * work.visual, times * work.groups * work.text + sum(map(sum, work.lengths())), 1.0]


def fits(medians: dict[Workload, float]) -> dict:
    """Microseconds a token, the ratio of both kinds, and the share of the spread each formula leaves unexplained."""
    measured, result = np.array(list(medians.values())), {}
    for name, times in (("shared", lambda work: 1), ("repeated", lambda work: work.generations)):
        rows = np.array([tokens(work, times(work)) for work in medians])
        found = np.linalg.lstsq(rows, measured, rcond=None)[0]
        left = ((measured - rows @ found) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()
        result[name] = {"visual_us": round(found[0] * 1e6, 2), "text_us": round(found[1] * 1e6, 2),
                        "constant_s": round(found[2], 4), "visual_over_text": round(found[0] / found[1], 3),
                        "unexplained": round(left, 4)}
    visual, text = token_flops()
    return {**result, "visual_over_text_by_flops": round(visual / text, 3)}


def token_flops() -> tuple[float, float]:
    """FLOPs of one more visual and one more scored text token, attention included, around BASE."""
    lengths = [[BASE.length] * BASE.generations]

    def flops(visual: int, longer: int) -> float:
        return packed_flops(SHAPE, 4 * visual, visual + BASE.text, [[length + longer for length in lengths[0]]])

    here = flops(BASE.visual, 0)
    return (flops(BASE.visual + 10, 0) - here) / 10, (flops(BASE.visual, 1) - here) / BASE.generations


def plot(medians: dict[Workload, float]) -> str:
    """Four panels: measured seconds, the fitted line of each formula."""
    width, height, left, top = 190, 180, 44, 40
    fitted = {}
    for name, times in (("shared", lambda work: 1), ("repeated", lambda work: work.generations)):
        rows = np.array([tokens(work, times(work)) for work in medians])
        found = np.linalg.lstsq(rows, np.array(list(medians.values())), rcond=None)[0]
        fitted[name] = dict(zip(medians, rows @ found, strict=True))
    highest = max(medians.values()) * 1.1
    parts = []
    for column, (name, row) in enumerate(VARIED.items()):
        at = left + column * (width + 20)
        last = value(name, row[-1])

        def point(work: Workload, seconds: float, at=at, name=name, last=last) -> tuple[float, float]:
            return at + value(name, work) / last * width, top + height * (1 - max(seconds, 0) / highest)

        parts.append(f'<path class="grid" d="M{at},{top}V{top + height}H{at + width}"/>')
        parts.append(f'<text class="title" x="{at + width / 2}" y="{top - 12}" text-anchor="middle">{name}</text>')
        for kind, line in fitted.items():
            path = "L".join("{:.1f},{:.1f}".format(*point(work, line[work])) for work in row)
            parts.append(f'<path class="{kind}" d="M{path}"/>')
        for work in row:
            x, y = point(work, medians[work])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/><text x="{x:.1f}" y="{top + height + 16}" '
                         f'text-anchor="middle">{value(name, work)}</text>')
    parts.append(f'<text x="{left - 6}" y="{top + 4}" text-anchor="end">{highest:.1f} s</text>'
                 f'<text x="{left - 6}" y="{top + height}" text-anchor="end">0</text>'
                 f'<text x="{left}" y="{top + height + 44}">dots: measured; line: a V + b text + c with each prompt '
                 'once (P + G L); dashed: the same with each prompt G times, G (P + L)</text>')
    style = ("text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}"
             ".grid{stroke:#bbb;fill:none}.shared{fill:none;stroke:#0a6;stroke-width:2}.repeated{fill:none;stroke:#b33;stroke-width:2;"
             "stroke-dasharray:6 4}circle{fill:#222}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 4 * (width + 20)} {top + height + 60}" '
            f'role="img" aria-label="How an update\'s time grows"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


if __name__ == "__main__":
    main(run, Config, __doc__)
