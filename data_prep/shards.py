"""Work that is cut into shards and can be killed: each shard's result is a Parquet file that is whole or not there.

`shard=i/n` on the command line is one process's part of them: every n-th, starting with the i-th, on this machine or
another that sees the same folder. The command without it does what is left and joins.
"""
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import pyarrow
from pyarrow import parquet
from tqdm import tqdm

from gre.config import UserError
from gre.provenance import file_hash

LEFT = "this part is done. When all have ended, run the command without shard="


def is_mine(number: int, mine: tuple[int, int]) -> bool:
    """Whether a shard belongs to part i of n."""
    return number % mine[1] == mine[0]


class Work:
    """The folder of a step's shards. made_of: all that decides what comes out; another run's shards are refused."""

    def __init__(self, folder: Path, made_of: dict[str, Any]):
        self.folder = folder
        note = folder / "made_of.json"
        text = json.dumps(made_of, indent=2, sort_keys=True, default=str) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            with whole(note) as partial:
                partial.write_text(text, encoding="utf-8")
        elif note.read_text(encoding="utf-8") != text:
            old = json.loads(note.read_text(encoding="utf-8"))
            differing = sorted(key for key in {*old, *json.loads(text)} if old.get(key) != json.loads(text).get(key))
            raise UserError(f"{folder} holds work that was begun otherwise (another {', '.join(differing)}): finish it "
                            "with the settings of then, name another out=, or remove the folder")

    def path(self, stage: str, number: int) -> Path:
        return self.folder / stage / f"{number:06d}.parquet"

    def missing(self, stage: str, count: int) -> list[int]:
        """Shards of a stage that are not there yet."""
        return [number for number in range(count) if not self.path(stage, number).exists()]

    def make(self, stage: str, rows: Sequence[int], mine: tuple[int, int],
             make: Callable[[int], pyarrow.Table]) -> None:
        """Make the shards of a stage that are missing, of those that are `mine`. rows: how many each shard has."""
        todo = [number for number in self.missing(stage, len(rows)) if is_mine(number, mine)]
        with tqdm(total=sum(rows[number] for number in todo), desc=stage, unit="row", disable=not todo) as bar:
            for number in todo:
                save(self.path(stage, number), make(number))
                bar.update(rows[number])

    def read(self, stage: str, number: int, columns: Sequence[str] | None = None) -> pyarrow.Table:
        return parquet.read_table(self.path(stage, number), columns=columns)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file of a work folder that is there whole or not at all: write to the path given. Several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    yield partial
    with open(partial, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, path)


def save(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet file of a work folder."""
    with whole(path) as partial:
        parquet.write_table(table, partial, compression="zstd")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file line by line so that it is there whole or not at all. One process does; what a kill leaves is
    written over by the next."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a data file as `write_lines` does: JSON lines where it is called .jsonl, else an array, a row a line."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    if path.suffix == ".jsonl":
        write_lines(path, (line + "\n" for line in lines))
        return
    between = chain([""], repeat(",\n"))
    write_lines(path, chain(["[\n"], (comma + line for comma, line in zip(between, lines)), ["\n]\n"]))


class Files:
    """JSON-lines files of one folder that grow together, `sidecar` for OUT/sidecar.jsonl; whole or not there."""

    def __init__(self, out: Path, *names: str):
        self.paths = {name: out / f"{name}.jsonl" for name in names}

    def __enter__(self) -> Self:
        self.partial = {name: path.with_name(path.name + ".partial") for name, path in self.paths.items()}
        next(iter(self.paths.values())).parent.mkdir(parents=True, exist_ok=True)
        self.streams = {name: open(path, "w", encoding="utf-8", errors="backslashreplace")
                        for name, path in self.partial.items()}
        return self

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        self.streams[name].write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def __exit__(self, kind: type | None, *_) -> None:
        for stream in self.streams.values():
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        for name in self.paths if kind is None else ():
            os.replace(self.partial[name], self.paths[name])


def made_of(config: Any, out: Path, *without: str, source: Path) -> dict[str, Any]:
    """All that decides what a step writes: its keys but those `without`, and the content of a source that is a file."""
    if source.is_file() and source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{source} lies in {out}, which is written: name another out=")
    return {**{key: value for key, value in asdict(config).items() if key not in without},
            "source_sha256": file_hash(source) if source.is_file() else None}


def is_finished(out: Path, made_of: dict[str, Any]) -> bool:
    """Whether a step's folder is done; its work is then removed. Raises UserError for one made otherwise."""
    card = out / "card.json"
    if not card.exists():
        return False
    old = json.loads(card.read_text(encoding="utf-8")).get("made_of", {})
    new = json.loads(json.dumps(made_of, default=str))
    if differing := sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        raise UserError(f"{out} was made otherwise (another {', '.join(differing)}): name another out=, or remove it")
    shutil.rmtree(out / "work", ignore_errors=True)
    return True
