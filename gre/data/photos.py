"""Whole photos, told from damaged ones before training rather than in the middle of it. No torch.

Every photo is decoded once; the hashes of those found whole are kept beside the run, so that its other stages and a
restart only hash them. What was found damaged is looked at again: it may have been replaced.
"""
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import PIL
from tqdm import tqdm

from gre.config import UserError
from gre.data.hashes import photo_hash
from gre.data.images import check_ratio, decode, read_bytes
from gre.data.raw import RowError
from gre.provenance import write_atomically

THREADS = 16  # Pillow decodes outside Python's lock; more would only wait for the disk, and each holds a photo


def look_at(photos: Sequence[Path], whole: set[str], show: bool = True) -> tuple[dict[Path, str], set[str]]:
    """(what is wrong with each photo that cannot be trained on, the hashes of the others).

    whole: hashes of photos that need not be decoded again. show: draw a progress bar.
    Raises DataError where a disk fails, which says nothing about a photo.
    """
    def look(path: Path) -> tuple[str, str]:
        try:
            sha256 = photo_hash(path)
        except OSError:
            read_bytes(path)  # has the words
            raise
        if sha256 in whole:
            return sha256, ""
        try:
            check_ratio(decode(read_bytes(path), path).size, path)
        except RowError as error:
            return sha256, str(error)
        return sha256, ""

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            found = list(tqdm(pool.map(look, photos), total=len(photos), desc="photos", unit="photo", disable=not show))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    faults = {path: fault for path, (_, fault) in zip(photos, found, strict=True) if fault}
    return faults, {sha256 for sha256, fault in found if not fault}


def beside(data: str | Path) -> Path:
    """Where `data_prep.inspect` leaves the hashes of the whole photos of a data file, for stages to take."""
    return Path(data).parent / "whole_photos.json"


def known_whole(file: Path) -> set[str]:
    """The hashes that `remember` wrote with these releases of Pillow and pillow-heif; none without a file."""
    if not file.exists():
        return set()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return set(content["whole"]) if content["pillow"] == _decoders() else set()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} does not list whole photos ({type(error).__name__}: {error}): delete it, and they are "
                        "looked at again") from None


def remember(file: Path, whole: set[str]) -> None:
    """Add hashes of whole photos to those a file lists."""
    if whole <= (known := known_whole(file)):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"pillow": _decoders(), "whole": sorted(known | whole)}, indent=0) + "\n")


def _decoders() -> str:
    """What decides whether a photo can be decoded."""
    return f"{PIL.__version__}, pillow-heif {metadata.version('pillow-heif')}"
