"""Corrected answers, kept as rows to train on: `seed.jsonl` in the form of GRE30K-Seed, and its photos in `imgs/`."""
import hashlib
import io
import threading
from pathlib import Path

from PIL import Image

from gre.data.images import formats
from gre.data.records import DataConfig, SeedRow, read_seed, write_seed
from gre.geo.point import LatLon
from gre.locate.page.asking import opened


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
        """Keep the photo as it is, its metadata too, and where it was taken; how many rows there are now. Raises
        DataError for what is no photo."""
        opened(content)
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            name = f"{hashlib.sha256(content).hexdigest()[:32]}.{(image.format or 'photo').lower()}"
        path = (self.photos / name).resolve()
        with self._one:
            path.write_bytes(content)
            self._rows[path] = SeedRow("", path, question, place)
            write_seed(self.file, self._rows.values())
            return len(self._rows)
