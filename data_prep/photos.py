"""The photos of a seeds folder, for the steps after it: read one by one, and put beside the rows made of them."""
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from gre.config import UserError
from gre.data.records import SeedRow, stream
from gre.geo.point import LatLon


@dataclass(frozen=True)
class Photo:
    """A row of a seeds folder. row: its number there, from 1. image: as rows say it. sha256: of the photo's content."""

    row: int
    image: str
    sha256: str
    instruction: str
    truth: LatLon


def read(seeds: Path) -> Iterator[Photo]:
    """The photos of a seeds folder in its order. Raises UserError where its two files do not belong together."""
    check(seeds)
    kind, rows = stream(seeds / "seeds.jsonl", find=False)
    if kind != "seed":
        raise UserError(f"{seeds / 'seeds.jsonl'} does not hold seeds: make the folder with data_prep.seeds")
    with open(seeds / "sidecar.jsonl", encoding="utf-8") as sidecar:
        for numbered, line in zip_longest(rows, sidecar):
            if numbered is None or line is None:
                raise UserError(f"{seeds}: seeds.jsonl and sidecar.jsonl are not of the same length: make it again")
            yield _photo(seeds, *numbered, json.loads(line))


def _photo(seeds: Path, number: int, row: SeedRow | str, side: dict) -> Photo:
    where = f"{seeds / 'seeds.jsonl'}, row {number}"
    if isinstance(row, str):
        raise UserError(f"{where}: {row}. Make the folder again with data_prep.seeds")
    if str(row.image) != side["image"]:
        raise UserError(f"{where} names {row.image}, and sidecar.jsonl {side['image']}: they are of two runs; make the "
                        "folder again")
    return Photo(number, side["image"], side["sha256"], row.instruction, row.truth)


def check(seeds: Path) -> None:
    """Raise UserError for what is no finished seeds folder, and for one that holds no copies of its photos: photos of
    others' are neither sent nor handed on with what their metadata say."""
    try:
        card = json.loads((seeds / "card.json").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"seeds={seeds}: no finished seeds folder (no card.json): make one with python -m "
                        "data_prep.seeds") from None
    if card.get("kind") != "seeds":
        raise UserError(f"seeds={seeds} was not made by data_prep.seeds but is of the kind {card.get('kind')!r}")
    if card["made_of"]["pictures"] != "copy":
        raise UserError(f"{seeds} was made with pictures={card['made_of']['pictures']} and holds no copies without "
                        "metadata, which later steps need: make it with pictures=copy")


def file_of(seeds: Path, image: str) -> Path:
    """Where the photo lies that rows of a seeds folder call `image`."""
    return seeds / "imgs" / image.removeprefix("images/")


def put(seeds: Path, image: str, out: Path) -> Path:
    """Have the photo below `out` too, as a second name of the same file where the disk allows it; returns its place."""
    target = file_of(out, image)
    link(file_of(seeds, image), target, f"make {seeds} again with data_prep.seeds")
    return target


def link(source: Path, target: Path, remedy: str) -> None:
    """Have a file at `target` too, there whole or not at all. remedy: for a source that is gone."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except FileNotFoundError:
            raise UserError(f"{source} is gone: {remedy}") from None
        except OSError:  # another disk, or one that knows no second names
            shutil.copyfile(source, partial)
        os.replace(partial, target)
