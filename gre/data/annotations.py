"""GREval-Bench's optional fields: what an annotated chain says, step by step.

    "indicators": [{"kind": "iconic building", "text": "red tower"}, …]        kinds: gre.text.chains.INDICATOR_KINDS
    "steps":      [{"kind": "caption", "text": "A tram runs past it."}, …]     kinds: gre.text.chains.STEP_KINDS
    "scene": "road traffic", "indoor": "outdoor"                               gre.text.chains.SCENES

The published file has none of them. Readers raise gre.data.raw.BadRow; a field that is absent or null reads as None.
"""
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gre.data.raw import BadRow, shown
from gre.text.chains import INDICATOR_KINDS, SCENES, STEP_KINDS


@dataclass(frozen=True)
class Indicator:
    """Something in a photo that points to a place."""

    kind: str
    text: str


@dataclass(frozen=True)
class Step:
    """One step of a chain."""

    kind: str
    text: str


def indicators(row: dict) -> tuple[Indicator, ...] | None:
    """The row's indicators; there may be none."""
    return _list(row, "indicators", Indicator, INDICATOR_KINDS)


def steps(row: dict) -> tuple[Step, ...] | None:
    """The row's steps. Raises BadRow for an empty list too."""
    found = _list(row, "steps", Step, STEP_KINDS)
    if found == ():
        raise BadRow("field 'steps': expected at least one step")
    return found


def scene(row: dict) -> str | None:
    """The row's scene."""
    value = row.get("scene")
    if value is not None and value not in _OF_SCENE:
        raise BadRow(f"field 'scene': expected one of {', '.join(_OF_SCENE)}, got {shown(value)}")
    return value


def indoor(scene: str) -> str:
    """`indoor` or `outdoor`."""
    return _OF_SCENE[scene]


def as_json(items: Sequence[Indicator] | Sequence[Step]) -> list[dict[str, str]]:
    """Indicators or steps as the file holds them."""
    return [asdict(item) for item in items]


_OF_SCENE = {scene: group for group, scenes in SCENES.items() for scene in scenes}


def _list(row: dict, name: str, make: type, kinds: Sequence[str]) -> tuple[Any, ...] | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadRow(f"field {name!r}: expected a list of objects with kind and text, got {shown(value)}")
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("text"), str) or not item["text"].strip():
            raise BadRow(f"field {name!r}: expected objects with kind and text, got {shown(item)}")
        if item.get("kind") not in kinds:
            raise BadRow(f"field {name!r}: kind is one of {', '.join(kinds)}, got {shown(item.get('kind'))}")
    return tuple(make(item["kind"], item["text"].strip()) for item in value)
