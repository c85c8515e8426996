"""Corrected answers, kept as rows to train on: `seed.jsonl` in the form of GRE30K-Seed, and its photos in `imgs/`."""
import fcntl
import hashlib
import io
import json
from pathlib import Path

from gre.data.raw import BadRow, DataError
from gre.data.records import DataConfig, SeedRow, read_seed, row_of
from gre.geo.point import LatLon
from gre.locate.page.asking import opened
from gre.provenance import write_atomically

QUALITY = 95  # of the JPEG copies, as of seeds


class Corrections:
    """The rows in a folder that others may write into as well. A photo that is corrected again gets the last place in
    every row about it; other lines stay as they are, to the byte."""

    def __init__(self, folder: Path):
        """Raises DataError for a seed.jsonl that cannot be read, or that no line can be added to."""
        self.folder, self.photos, self.file = folder, folder / "imgs", folder / "seed.jsonl"
        self.photos.mkdir(parents=True, exist_ok=True)
        lines = [line for line in self._lines() if line.strip()]
        if lines:
            read_seed(DataConfig(str(self.file)))
            if not all(map(self._row, lines)):
                raise DataError(f"{self.file} is not JSON lines, one row a line, so that no row can be added: write it "
                                "so, or name another folder with --keep")

    def keep(self, content: bytes, question: str, place: LatLon) -> int:
        """Keep a copy of the photo, without metadata, and where it was taken; how many rows there are now. Raises
        DataError for what is no photo, OSError where it cannot be written."""
        copy = io.BytesIO()
        opened(content).save(copy, "JPEG", quality=QUALITY)
        path = self.photos / f"{hashlib.sha256(content).hexdigest()[:20]}.jpg"
        degrees = {"gt_lat": place.lat_deg, "gt_lon": place.lon_deg}
        with open(self.folder / "seed.lock", "ab") as lock:  # other pages keep into this folder, too
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.photos.stat()  # moved away, it would be made anew, without the photos of the other rows
            write_atomically(path, copy.getvalue())
            lines, asked = self._lines(), False
            for at, line in enumerate(lines):
                value, row = self._row(line) or ({}, None)
                if row and row.image.name == path.name:
                    asked |= row.instruction == question
                    lines[at] = line if row.truth == place else _line({**value, **degrees})
            if not asked:
                if lines and not lines[-1].endswith(b"\n"):
                    lines[-1] += b"\n"
                lines.append(_line({"image": f"imgs/{path.name}", "instructions": question, **degrees}))
            write_atomically(self.file.resolve(), b"".join(lines))  # a link stays one
        return sum(bool(line.strip()) for line in lines)

    def _lines(self) -> list[bytes]:
        return io.BytesIO(self.file.read_bytes()).readlines() if self.file.exists() else []

    def _row(self, line: bytes) -> tuple[dict, SeedRow] | None:
        """What stands in a line, and the row that it is; None for a line that is none."""
        try:
            value = json.loads(line)
            return value, row_of("seed", None, self.file, 0, value)
        except (ValueError, RecursionError, BadRow):
            return None


def _line(row: dict) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")  # what others wrote, too
