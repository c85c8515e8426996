"""Corrected answers, kept as rows to train on: `seed.jsonl` in the form of GRE30K-Seed, and its photos in `imgs/`."""
import hashlib
import threading
from pathlib import Path

from gre.data.records import DataConfig, SeedRow, read_seed, write_seed
from gre.geo.point import LatLon
from gre.locate.page.asking import opened

QUALITY = 95  # of the JPEG copies, as of seeds


class Corrections:
    """The rows in a folder. A photo that is corrected again has one row, the last."""

    def __init__(self, folder: Path):
        """Raises DataError for a seed.jsonl that cannot be read."""
        self.photos, self.file = folder / "imgs", folder / "seed.jsonl"
        self.photos.mkdir(parents=True, exist_ok=True)
        rows = read_seed(DataConfig(str(self.file))) if self.file.exists() and self.file.stat().st_size else []
        self._rows = {row.image: row for row in rows}
        self._one = threading.Lock()

    def keep(self, content: bytes, question: str, place: LatLon) -> int:
        """Keep a copy of the photo, without metadata, and where it was taken; how many rows there are now. Raises
        DataError for what is no photo."""
        image = opened(content)
        path = (self.photos / f"{hashlib.sha256(content).hexdigest()[:20]}.jpg").resolve()
        with self._one:
            image.save(path, "JPEG", quality=QUALITY)
            self._rows[path] = SeedRow("", path, question, place)
            write_seed(self.file, self._rows.values())
            return len(self._rows)
