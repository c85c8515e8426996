"""Photos of a benchmark among those one wants to train on: by id, by author, by what they show, by place.

Ids and authors are taken from ids, file names and addresses as Flickr's and Mapillary's photos bear them (Im2GPS3k:
`97344248_30a4521091_32_77325609@N00.jpg`; MP16: `4f_a0_3963216890.jpg`; YFCC: the bare number). What a camera calls its
photos (`IMG_0001.jpg`) and short numbers are no ids: everybody has them.
"""
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet
from tqdm import tqdm

from data_prep import shards
from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig
from gre.data import near
from gre.data.images import load_image
from gre.data.near import NearIndex
from gre.data.raw import DataError
from gre.geo.nearest import NearestPoint
from gre.geo.point import LatLon, distance_km

KINDS = ("id", "author", "picture", "place")
HASHED_PIXELS = 1 << 18  # of a photo, which are enough for its hash
_FLICKR = re.compile(r"(\d+)_[0-9a-f]{10}_\d+_\d+@n\d\d")
_MP16 = re.compile(r"[0-9a-f]{2}[_/][0-9a-f]{2}[_/](\d+)")
_ADDRESS = re.compile(r"flickr\.com/photos/([^/]+)/(\d+)")
_AUTHOR = re.compile(r"\d+@N\d\d")
_LONG = re.compile(r"\d{7,}|[0-9a-f]{12,}|[\w-]{20,}", re.ASCII)


def photo_ids(*names: str) -> set[str]:
    """The ids that a photo's names and addresses hold."""
    found = set()
    for name in filter(None, names):
        if address := _ADDRESS.search(name):
            found.add(address[2])
            continue
        stem = re.sub(r"\.(jpe?g|png|webp|heic|avif)$", "", name.strip().replace("\\", "/").lower())
        last = stem.rpartition("/")[2]
        match = _FLICKR.fullmatch(last) or _MP16.fullmatch("/".join(stem.split("/")[-3:])) or _MP16.fullmatch(last)
        if match:
            found.add(match[1])
        elif _LONG.fullmatch(last) and "://" not in name:
            found.add(last)
    return found


def authors(*names: str) -> set[str]:
    """Flickr's ids of authors in names and addresses."""
    return {author for name in filter(None, names) for author in _AUTHOR.findall(name)}


@dataclass
class Known:
    """A benchmark to look for. ids: photo id → the benchmark's row; pictures: None where its photos are not here."""

    name: str
    ids: dict[str, str]
    authors: dict[str, str]
    rows: list[str]
    pictures: NearIndex | None
    hashed: np.ndarray
    places: NearestPoint
    truths: list[LatLon]

    def by_name(self, *names: str, author: str = "") -> dict[str, str]:
        """Kind → the benchmark's row, for `id` and `author`."""
        found = {}
        for kind, keys, known in (("id", photo_ids(*names), self.ids),
                                  ("author", authors(*names) | {author} - {""}, self.authors)):
            if same := sorted(keys & known.keys()):
                found[kind] = known[same[0]]
        return found

    def by_picture(self, hashes: np.ndarray) -> dict[int, str]:
        """Index of a hash → the benchmark's row that it is nearest to."""
        if self.pictures is None or not len(hashes):
            return {}
        best: dict[int, tuple[int, int]] = {}
        for asked, known, bits in zip(*(array.tolist() for array in self.pictures.search(hashes))):
            best[asked] = min(best.get(asked, (bits, known)), (bits, known))
        return {asked: self.rows[self.hashed[known]] for asked, (_, known) in best.items()}

    def by_place(self, points: Sequence[LatLon], within_km: float) -> dict[int, str]:
        """Index of a point → the benchmark's row within so many km."""
        nearest = self.places.indices(points).tolist() if len(points) else []
        return {at: self.rows[row] for at, (point, row) in enumerate(zip(points, nearest))
                if distance_km(point, self.truths[row]) <= within_km}


def read(config: BenchmarkConfig, kept: Path, threads: int) -> Known:
    """A benchmark's rows; its photos, where `images` names them, are hashed once and kept at `kept`.

    Raises DataError as its reader does, and for a photo that cannot be read.
    """
    entry = reader.known().get(config.name, {"images": ""})
    here = bool(config.images) or bool(entry["images"]) and Path(entry["images"]).is_dir()
    rows = reader.read(config, "-", photos=here)
    ids: dict[str, str] = {}
    by: dict[str, str] = {}
    for row in rows:
        author = str(row.labels.get("author", ""))
        for id in photo_ids(row.id, row.image.name):
            ids.setdefault(id, row.id)
        for name in authors(row.id, row.image.name) | {author} - {""}:
            by.setdefault(name, row.id)
    hashes, hashed = _hashes([row.image for row in rows], kept, config.name, threads) if here else (None, None)
    truths = [row.truth for row in rows]
    name = Path(config.labels).name if config.name == reader.CSV else config.name
    return Known(name, ids, by, [row.id for row in rows], None if hashes is None else NearIndex(hashes), hashed,
                 NearestPoint(truths), truths)


def _hashes(photos: Sequence[Path], kept: Path, name: str, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """((n, WORDS) hashes, (n,) which photo each is of); a blank photo has none."""
    if not kept.exists():
        def look(path: Path) -> np.ndarray | None:
            return near.perceptual_hash(load_image(path, HASHED_PIXELS))

        with ThreadPoolExecutor(threads) as pool:
            found = list(tqdm(pool.map(look, photos), f"photos of {name}", len(photos), unit="photo"))
        shards.save(kept, pyarrow.table({
            "photo": [str(path) for path in photos],
            "phash": [None if words is None else near.as_text(words) for words in found]}))
    table = parquet.read_table(kept)
    if table["photo"].to_pylist() != [str(path) for path in photos]:
        raise DataError(f"{kept} holds the hashes of other photos: remove it")
    texts = table["phash"].to_pylist()
    at = [number for number, text in enumerate(texts) if text is not None]
    words = np.stack([near.from_text(texts[number]) for number in at]) if at else np.empty((0, near.WORDS), np.uint64)
    return words, np.array(at, dtype=np.int64)
