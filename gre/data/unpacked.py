"""Photos that stand in a table themselves, as `datasets` writes them: out of the row, into files. No torch.

A photo goes to imgs/AB/ABCD….jpg beside its table, by the sha256 of its content, byte for byte, so that everything that
takes a path takes it, and whoever reads the table again, another process at the same time included, finds it there.
"""
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from gre.data.images import SUFFIXES
from gre.data.raw import DataError

COLUMNS = ("image", "images", "image_path")


def unpacked(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row with paths, from `folder` on, in place of its photos. Raises DataError where they cannot be written."""
    return {name: _photos(value, folder) if name in COLUMNS else value for name, value in row.items()}


def _photos(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_photos(one, folder) for one in value]
    content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    return _written(content, name or "", folder) if isinstance(content, bytes) else value


def _written(content: bytes, name: str, folder: Path) -> str:
    """Where the photo lies. name: as the table calls it; its ending is kept."""
    sha256, suffix = hashlib.sha256(content).hexdigest(), PurePosixPath(name).suffix.lower()
    relative = f"imgs/{sha256[:2]}/{sha256[:20]}{suffix if suffix in SUFFIXES else '.jpg'}"
    path = folder / relative
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            raise DataError(f"{path}: a photo of the table cannot be written there ({error}). Copy the table into a "
                            "folder that can be written to, and name it there") from None
    return relative
