"""What people decided, on disk: a JSON-lines file an annotator, beside the data file. No torch.

    gre_cot.review.anna.jsonl     a line a decision, in the order they were made; a later one about a row counts

A decision is on the disk (fsync) before anybody is told that it is. A line that a kill cut off was never confirmed: it
is taken off. Annotators who work on machines of their own put their files together.
"""
import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gre.config import UserError
from gre.provenance import to_disk

DECISIONS = ACCEPT, EDIT, REJECT = "accept", "edit", "reject"
NAME = re.compile(r"[\w-]{1,40}")


@dataclass(frozen=True)
class Decision:
    """row, sha256: which row; the number is for people, the hash counts. fields: the texts of an edit. why: a
    person's words about it. at: when, UTC."""

    row: int
    sha256: str
    decision: str
    fields: dict[str, str] = field(default_factory=dict)
    why: str = ""
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))


class Journal:
    """One annotator's file, open for writing; may be used from several threads.

    Raises UserError where another process has it open, and for a file that was damaged.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()
        self._file = open(path, "ab+", buffering=0)  # else what a full disk refused would be tried again later
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"{path} is open in another review: end that one, or give another name=") from None
        self.latest, whole = _read(path)
        self._file.truncate(whole)
        to_disk(path.parent)  # a new file's name is the folder's

    def add(self, decision: Decision) -> None:
        """Keep a decision: it is on the disk when this returns. Raises OSError, and the file is as it was before."""
        line = (json.dumps(asdict(decision), ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with self._lock:
            before = os.fstat(self._file.fileno()).st_size
            try:
                while line:
                    line = line[self._file.write(line):]
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
            self.latest[decision.sha256] = decision

    def close(self) -> None:
        self._file.close()


def path_of(data: Path, name: str) -> Path:
    """An annotator's file."""
    return data.with_name(f"{data.stem}.review.{name}.jsonl")


def of_all(data: Path) -> dict[str, dict[str, Decision]]:
    """Annotator → a row's sha256 → his last decision about it, of all who judged a data file."""
    found = {}
    for path in sorted(data.parent.iterdir()):
        name = path.name.removeprefix(f"{data.stem}.review.").removesuffix(".jsonl")
        if NAME.fullmatch(name) and path == path_of(data, name):
            found[name] = _read(path)[0]
    return found


def _read(path: Path) -> tuple[dict[str, Decision], int]:
    """(a row's sha256 → the last decision about it, bytes of whole lines)."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    return {one.sha256: one for one in _parsed(path, content[:whole])}, whole


def _parsed(path: Path, content: bytes) -> Iterator[Decision]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            one = Decision(**json.loads(line))
            if one.decision not in DECISIONS:
                raise ValueError(f"decision is {one.decision!r}")
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}: no decision ({error}): repair the line, or take it out") from None
        yield one
