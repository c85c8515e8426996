"""A row of MP16-Reason, as published: picture, reasoning, the place by name, and what is to be seen.

    {"images": ["imgs/a.jpg"], "response": "Palm trees line …", "entities": [{"text": "palm tree"}, …],
     "__#solution": "<country>Peru</country><city>Lima</city>"}

Published rows hold no instruction and no coordinates. `instructions`, `gt_lat`, `gt_lon` and `localizability`, which
rows for GLOBE's reward model need, may stand beside them; there `__#solution` may be missing.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gre.data import raw
from gre.data.raw import BadRow
from gre.geo.point import LatLon
from gre.text.named import Names
from gre.text.prompts import PLACE_INSTRUCTION

SOLUTION = "__#solution"
LOCALIZABLE = {"true": True, "yes": True, "high": True, "medium": True, "false": False, "no": False, "low": False,
               "negative": False}  # of teachers' words; GLOBE leaves out what is negative or low


@dataclass(frozen=True)
class ReasonRow:
    """MP16-Reason. response: the reasoning, empty where there is none. localizable: None where nobody says."""

    id: str
    image: Path
    instruction: str
    response: str
    names: Names
    entities: tuple[str, ...]
    localizable: bool | None
    truth: LatLon | None


def reason_row(row: dict, id: str, image: Callable[[str], Path]) -> ReasonRow:
    """The row of a JSON object. Raises BadRow."""
    asked = row.get("instructions") is not None  # a column of Parquet may be empty
    instruction = raw.instruction(raw.text(row, "instructions"), "instructions") if asked else PLACE_INSTRUCTION
    placed = any(row.get(name) is not None for name in ("gt_lat", "gt_lon"))
    return ReasonRow(id, image("images" if row.get("images") is not None else "image"), instruction,
                     raw.text(row, "response") if row.get("response") else "", _names(row), _entities(row),
                     _localizable(row), raw.truth(row) if placed else None)


def _names(row: dict) -> Names:
    if row.get(SOLUTION) is None:
        return Names(None, None)
    solution = raw.text(row, SOLUTION)
    country, city = (re.search(rf"<{label}>(.*?)</{label}>", solution, re.DOTALL) for label in ("country", "city"))
    if not country or not country[1].strip():
        raise BadRow(f"field {SOLUTION!r}: expected <country>…</country><city>…</city>, got {raw.shown(solution)}")
    return Names(country[1].strip(), city[1].strip() or None if city else None)


def _entities(row: dict) -> tuple[str, ...]:
    value = row.get("entities") or []
    if not isinstance(value, list) or not all(isinstance(one, dict) and isinstance(one.get("text"), str)
                                              for one in value):
        raise BadRow(f"field 'entities': expected a list of objects with text, got {raw.shown(value)}")
    return tuple(one["text"] for one in value)


def _localizable(row: dict) -> bool | None:
    value = row.get("localizability")
    if value is None:
        return None
    if (said := str(value).strip().lower()) not in LOCALIZABLE:
        raise BadRow(f"field 'localizability': expected one of {', '.join(LOCALIZABLE)}, got {raw.shown(value)}")
    return LOCALIZABLE[said]
