"""A data file as rows, in whatever of the usual forms it lies on disk.

A JSON array; JSON lines; objects that run over several lines, one after another; an object that holds the array as its
one list of objects, such as {"data": [...]}; Parquet. Any of the JSON ones may be packed by gzip. Photos that stand in
a Parquet file themselves are written beside it (gre/data/unpacked.py).
"""
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gre.data.raw import DataError
from gre.data.unpacked import unpacked

BATCH = 500  # rows of Parquet in memory, with their photos
_OTHER_FILES = {  # how a file begins that is none of these forms: what it is, and what to do about it
    b"PK\x03\x04": "a zip archive: unpack it, and name the file inside",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it (zstd -d)", b"BZh": "packed by bzip2: unpack it (bunzip2)",
    b"\xfd7zXZ": "packed by xz: unpack it (unxz)", b"7z\xbc\xaf": "a 7z archive: unpack it, and name the file inside",
    b"ARROW1": "an Arrow file: save it as Parquet or JSON lines", b"SQLite format 3": "a database: save its table as "
    "JSON lines", b"\x80": "a pickle, which runs code when it is opened: save its rows as JSON lines",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8", b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: get it with `git lfs pull`",
    b"<!doctype html": "a web page, which a server sent instead of the file: download the file itself",
    b"<html": "a web page, which a server sent instead of the file: download the file itself"}
_FIELDS_OF_OBJECTS = ("conversations", "indicators", "steps", "entities", "images")  # of a row itself: no array of rows


def rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number, JSON value), an unreadable row as its error. Rows count from 1; JSON lines have their line numbers.

    Raises DataError for a file that is none of the forms, saying what it is.
    """
    with open(path, "rb") as stream:
        parquet = stream.read(4) == b"PAR1"
    if parquet:
        return enumerate((unpacked(row, path.parent) for row in parquet_rows(path)), start=1)
    content = path.read_bytes()
    check_form(path, content)
    return _json_rows(path, utf8(path, content))


def json_lines(path: Path) -> Iterator[tuple[int, Any]] | None:
    """`rows` of plain JSON lines, one in memory at a time; None for a file of any other form."""
    with open(path, "rb") as stream:
        first = stream.readline().removeprefix(b"\xef\xbb\xbf").strip()
    try:
        alone = isinstance(json.loads(first), dict) and path.suffix == ".jsonl"
    except (ValueError, RecursionError):
        return None
    return _streamed(path) if alone else None


def _streamed(path: Path) -> Iterator[tuple[int, Any]]:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                except (ValueError, RecursionError) as error:
                    yield number, error


def check_form(path: Path, content: bytes) -> None:
    """Refuse a file that begins as another kind does, saying which. Raises DataError."""
    for start, what in _OTHER_FILES.items():
        if content[:100].lstrip().lower().startswith(start.lower()):
            raise DataError(f"{path} is {what}")
    if content[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive: unpack it, and name the file inside")


def utf8(path: Path, content: bytes) -> str:
    """The text of a file, unpacked where it is packed by gzip. Raises DataError."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: cannot be unpacked ({error}). Get the file again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save the file as UTF-8") from None


def parquet_rows(path: Path) -> Iterator[dict]:
    """The rows of a Parquet file, BATCH of them in memory. Raises DataError for a damaged one."""
    import pyarrow  # takes a moment, and comes with datasets
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(BATCH):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: the Parquet file is broken ({error}). Get the file again") from None


def _json_rows(path: Path, content: str) -> Iterator[tuple[int, Any]]:
    start = content.lstrip()
    if start.startswith("["):
        try:
            return enumerate(_arrays(start), start=1)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: the JSON array is broken ({error}). Repair or download the file again") from None
    if start and not start.startswith("{") and not any(line.lstrip().startswith("{") for line in start.split("\n")):
        raise DataError(f"{path} is neither JSON nor Parquet: it begins with {start[:40]!r}. Write a JSON array or "
                        "JSON lines, a row each, as docs/formats.md shows")
    first = _decoded(start)
    if isinstance(first, tuple):  # else the first line is a broken row of its own
        value, end = first
        rest = start[end:].strip()
        if not rest and (inside := _array_inside(value)) is not None:
            return enumerate(inside, start=1)
        if not rest:
            _check_no_table(path, value)
        if "\n" in start[:end] or rest and not start[end:].lstrip(" \t\r").startswith("\n"):
            return _objects(start)
    return _lines(content)


def _lines(content: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, error


def _objects(content: str) -> Iterator[tuple[int, Any]]:
    """Objects one after another, whatever stands between them. After a broken one, on from the next line that begins
    with a brace."""
    number = 0
    while content := content.lstrip(" \t\r\n,"):
        found, number = _decoded(content), number + 1
        if isinstance(found, tuple):
            value, end = found
            yield number, value
        else:
            yield number, found
            end = content.find("\n{", 1)
        content = content[end:] if end > 0 else ""


def _decoded(content: str) -> tuple[Any, int] | Exception:
    """(the JSON value that the text begins with, where it ends), or what is wrong with it."""
    try:
        return json.JSONDecoder().raw_decode(content)
    except (ValueError, RecursionError) as error:
        return error


def _arrays(content: str) -> list:
    """The items of an array, or of several one after another, as `cat a.json b.json` makes. Raises ValueError."""
    items: list = []
    while content:
        value, end = json.JSONDecoder().raw_decode(content)
        if not isinstance(value, list):
            raise ValueError(f"after the array stands {content[:20]!r}")
        items += value
        content = content[end:].lstrip()
    return items


def _check_no_table(path: Path, value: Any) -> None:
    """Refuse one object that is no row but holds rows in a form that is not read. Raises DataError."""
    if not isinstance(value, dict):
        return
    arrays = [name for name, inside in value.items() if name not in _FIELDS_OF_OBJECTS and isinstance(inside, list)
              and inside and all(isinstance(item, dict) for item in inside)]
    if len(arrays) > 1:
        raise DataError(f"{path} holds several arrays of rows ({', '.join(arrays)}): write each into a file of its own")
    if len(value) > 1 and all(isinstance(inside, dict) and inside for inside in value.values()):
        raise DataError(f"{path} holds {len(value)} rows or columns by name, in one object: write a JSON array of rows "
                        "(pandas: to_json(orient='records'))")
    if len(value) > 1 and all(isinstance(inside, list) and len(inside) > 1 for inside in value.values()):
        raise DataError(f"{path} holds a table by columns ({', '.join(value)}): write a JSON array of rows (pandas: "
                        "to_json(orient='records'))")


def _array_inside(value: Any) -> list | None:
    """The rows of an object that is no row itself but holds them."""
    if not isinstance(value, dict):
        return None
    lists = [inside for name, inside in value.items() if name not in _FIELDS_OF_OBJECTS and isinstance(inside, list)
             and inside and all(isinstance(item, dict) for item in inside)]
    return lists[0] if len(lists) == 1 else None
