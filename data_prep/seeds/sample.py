"""Which of the good rows are taken: as many as asked for, spread over countries or equal areas as evenly as they allow.

Every country (or cell) gives the same number, or all it has where that is less; what is then still lacking comes one by
one from those that have most left. Which rows of a country are taken is drawn by a seed and the row's number.
"""
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow
import pyarrow.compute as compute

from data_prep.card import cells
from data_prep.shards import Work, save

WAYS = ("country", "cell", "none")


def draw(work: Work, count: int, rows: int, balance: str, seed: int, drop: frozenset[str]) -> None:
    """Write which rows are taken (`chosen`, by row)."""
    sizes: Counter[str] = Counter()
    for shard in range(count):
        sizes.update(_eligible(work, shard, balance, drop)[1])
    quota = quotas(sizes, rows)
    places = {group: number for number, group in enumerate(quota)}
    best = np.empty(0, [("row", "<i8"), ("draw", "<u8"), ("group", "<i8")])
    for shard in range(count):
        numbers, groups = _eligible(work, shard, balance, drop)
        mine = np.empty(len(numbers), best.dtype)
        mine["row"], mine["draw"] = numbers, _random(numbers, seed)
        mine["group"] = [places[group] for group in groups]
        best = _first(np.concatenate([best, mine]), list(quota.values()))
    save(work.path("chosen", 0), pyarrow.table({"row": np.sort(best["row"])}))


def quotas(sizes: Mapping[str, int], rows: int) -> dict[str, int]:
    """How many each group gives; the sum is `rows`, or all there are."""
    given = dict.fromkeys(sorted(sizes), 0)
    left = min(rows, sum(sizes.values()))
    while left:
        open_groups = [group for group in given if given[group] < sizes[group]]
        share = min(left // len(open_groups), min(sizes[group] - given[group] for group in open_groups))
        if share == 0:
            for group in sorted(open_groups, key=lambda group: (given[group] - sizes[group], group))[:left]:
                given[group] += 1
            break
        for group in open_groups:
            given[group] += share
        left -= share * len(open_groups)
    return given


def leaked(leaks: pyarrow.ChunkedArray, drop: frozenset[str]) -> np.ndarray:
    """(n,) whether a row has a leak of the kinds to be dropped."""
    return np.array([any(leak.split(" ", 1)[0] in drop for leak in row) for row in leaks.to_pylist()], dtype=bool)


def _eligible(work: Work, shard: int, balance: str, drop: frozenset[str]) -> tuple[np.ndarray, list[str]]:
    """(numbers of the good rows of a shard, the group of each)."""
    table = work.read("checked", shard, ["row", "lat", "lon", "country", "leaks", "fault"])
    dropped = work.read("duplicates", 0, ["row"])["row"].to_numpy()
    good = compute.equal(table["fault"], "").to_numpy(zero_copy_only=False) & ~np.isin(table["row"].to_numpy(), dropped)
    if drop:
        good &= ~leaked(table["leaks"], drop)
    table = table.filter(pyarrow.array(good))
    if balance == "country":
        groups = table["country"].to_pylist()
    elif balance == "cell":
        groups = cells(table["lat"].to_numpy(), table["lon"].to_numpy()).tolist()
    else:
        groups = ["all"] * len(table)
    return table["row"].to_numpy(), [str(group) for group in groups]


def _first(rows: np.ndarray, most: list[int]) -> np.ndarray:
    """Of each group those drawn first, as many as it gives."""
    rows = rows[np.lexsort((rows["row"], rows["draw"], rows["group"]))]
    starts = np.searchsorted(rows["group"], rows["group"])
    return rows[np.arange(len(rows)) - starts < np.array(most, dtype=np.int64)[rows["group"]]] if len(rows) else rows


def _random(numbers: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint64, by splitmix64: the same for a row whatever shard it is in."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64(seed % 2**64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
