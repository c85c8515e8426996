"""The tiny world in MP16-Reason's form, for GLOBE's stages.

    python -m gre.tiny.reason data=runs/quickstart/data [seed=0]

    DATA/gre_cot/reason.jsonl          stage 1: the teacher's chains, and the place by name that each ends with
    DATA/gre_seed/reason.jsonl         RL: the true place by name, what is drawn, and whether there is fog
    DATA/localizability/reason.jsonl   the reward model: new photos, half of them in fog, with a chain that may be wrong

Stage 1's places are the teacher's, errors and all, where MP16-Reason keeps only chains whose place is right: else
nothing would be left for RL to repair. In the reward model's rows half of the chains describe what is not there, or
miss what is, so that only the picture tells.
"""
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gre.config import REQUIRED, main, option
from gre.data.reason import SOLUTION
from gre.data.records import DataConfig, read_cot, read_seed
from gre.text.answers import split_completion
from gre.tiny import world
from gre.tiny.picture import Scene
from gre.tiny.places import Place, landmarks
from gre.tiny.teacher import reasoning
from gre.tiny.world import Photo, Planet

QUESTION = "Which country and city is this?"
ENDS_WITH = re.compile(r"So (?P<city>[^.]*), (?P<country>[^,.]*)\.$")


@dataclass
class Config:
    data: str = option(REQUIRED, "folder of the tiny world")
    seed: int = option(0, "seed of the reward model's photos and chains")
    localizability: int = option(10, "photos of the reward model a known place")


def solution(city: str, country: str) -> dict[str, str]:
    """A place by name, as MP16-Reason holds it."""
    return {SOLUTION: f"<country>{country}</country><city>{city}</city>"}


def write(path: Path, rows: Iterable[dict]) -> int:
    """Write JSON lines and return how many."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def taught(data: Path) -> Iterable[dict]:
    """Stage 1's rows."""
    for row in read_cot(DataConfig(str(data / "gre_cot" / "gre_cot.json"))):
        chain, _ = split_completion(row.response)
        yield {"images": [f"imgs/{row.image.name}"], "instructions": QUESTION, "response": chain,
               **solution(**ENDS_WITH.search(chain).groupdict())}


def asked(data: Path) -> Iterable[dict]:
    """The rows of RL."""
    truth = {line["image"]: line for line in map(json.loads, (data / "truth.jsonl").read_text("utf-8").splitlines())}
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
    data, rng = Path(config.data), random.Random(config.seed)
    planet = Planet(world.Config(str(data), seed=config.seed + 1, fog_rate=0.5))
    photos = planet.photos("localizability", config.localizability)
    counts = {"gre_cot": write(data / "gre_cot" / "reason.jsonl", taught(data)),
              "gre_seed": write(data / "gre_seed" / "reason.jsonl", asked(data)),
              "localizability": write(data / "localizability" / "reason.jsonl", judged(photos, rng))}
    print(f"{config.data}: MP16-Reason rows in {counts}")


if __name__ == "__main__":
    main(run, Config, __doc__)
