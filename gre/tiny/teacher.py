"""The simulated teacher: five-step chains with planted, systematic errors at known rates.

Real teachers name the famous city, drop the sign of a southern or western coordinate, and round. This one does the
same, so that fine-tuning imitates the errors and a verifiable reward can repair them. The errors are ours: what a
reward repairs here shows that the machinery works and says nothing about real photos.
"""
import random
from dataclasses import dataclass, replace

from gre.geo.point import LatLon
from gre.text.answers import format_answer
from gre.tiny.picture import Scene
from gre.tiny.places import TREES, Place, famous, flags, landmarks, places

ROUNDING_RATE = 0.2  # share of chains that give whole degrees


@dataclass(frozen=True)
class Chain:
    """What the teacher wrote about one photo. error: "none", "fame", "sign", "fog" (nothing to go by: the most famous
    city of that climate is named), "misnamed", "slip" or "confusion" (planted in Judge rows only)."""

    reasoning: str
    answer: str
    error: str

    @property
    def response(self) -> str:
        return f"<think>{self.reasoning}</think><answer>{self.answer}</answer>"


def reasoning(scene: Scene, believed: Place) -> str:
    """GRE's five steps, about the scene as the writer believes it to be, and the place named at the end."""
    building = " ".join(scene.landmark) if scene.landmark else "hidden"
    flag = f"{' '.join(flags()[scene.country])}, {scene.country}" if scene.country else "hidden"
    return (f"Architecture: {building}. Signs: {flag}. Plants: {TREES[scene.climate]}, {scene.climate}. "
            f"Terrain: sun in the {'north' if scene.southern else 'south'}. Transport: {scene.vehicle}. "
            f"So {believed.city}, {believed.country}.")


def answer(point: LatLon, whole_degrees: bool = False) -> str:
    """Coordinates of a city centre as the teacher writes them: one decimal, and a zero where it rounds to degrees."""
    decimals = 0 if whole_degrees else 1
    return format_answer(LatLon(round(point.lat_deg, decimals), round(point.lon_deg, decimals)), decimals=1)


def imagined(scene: Scene, believed: Place) -> Scene:
    """The scene as someone sees it who is sure to be at `believed`: its flag and its landmark, the rest as drawn.

    What the fog hides stays hidden.
    """
    if not scene.localizable:
        return scene
    return replace(scene, country=believed.country, landmark=landmarks()[believed.name])


def describe(place: Place, scene: Scene, rng: random.Random) -> Chain:
    """The teacher's chain about one photo, errors included (rates in cities.csv)."""
    whole = rng.random() < ROUNDING_RATE
    if not scene.localizable:
        guess = next(p for p in places() if p.climate == scene.climate and p == famous(p.country))
        return Chain(reasoning(scene, guess), answer(guess.centre, whole), "fog")
    if rng.random() < place.fame_rate:
        guess = famous(place.country)
        return Chain(reasoning(imagined(scene, guess), guess), answer(guess.centre, whole), "fame")
    if rng.random() < place.sign_rate:
        return Chain(reasoning(scene, place), answer(_without_signs(place.centre), whole), "sign")
    return Chain(reasoning(scene, place), answer(place.centre, whole), "none")


def _without_signs(point: LatLon) -> LatLon:
    return LatLon(abs(point.lat_deg), abs(point.lon_deg))
