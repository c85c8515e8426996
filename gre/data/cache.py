"""Arrays made from photos, kept on disk within a budget. No torch.

A record is named by the sha256 of its photo's content and of what turned it into arrays, so that another file, pixel
budget or release of the processor never finds it. Records are written whole or not at all, and the budget holds for all
processes that use the folder. What no longer fits is not kept: nothing is ever removed to make room, since training
reads every photo once per epoch and would always have removed the one it needs next.
"""
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gre.config import UserError
from gre.data.hashes import photo_hash
from gre.provenance import write_atomically


class PictureCache:
    """A folder of records. budget_bytes: what all of them may take; maker: everything that decides what a photo's
    arrays are, as text.

    Raises UserError when the folder's file system knows no locks.
    """

    def __init__(self, folder: str | Path, budget_bytes: int, maker: str):
        self.folder, self.budget_bytes, self.maker = Path(folder), budget_bytes, maker
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            pass

    def load(self, photo: Path) -> dict[str, np.ndarray] | None:
        """The arrays of a photo, None when they are not kept."""
        try:
            with np.load(self._record(photo)) as record:
                return dict(record)
        except FileNotFoundError:
            return None

    def store(self, photo: Path, arrays: dict[str, np.ndarray]) -> bool:
        """Keep the arrays of a photo; False when the budget leaves no room."""
        record = self._record(photo)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".partial") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            with self._locked() as used:
                if record.exists():  # another process was faster
                    return True
                if used + size > self.budget_bytes:
                    return False
                write_atomically(self._ledger, str(used + size))  # first: a kill in between must not hide a record
                os.link(file.name, record)
        return True

    def _record(self, photo: Path) -> Path:
        name = hashlib.sha256(f"{photo_hash(photo)} {self.maker}".encode()).hexdigest()
        return self.folder / f"{name}.npz"

    @property
    def _ledger(self) -> Path:
        """The bytes all records take."""
        return self.folder / "bytes"

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Nobody else stores meanwhile; gives the bytes all records take."""
        with open(self.folder / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise UserError(f"{self.folder}: files cannot be locked there ({error}): write data.cache_gib=0, or an "
                                "output_dir on another file system") from error
            yield int(self._ledger.read_text()) if self._ledger.exists() else 0
