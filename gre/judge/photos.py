"""Which photos a judge has seen. A photo is its file's content, whatever its name."""
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from accelerate import PartialState

from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.data.records import DataConfig, JudgeRow, SeedRow, left_out, list_dropped
from gre.manifest import Parent
from gre.provenance import file_hash, write_atomically

PHOTOS = "photos.json"


def write_photos(folder: str | Path, images: Iterable[str | Path]) -> str:
    """Write `folder/photos.json`, the sha256 of every photo's content in order, and return the file's own sha256."""
    hashes = sorted(set(photo_hashes(images).values()))
    write_atomically(Path(folder) / PHOTOS, json.dumps(hashes, indent=0) + "\n")
    return file_hash(Path(folder) / PHOTOS)


def judged_photos(judge: Parent) -> set[str]:
    """The hashes of the photos a judge was trained and measured on, as its stage wrote them down.

    Raises UserError when that list is missing or is not the one of the judge's manifest.
    """
    path = judge.model_dir.parent / PHOTOS
    remedy = ("train the judge again, or write judge.accept_seen_photos=true to go on without knowing whether it has "
              "seen the photos it will judge")
    if not path.is_file():
        raise UserError(f"the judge {judge.name} does not say which photos it saw (no {PHOTOS}): {remedy}")
    if (judge.manifest or {}).get("metrics", {}).get("photos_sha256") != file_hash(path):
        raise UserError(f"{PHOTOS} of the judge {judge.name} is not the one of its manifest: {remedy}")
    return set(json.loads(path.read_text(encoding="utf-8")))


def unseen_rows(rows: Sequence[SeedRow], seen: set[str], data: DataConfig) -> list[SeedRow]:
    """The rows whose photos are not among `seen`: a judge knows the answer to the others by heart. data: their file.

    Raises UserError naming the first row with a seen photo, unless data.on_bad_row is drop: then they are counted and
    listed as other dropped rows are.
    """
    hashes = photo_hashes(row.image for row in rows)
    known = [row for row in rows if hashes[row.image] in seen]
    if len(known) == len(rows) or known and data.on_bad_row != "drop":
        raise UserError(f"the judge was trained on the photo of row {known[0].id} ({known[0].image.name}); it has seen "
                        f"those of {len(known)} of {len(rows)} rows: give it rows with other photos (data.path), or "
                        "write data.on_bad_row=drop to leave these out")
    faults = {row.id: "the judge has seen its photo" for row in known}
    if PartialState().is_main_process:
        list_dropped(rows, faults, data)
    return left_out(rows, faults, data)


def unseen(rows: Sequence[SeedRow], judged: Sequence[JudgeRow], count: int, seed: int) -> list[SeedRow]:
    """At most `count` rows whose photos are not among the judge's, drawn with `seed`."""
    seen = set(photo_hashes(row.image for row in judged).values())
    hashes = photo_hashes(row.image for row in rows)
    new = [row for row in rows if hashes[row.image] not in seen]
    return random.Random(seed).sample(new, min(count, len(new)))
