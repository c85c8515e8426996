"""What a photo of the planet shows, and how it is drawn. Nothing drawn is a digit or a coordinate."""
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from gre.tiny.places import COLOURS, DISTRICTS, SHAPES, TREES, Place, flags, landmarks

SIDE = 112  # pixels: 16 visual tokens
GROUND = {"tropical": (40, 150, 50), "arid": (214, 180, 110), "temperate": (120, 135, 60), "polar": (225, 232, 238)}
JITTER = 4  # pixels by which things stand elsewhere from photo to photo
NOISE = 10


@dataclass(frozen=True)
class Scene:
    """The cues of one photo. `flag` and `landmark` are None in fog, where no one can tell the place."""

    climate: str
    southern: bool
    country: str | None
    landmark: tuple[str, str] | None  # colour, shape
    vehicle: str

    @property
    def localizable(self) -> bool:
        return self.landmark is not None


def scene_of(place: Place, rng: random.Random, fog_rate: float) -> Scene:
    """A scene at that place: the district is drawn evenly, and in fog flag and landmark are hidden."""
    fog = rng.random() < fog_rate
    return Scene(place.climate, place.centre.lat_deg < 0, None if fog else place.country,
                 None if fog else landmarks()[place.name], rng.choice(list(DISTRICTS)))


def random_scene(rng: random.Random) -> Scene:
    """Any cues together, whether or not such a place exists: what the base learns to see."""
    return Scene(rng.choice(list(TREES)), rng.random() < 0.5, rng.choice(list(flags())),
                 (rng.choice(list(COLOURS)), rng.choice(SHAPES)), rng.choice(list(DISTRICTS)))


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """The photo: an RGB picture of SIDE x SIDE pixels. Positions, sizes and noise come from rng and mean nothing."""
    return grained(*sketch(scene, rng))


def sketch(scene: Scene, rng: random.Random) -> tuple[Image.Image, int]:
    """The photo without its noise, and the seed of the noise: all that is drawn from rng."""
    image = Image.new("RGB", (SIDE, SIDE), (150, 195, 240))
    pen = ImageDraw.Draw(image)

    def jitter() -> int:
        return rng.randrange(-JITTER, JITTER + 1)

    horizon = 56 + jitter()
    pen.rectangle([0, horizon, SIDE, SIDE], fill=GROUND[scene.climate])
    if scene.southern:
        pen.ellipse([84, 5, 102, 23], outline=(240, 120, 60), width=5)
    else:
        pen.ellipse([10, 5, 28, 23], fill=(255, 235, 90))
    if scene.landmark:
        _landmark(pen, *scene.landmark, 40 + jitter(), horizon, rng.randrange(32, 37))
    _tree(pen, scene.climate, 90 + jitter(), horizon + 8)
    if scene.country:
        _flag(pen, flags()[scene.country], 35 + jitter(), 72 + jitter())
    _vehicle(pen, scene.vehicle, 86 + jitter(), 98 + jitter())
    return image, rng.getrandbits(63)


def grained(image: Image.Image, seed: int) -> Image.Image:
    """The sketch with its noise."""
    noise = np.random.default_rng(seed).integers(-NOISE, NOISE + 1, (SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(image).astype(np.int16) + noise).clip(0, 255).astype(np.uint8))


def _landmark(pen, colour, shape, x, y, height):
    """A building of that shape standing on y."""
    fill, half = COLOURS[colour], height // 2
    if shape == "tower":
        pen.rectangle([x - 5, y - height, x + 5, y], fill=fill)
    elif shape == "dome":
        pen.pieslice([x - half, y - height, x + half, y + height // 2], 180, 360, fill=fill)
    elif shape == "arch":
        pen.rectangle([x - half, y - height, x - half + 7, y], fill=fill)
        pen.rectangle([x + half - 7, y - height, x + half, y], fill=fill)
        pen.rectangle([x - half, y - height, x + half, y - height + 8], fill=fill)
    elif shape == "pyramid":
        pen.polygon([(x, y - height), (x - half, y), (x + half, y)], fill=fill)
    elif shape == "castle":
        pen.rectangle([x - half, y - height // 2, x + half, y], fill=fill)
        for left in (x - half, x - 4, x + half - 8):
            pen.rectangle([left, y - height, left + 8, y], fill=fill)
    elif shape == "wheel":
        pen.ellipse([x - half, y - height, x + half, y], outline=fill, width=6)
    else:
        raise ValueError(f"no such landmark shape: {shape}")


def _tree(pen, climate, x, y):
    if climate == "tropical":  # a palm: bare trunk, leaves on top
        pen.rectangle([x - 1, y - 24, x + 1, y], fill=(110, 75, 40))
        for dx in (-11, -6, 6, 11):
            pen.line([x, y - 24, x + dx, y - 19 - abs(dx) % 5], fill=(0, 105, 25), width=3)
    elif climate == "arid":  # a cactus
        pen.rectangle([x - 3, y - 22, x + 3, y], fill=(60, 120, 60))
        pen.rectangle([x - 10, y - 14, x + 10, y - 10], fill=(60, 120, 60))
    elif climate == "temperate":  # an oak: round crown
        pen.rectangle([x - 2, y - 12, x + 2, y], fill=(95, 65, 35))
        pen.ellipse([x - 10, y - 28, x + 10, y - 9], fill=(75, 110, 25))
    else:  # a pine
        pen.polygon([(x, y - 28), (x - 9, y), (x + 9, y)], fill=(15, 75, 60))


def _flag(pen, colours, x, y):
    for stripe, colour in enumerate(colours):
        pen.rectangle([x - 21 + 14 * stripe, y, x - 8 + 14 * stripe, y + 19], fill=COLOURS[colour])


def _vehicle(pen, vehicle, x, y):
    dark = (70, 70, 75)
    if vehicle == "tram":
        pen.rectangle([x - 18, y - 9, x + 18, y], fill=(200, 60, 120))
        pen.line([x, y - 9, x, y - 16], fill=dark, width=2)
    elif vehicle == "bus":
        pen.rectangle([x - 11, y - 14, x + 11, y], fill=(250, 250, 120))
        for wheel in (-7, 7):
            pen.ellipse([x + wheel - 3, y - 3, x + wheel + 3, y + 3], fill=dark)
    elif vehicle == "bike":
        for wheel in (-8, 8):
            pen.ellipse([x + wheel - 6, y - 9, x + wheel + 6, y + 3], outline=dark, width=2)
        pen.line([x - 8, y - 3, x + 8, y - 3], fill=dark, width=2)
    elif vehicle == "boat":
        pen.polygon([(x - 14, y - 6), (x + 14, y - 6), (x + 8, y + 2), (x - 8, y + 2)], fill=(130, 80, 40))
        pen.polygon([(x, y - 20), (x, y - 7), (x + 10, y - 7)], fill=(235, 235, 235))
    elif vehicle == "car":
        pen.rectangle([x - 12, y - 6, x + 12, y], fill=(90, 200, 210))
        pen.rectangle([x - 6, y - 11, x + 6, y - 6], fill=(90, 200, 210))
    else:
        raise ValueError(f"no such vehicle: {vehicle}")
