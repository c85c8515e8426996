"""The tiny world in MP16-Reason's form, for GLOBE's stages.

    python -m gre.tiny.reason data=runs/quickstart/data [seed=0]

    DATA/gre_cot/reason.jsonl          stage 1: the teacher's chains, and the place by name that each ends with
    DATA/gre_seed/reason.jsonl         RL: the true place by name, what is drawn, and whether there is fog
    DATA/localizability/reason.jsonl   the reward model: new photos, half of them in fog, with a chain that may be wrong

Stage 1's places are the teacher's, errors and all, where MP16-Reason keeps only chains whose place is right: else
nothing would be left for RL to repair. This teacher errs in countries, too: it takes a building for the famous city's
abroad that looks the same. In the reward model's rows half of the chains describe what is not there, or miss what is,
so that only the picture tells.
"""
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from gre.config import REQUIRED, main, option
from gre.data.reason import SOLUTION
from gre.data.records import DataConfig, read_cot, read_seed
from gre.text.answers import split_completion
from gre.tiny import world
from gre.tiny.picture import Scene
from gre.tiny.places import Place, famous, landmarks, places
from gre.tiny.teacher import reasoning
from gre.tiny.world import Photo, Planet

QUESTION = "Which country and city is this?"
LOOKALIKE_RATE = 0.6  # share of a look-alike's photos that the teacher takes for the famous city's
ENDS_WITH = re.compile(r"So (?P<city>[^.]*), (?P<country>[^,.]*)\.$")


@dataclass
class Config:
    data: str = option(REQUIRED, "folder of the tiny world")
    seed: int = option(0, "seed of stage 1's errors abroad and of the reward model's photos and chains")
    localizability: int = option(10, "photos of the reward model a known place")


def solution(city: str, country: str) -> dict[str, str]:
    """A place by name, as MP16-Reason holds it."""
    return {SOLUTION: f"<country>{country}</country><city>{city}</city>"}


def write(path: Path, rows: Iterable[dict]) -> int:
    """Write JSON lines and return how many."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


@cache
def lookalikes() -> dict[str, Place]:
    """Place name → the famous city abroad whose landmark is the same, the first of them. Famous cities themselves are
    not mistaken, nor is a place that the teacher mostly takes for the famous city of its own country."""
    famed = [place for place in places() if place == famous(place.country)]
    taken = {}
    for place in places():
        same = [other for other in famed if landmarks()[other.name] == landmarks()[place.name]]
        if place.known and place not in famed and place.fame_rate < 0.5 and same:
            taken[place.name] = same[0]
    return taken


def sidecar(data: Path) -> dict[str, dict]:
    """What is true of each photo, by its path in the world."""
    lines = (data / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["image"]: line for line in map(json.loads, lines)}


def taught(data: Path, rng: random.Random) -> Iterable[dict]:
    """Stage 1's rows."""
    truth = sidecar(data)
    for row in read_cot(DataConfig(str(data / "gre_cot" / "gre_cot.json"))):
        chain, _ = split_completion(row.response)
        said = truth[f"gre_cot/imgs/{row.image.name}"]
        abroad = lookalikes().get(said["place"])
        if abroad and said["localizable"] and rng.random() < LOOKALIKE_RATE:
            vehicle, climate, *_ = said["entities"]
            seen = Scene(climate, said["gt_lat"] < 0, abroad.country, landmarks()[abroad.name], vehicle)
            chain = reasoning(seen, abroad)
        yield {"images": [f"imgs/{row.image.name}"], "instructions": QUESTION, "response": chain,
               **solution(**ENDS_WITH.search(chain).groupdict())}


def asked(data: Path) -> Iterable[dict]:
    """The rows of RL."""
    truth = sidecar(data)
    for row in read_seed(DataConfig(str(data / "gre_seed" / "gre_seed.jsonl"))):
        said = truth[f"gre_seed/imgs/{row.image.name}"]
        yield {"images": [f"imgs/{row.image.name}"], "instructions": QUESTION,
               "entities": [{"text": entity} for entity in said["entities"]],
               "localizability": "high" if said["localizable"] else "negative",
               **solution(said["city"], said["country"]), "gt_lat": row.truth.lat_deg, "gt_lon": row.truth.lon_deg}


def judged(photos: Iterable[Photo], rng: random.Random) -> Iterable[dict]:
    """The reward model's rows."""
    for photo in photos:
        told = photo.scene.localizable if rng.random() < 0.5 else not photo.scene.localizable
        yield {"images": [f"imgs/{photo.image.name}"], "response": reasoning(_told(photo.scene, photo.place, told),
                                                                              photo.place),
               "localizability": "high" if photo.scene.localizable else "negative"}


def _told(scene: Scene, place: Place, localizable: bool) -> Scene:
    """The scene as a chain tells it: with flag and landmark, or hidden."""
    return replace(scene, country=place.country if localizable else None,
                   landmark=landmarks()[place.name] if localizable else None)


def run(config: Config) -> None:
    data = Path(config.data)
    cot, seed, localizability = (data / folder / "reason.jsonl" for folder in ("gre_cot", "gre_seed", "localizability"))
    planet = Planet(world.Config(str(data), seed=config.seed + 1, fog_rate=0.5))
    photos = planet.photos("localizability", config.localizability)
    counts = {"gre_cot": write(cot, taught(data, random.Random(config.seed))), "gre_seed": write(seed, asked(data)),
              "localizability": write(localizability, judged(photos, random.Random(config.seed)))}
    print(f"{config.data}: MP16-Reason rows in {counts}")


if __name__ == "__main__":
    main(run, Config, __doc__)
