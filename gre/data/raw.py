"""A data file as it lies on disk: its JSON rows, their fields and their photos, each checked.

`BadRow` is raised for one row; gre.data.records adds file, row number and what to do about it.
"""
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gre.config import UserError
from gre.geo.point import LatLon

IMAGE_MARK = "<image>"


class DataError(UserError):
    """A data file, a row or a photo that cannot be used: what, where, and how to repair it."""


class BadRow(Exception):
    """What is wrong with one row, the field named."""


def rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number from 1, JSON value) of an array or of JSON lines; an unreadable line comes as its error."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save the file as UTF-8") from None
    if content.lstrip().startswith("["):
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: the JSON array is broken ({error}). Repair or download the file again") from None
        yield from enumerate(values, start=1)
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, error


def json_object(value: Any) -> dict:
    """The row itself. Raises BadRow for a line that is no JSON, or JSON that is no object."""
    if isinstance(value, Exception):
        raise BadRow(f"not JSON ({value})")
    if not isinstance(value, dict):
        raise BadRow(f"expected a JSON object, got {shown(value)}")
    return value


class ImageFolder:
    """Where the photos of one data file are. Finds a row's photo and keeps it inside that folder."""

    def __init__(self, path: Path, image_root: str):
        self.path = path
        self.root = Path(image_root or path.parent).resolve()
        if not self.root.is_dir():
            raise DataError(f"data.image_root={image_root}: no such folder. Set it to the folder of the photos")
        self.images_are_in = None  # what a leading images/ stands for; None where such a folder exists
        if not (self.root / "images").is_dir():
            self.images_are_in = "imgs" if (self.root / "imgs").is_dir() else "." if image_root else None
        self.announced = False

    def find(self, row: dict, field_name: str) -> Path:
        """The absolute path of the row's photo. Raises BadRow when it is missing or outside the folder."""
        name = field(row, field_name)
        if isinstance(name, list) and len(name) == 1:
            name = name[0]
        if not isinstance(name, str) or not name:
            raise BadRow(f"field {field_name!r}: expected a path or a list of one path, got {shown(row[field_name])}")
        relative = Path(name)
        if self.images_are_in is not None and relative.parts[:1] == ("images",):
            relative = Path(self.images_are_in, *relative.parts[1:])
            self._announce()
        target = self.root / relative
        if ".." in relative.parts or not target.is_relative_to(self.root):
            raise BadRow(f"field {field_name!r}: {shown(name)} leaves the data folder {self.root}")
        if not os.path.isfile(target):
            raise BadRow(f"field {field_name!r}: no file {target}; "
                         "data.image_root names the folder of the photos")
        if not Path(os.path.realpath(target)).is_relative_to(self.root):
            raise BadRow(f"field {field_name!r}: {shown(name)} is a link that leaves the data folder {self.root}; "
                         "data.image_root names another folder")
        return target

    def _announce(self) -> None:
        if not self.announced:
            print(f"{self.path}: rows say images/, photos are read from {self.root / self.images_are_in}/",
                  file=sys.stderr)
            self.announced = True


def field(row: dict, name: str) -> Any:
    if name not in row:
        raise BadRow(f"field {name!r} is missing")
    return row[name]


def text(row: dict, name: str) -> str:
    value = field(row, name)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"field {name!r}: expected text, got {shown(value)}")
    return value


def truth(row: dict) -> LatLon:
    degrees = [field(row, name) for name in ("gt_lat", "gt_lon")]
    for name, value in zip(("gt_lat", "gt_lon"), degrees):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRow(f"field {name!r}: expected decimal degrees as a number, got {shown(value)}")
    try:
        return LatLon.checked(*degrees)
    except ValueError as error:
        raise BadRow(f"fields 'gt_lat', 'gt_lon': {error}") from None


def turns(row: dict) -> tuple[str, str]:
    """(instruction, reply) of the two turns in `conversations`."""
    conversation = field(row, "conversations")
    well_formed = isinstance(conversation, list) and all(isinstance(turn, dict) for turn in conversation)
    if not well_formed or [turn.get("from") for turn in conversation] != ["human", "gpt"]:
        raise BadRow("field 'conversations': expected one human turn and one gpt turn, "
                     f"got {shown(conversation)}")
    question, reply = (turn.get("value") for turn in conversation)
    for speaker, value in (("human", question), ("gpt", reply)):
        if not isinstance(value, str) or not value.strip():
            raise BadRow(f"field 'conversations': the {speaker} value must be text, got {shown(value)}")
    return instruction(question, "conversations"), reply


def instruction(value: str, name: str) -> str:
    """The instruction without its leading <image> mark; the photo's place in the prompt is the chat template's."""
    question = value.removeprefix(IMAGE_MARK).removeprefix("\n")
    if IMAGE_MARK in question or not question.strip():
        raise BadRow(f"field {name!r}: expected an instruction with at most one {IMAGE_MARK}, at its start")
    return question


def shown(value: Any) -> str:
    """The value as JSON, shortened to a line."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 80 else line[:77] + "..."
