"""How time and memory of our update grow with G, V, L and the number of groups, against what the FLOPs say.

    python -m bench.scaling [rounds=5] [svg=docs/scaling.svg] [--json FILE]

One of the four is varied at a time. Fitted by least squares: cost = a (visual tokens) + b (text tokens) + c, with every
prompt counted once (P + G L); and the same with every prompt counted G times (G (P + L)), which is what the cost would
be if prompts were forwarded with every completion. Time is counted over a step; memory over its largest micro-batch, so
that it need not grow with the number of groups. Plain padded rows make the same steps, and their time over ours is
put beside (P + L + w V) / (L + (P + w V) / G), where w is what the vision tower does for a visual token over what the
text layers do for a token: attention among text and the output head are left out, as is what does not grow.
"""
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench import measure
from bench.sides import SIDES, Job, Outcome, peak, same
from bench.workload import Workload
from gre.config import option
from gre.models.shapes import Shape
from gre.plan.memory import Batch
from gre.plan.work import forward_flops

SHAPE = Shape(192, 512, 4, 4, 2, 1000, True, 96, 48, 4, 1)
BASE = Workload(SHAPE, (24, 24), 40, 60, 8)
VARIED = {
    "G": [replace(BASE, generations=count) for count in (2, 4, 8, 16)],
    "V": [replace(BASE, grid=(side, side)) for side in (12, 24, 36, 48)],
    "L": [replace(BASE, length=length) for length in (15, 30, 60, 120)],
    "groups": [replace(BASE, groups=count) for count in (1, 2, 3, 4)],
}
WORKS = list(dict.fromkeys(work for row in VARIED.values() for work in row))
FORMULAS: dict[str, Callable[[Workload], int]] = {  # how often a prompt is counted
    "shared": lambda work: 1, "repeated": lambda work: work.generations}
WIDTH, HEIGHT, LEFT, TOP, GAP = 190, 150, 60, 40, 60  # of a panel of the plot


@dataclass
class Config:
    """What is measured."""

    rounds: int = option(5, "rounds over all shapes; the median counts")
    memory: bool = option(True, "measure peak memory as well, a fresh process a shape")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    svg: str = option("", "file for the plot")
    json: str = option("", "file for the result")
    peak_of: int = option(-1, "only measure the peak memory of this shape, in this process: what the command calls")


def run(config: Config) -> None:
    """Measure, fit, plot and print."""
    torch.set_num_threads(config.threads)
    if config.peak_of >= 0:
        print(json.dumps(peak("ours", WORKS[config.peak_of], "cpu")))
        return
    seconds = measured_seconds(WORKS, config.rounds, measure.clock("cpu", config.threads))
    ours = {work: float(np.median(found["ours"])) for work, found in seconds.items()}
    costs, ratios = {"seconds": ours}, {work: measure.ratio(found["plain"], found["ours"])["median"]
                                        for work, found in seconds.items()}
    if config.memory:
        costs["mib"] = {work: measure.peak_memory(["bench.scaling", f"peak_of={number}"])["above_models"]
                        for number, work in enumerate(WORKS)}
    result = {"all": {
        "vision_weight_by_flops": round(vision_weight(SHAPE, BASE.patches), 3),
        **{f"fits_of_{unit}": fits(cost, unit == "mib") for unit, cost in costs.items()},
        **{unit: by_shape(cost) for unit, cost in costs.items()},
        "ratio_vs_plain": by_shape(ratios), "ratio_by_formula": by_shape({work: formula(work) for work in WORKS}),
        "parameters": SHAPE.parameters, **measure.origin("bench.scaling")}}
    measure.write(config.json, result)
    print(json.dumps(result, indent=2))
    if config.svg:
        Path(config.svg).write_text(plot(costs), encoding="utf-8")


def measured_seconds(works: list[Workload], rounds: int, now: Callable[[], float]) -> dict[Workload, dict]:
    """Seconds of every round by shape, then by side; a round is all shapes. Both sides must compute the same."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for number, work in enumerate(works):
            job = Job(work, "cpu", Path(folder) / str(number))
            sides |= {(number, name): SIDES[name](job) for name in ("ours", "plain")}

        def check(outcomes: dict[tuple, Outcome]) -> None:
            for number in range(len(works)):
                same({name: outcomes[number, name] for name in ("ours", "plain")})

        seconds = measure.interleave({key: partial(side.step, learn=False) for key, side in sides.items()}, rounds, now,
                                     lambda key: sides[key].select(), check)
    return {work: {name: seconds[number, name] for name in ("ours", "plain")} for number, work in enumerate(works)}


def by_shape(values: dict[Workload, float]) -> dict[str, dict[str, float]]:
    """Numbers by what is varied, then by its value."""
    return {name: {str(value(name, work)): round(values[work], 4) for work in row} for name, row in VARIED.items()}


def value(name: str, work: Workload) -> int:
    """What is varied, of a workload."""
    return {"G": work.generations, "V": work.visual, "L": work.length, "groups": work.groups}[name]


def tokens(work: Workload, times: int, at_once: bool) -> list[float]:
    """Visual tokens, text tokens and 1; times: how often a prompt is counted; at_once: of the largest micro-batch,
    which is one group, rather than of the step."""
    lengths = [sum(group) for group in work.lengths()]
    groups, answers = (1, max(lengths)) if at_once else (work.groups, sum(lengths))
    return [times * groups * work.visual, times * groups * work.text + answers, 1.0]


def fit(cost: dict[Workload, float], times: Callable[[Workload], int], at_once: bool) -> tuple[np.ndarray, np.ndarray]:
    """(a, b, c) and the fitted cost of every shape."""
    rows = np.array([tokens(work, times(work), at_once) for work in cost])
    found = np.linalg.lstsq(rows, np.array(list(cost.values())), rcond=None)[0]
    return found, rows @ found


def fits(cost: dict[Workload, float], at_once: bool = False) -> dict:
    """Per formula: a million times a and b, c, a / b - 1, which is w, and the share of the spread left unexplained."""
    measured, result = np.array(list(cost.values())), {}
    for name, times in FORMULAS.items():
        (visual, text, constant), line = fit(cost, times, at_once)
        left = ((measured - line) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()
        result[name] = {"a_visual_e-6": round(visual * 1e6, 2), "b_text_e-6": round(text * 1e6, 2),
                        "c": round(constant, 4), "vision_weight": round(visual / text - 1, 3),
                        "unexplained": round(left, 4)}
    return result


def vision_weight(shape: Shape, patches: int) -> float:
    """w: FLOPs of the vision tower for a visual token, in those of the text layers for a token without attention."""
    tower = forward_flops(shape, Batch(1, 1, patches, 0, 0, 0)) / (patches / 4)
    return tower / (2 * shape.layers * shape.layer_parameters)


def formula(work: Workload) -> float:
    """Padded rows over shared prompts, attention and head left out; L is the mean, without padding."""
    prompt = work.prompt + vision_weight(work.shape, work.patches) * work.visual
    return (prompt + work.length) / (work.length + prompt / work.generations)


def plot(costs: dict[str, dict[Workload, float]]) -> str:
    """Four panels a unit: what was measured, and the fitted line of each formula."""
    parts = []
    for number, (unit, cost) in enumerate(costs.items()):
        parts += _panels(unit, cost, TOP + number * (HEIGHT + GAP))
    bottom = TOP + len(costs) * (HEIGHT + GAP)
    parts.append(f'<text x="{LEFT}" y="{bottom}">dots: measured; line: a V + b text + c with each prompt once '
                 '(P + G L); dashed: the same with each prompt G times, G (P + L)</text>')
    style = ("text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.grid{stroke:#bbb;"
             "fill:none}.shared{fill:none;stroke:#0a6;stroke-width:2}.repeated{fill:none;stroke:#b33;stroke-width:2;"
             "stroke-dasharray:6 4}circle{fill:#222}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + 4 * (WIDTH + 20)} {bottom + 16}" '
            f'role="img" aria-label="How an update\'s cost grows"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


def _panels(unit: str, cost: dict[Workload, float], top: int) -> list[str]:
    lines = {name: dict(zip(cost, fit(cost, times, unit == "mib")[1], strict=True)) for name, times in FORMULAS.items()}
    highest = max(cost.values()) * 1.1
    parts = [f'<text x="{LEFT - 6}" y="{top + 4}" text-anchor="end">{highest:.3g}</text>'
             f'<text x="{LEFT - 6}" y="{top + 20}" text-anchor="end">{unit.replace("mib", "MiB")}</text>'
             f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>']
    for column, (name, row) in enumerate(VARIED.items()):
        at, last = LEFT + column * (WIDTH + 20), value(name, row[-1])

        def point(work: Workload, height: float, at=at, name=name, last=last) -> tuple[float, float]:
            return at + value(name, work) / last * WIDTH, top + HEIGHT * (1 - max(height, 0) / highest)

        parts.append(f'<path class="grid" d="M{at},{top}V{top + HEIGHT}H{at + WIDTH}"/>')
        parts.append(f'<text class="title" x="{at + WIDTH / 2}" y="{top - 12}" text-anchor="middle">{name}</text>')
        for kind, line in lines.items():
            path = "L".join("{:.1f},{:.1f}".format(*point(work, line[work])) for work in row)
            parts.append(f'<path class="{kind}" d="M{path}"/>')
        for work in row:
            x, y = point(work, cost[work])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/><text x="{x:.1f}" y="{top + HEIGHT + 16}" '
                         f'text-anchor="middle">{value(name, work)}</text>')
    return parts


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
