"""What a chain's text alone shows. Every check returns what is wrong, or an empty text."""
import re

from gre.geo.point import LatLon, distance_km
from gre.rewards.format import format_reward
from gre.text.chains import split_steps
from gre.text.coordinates import read_place
from gre.text.instructions import short

ENGLISH = frozenset(
    "the of and to in a is that it as for on with are this be by from at an or which not was have has there but its "
    "they these would also like so more such may could both than their one some no other into".split())
LEAST_ENGLISH = 0.2  # share of these words in a text: English prose has 0.35 to 0.5, other languages below 0.1
ECHO = 8  # words in a row that a chain may not share with an instruction
NEAR_KM = 200.0  # a pair of numbers that is a place within this of the truth is no house number
NEAR_DEG = 0.05
_WORD = re.compile(r"[^\W\d_]+")
_DECIMAL = re.compile(r"(?<![\d.])\d{1,3}[.,]\d+")


def form(response: str) -> str:
    """<think>…</think><answer>…</answer>, and nothing else."""
    return "" if format_reward(response, True) else f"not <think>…</think><answer>…</answer>: {short(response)}"


def length(chain: str, least: int, most: int) -> str:
    """least, most: characters."""
    return "" if least <= len(chain) <= most else f"{len(chain):,} characters"


def language(chain: str) -> str:
    """English, by the words that every English sentence has. Names and signs in other languages may be quoted."""
    words = [word.lower() for word in _WORD.findall(chain)]
    share = sum(word in ENGLISH for word in words) / max(1, len(words))
    return "" if share >= LEAST_ENGLISH else f"{share:.0%} of its words are English ones: {short(chain)}"


def coordinates(chain: str, truth: LatLon) -> str:
    """The answer's numbers belong into the answer: a chain that holds them teaches to know and not to see."""
    for step in split_steps(chain):
        place = read_place(step)
        if place is not None and distance_km(place, truth) <= NEAR_KM:
            return f"says coordinates: {short(step)}"
    numbers = [float(number.replace(",", ".")) for number in _DECIMAL.findall(chain)]
    if all(any(abs(number - abs(degrees)) <= NEAR_DEG for number in numbers) for degrees in truth):
        return f"says both coordinates: {truth.lat_deg:.2f} and {truth.lon_deg:.2f}"
    return ""


def echo(chain: str, *instructions: str) -> str:
    """Words of an instruction, said as one's own."""
    asked = {run for text in instructions for run in _runs(text)}
    said = next((run for run in _runs(chain) if run in asked), None)
    return "" if said is None else f"repeats its instruction: {' '.join(said)!r}"


def _runs(text: str) -> list[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(text)]
    return [tuple(words[at:at + ECHO]) for at in range(len(words) - ECHO + 1)]
