"""Write the tiny world: GRE30K-CoT, -Judge and -Seed in their published forms, test sets, and a truth sidecar.

    python -m gre.tiny.world out=runs/quickstart/data [seed=0]

    OUT/gre_cot/{gre_cot.json,imgs}  gre_judge/{gre_judge.json,imgs}  gre_seed/{gre_seed.jsonl,imgs}
    OUT/{validation,test,test_new_places}/{NAME.jsonl,imgs}     the form of gre_seed
    OUT/{test,test_new_places}/NAME.csv                         the same as a table, for scripts/eval/eval_csv.sh
    OUT/truth.jsonl                                             what each photo shows and how its teacher erred
    OUT/places.csv                                              name, lat and lon of every city

No photo is in two splits. File names are random and rows are shuffled; all photos have one size. In Judge data every
answer string occurs equally often as True and as False, so that only the photo tells.
"""
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from gre.config import REQUIRED, main, option
from gre.data.records import CoTRow, JudgeRow, SeedRow, write_cot, write_judge, write_seed
from gre.geo.point import LatLon
from gre.text import prompts
from gre.tiny.picture import Scene, grained, scene_of, sketch
from gre.tiny.places import Place, places
from gre.tiny.teacher import ROUNDING_RATE, Chain, answer, describe, imagined, reasoning

INSTRUCTION = "Where was this photo taken?"
JITTER_DEG = 0.02  # photos of one district do not share a coordinate
THREADS = 2  # that add noise and write files: what takes longest, and holds no interpreter lock
SCENES = {"tram": "street", "bus": "suburb", "bike": "park", "boat": "waterfront", "car": "motorway"}


@dataclass
class Config:
    out: str = option(REQUIRED, "folder to write")
    seed: int = option(0, "seed of photos, errors, names and order")
    fog_rate: float = option(0.03, "share of photos whose flag and landmark are hidden")
    cot: int = option(40, "CoT photos a known place")
    judge: int = option(40, "Judge photos a known place: half of them True rows, half False")
    seed_photos: int = option(30, "Seed photos a known place")
    validation: int = option(2, "validation photos a known place")
    test: int = option(5, "test photos a known place")
    test_new_places: int = option(5, "test photos a place that no other split has")


@dataclass(frozen=True)
class Photo:
    """One photo on disk with what is true of it."""

    place: Place
    scene: Scene
    truth: LatLon
    image: Path
    author: str


class Planet:
    """Takes photos, one after the other, from one stream of random numbers."""

    def __init__(self, config: Config):
        self.config, self.rng, self.out = config, random.Random(config.seed), Path(config.out)
        self.sidecar: list[dict] = []

    def photos(self, split: str, each: int, known: bool = True) -> list[Photo]:
        """`each` photos of every known (or new) place, shuffled, written to OUT/split/imgs."""
        wanted = [place for place in places() if place.known is known for _ in range(each)]
        self.rng.shuffle(wanted)
        with ThreadPoolExecutor(THREADS) as pool:
            taken = [self._photo(split, place, pool) for place in tqdm(wanted, desc=split)]
        for _, written in taken:
            written.result()  # raises what went wrong
        return [photo for photo, _ in taken]

    def note(self, photo: Photo, split: str, error: str | None = None) -> None:
        """One line of the sidecar. error: of the teacher's chain about this photo, None where there is none."""
        scene, place = photo.scene, photo.place
        drawn = [scene.vehicle, scene.climate, "sun"]
        if scene.localizable:
            drawn += [" ".join(scene.landmark), f"flag of {scene.country}"]
        self.sidecar.append({
            "image": photo.image.relative_to(self.out).as_posix(), "split": split, "place": place.name,
            "city": place.city, "country": place.country, "known_place": place.known, "gt_lat": photo.truth.lat_deg,
            "gt_lon": photo.truth.lon_deg, "entities": drawn, "localizable": scene.localizable,
            "scene": SCENES[scene.vehicle], "author": photo.author,
            "indicators": {"landmark": scene.localizable, "symbol": scene.localizable, "climate": scene.climate},
            "teacher_error": error})

    def _photo(self, split: str, place: Place, pool: ThreadPoolExecutor) -> tuple[Photo, Future]:
        scene = scene_of(place, self.rng, self.config.fog_rate)
        district = place.district(scene.vehicle)
        truth = LatLon(round(district.lat_deg + self.rng.gauss(0, JITTER_DEG), 4),
                       round(district.lon_deg + self.rng.gauss(0, JITTER_DEG), 4))
        image = self.out / split / "imgs" / f"{self.rng.getrandbits(64):016x}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        written = pool.submit(_write, image, *sketch(scene, self.rng))
        author = f"{place.city} photographer {self.rng.randrange(3)}"
        return Photo(place, scene, truth, image, author), written


def _write(path: Path, image: Image.Image, noise_seed: int) -> None:
    grained(image, noise_seed).save(path, compress_level=1)


def judge_pairs(photos: list[Photo], rng: random.Random) -> Iterator[tuple[Photo, Chain, bool]]:
    """(photo, chain, label): each answer string as often on a photo of its place as on a photo of another.

    The photos of each place are dealt in halves. A True row takes the chain of its own place; the False row beside it
    repeats the answer under a photo from elsewhere: half of them from the same country, half from abroad. Some of these
    chains describe the place they name ("fame" at home, "confusion" abroad), some describe the photo well and then name
    a compatriot ("misnamed") or name its place well and then give the answer of another ("slip").
    """
    by_place: dict[Place, list[Photo]] = {}
    for photo in photos:
        by_place.setdefault(photo.place, []).append(photo)
    by_place = {place: by_place[place] for place in places() if place in by_place}
    for turn in range(min(map(len, by_place.values())) // 2):
        abroad = turn % 2 == 1
        for place, other in _partners(list(by_place), abroad, rng):
            mine, theirs = by_place[place][2 * turn], by_place[other][2 * turn + 1]
            text = answer(place.centre, whole_degrees=rng.random() < ROUNDING_RATE)
            yield mine, Chain(reasoning(imagined(mine.scene, place), place), text, "none"), True
            kind = rng.choice(["confusion", "slip"] if abroad else ["fame", "misnamed"])
            seen = theirs.scene if kind in ("slip", "misnamed") else imagined(theirs.scene, place)
            yield theirs, Chain(reasoning(seen, other if kind == "slip" else place), text, kind), False


def _partners(ordered: list[Place], abroad: bool, rng: random.Random) -> list[tuple[Place, Place]]:
    """Each place with another one, in its own country or abroad; every place serves once on either side."""
    countries = list(dict.fromkeys(place.country for place in ordered))
    shift = rng.randrange(1, len(countries))
    pairs = []
    for number, country in enumerate(countries):
        home = [place for place in ordered if place.country == country]
        target = countries[(number + shift) % len(countries)]
        there = [place for place in ordered if place.country == target] if abroad else home[1:] + home[:1]
        pairs += zip(home, rng.sample(there, len(there)) if abroad else there, strict=True)
    return pairs


def write(config: Config) -> Counter:
    """Write the whole world and return the number of rows a split."""
    planet = Planet(config)
    rng, counts = planet.rng, Counter()

    cot = []
    for photo in planet.photos("gre_cot", config.cot):
        chain = describe(photo.place, photo.scene, rng)
        cot.append(CoTRow("", photo.image, INSTRUCTION, chain.response, photo.truth))
        planet.note(photo, "gre_cot", chain.error)
    write_cot(planet.out / "gre_cot" / "gre_cot.json", cot)
    counts["cot"] = len(cot)

    judged = list(judge_pairs(planet.photos("gre_judge", config.judge), rng))
    rng.shuffle(judged)
    for photo, chain, _ in judged:
        planet.note(photo, "gre_judge", chain.error)
    write_judge(planet.out / "gre_judge" / "gre_judge.json",
                [JudgeRow("", photo.image, prompts.JUDGE_INSTRUCTION, chain.reasoning, chain.answer, label, photo.truth)
                 for photo, chain, label in judged])
    counts["judge"] = len(judged)

    for split, folder, each, known in (
            ("seed", "gre_seed", config.seed_photos, True), ("validation", "validation", config.validation, True),
            ("test", "test", config.test, True), ("test_new_places", "test_new_places", config.test_new_places, False)):
        rows = planet.photos(folder, each, known)
        for photo in rows:
            planet.note(photo, folder)
        write_seed(planet.out / folder / f"{folder}.jsonl",
                   [SeedRow("", photo.image, INSTRUCTION, photo.truth) for photo in rows])
        if split.startswith("test"):
            lines = [f"{photo.image.name},{photo.truth.lat_deg},{photo.truth.lon_deg}\n" for photo in rows]
            (planet.out / folder / f"{folder}.csv").write_text("image,latitude,longitude\n" + "".join(lines),
                                                               encoding="utf-8")
        counts[split] = len(rows)

    (planet.out / "places.csv").write_text("name,lat,lon\n" + "".join(
        f"{place.city},{place.centre.lat_deg},{place.centre.lon_deg}\n" for place in places()), encoding="utf-8")
    rng.shuffle(planet.sidecar)
    (planet.out / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planet.sidecar), encoding="utf-8")
    return counts


def run(config: Config) -> None:
    print(f"{config.out}: {dict(write(config))} rows")


if __name__ == "__main__":
    main(run, Config, __doc__)
