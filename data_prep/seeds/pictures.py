"""Where the bytes of a listed photo are: in folders, tars (whole, or one cut into parts, MP16-Pro's), zips (OSV-5M's).

Nothing is unpacked. All places are looked through once, and what is there is written into an index on disk (SQLite),
where a name is found whatever a table leaves out or writes otherwise: its ending, its folder, underscores for slashes.
A member of an archive is then read from its place in the file.
"""
import io
import os
import re
import sqlite3
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from data_prep.shards import whole
from gre.config import UserError
from gre.data.images import SUFFIXES, read_bytes
from gre.data.raw import DataError, RowError

MOST_BYTES = 1 << 28  # of a photo: what is larger is none, and would fill the memory
_WHOLE, _STORED, _DEFLATED, _LEAVES = 0, 1, 2, 3  # a file; bytes in an archive; packed bytes there; a link outwards
_PART = re.compile(r"(?P<stem>.+\.tar)\.?(?:part)?[-_]?(?P<number>[0-9]+|[a-z]{2,3})", re.IGNORECASE)


class Found(NamedTuple):
    """A photo's place. path: as its folder or archive names it; place: the file, or the archive's first part."""

    path: str
    place: str
    offset: int
    size: int
    how: int


class Pictures:
    """The photos below some places. `find` and `read` may be called from several threads."""

    def __init__(self, places: Sequence[Path], index: Path):
        """index: the file it is kept in. Raises UserError for a place that is not there or cannot be read in place."""
        self.index, self._local = index, threading.local()
        self._parts = {str(archive[0]): archive for place in places for archive in _archives(place)}
        if not index.exists():
            self._build(places)

    def find(self, name: str) -> Found:
        """The photo that a table calls `name`. Raises RowError saying why there is none; LookupError for one that is
        not there."""
        name = name.replace("\\", "/").strip()
        if ".." in name.split("/") or re.match(r"[a-zA-Z]:/", name):
            raise RowError(f"{name!r} leaves the photos' folder")
        wanted = _stem(name.removeprefix("./").strip("/"))
        for spelling in dict.fromkeys((wanted, wanted.replace("_", "/"), wanted.replace("/", "_"))):
            found = self._so_called(spelling.strip("/"))
            exact = [one for one in found if one.path.endswith(os.path.basename(name))]
            found = exact if len(exact) == 1 else found
            if len(found) > 1:
                raise RowError(f"{name!r} may be {found[0].path} or {found[1].path}: write its folder or ending too")
            if found and found[0].how == _LEAVES:
                raise RowError(f"{name!r} is a link that leaves the photos' folder")
            if found:
                return found[0]
        raise LookupError(name)

    def read(self, found: Found) -> bytes:
        """The bytes of a photo. Raises RowError for what cannot be unpacked or is too large, DataError for a disk that
        fails."""
        if found.how == _WHOLE:
            if os.stat(found.place).st_size > MOST_BYTES:
                raise RowError(f"{found.path}: more than {MOST_BYTES >> 20} MiB")
            return read_bytes(found.place)
        if found.size > MOST_BYTES:
            raise RowError(f"{found.path}: more than {MOST_BYTES >> 20} MiB")
        with Parts(self._parts[found.place]) as stream:
            stream.seek(found.offset)
            content = stream.read(found.size)
        if found.how == _STORED:
            return content
        unpack = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            whole = unpack.decompress(content, MOST_BYTES)
        except zlib.error as error:
            raise RowError(f"{found.path}: cannot be unpacked ({error})") from None
        if not unpack.eof:
            raise RowError(f"{found.path}: cannot be unpacked, or to more than {MOST_BYTES >> 20} MiB")
        return whole

    def _so_called(self, wanted: str) -> list[Found]:
        """Photos whose path without its ending ends in `wanted`, or is what `wanted` ends in: a table may leave folders
        out, or start further up. Another folder is another photo, but `images/` may be `imgs/`, as GRE publishes it."""
        if not hasattr(self._local, "connection"):
            self._local.connection = sqlite3.connect(f"file:{self.index}?mode=ro&immutable=1", uri=True)
        rows = [Found(*row) for row in self._local.connection.execute(
            "SELECT path, place, start, size, how FROM pictures WHERE name = ? LIMIT 1000",
            (wanted.rpartition("/")[2],))]
        wanted = re.sub(r"(^|/)imgs/", r"\1images/", wanted)

        def is_meant(path: str) -> bool:
            path = re.sub(r"(^|/)imgs/", r"\1images/", _stem(path))
            return f"/{path}".endswith(f"/{wanted}") or f"/{wanted}".endswith(f"/{path}")
        return sorted(row for row in rows if is_meant(row.path))

    def _build(self, places: Sequence[Path]) -> None:
        with whole(self.index) as partial:
            partial.unlink(missing_ok=True)
            self._fill(sqlite3.connect(partial), places)

    def _fill(self, connection: sqlite3.Connection, places: Sequence[Path]) -> None:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("CREATE TABLE pictures (name TEXT, path TEXT, place TEXT, start INTEGER, size INTEGER, "
                           "how INTEGER)")
        rows = (row for place in places for row in _looked_through(place))
        connection.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?)", (
            (_stem(row.path).rpartition("/")[2], *row) for row in tqdm(
                rows, "looking for photos", unit="photo", delay=2.0)))
        connection.execute("CREATE INDEX names ON pictures (name)")
        connection.commit()
        connection.close()


class Parts(io.RawIOBase):
    """Files that follow one another, as one that can be read and sought in."""

    def __init__(self, paths: Sequence[Path]):
        self._streams = [open(path, "rb") for path in paths]
        self._ends, end = [], 0
        for path in paths:
            end += path.stat().st_size
            self._ends.append(end)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._ends[-1]}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        pieces, left = [], self._ends[-1] - self._at if size is None or size < 0 else size
        while left > 0 and self._at < self._ends[-1]:
            number = next(i for i, end in enumerate(self._ends) if self._at < end)
            stream = self._streams[number]
            stream.seek(self._at - (self._ends[number - 1] if number else 0))
            pieces.append(stream.read(min(left, self._ends[number] - self._at)))
            self._at, left = self._at + len(pieces[-1]), left - len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        super().close()


def _stem(path: str) -> str:
    """A path without the ending of a photo; a point in a name is no ending."""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in SUFFIXES else path


def _archives(place: Path) -> list[list[Path]]:
    """The archives at a place, each as its parts in order. Raises UserError for a part that is missing."""
    if not place.exists():
        raise UserError(f"images={place}: not there. Name folders, tars or zips that hold the table's photos")
    paths = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
    parts: dict[str, list[tuple[str, Path]]] = {}
    whole = []
    for path in paths:
        if path.name.lower().endswith((".tar", ".zip")):
            whole.append([path])
        elif path.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
            raise UserError(f"{path}: a packed tar cannot be read in place: unpack it to .tar (gunzip, unxz, zstd -d)")
        elif match := _PART.fullmatch(path.name):
            parts.setdefault(match["stem"], []).append((match["number"], path))
        elif place.is_file():
            raise UserError(f"images={place}: neither a folder nor a tar nor a zip")
    for stem, named in parts.items():
        numbers = [_rank(number) for number, _ in named]
        if sorted(numbers) != list(range(min(numbers), min(numbers) + len(numbers))) or min(numbers) > 1:
            raise UserError(f"{place if place.is_dir() else place.parent}: parts of {stem} are missing; there are "
                            f"{', '.join(path.name for _, path in named)}. Get the others")
        whole.append([path for _, path in sorted(named, key=lambda pair: _rank(pair[0]))])
    return whole


def _rank(number: str) -> int:
    """The place of a part: 00, 01 … or aa, ab …, as `split` counts."""
    if number.isdigit():
        return int(number)
    rank = 0
    for letter in number.lower():
        rank = 26 * rank + ord(letter) - ord("a")
    return rank


def _looked_through(place: Path) -> Iterator[Found]:
    """Every photo at a place, in a fixed order."""
    for parts in _archives(place):
        yield from _in_zip(parts[0]) if parts[0].name.lower().endswith(".zip") else _in_tar(parts)
    if place.is_dir():
        root = place.resolve()
        allowed = [root, *(folder.parent / "blobs" for folder in root.parents if folder.name == "snapshots")]
        for at, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(at, name)
                if name.lower().endswith(SUFFIXES) and not name.startswith("._"):
                    leaves = path.is_symlink() and not any(path.resolve().is_relative_to(one) for one in allowed)
                    yield Found(path.relative_to(root).as_posix(), str(path), 0, 0, _LEAVES if leaves else _WHOLE)


def _in_tar(parts: Sequence[Path]) -> Iterator[Found]:
    """Raises DataError for a tar that ends early."""
    with Parts(parts) as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    archive.members.clear()  # it would keep them all
                    if member.offset_data + member.size > length:
                        raise DataError(f"{parts[-1]}: the tar ends within {member.name}: a part is missing or was not "
                                        "got whole. Get it again")
                    if member.isfile() and member.name.lower().endswith(SUFFIXES):
                        yield Found(member.name.removeprefix("./"), str(parts[0]), member.offset_data, member.size,
                                    _STORED)
        except tarfile.TarError as error:
            raise DataError(f"{parts[0]}: no tar that can be read ({error}). Get it again") from None


def _in_zip(path: Path) -> Iterator[Found]:
    """Raises DataError for a zip that is damaged, or packed or locked in a way that is not read."""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as stream:
            for member in archive.infolist():
                if member.is_dir() or not member.filename.lower().endswith(SUFFIXES):
                    continue
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                    raise DataError(f"{path}: {member.filename} is encrypted, or packed in a way that is not read here"
                                    ": unpack the zip")
                stream.seek(member.header_offset)
                name, extra = struct.unpack("<26x2H", stream.read(30))
                yield Found(member.filename, str(path), member.header_offset + 30 + name + extra, member.compress_size,
                            _STORED if member.compress_type == zipfile.ZIP_STORED else _DEFLATED)
    except (zipfile.BadZipFile, struct.error) as error:
        raise DataError(f"{path}: no zip that can be read ({error}). Get it again") from None
