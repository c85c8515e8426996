"""Which photo a file is: its content, whatever its name. No torch."""
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tqdm import tqdm

from gre.provenance import file_hash

THREADS = 8


def photo_hash(path: str | Path) -> str:
    """sha256 of a photo's content; a file that has not changed is read once in a process."""
    state = os.stat(path)
    return _hash(str(path), state.st_size, state.st_mtime_ns)


def photo_hashes(paths: Iterable[str | Path]) -> dict[str | Path, str]:
    """{path: sha256} of many photos, some at a time; a bar shows when it takes seconds."""
    unique = sorted(set(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(photo_hash, unique)
        return dict(zip(unique, tqdm(found, "hashing photos", len(unique), delay=5.0), strict=True))


@cache
def _hash(path: str, size: int, mtime_ns: int) -> str:
    return file_hash(path)
