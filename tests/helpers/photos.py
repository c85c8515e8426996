"""Photos of their own each, in collections as people have them."""
import csv
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def photo(number: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """Clouds of one's own colours: spectra as photos have them, so that perceptual hashes are far apart."""
    rng = np.random.default_rng(number)
    width, height = size
    squares = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[None] ** 2
    squares[0, 0] = 1
    noise = rng.normal(size=(3, height, width)) + 1j * rng.normal(size=(3, height, width))
    clouds = np.fft.ifft2(noise / squares**0.6).real
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    return Image.fromarray((clouds / clouds.max(axis=(1, 2), keepdims=True) * 255).astype(np.uint8).transpose(1, 2, 0))


@cache
def jpeg(number: int, quality: int = 92, scale: float = 1.0) -> bytes:
    picture = photo(number)
    if scale != 1:
        picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def folder(path: Path, photos: Mapping[str, bytes]) -> Path:
    for name, content in photos.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tar(path: Path, photos: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in photos.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def split(path: Path, parts: int) -> list[Path]:
    """A file cut into parts as `split` cuts it, itself removed."""
    content = path.read_bytes()
    size = -(-len(content) // parts)
    names = [path.with_name(f"{path.name}.{chr(97 + number // 26)}{chr(97 + number % 26)}") for number in range(parts)]
    for number, name in enumerate(names):
        name.write_bytes(content[number * size:(number + 1) * size])
    path.unlink()
    return names


def zipped(path: Path, photos: Mapping[str, bytes], packed: bool) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in photos.items():
            archive.writestr(name, content)
    return path


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence], delimiter: str = ",") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return path
