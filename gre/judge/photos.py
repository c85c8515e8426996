"""Which photos a judge has seen. A photo is its file's content, whatever its name."""
import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gre.config import UserError
from gre.data.hashes import photo_hashes
from gre.data.records import JudgeRow, SeedRow
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


def unseen_rows(rows: Sequence[Any], seen: set[str], drop: bool) -> list[Any]:
    """The rows whose photos are not among `seen`: a judge knows the answer to the others by heart.

    Raises UserError naming the first row with a seen photo, or, with `drop`, prints how many there are and which.
    """
    hashes = photo_hashes(row.image for row in rows)
    known = [row for row in rows if hashes[row.image] in seen]
    if len(known) == len(rows) or known and not drop:
        raise UserError(f"the judge was trained on the photo of row {known[0].id} ({known[0].image.name}); it has seen "
                        f"those of {len(known)} of {len(rows)} rows: give it rows with other photos (data.path), or "
                        "write data.on_bad_row=drop to leave these out")
    if known:
        print(f"dropped {len(known)} of {len(rows)} rows whose photo the judge has seen: "
              + ", ".join(row.id for row in known), file=sys.stderr, flush=True)
    left_out = {row.id for row in known}
    return [row for row in rows if row.id not in left_out]


def unseen(rows: Sequence[SeedRow], judged: Sequence[JudgeRow], count: int, seed: int) -> list[SeedRow]:
    """At most `count` rows whose photos are not among the judge's, drawn with `seed`."""
    seen = set(photo_hashes(row.image for row in judged).values())
    hashes = photo_hashes(row.image for row in rows)
    new = [row for row in rows if hashes[row.image] not in seen]
    return random.Random(seed).sample(new, min(count, len(new)))
