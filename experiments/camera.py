"""Photos of the tiny world as phones leave them: JPEG, every fourth HEIC, the place in the EXIF data, and no label."""
import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image
from tqdm import tqdm

from gre.data.images import formats
from gre.geo.point import LatLon
from gre.tiny.picture import Scene, draw, scene_of
from gre.tiny.places import Place, places
from gre.tiny.world import JITTER_DEG

FOG_RATE = 0.03
QUALITY = 92
HEIC = 4  # every so many: encoding one takes as long as ten JPEGs
SECONDS = 10_000  # parts of a second of arc that EXIF data hold


@dataclass(frozen=True)
class Shot:
    """What was taken where, which nothing on disk says but the photo itself."""

    place: Place
    scene: Scene
    truth: LatLon
    image: Image.Image


def shots(each: int, seed: int, fog_rate: float = FOG_RATE) -> Iterator[Shot]:
    """`each` photos of every known place, shuffled; the same for the same seed."""
    rng = random.Random(seed)
    wanted = [place for place in places() if place.known for _ in range(each)]
    rng.shuffle(wanted)
    for place in wanted:
        scene = scene_of(place, rng, fog_rate)
        lat_deg, lon_deg = place.district(scene.vehicle)
        truth = LatLon(lat_deg + rng.gauss(0, JITTER_DEG),
                       lon_deg + rng.gauss(0, JITTER_DEG) / math.cos(math.radians(lat_deg)))
        yield Shot(place, scene, truth, draw(scene, rng))


def develop(folder: Path, each: int, seed: int, fog_rate: float = FOG_RATE) -> None:
    """Write the photos, once: IMG_0001.JPG, …, IMG_0004.HEIC …"""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    formats()  # HEIF is known from here on
    for number, shot in enumerate(tqdm(shots(each, seed, fog_rate), folder.name, unit="photo"), start=1):
        exif = gps(shot.truth)
        if number % HEIC:
            shot.image.save(partial / f"IMG_{number:04d}.JPG", "JPEG", quality=QUALITY, exif=exif)
        else:
            shot.image.save(partial / f"IMG_{number:04d}.HEIC", "HEIF", quality=QUALITY, exif=exif)
    os.replace(partial, folder)


def gps(point: LatLon) -> bytes:
    """EXIF data with that place, in degrees, minutes and seconds as phones write it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "tiny world"
    block = exif.get_ifd(ExifTags.IFD.GPSInfo)
    block |= {ExifTags.GPS.GPSLatitudeRef: "S" if point.lat_deg < 0 else "N",
              ExifTags.GPS.GPSLatitude: _parts(point.lat_deg),
              ExifTags.GPS.GPSLongitudeRef: "W" if point.lon_deg < 0 else "E",
              ExifTags.GPS.GPSLongitude: _parts(point.lon_deg)}
    exif[ExifTags.IFD.GPSInfo] = dict(block)
    return exif.tobytes()


def _parts(degrees: float) -> tuple[float, float, float]:
    whole, rest = divmod(round(abs(degrees) * 3600 * SECONDS), 3600 * SECONDS)
    minutes, rest = divmod(rest, 60 * SECONDS)
    return float(whole), float(minutes), rest / SECONDS
