"""The fields and the photo of one row of a data file, each checked.

`BadRow` is raised for one row; gre.data.records adds file, row number and what to do about it.
"""
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from gre.config import UserError
from gre.geo.point import LatLon
from gre.geo.truth import checked_truth

IMAGE_MARK = "<image>"
_MARK = re.compile(rf"\A[\ufeff\s]*(?:{IMAGE_MARK}\s*)?")  # whatever wrote the file, it is one question


class DataError(UserError):
    """A data file, a row or a photo that cannot be used: what, where, and how to repair it."""


class RowError(DataError):
    """What is wrong with the photo or the text of one row: leaving the row out helps."""


class BadRow(Exception):
    """What is wrong with one row, the field named."""


def json_object(value: Any) -> dict:
    """The row itself. Raises BadRow for a line that is no JSON, or JSON that is no object."""
    if isinstance(value, Exception):
        raise BadRow(f"not JSON ({value})")
    if not isinstance(value, dict):
        raise BadRow(f"expected a JSON object, got {shown(value)}")
    return value


class ImageFolder:
    """Where the photos of one data file are. Finds a row's photo and keeps it inside that folder."""

    def __init__(self, path: Path, image_root: str, key: str):
        """key: what image_root is called where the user writes it; empty where nothing is."""
        self.path, self.key = path, key
        self.root = Path(image_root or path.parent).resolve()
        if not self.root.is_dir():
            raise DataError(f"{key}={image_root}: no such folder. Set it to the folder of the photos")
        # huggingface_hub's cache: snapshots/COMMIT holds links to ../../blobs, where the files are
        self.may_be_in = [self.root, *(folder.parent / "blobs" for folder in self.root.parents
                                       if folder.name == "snapshots")]
        self.images_are_in = None  # what a leading images/ stands for; None where such a folder exists
        if not (self.root / "images").is_dir():
            self.images_are_in = "imgs" if (self.root / "imgs").is_dir() else "." if image_root else None
        self.announced = False

    def find(self, row: dict, field_name: str) -> Path:
        """The absolute path of the row's photo. Raises BadRow when it is missing or outside the folder."""
        name = field(row, field_name)
        if isinstance(name, list) and len(name) == 1:
            name = name[0]
        if isinstance(name, dict) and name.get("bytes") is None:  # as `datasets` names a photo that lies in a file
            name = name.get("path")
        if isinstance(name, dict):
            raise BadRow(f"field {field_name!r}: the photo itself stands in the table. Write it into a file, and its "
                         "path into the row")
        if not isinstance(name, str) or not name:
            raise BadRow(f"field {field_name!r}: expected a path or a list of one path, got {shown(row[field_name])}")
        if re.match(r"(?:https?|s3|gs|ftp)://|data:", name):
            raise BadRow(f"field {field_name!r}: {shown(name)} is an address: download the photo, and write its path")
        if "\\" in name and not os.path.exists(self.root / name):  # written on Windows
            name = name.replace("\\", "/")
        relative = Path(name)
        if self.images_are_in is not None and relative.parts[:1] == ("images",):
            relative = Path(self.images_are_in, *relative.parts[1:])
            self._announce()
        target = self.root / relative
        if ".." in relative.parts or not target.is_relative_to(self.root):
            raise BadRow(f"field {field_name!r}: {shown(name)} leaves the data folder {self.root}; write the path from "
                         "there" + (f", or name the folder of the photos: {self.key}={relative.parent}"
                                    if relative.is_absolute() and self.key else ""))
        if not os.path.isfile(target):
            raise BadRow(f"field {field_name!r}: no file {target}; put the photo there"
                         + (f", or name the folder of the photos: {self.key}=FOLDER" if self.key else ""))
        real = Path(os.path.realpath(target))
        if not any(real.is_relative_to(folder) for folder in self.may_be_in):
            raise BadRow(f"field {field_name!r}: {shown(name)} is a link that leaves the data folder {self.root}, to "
                         f"{real}; {self._instead_of_link(target)}")
        return target

    def _instead_of_link(self, target: Path) -> str:
        folder = next((one for one in target.parents if one != self.root and one.is_relative_to(self.root)
                       and one.is_symlink()), None)
        if folder is None or not self.key:
            return "put the photo itself there (cp -L copies what links point to)"
        return f"name the folder that the photos are really in: {self.key}={os.path.realpath(folder)}"

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
    return _unicode(value, name)


def _unicode(value: str, name: str) -> str:
    """The text itself. Raises BadRow for half a character, as a file holds where a long text was cut: no tokenizer and
    no file takes it."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"field {name!r}: half a character (a lone surrogate, \\u{ord(value[error.start]):04x}) after "
                     f"{shown(value[max(0, error.start - 20):error.start])}") from None
    return value


def truth(row: dict) -> LatLon:
    degrees = [field(row, name) for name in ("gt_lat", "gt_lon")]
    for name, value in zip(("gt_lat", "gt_lon"), degrees):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadRow(f"field {name!r}: expected decimal degrees as a number, got {shown(value)}")
    try:
        return checked_truth(*degrees)
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
        _unicode(value, "conversations")
    return instruction(question, "conversations"), reply


def instruction(value: str, name: str) -> str:
    """The instruction without its leading <image> mark; the photo's place in the prompt is the chat template's."""
    question = _MARK.sub("", value)
    if IMAGE_MARK in question or not question.strip():
        raise BadRow(f"field {name!r}: expected an instruction with at most one {IMAGE_MARK}, at its start")
    return question


def shown(value: Any) -> str:
    """The value as JSON, shortened to a line."""
    line = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= 80 else line[:77] + "..."
