"""Answers kept in a file, JSON lines, so that a long list that is interrupted resumes where it stopped. No torch."""
import json
from collections.abc import Sequence
from pathlib import Path

from gre.config import UserError
from gre.geo.point import LatLon
from gre.locate.formats import json_lines
from gre.locate.located import Located
from gre.provenance import write_atomically


class Kept:
    """The answers in `path`, and beside it, in `path`.settings.json, what they were made with."""

    def __init__(self, path: Path, settings: dict):
        """Raises UserError for a file of another kind, or whose answers were made with other settings."""
        self.path, beside = path, path.with_name(path.name + ".settings.json")
        self.answers: dict[str, Located] = {}
        if not path.exists():
            write_atomically(beside, json.dumps(settings, indent=2) + "\n")
            path.touch()
            return
        if not beside.exists():
            raise UserError(f"{path} is there already, and no {beside.name} says how it was made: name another file")
        before = _settings(beside, path)
        if other := [name for name, value in settings.items() if before.get(name) != value]:
            raise UserError(f"{path} was made with another {', '.join(other)}: name another file, or delete it and "
                            f"{beside.name}")
        content = path.read_bytes()
        whole = content[:content.rfind(b"\n") + 1]  # a last line that is half written is asked for again
        if whole != content:
            path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                answer = _answer(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: no answer of this command ({type(error).__name__}: {error}): "
                                "delete the line, and its photo is asked again") from None
            self.answers[answer.path] = answer

    def add(self, answers: Sequence[Located]) -> None:
        """Append answers."""
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json_lines(answers))
        self.answers |= {answer.path: answer for answer in answers}


def _settings(beside: Path, path: Path) -> dict:
    """What answers were made with. Raises UserError for a file that does not say it."""
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise UserError(f"{beside} does not say how {path.name} was made ({error}): name another file, or delete both"
                        ) from None
    return settings


def _answer(record: dict) -> Located:
    """The answer of a line. Raises one of several errors for a line that holds another thing."""
    answer = Located.of(record)
    if not isinstance(answer.path, str) or not isinstance(answer.raw, str):
        raise TypeError("path and raw are not both text")
    for one in (answer, *answer.samples):
        if (one.latitude, one.longitude) != (None, None):
            LatLon.checked(one.latitude, one.longitude)
    return answer
