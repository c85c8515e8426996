"""Photos → Chain of Region, without a teacher: `python -m data_prep.regions seeds=FOLDER out=FOLDER`.

Geo-R's supervision (arXiv 2601.00388): the gazetteer writes where each photo was taken, as country, region, city and
coordinates, so that stage 1 can be trained on photos and coordinates alone. Nothing looks at the photo: rows teach the
way from broad to narrow, and no reasons. OUT holds chains.jsonl, which data_prep.cot takes like teachers' chains or
beside them, dropped.jsonl (photos far from any city) and a card.
"""
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from data_prep import card, chains, photos, shards
from data_prep.card import Part
from data_prep.photos import Photo
from data_prep.shards import Files
from gre import provenance
from gre.config import REQUIRED, check_least, main, option
from gre.geo.cities import Near
from gre.geo.places import Gazetteer, gazetteer
from gre.text.answers import format_answer
from gre.text.prompts import REGION_INSTRUCTION

AT_ONCE = 10_000  # photos whose nearest city is looked up together
NAME = "gazetteer"  # in place of a teacher's
DECIMALS = 4  # of an answer's degrees: 11 m


@dataclass
class Config:
    """Keys of regions."""

    seeds: str = option(REQUIRED, "seeds folder")
    out: str = option(REQUIRED, "folder of the chains")
    instruction: str = option(REGION_INSTRUCTION, "what rows ask; another than teachers' rows ask, since the answers "
                                                  "are of another form")
    min_population: int = option(1000, "people of the cities that are named, at least: 500, 1000, 5000 or 15000")
    within_km: float = option(50.0, "farthest city that a photo is said to be in or near")

    def __post_init__(self):
        check_least("", self, {"within_km": 0})


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.seeds], "writes": [f"{config.out}/{name}" for name in (
        "chains.jsonl", "dropped.jsonl", "card.html")]}


def run(config: Config) -> None:
    """Write the chains and the card. Raises UserError naming file and remedy."""
    seeds, out = Path(config.seeds), Path(config.out)
    photos.check(seeds)
    places = gazetteer(config.min_population)
    made_of = {"seeds_sha256": chains.seeds_hash(seeds), "instruction": config.instruction,
               "within_km": config.within_km, **places.provenance}
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    countries: Counter[str] = Counter()
    dropped = 0
    with Files(out, "chains", "dropped") as files:
        for photo, near in _located(seeds, places):
            if near.distance_km > config.within_km:
                dropped += 1
                files.add("dropped", {"row": photo.row, "image": photo.image, "fault": "no city near",
                                      "why": f"{near.city.name} is the nearest, at {near.distance_km:,.0f} km"})
                continue
            countries[near.country.name] += 1
            files.add("chains", asdict(chains.of(photo, chains.REGION, NAME, "stop",
                                                 chain_of_region(photo, near, places), config.instruction)))
    written = countries.total()
    print(card.write(out, f"Chains of region: {out.resolve().name}", [
        Part("Rows", [f"{written + dropped:,} photos, {written:,} chains. {dropped:,} photos lie farther than "
                      f"{config.within_km:g} km from any city and are listed in dropped.jsonl.",
                      f"Written by {places}, the country being the nearest city's. Nothing looked at the photos."]),
        card.counted("Countries", countries, "country")],
        {"kind": "chains", "made_of": made_of, "seeds_sha256": made_of["seeds_sha256"], "commit": provenance.commit(),
         "rows": written, "dropped": dropped}), end="")


def chain_of_region(photo: Photo, near: Near, places: Gazetteer) -> str:
    """The completion that a row teaches. A region that GeoNames does not name is left out."""
    levels = [("Country", near.country.name), ("Region", places.region_name(near.city)), ("City", near.city.name)]
    said = "\n".join(f"{level}: {name}" for level, name in levels if name)
    return f"<think>{said}</think><answer>{format_answer(photo.truth, DECIMALS)}</answer>"


def _located(seeds: Path, places: Gazetteer) -> Iterator[tuple[Photo, Near]]:
    rows = iter(tqdm(photos.read(seeds), "regions", unit="photo"))
    while some := list(islice(rows, AT_ONCE)):
        yield from zip(some, places.nearest([photo.truth for photo in some]))


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
