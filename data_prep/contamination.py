"""Which rows of a data file a benchmark shares: `python -m data_prep.contamination FILE against=… out=DIR`.

    python -m data_prep.contamination gre_cot.json 'against=[{name: Im2GPS3k, labels: t.csv, images: imgs}]' out=looked
    python -m data_prep.contamination gre_cot.json … drop=[id,picture] clean=gre_cot_clean.json

FILE is of any kind that docs/formats.md knows. Looked for are the photo's id and its author (in the file name, and in
`sidecar.jsonl` where a seeds folder has one), near-duplicate pictures, and with leak_km= places. OUT gets
contaminated.jsonl, a line a row with what it shares, and a card. clean= writes FILE without those of the kinds in
drop=. Interrupted, the same command goes on.
"""
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from tqdm import tqdm

from data_prep import card, leaks, shards
from data_prep.card import Part
from data_prep.inspect.__main__ import Data, arguments
from data_prep.leaks import HASHED_PIXELS, KINDS, Known
from data_prep.shards import Work, save, write_lines, write_rows
from eval.benchmarks.reader import BenchmarkConfig
from gre import provenance
from gre.config import REQUIRED, check_least, main, option
from gre.data import forms, near
from gre.data.images import load_image
from gre.data.raw import DataError, RowError
from gre.data.records import KINDS as FILES
from gre.data.records import Row, stream

SHARD = 2000  # rows between two notes of what was found
SCHEMA = pyarrow.schema([("row", pyarrow.int64()), ("image", pyarrow.string()),
                         ("leaks", pyarrow.list_(pyarrow.string())), ("fault", pyarrow.string())])


@dataclass
class Config:
    data: Data = option(Data, "the file")
    against: list[BenchmarkConfig] = option(REQUIRED, "benchmarks, [{name: Im2GPS3k, labels: …, images: …}]")
    leak_km: float | None = option(None, "count photos within so many km of a benchmark's too; null: do not look")
    out: str = option(REQUIRED, "folder of what was found")
    drop: list[str] = option([], "with clean=: rows that share one of these are left out: id, author, picture, place")
    clean: str = option("", "file for the other rows, in the folder of FILE, since rows name their photos from there")
    threads: int = option(8, "photos opened at once")

    def __post_init__(self):
        check_least("", self, {"threads": 1, "leak_km": 0})
        if unknown := [kind for kind in self.drop if kind not in KINDS]:
            raise ValueError(f"drop names {unknown[0]!r}: write some of {', '.join(KINDS)}")
        if bool(self.clean) != bool(self.drop):
            raise ValueError("drop= and clean= go together: what to leave out, and where the rest is written")
        if self.clean and Path(self.clean).resolve().parent != Path(self.data.path).resolve().parent:
            raise ValueError(f"clean={self.clean}: name a file in the folder of {self.data.path}")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.data.path, *(one.labels or one.name for one in config.against)],
            "writes": [f"{config.out}/contaminated.jsonl", f"{config.out}/card.html", *filter(None, [config.clean])]}


def run(config: Config) -> None:
    """Look, and write. Raises DataError for a file or a benchmark that cannot be read."""
    path, out = Path(config.data.path), Path(config.out)
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file")
    made_of = shards.made_of(config, out, "threads", "out", source=path)
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    work = Work(out / "work", made_of)
    known = [leaks.read(one, work.folder / f"benchmark{number}.parquet", config.threads)
             for number, one in enumerate(config.against)]
    kind, rows = stream(path, config.data.image_root)
    sidecar, count = _sidecar(path), 0
    rows = iter(tqdm(rows, f"rows of {path.name}", unit="row"))
    while some := list(islice(rows, SHARD)):
        if not work.path("leaks", count).exists():
            save(work.path("leaks", count), _found(some, sidecar, known, config))
        count += 1
    write_lines(out / "contaminated.jsonl", (
        json.dumps({name: row[name] for name in ("row", "image", "leaks")}, ensure_ascii=False) + "\n"
        for row in _rows(work, count) if row["leaks"]))
    if config.clean:
        _write_clean(path, Path(config.clean), work, count, frozenset(config.drop))
    print(_card(config, kind, work, count, known, made_of), end="")
    work.remove()


def _found(some: Sequence[tuple[int, Row | str]], sidecar: Mapping[str, Sequence[str]], known: Sequence[Known],
           config: Config) -> pyarrow.Table:
    """What rows share, SCHEMA."""
    good = [(number, row) for number, row in some if not isinstance(row, str)]
    faults = {number: row for number, row in some if isinstance(row, str)}

    def look(row: Row) -> np.ndarray | str | None:
        try:
            return near.perceptual_hash(load_image(row.image, HASHED_PIXELS))
        except RowError as error:
            return str(error)

    with ThreadPoolExecutor(config.threads) as pool:
        looked = list(pool.map(look, (row for _, row in good)))
    hashed = [at for at, one in enumerate(looked) if isinstance(one, np.ndarray)]
    hashes = np.stack([looked[at] for at in hashed]) if hashed else np.empty((0, near.WORDS), np.uint64)
    shared: list[list[str]] = [[] for _ in good]
    for one in known:
        for at, (_, row) in enumerate(good):
            *names, author = sidecar.get(_key(row.image), ("",))
            shared[at] += [f"{kind} {one.name} {other}"
                           for kind, other in one.by_name(str(row.image), *names, author=author).items()]
        for at, other in one.by_picture(hashes).items():
            shared[hashed[at]].append(f"picture {one.name} {other}")
        if config.leak_km is not None:
            placed = [at for at, (_, row) in enumerate(good) if row.truth is not None]  # MP16-Reason may name it alone
            for at, other in one.by_place([good[at][1].truth for at in placed], config.leak_km).items():
                shared[placed[at]].append(f"place {one.name} {other}")
    faults |= {number: one for (number, _), one in zip(good, looked) if isinstance(one, str)}
    images = {number: row.image.name for number, row in good}
    by_row = {number: leak for (number, _), leak in zip(good, shared)}
    numbers = [number for number, _ in some]
    return pyarrow.table({"row": numbers, "image": [images.get(number, "") for number in numbers],
                          "leaks": [by_row.get(number, []) for number in numbers],
                          "fault": [faults.get(number, "") for number in numbers]}, schema=SCHEMA)


def _sidecar(path: Path) -> dict[str, tuple[str, ...]]:
    """The photo's key → its id, address and author, from a seeds folder's sidecar."""
    file = path.parent / "sidecar.jsonl"
    return {_key(Path(row["image"])): (row["id"], row["url"], row["author"])
            for _, row in forms.json_lines(file) or ()} if file.exists() else {}


def _key(image: Path) -> str:
    """A photo's name and its folder, unless that is the one of all: rows say images/ where it is called imgs/."""
    return "/".join(part for part in image.parts[-2:] if part not in ("images", "imgs"))


def _rows(work: Work, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield from work.read("leaks", number).to_pylist()


def _write_clean(path: Path, clean: Path, work: Work, count: int, drop: frozenset[str]) -> None:
    """FILE without rows that share what is in `drop`; rows that cannot be used stay as they are."""
    values = (value for _, value in forms.json_lines(path) or forms.rows(path))
    write_rows(clean, (value for value, row in zip(values, _rows(work, count))
                       if not any(leak.split(" ", 1)[0] in drop for leak in row["leaks"])
                       and not isinstance(value, Exception)))


def _card(config: Config, kind: str, work: Work, count: int, known: Sequence[Known], made_of: dict) -> str:
    leaked: Counter[str] = Counter()
    total = shared = 0
    faults: list[str] = []
    for row in _rows(work, count):
        total, shared = total + 1, shared + bool(row["leaks"])
        leaked.update(" ".join(leak.split(" ")[:2]) for leak in row["leaks"])
        if row["fault"] and len(faults) < card.LISTED:
            faults.append(f"row {row['row']}: {row['fault']}")
    without = [one.name for one in known if one.pictures is None]
    parts = [
        Part("Rows", [f"{total:,} rows, {shared:,} share something with a benchmark; each is in contaminated.jsonl.",
                      *([f"Pictures of {', '.join(without)} are not here and were not compared: name their folder "
                         "with images:."] if without else [])]),
        Part("Shared", (), ("what", "rows"), [(f"{what} of {one.name}", f"{leaked[f'{what} {one.name}']:,}")
                                              for one in known for what in KINDS]),
        Part("Rows that could not be looked at", faults)]
    return card.write(Path(config.out), f"Contamination: {FILES[kind]}, {Path(config.data.path).name}", parts, {
        "kind": "contamination", "made_of": made_of, "commit": provenance.commit(), "rows": total, "shared": shared,
        "leaks": dict(sorted(leaked.items())), "not_looked_at": len(faults), "pictures_not_compared": without})


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
