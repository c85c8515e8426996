"""Photos that come several times, in whatever shards: the first in the order of the tables stays.

Exact ones are found by the sha256 of the file, or by the id where photos are not opened: keys are dealt into files on
disk by their value, and one such file is in memory at a time. Near ones are found by their perceptual hashes, a block
of shards against itself and every later block. In memory are two blocks of hashes and what was found, never all rows.
"""
import hashlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute as compute

from data_prep.shards import Work, save
from gre.data import near
from gre.data.near import NearIndex
from gre.geo.point import LatLon, distance_km

AT_ONCE = 250_000  # keys, or hashes, in memory
SAME_KM = 1.0  # one photo with places farther apart was labelled wrong at least once
_KEY = np.dtype([("key", "<u8"), ("row", "<i8"), ("lat", "<f8"), ("lon", "<f8")])
SCHEMA = pyarrow.schema([("row", pyarrow.int64()), ("fault", pyarrow.string()), ("why", pyarrow.string())])


class Block(NamedTuple):
    """Photos that are not dropped yet: rows (n,), hashes (n, WORDS), degrees (n, 2)."""

    rows: np.ndarray
    hashes: np.ndarray
    degrees: np.ndarray


def find(work: Work, count: int) -> None:
    """Write the duplicates among `count` checked shards: row, fault, why; by row."""
    faults = dict(_exact(work, count))
    faults |= dict(_near(work, count, np.array(sorted(faults), dtype=np.int64)))
    rows = sorted(faults)
    save(work.path("duplicates", 0), pyarrow.table({
        "row": rows, "fault": [faults[row][0] for row in rows], "why": [faults[row][1] for row in rows]},
        schema=SCHEMA))


def _exact(work: Work, count: int) -> Iterator[tuple[int, tuple[str, str]]]:
    for keys in _dealt(work, count):
        keys = keys[np.lexsort((keys["row"], keys["key"]))]
        starts = np.flatnonzero(np.diff(keys["key"], prepend=keys["key"][:1] ^ np.uint64(1)))
        for start, end in zip(starts, [*starts[1:], len(keys)]):
            if end - start > 1:
                yield from _of_group(keys[start:end])


def _of_group(group: np.ndarray) -> Iterator[tuple[int, tuple[str, str]]]:
    """Rows of one key, in order."""
    places = [LatLon(float(one["lat"]), float(one["lon"])) for one in group]
    far = max(distance_km(places[0], place) for place in places)
    first = int(group[0]["row"])
    for row in group["row"].tolist():
        if far > SAME_KM:
            others = ", ".join(str(other) for other in group["row"].tolist()[:4] if other != row)
            yield row, ("contradiction", f"row {others} has the same photo, and their places are {far:,.0f} km apart")
        elif row != first:
            yield row, ("duplicate", f"of row {first}")


def _dealt(work: Work, count: int) -> Iterator[np.ndarray]:
    """All keys, a part of them at a time: those that are equal are in one part."""
    folder = work.folder / "keys"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    total = sum(compute.sum(compute.equal(work.read("checked", shard, ["fault"])["fault"], "")).as_py() or 0
                for shard in range(count))
    parts = max(1, -(-total // AT_ONCE))
    for shard in range(count):
        table = work.read("checked", shard, ["row", "id", "photo", "sha256", "lat", "lon", "fault"])
        table = table.filter(compute.equal(table["fault"], ""))
        keys = np.empty(len(table), _KEY)
        keys["key"] = [int.from_bytes(hashlib.blake2b((sha256 or f"id {id or photo}").encode(), digest_size=8).digest())
                       for sha256, id, photo in zip(*(table[name].to_pylist() for name in ("sha256", "id", "photo")))]
        for name in ("row", "lat", "lon"):
            keys[name] = table[name].to_numpy()
        part = keys["key"] % np.uint64(parts)
        for number in range(parts):
            with open(folder / f"{number}.bin", "ab") as stream:
                keys[part == number].tofile(stream)
    for number in range(parts):
        yield np.fromfile(folder / f"{number}.bin", _KEY)
    shutil.rmtree(folder)


def _near(work: Work, count: int, dropped: np.ndarray) -> Iterator[tuple[int, tuple[str, str]]]:
    pairs: dict[int, list[tuple[int, int, float]]] = {}  # later row → (earlier row, bits, km)
    for number, block in enumerate(_blocks(work, count, dropped)):
        index = NearIndex(block.hashes)
        for other, later in enumerate(_blocks(work, count, dropped)):
            if other < number:
                continue
            asked, known, bits = index.search(later.hashes)
            for a, b, differ in zip(asked.tolist(), known.tolist(), bits.tolist()):
                if later.rows[a] > block.rows[b]:
                    km = distance_km(LatLon(*later.degrees[a].tolist()), LatLon(*block.degrees[b].tolist()))
                    pairs.setdefault(int(later.rows[a]), []).append((int(block.rows[b]), differ, km))
    left: set[int] = set()
    for row in sorted(pairs):
        kept = [pair for pair in sorted(pairs[row]) if pair[0] not in left]
        if kept:  # a photo near to a dropped one alone may show something else
            left.add(row)
            first, bits, km = kept[0]
            yield row, ("near duplicate", f"shows what row {first} shows, {km:,.1f} km from it ({bits} of "
                        f"{64 * near.WORDS} bits differ)")


def _blocks(work: Work, count: int, dropped: np.ndarray) -> Iterator[Block]:
    """Hashed photos, AT_ONCE or a shard more at a time."""
    some: list[Block] = []
    for shard in range(count):
        table = work.read("checked", shard, ["row", "phash", "lat", "lon", "fault"])
        table = table.filter(compute.and_(compute.equal(table["fault"], ""), compute.is_valid(table["phash"])))
        table = table.filter(pyarrow.array(~np.isin(table["row"].to_numpy(), dropped)))
        if len(table):
            hashes = np.stack([near.from_text(text) for text in table["phash"].to_pylist()])
            some.append(Block(table["row"].to_numpy(), hashes, np.stack(
                [table["lat"].to_numpy(), table["lon"].to_numpy()], axis=1)))
        if some and (sum(len(block.rows) for block in some) >= AT_ONCE or shard == count - 1):
            yield Block(*(np.concatenate(arrays) for arrays in zip(*some)))
            some = []
    if some:
        yield Block(*(np.concatenate(arrays) for arrays in zip(*some)))
