"""Does a 95 % interval hold the truth 95 times in 100? `python -m eval.scoring.coverage out=FILE.md`.

Test sets are made whose truth is known, and scored as eval.score scores them; the ordinary ones also with intervals
that resample rows. Of each set of clusters (SETS) there are three kinds:

ordinary     the decimal logarithm of a distance in km is normal around its cluster's mean (standard deviation 0.6), and
             those are normal around 2.5, that is 316 km (standard deviation 0.8); distances end at half the Earth's
             circumference
rare hits    no answer can be read, but for one cluster of a set on average: there each row is answered within a
             kilometre with probability 1/2 (a cluster of a single row always), so that a third of the sets hold no hit
rare misses  the same the other way round: a third of the sets is right throughout

Interrupted, the same command goes on where it stopped: what was found so far is in FILE.md.part.
"""
import functools
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eval.scoring import measures
from eval.scoring.columns import Columns
from eval.scoring.measures import MEANS, MEDIAN, WITHIN
from gre import provenance
from gre.config import UserError, main, option
from gre.geo.accuracy import THRESHOLDS_KM, geoscore
from gre.geo.bootstrap import Clusters
from gre.geo.point import NO_ANSWER_KM

MEAN, BETWEEN, INSIDE = 2.5, 0.8, 0.6  # of log10 km: the mean, the spread of clusters, the spread inside a cluster
NEAR_KM = 0.5
SETS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {  # name → rows of each cluster
    "200 authors of unequal size": lambda generator: np.ceil(generator.lognormal(2.0, 1.0, 200)).astype(int),
    "72 places of 5 photos": lambda generator: np.full(72, 5),
    "300 single photos": lambda generator: np.full(300, 1),
}
KINDS = ("ordinary", "rare hits", "rare misses")
MEASURES = (*MEANS, MEDIAN)
OUTCOMES = ("no hit", "one hit", "all hits", "other")  # of a set, at 1 km
BLOCK = 25  # sets between two lines of what was found


@dataclass
class Config:
    out: str = option("", "Markdown file for the result; empty: only print")
    repeats: int = option(1000, "made sets of each kind and structure")
    row_repeats: int = option(100, "of the ordinary ones, sets whose rows are resampled as well (far off sooner)")
    draws: int = option(400, "bootstrap draws an interval")
    seed: int = option(0, "seed of the made sets and of the bootstrap")


@functools.cache
def truth(kind: str, clusters: int, single: bool) -> dict[str, float]:
    """What a made set's measures are without chance. single: every cluster is one row."""
    if kind == "ordinary":
        z = np.linspace(-8, 8, 40_001)
        density = np.exp(-z**2 / 2)
        distance_km = np.minimum(10 ** (MEAN + math.hypot(BETWEEN, INSIDE) * z), NO_ANSWER_KM)
        spread = math.hypot(BETWEEN, INSIDE) * math.sqrt(2)
        return {**{name: 0.5 * math.erfc((MEAN - math.log10(km)) / spread) for name, km in zip(WITHIN, THRESHOLDS_KM)},
                "geoscore": float(density @ [geoscore(km) for km in distance_km.tolist()] / density.sum()),
                "mean_km": float(density @ distance_km / density.sum()), MEDIAN: 10**MEAN}
    odd = (1.0 if single else 0.5) / clusters
    hit = odd if kind == "rare hits" else 1 - odd
    return {**dict.fromkeys(WITHIN, hit), "geoscore": hit * geoscore(NEAR_KM),
            "mean_km": hit * NEAR_KM + (1 - hit) * NO_ANSWER_KM, MEDIAN: NEAR_KM if hit > 0.5 else NO_ANSWER_KM}


def made_set(kind: str, sizes: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(distances in km (n,), NaN without an answer; cluster of each row (n,))."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    if kind == "ordinary":
        logs = generator.normal(MEAN, BETWEEN, len(sizes))[cluster] + generator.normal(0, INSIDE, len(cluster))
        return np.minimum(10**logs, NO_ANSWER_KM), cluster
    odd = (generator.random(len(sizes)) < 1 / len(sizes))[cluster]
    if sizes.max() > 1:
        odd &= generator.random(len(cluster)) < 0.5
    return np.where(odd == (kind == "rare hits"), NEAR_KM, np.nan), cluster


def holds(distance_km: np.ndarray, cluster: np.ndarray, true: Mapping[str, float], draws: int,
          seed: int) -> list[bool]:
    """Whether the interval of each measure holds the truth, in the order of MEASURES."""
    columns = Columns([], distance_km, np.zeros(len(cluster), dtype=bool), Clusters.of(cluster.tolist()), {}, {}, {})
    estimates = measures.estimate({"made": columns}, draws, seed)[()]["made"]
    return [estimates[name]["low"] <= true[name] * (1 + 1e-9) and true[name] * (1 - 1e-9) <= estimates[name]["high"]
            for name in MEASURES]


def outcome(distance_km: np.ndarray) -> str:
    """What of OUTCOMES a set is."""
    hits = int((distance_km <= THRESHOLDS_KM[0]).sum())
    return "no hit" if hits == 0 else "one hit" if hits == 1 else "all hits" if hits == len(distance_km) else "other"


def tried(name: str, kind: str, repeats: Sequence[int], config: Config) -> list[dict]:
    """Of each set: its outcome, whether the intervals hold, and whether those of resampled rows do (None: not asked).
    """
    found = []
    for repeat in repeats:
        generator = np.random.default_rng([config.seed, list(SETS).index(name), KINDS.index(kind), repeat])
        sizes = SETS[name](generator)
        distance_km, cluster = made_set(kind, sizes, generator)
        true = truth(kind, len(sizes), bool(sizes.max() == 1))
        by_rows = kind == "ordinary" and repeat < config.row_repeats
        found.append({"outcome": outcome(distance_km),
                      "clusters": holds(distance_km, cluster, true, config.draws, repeat),
                      "rows": holds(distance_km, np.arange(len(cluster)), true, config.draws, repeat)
                      if by_rows else None})
    return found


def all_tried(config: Config, commit: str) -> dict[tuple[str, str], list[dict]]:
    """(set, kind) → `tried`; what FILE.part holds of the same code and settings is not tried again."""
    part = Path(config.out + ".part") if config.out else None
    settings = {**asdict(config), "commit": commit}
    known = dict(_kept(part, settings)) if part and part.exists() else {}
    if part and not known:
        provenance.write_atomically(part, json.dumps(settings) + "\n")
    found = {}
    for name in SETS:
        for kind in KINDS:
            found[name, kind] = []
            for start in range(0, config.repeats, BLOCK):
                block = known.get((name, kind, start))
                if block is None:
                    block = tried(name, kind, range(start, min(start + BLOCK, config.repeats)), config)
                    if part:
                        with open(part, "a", encoding="utf-8") as lines:
                            lines.write(json.dumps([name, kind, start, block]) + "\n")
                found[name, kind] += block
    return found


def _kept(part: Path, settings: Mapping) -> Iterator[tuple[tuple[str, str, int], list[dict]]]:
    head, *lines = part.read_text(encoding="utf-8").split("\n")[:-1]  # a torn last line is left out
    if json.loads(head) == settings:
        for name, kind, start, block in map(json.loads, lines):
            yield (name, kind, start), block


def page(found: Mapping[tuple[str, str], Sequence[Mapping]], config: Config, commit: str) -> str:
    """The result as Markdown."""
    def cell(held: Sequence[bool]) -> str:
        if not held:
            return "–"
        share = float(np.mean(held))
        return f"{share:.1%} ± {1.96 * math.sqrt(share * (1 - share) / len(held)):.1%} of {len(held)}"

    rows = []
    for (name, kind), results in found.items():
        for at, measure in enumerate(MEASURES):
            told = kind != "ordinary" or measure == WITHIN[0]  # whether the outcome says something of this measure
            by_outcome = [cell([one["clusters"][at] for one in results if told and one["outcome"] == outcome])
                          for outcome in OUTCOMES[:3]]
            rows.append(f"| {name}, {kind} | {measure} | {cell([one['clusters'][at] for one in results])} | "
                        f"{' | '.join(by_outcome)} | {cell([one['rows'][at] for one in results if one['rows']])} |")
    return "\n".join([
        "# Coverage of the 95 % interval", "",
        f"`{shlex.join(['python', '-m', 'eval.scoring.coverage', *sys.argv[1:]])}`, commit {commit}, seed "
        f"{config.seed}: {config.repeats} made sets of each kind, {config.draws} draws an interval. "
        "eval/scoring/coverage.py says how sets are made.", "",
        "How often the interval holds the truth that the set was made with; ± is twice the standard error of that "
        "share. The same by what a set happens to hold: no row within 1 km, a single one, all. Rows resampled: as if "
        "rows were independent.", "",
        f"| made set | measure | all | {' | '.join(OUTCOMES[:3])} | rows resampled |", "|---|---|---|---|---|---|---|",
        *rows, ""])


def run(config: Config) -> None:
    """Print the table, and write it. Raises UserError for counts that make no share."""
    if not 0 <= config.row_repeats <= config.repeats or config.repeats < 1:
        raise UserError(f"row_repeats is {config.row_repeats} and repeats {config.repeats}: rows are resampled in some "
                        "of the same sets, so write 0 <= row_repeats <= repeats, and repeats of 1 or more")
    commit = provenance.commit()
    text = page(all_tried(config, commit), config, commit)
    if config.out:
        provenance.write_atomically(Path(config.out), text)
        Path(config.out + ".part").unlink()
    print(text)


if __name__ == "__main__":
    main(run, Config, __doc__, lambda config: {"reads": [], "writes": [*filter(None, [config.out])]})
