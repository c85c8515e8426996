"""What a reward is given: a row's completions as text, and how far their answers lie from the truth."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gre.geo.point import LatLon


@dataclass(frozen=True)
class Answers:
    """A row of the data with the texts of its completions (without the end token) and whether each came to its end."""

    row: Any
    texts: list[str]
    finished: list[bool]


Reward = Callable[[list[Answers]], list[list[float]]]  # one number per completion, group by group


def distance_km(text: str, truth: "LatLon") -> float | None:
    """Kilometres from the answer in `text` to the truth; None without a readable answer."""
    from gre.geo import point  # the trainer needs the types above alone, where haversine need not be installed
    from gre.text.answers import parse_answer

    answer = parse_answer(text)
    return None if answer is None else point.distance_km(answer, truth)
