"""Tables of photos as they lie on disk, read row by row in constant memory: CSV, TSV and text separated otherwise (gzip
too), Parquet, YFCC100M's list, which has no header. No torch.

A row that cannot be read is given with what is wrong with it, so that who reads decides whether it stops or is counted.
A table can be entered at any mark of `marks`, which is how shards of it are read by different processes.
"""
import csv
import gzip
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from gre.data import forms
from gre.data.raw import DataError

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz")
COLUMNS = {  # what we call it: headers it goes by, any case; of several the first counts
    "id": ("IMG_ID", "IMG_FILE", "id", "image_id", "photo_id", "image", "img", "filename", "file_name", "image_path"),
    "photo": ("IMG_FILE", "image", "img", "filename", "file_name", "image_path"),  # else the id names it
    "lat": ("LAT", "latitude", "gt_lat"),
    "lon": ("LON", "lng", "longitude", "gt_lon"),
    "author": ("AUTHOR", "creator_id")}
# YFCC100M's list counts the photo id as column 0 or, after a line number, as column 1; the others count from there.
YFCC_OFFSETS = (0, 1)
YFCC = {"photo_id": 0, "author": 2, "longitude": 11, "latitude": 12, "page_url": 14, "license_name": 16}
LOOKED_AT = 1000  # lines that tell where YFCC's columns are
BATCH = 1000  # rows of Parquet in memory


class Mark(NamedTuple):
    """Where to enter a table: the row's number from 0, and in text its byte and how many lines lie before it."""

    row: int = 0
    byte: int = 0
    lines: int = 0


class Line(NamedTuple):
    """A row. where: file and line, for messages; fault: what is wrong with it, and then fields may be empty. Values are
    text, but for photos that stand in a Parquet table themselves."""

    where: str
    fields: dict[str, Any]
    fault: str = ""


class Table:
    """A table, opened by `open_table`. header: names of its columns; delimiter: a comma for Parquet."""

    path: Path
    header: Sequence[str]
    delimiter: str = ","

    def lines(self, start: Mark = Mark()) -> Iterator[Line]:  # noqa: B008 - a constant
        """The rows from a mark on. Raises DataError where nothing behind can be read either."""
        raise NotImplementedError

    def marks(self, every: int) -> Iterator[tuple[Mark, list[Line]]]:
        """The table in pieces of `every` rows: where each begins, and its rows."""
        raise NotImplementedError


def open_table(path: Path) -> Table:
    """Raises DataError for a file that is no table, saying what it is."""
    with open(path, "rb") as stream:
        head = stream.read(1024)
    if head.startswith(b"PAR1"):
        return _Parquet(path)
    forms.check_form(path, head)
    return _Text(path)


def columns(header: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What we call it → the header it has here."""
    here = {name.strip().lower(): name for name in reversed(header)}
    found = {ours: next((here[name.lower()] for name in usual if name.lower() in here), None)
             for ours, usual in names.items()}
    return {ours: name for ours, name in found.items() if name is not None}


def decimal(text: str, delimiter: str) -> str:
    """A number as written, with a point for the comma that Excel writes where semicolons separate columns."""
    return text.replace(",", ".") if delimiter == ";" and "." not in text else text


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class _Text(Table):
    """Text. `yfcc` is where YFCC's photo id stands; None for a table with a header."""

    def __init__(self, path: Path):
        self.path, self.yfcc = path, None
        with self._opened() as stream:
            first = stream.readline()
            if b"\r" in first.rstrip(b"\r\n"):
                raise DataError(f"{path}: its lines end as on an old Macintosh (CR alone). Save it with line ends LF")
            text = self._decoded(first.removeprefix(b"\xef\xbb\xbf"))
            if "\udc80" <= max(text, default="") <= "\udcff":
                raise DataError(f"{path}: its first line is not UTF-8. Save the file as UTF-8")
            self.delimiter = _delimiter(text)
            self.header = next(csv.reader([text], delimiter=self.delimiter), [])
            self._start = Mark(0, len(first), 1)
        if self.delimiter == "\t" and not columns(self.header, COLUMNS).keys() & {"lat", "lon"}:
            self.yfcc, self._start = self._yfcc_offset(), Mark()
            self.header = list(YFCC)

    def lines(self, start: Mark = Mark()) -> Iterator[Line]:  # noqa: B008
        return (line for line, _ in self._walk(start if start.byte else self._start))

    def marks(self, every: int) -> Iterator[tuple[Mark, list[Line]]]:
        mark, piece = self._start, []
        for line, behind in self._walk(mark):
            piece.append(line)
            if len(piece) == every:
                yield mark, piece
                mark, piece = behind, []
        if piece:
            yield mark, piece

    def _walk(self, start: Mark) -> Iterator[tuple[Line, Mark]]:
        """Each row and where the next one begins."""
        row, self._byte, self._lines = start
        with self._opened() as stream:
            stream.seek(self._byte)
            texts = self._texts(stream)
            for line in self._yfcc_lines(texts) if self.yfcc is not None else self._csv_lines(texts):
                row += 1
                yield line, Mark(row, self._byte, self._lines)

    def _csv_lines(self, texts: Iterator[str]) -> Iterator[Line]:
        reader = csv.reader(texts, delimiter=self.delimiter, strict=True)
        while True:
            begin = self._lines + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{self.path}, line {begin}" + (f" to {self._lines}" if self._lines > begin else "")
                if "unexpected end of data" in str(error):
                    raise DataError(f"{where}: a quote that is opened there is never closed, so that all behind it is "
                                    "one field. Close it, or take it out") from None
                yield Line(where, {}, f"not CSV ({error})")
                continue
            if not values:
                continue
            where = f"{self.path}, line {self._lines}"
            fields = dict(zip(self.header, values + [""] * (len(self.header) - len(values))))
            if any(not value.isascii() and not value.isprintable() and _is_broken(value) for value in values):
                yield Line(where, {}, "not UTF-8")
            else:
                yield Line(where, fields, "" if len(values) == len(self.header) else
                           "more or fewer fields than the header has")

    def _yfcc_lines(self, texts: Iterator[str]) -> Iterator[Line]:
        for text in texts:
            if text.strip():
                values = text.rstrip("\r\n").split("\t")
                fields = {name: values[self.yfcc + at] for name, at in YFCC.items() if self.yfcc + at < len(values)}
                yield Line(f"{self.path}, line {self._lines}", {name: fields.get(name, "") for name in YFCC},
                           "not UTF-8" if _is_broken(text) else "" if len(values) > self.yfcc + YFCC["latitude"] else
                           "fewer fields than YFCC100M's list has")

    def _yfcc_offset(self) -> int:
        """Which of the two readings has a photo id of digits and numbers for both coordinates in nearly every row that
        is located at all: where a coordinate would be in the other, machine tags stand, or a hash for the id."""
        with self._opened() as stream:
            first = [self._decoded(line).rstrip("\r\n") for line in islice(stream, LOOKED_AT)]
        rows = [line.split("\t") for line in first if line.strip()]

        def values(row: list[str], offset: int) -> list[str]:
            return [row[at] if at < len(row) else "" for at in (offset, offset + 11, offset + 12)]

        fitting, unlocated = {}, {}
        for offset in YFCC_OFFSETS:
            found = [values(row, offset) for row in rows]
            fitting[offset] = sum(id.isdigit() and is_number(lon) and is_number(lat) for id, lon, lat in found)
            unlocated[offset] = sum(id.isdigit() and not lon and not lat for id, lon, lat in found)
        best = max(fitting, key=fitting.get)
        if fitting[best] > 0.9 * (len(rows) - unlocated[best]):  # a few broken rows are named as such
            return best
        raise DataError(f"{self.path}: separated by tabs, without a header, and not YFCC100M's list (photo id in "
                        "column 0 or 1, longitude and latitude 11 and 12 columns on). Give it a header")

    def _texts(self, stream: IO[bytes]) -> Iterator[str]:
        for line in stream:
            self._byte += len(line)
            self._lines += 1
            yield self._decoded(line.removeprefix(b"\xef\xbb\xbf") if self._lines == 1 else line)

    @staticmethod
    def _decoded(line: bytes) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            return line.decode("utf-8", "surrogateescape")

    def _opened(self) -> IO[bytes]:
        with open(self.path, "rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return gzip.open(self.path, "rb") if packed else open(self.path, "rb")


class _Parquet(Table):
    def __init__(self, path: Path):
        self.path = path
        self.header = self._checked(lambda: self._file().schema_arrow.names)

    def lines(self, start: Mark = Mark()) -> Iterator[Line]:  # noqa: B008
        return self._checked_rows(start.row)

    def marks(self, every: int) -> Iterator[tuple[Mark, list[Line]]]:
        photos = [name for name in self.header if name in ("image", "img", "jpg", "bytes")]
        names = [name for name in self.header if name not in photos]  # photos themselves would fill the memory
        rows, at = self._checked_rows(0, names or None), 0
        while piece := list(islice(rows, every)):
            yield Mark(at), piece
            at += len(piece)

    def _checked_rows(self, first: int, names: Sequence[str] | None = None) -> Iterator[Line]:
        rows = self._rows(first, names)
        while (line := self._checked(lambda: next(rows, None))) is not None:
            yield line

    def _rows(self, first: int, names: Sequence[str] | None) -> Iterator[Line]:
        file, begin = self._file(), 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if begin + count > first:
                at = begin
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=names):
                    if at + batch.num_rows > first:
                        skipped = max(0, first - at)
                        for number, row in enumerate(batch.slice(skipped).to_pylist(), at + skipped + 1):
                            yield Line(f"{self.path}, row {number}", {name: _as_text(value)
                                                                      for name, value in row.items()})
                    at += batch.num_rows
            begin += count

    def _file(self) -> Any:
        from pyarrow import parquet  # takes a moment, and comes with datasets

        return parquet.ParquetFile(self.path)

    def _checked(self, read: Any) -> Any:
        import pyarrow

        try:
            return read()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.path}: the Parquet file is broken ({error}). Get the file again") from None


def _as_text(value: Any) -> Any:
    return value if isinstance(value, (dict, bytes)) else "" if value is None else str(value)


def _is_broken(text: str) -> bool:
    """Whether bytes that are not UTF-8 were in it."""
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _delimiter(header: str) -> str:
    """What separates the columns: tabs, else semicolons (Excel's, where the comma is the decimal mark) or pipes where
    there are more of them than commas."""
    return "\t" if "\t" in header else max(",;|", key=header.count)


def rows_of(lines: Iterable[Line]) -> Iterator[Line]:
    """The rows; raises DataError at the first that is not whole."""
    for line in lines:
        if line.fault:
            raise DataError(f"{line.where}: {line.fault}. Repair the row")
        yield line
