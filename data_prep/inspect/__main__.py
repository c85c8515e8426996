"""A data file's card: `python -m data_prep.inspect FILE [key=value …]`.

FILE is of any kind that docs/formats.md knows: GRE30K-CoT, -Judge, -Seed, GREval-Bench, MP16-Reason. Every row is
checked as stages check it, and every photo decoded once: those found whole are listed beside FILE (whole_photos.json,
by content), where a stage that trains on it finds them and decodes none again, nor does this command. The card (FILE's
name with .card.txt, .card.html, .card.json) shows rows, what is wrong, distances of answers, lengths of chains, visual
tokens, countries, a map and the ten worst rows with their photos. Ends with status 2 when a row cannot be used.
"""
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep import card
from data_prep.inspect.facts import Facts
from gre import provenance
from gre.config import REQUIRED, UserError, check_least, main, option
from gre.data import photos
from gre.data.images import picture_size
from gre.data.raw import DataError, RowError
from gre.data.records import KINDS, BenchRow, stream
from gre.training.look import look_at

AT_ONCE = 2000  # rows in memory, and photos between two notes of what was found whole
LOOKED_AT = 100_000  # rows that are kept for the look a stage takes at all of them


@dataclass
class Data:
    path: str = option(REQUIRED, "the data file; `data.path=` may be left out")
    image_root: str = option("", "folder the rows' image paths start from; default: the folder of the data file")


@dataclass
class Config:
    data: Data = option(Data, "the file")
    photos: str = option("opened", "opened: every photo is decoded once; unopened: nor looked for")
    max_pixels: int = option(1_003_520, "pixel budget that visual tokens are counted at")
    out: str = option("", "folder of the card; empty: beside the file")

    def __post_init__(self):
        check_least("", self, {"max_pixels": 1})
        if self.photos not in ("opened", "unopened"):
            raise ValueError(f"photos is {self.photos!r}: write opened or unopened")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    path = Path(config.data.path)
    return {"reads": [config.data.path], "writes": [f"{config.out or path.parent}/{path.stem}.card.html"]}


def run(config: Config) -> None:
    """Print and write the card. Raises UserError, after it, when a row cannot be used."""
    path = Path(config.data.path)
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file")
    opened = config.photos == "opened"
    kind, rows = stream(path, config.data.image_root, find=opened)
    facts, kept, first = Facts(kind), [], ""
    whole = photos.known_whole(photos.beside(path)) if opened else set()
    rows = iter(tqdm(rows, f"rows of {path.name}", unit="row"))
    while some := list(islice(rows, AT_ONCE)):
        good = []
        for number, row in some:
            if isinstance(row, str):
                facts.bad(f"row {number}", row)
                first = first or f"row {number}: {row}"
            else:
                good.append((number, row))
        faults = _look(path, [row.image for _, row in good], whole) if opened else {}
        for number, row in good:
            if row.image in faults:
                facts.bad(f"row {number}", faults[row.image], row.image)
                first = first or f"row {number}: {faults[row.image]}"
        usable = [row for _, row in good if row.image not in faults]
        facts.good(usable, [picture_size(row.image) if opened else None for row in usable])
        kept += usable if len(kept) < LOOKED_AT else []
    print(card.write(Path(config.out or path.parent), f"{KINDS[kind]}: {path.name}",
                     facts.parts(config.max_pixels, _look_of_a_stage(kept, path.name)),
                     {"kind": kind, "sha256": provenance.file_hash(path), "commit": provenance.commit(),
                      "photos": config.photos, **facts.data()}, name=f"{path.stem}.card"), end="")
    if facts.rows > facts.usable:
        raise UserError(f"{path}: {facts.rows - facts.usable:,} of {facts.rows:,} rows cannot be used, the first is "
                        f"{first}")


def _look(path: Path, paths: Sequence[Path], whole: set[str]) -> dict[Path, str]:
    """What is wrong with photos; those found whole are remembered."""
    faults, found = photos.look_at(sorted(set(paths)), whole, show=False)
    new = found - whole
    whole |= new
    if new:
        photos.remember(photos.beside(path), new)
    return faults


def _look_of_a_stage(rows: Sequence[Any], name: str) -> str:
    """The line that a stage prints about its rows, or why it would refuse the file."""
    if not rows or isinstance(rows[0], BenchRow):
        return "No stage trains on it."
    try:
        said = look_at(rows, name)
    except RowError:
        raise
    except DataError as error:
        return f"A stage would refuse it: {error}"
    return said + (f" (of the first {len(rows):,})" if len(rows) >= LOOKED_AT else "")


def arguments(argv: Sequence[str]) -> list[str]:
    """A data file named without a key is `data.path`."""
    return [f"data.path={text}" if text.lower().endswith((".json", ".jsonl", ".parquet", ".json.gz", ".jsonl.gz"))
            and ("=" not in text or Path(text).is_file()) else text for text in argv]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
