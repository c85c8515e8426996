"""Verified chains → MP16-Reason, and the reward model's rows: `python -m data_prep.reason verified=FOLDER out=FOLDER`.

The last step of scripts/data/mp16_reason.sh. Every row of data_prep.verify becomes a row of the train file, or of the
test file, by the content of its photo and the share `test`: the same in every run, whatever other photos there are.
With chains=, photos of the share `localizability` are for GLOBE's reward model alone, as RL refuses those it has seen:
its rows are all that teachers said of them, verified or not (data_prep/localizable.py).

    OUT/mp16_reason_train.jsonl      images, response, __#solution, entities; localizability, gt_lat, gt_lon (ours)
    OUT/localizability.jsonl         images, response, localizability, gt_lat, gt_lon: the reward model's
    OUT/mp16_reason_watched.jsonl    the train file and, 3 to 100 of its rows, photos that no teacher finds localizable:
                                     RL's where the guard against a gamed reward model has to see some
    OUT/imgs/                        their photos
    OUT/test/mp16_reason_test.csv    IMG_ID,LAT,LON,city,country: LAT and LON are the city's centre, as published
    OUT/test/imgs/                   its photos
    OUT/sidecar.jsonl                a line a row of each: which file, photo, teacher, where it was taken
    OUT/dropped.jsonl, OUT/card.*

The place is the city that the chain answers with, as the gazetteer calls it; for one that answers with coordinates
data_prep.convert says which. entities are what the looker of data_prep.verify found in the photo of what the chain
names; without a looker there are none.
"""
import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import chain as joined
from math import ceil
from pathlib import Path

from tqdm import tqdm

from data_prep import card, chains, localizable, photos, shards, split
from data_prep.card import Part
from data_prep.convert import GRE, city_of, solution, to_reason
from data_prep.shards import Files, write_lines
from gre import provenance
from gre.config import REQUIRED, UserError, check_least, main, option
from gre.data import forms
from gre.data.raw import BadRow
from gre.data.reason import SOLUTION
from gre.geo.cities import City
from gre.geo.places import Gazetteer, gazetteer
from gre.geo.point import LatLon
from gre.rewards.place import MIN_POPULATION

TRAIN, TEST = "mp16_reason_train.jsonl", "test/mp16_reason_test.csv"
TAUGHT, WATCHED = "localizability.jsonl", "mp16_reason_watched.jsonl"
WATCHED_SHARE = 0.03  # of the train file's rows: as many as the tiny world has in fog, where the guard was tried
HEADER = ("IMG_ID", "LAT", "LON", "city", "country")


@dataclass
class Config:
    """Keys of reason."""

    verified: str = option(REQUIRED, "folder of data_prep.verify")
    out: str = option(REQUIRED, "folder of MP16-Reason")
    test: float = option(0.26, "share of photos for the test file; published: 12,000 of 45,721")
    seeds: str = option("", "seeds folder, of chains")
    chains: list[str] = option([], "folders of data_prep.distil with answers=names, for the reward model; empty: none")
    localizability: float = option(0.2, "with chains: share of photos for the reward model")

    def __post_init__(self):
        check_least("", self, {"test": 0, "localizability": 0})
        if not self.chains:
            self.localizability = 0.0
        elif not self.seeds:
            raise ValueError("chains are named and seeds is not: write seeds=FOLDER, which they were made from")
        if self.test + self.localizability > 1:
            raise ValueError(f"test is {self.test:g} and localizability {self.localizability:g}: write shares of 1 at "
                             "most, together")

    def part(self, sha256: str) -> str:
        """Which file a photo is for."""
        at = int(sha256[:13], 16) / 16**13
        return "test" if at < self.test else localizable.TEACH if at < self.test + self.localizability else "train"


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    more = (TAUGHT, WATCHED) if config.chains else ()
    return {"reads": [config.verified, *filter(None, [config.seeds]), *config.chains],
            "writes": [f"{config.out}/{name}" for name in (
                TRAIN, TEST, *more, "sidecar.jsonl", "dropped.jsonl", "card.html")]}


def run(config: Config) -> None:
    """Write the files and the card. Raises UserError naming file and remedy."""
    verified, out = Path(config.verified), Path(config.out)
    seeds = chains.same_seeds([verified])
    made_of = {"rows": provenance.file_hash(verified / "gre_cot.json"), "test": config.test,
               "sidecar": provenance.file_hash(verified / "sidecar.jsonl")}
    if config.chains:
        made_of |= {"localizability": config.localizability} | split.source(Path(config.seeds), None, config.chains)
        if chains.seeds_hash(Path(config.seeds)) != seeds:
            raise UserError(f"{verified} was made from other seeds than {config.seeds}")
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    places, counts, tested = gazetteer(MIN_POPULATION), {}, []

    def train(files: Files) -> Iterator[str]:
        for row, side in tqdm(_rows(verified), "reason", unit="row"):
            name = config.part(side["sha256"])
            if name == localizable.TEACH:
                continue  # it is among that file's rows
            try:
                made, city = _row(row, side, places)
            except BadRow as error:
                files.add("dropped", {**_named(side), "fault": "place", "why": str(error)})
                counts.setdefault("dropped", Counter())["place"] += 1
                continue
            _count(counts, name, side, city, places)
            files.add("sidecar", {"file": name, **_named(side), "gt_lat": row["gt_lat"], "gt_lon": row["gt_lon"]})
            photos.put(verified, side["image"], out / "test" if name == "test" else out)
            if name == "test":
                tested.append((Path(side["image"]).name, *city.point, city.name, places.countries[city.country].name))
            else:
                image = side["image"].removeprefix("images/")
                yield _json({"images": [f"imgs/{image}"], **made})

    with Files(out, "sidecar", "dropped") as files:
        write_lines(out / TRAIN, train(files))
        if config.chains:
            said = localizable.Words(Path(config.seeds), [Path(one) for one in config.chains], config.part, out, files,
                                    counts)
            write_lines(out / TAUGHT, map(_json, said.taught()))
            few = ceil(WATCHED_SHARE * counts.get("rows", Counter())["train"])
            with open(out / TRAIN, encoding="utf-8") as rows:
                write_lines(out / WATCHED, joined(rows, map(_json, said.watched(places, few))))
    (out / "test").mkdir(exist_ok=True)
    write_lines(out / TEST, _csv(tested))
    print(card.write(out, f"MP16-Reason: {out.resolve().name}", _parts(config, counts, places), {
        "kind": "reason", "made_of": made_of, "seeds_sha256": seeds, "commit": provenance.commit(),
        "counts": {name: dict(sorted(own.items())) for name, own in sorted(counts.items())}}), end="")


def _rows(verified: Path) -> Iterator[tuple[dict, dict]]:
    """(row of gre_cot.json, line of its sidecar)."""
    with open(verified / "sidecar.jsonl", encoding="utf-8") as sidecar:
        for (number, row), side in zip(forms.rows(verified / "gre_cot.json"), map(json.loads, sidecar), strict=True):
            if row["image"] != side["image"]:
                raise UserError(f"{verified / 'gre_cot.json'}, row {number} names {row['image']}, and sidecar.jsonl "
                                f"{side['image']}: they are of two runs; make the folder again")
            yield row, side


def _row(row: dict, side: dict, places: Gazetteer) -> tuple[dict, City]:
    """The train row without its photo, and the city it names. Raises BadRow."""
    made = to_reason(row, "cot", places)
    city = city_of(row["conversations"][1]["value"], LatLon(row["gt_lat"], row["gt_lon"]), places)
    more = {"localizability": side["localizability"]} if side.get("localizability") else {}
    return {"response": made["response"].strip(), SOLUTION: solution(city, places),
            "entities": [{"text": text} for text in side.get("entities", ())], **more,
            **{name: made[name] for name in made if name not in ("response", SOLUTION, GRE)}}, city


def _named(side: dict) -> dict:
    return {name: side[name] for name in ("row", "image", "sha256", "kind", "teacher", "error_km")}


def _json(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(rows: list[tuple]) -> Iterator[str]:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([HEADER, *rows])
    yield stream.getvalue()


def _count(counts: dict[str, Counter], name: str, side: dict, city: City, places: Gazetteer) -> None:
    for what, key in (("rows", name), (f"countries of {name}", places.countries[city.country].name),
                      (f"cities of {name}", f"{city.name}, {city.country} {city.id}"),
                      ("localizability", side.get("localizability") or "not said"), ("teachers", side["teacher"])):
        counts.setdefault(what, Counter())[key] += 1
    if name == "train":
        counts.setdefault("entities", Counter())["rows with" if side.get("entities") else "rows without"] += 1


def _parts(config: Config, counts: dict[str, Counter], places: Gazetteer) -> list[Part]:
    def of(what: str) -> Counter:
        return counts.get(what, Counter())

    taught, watched = of(f"words of {localizable.TEACH}"), of(f"words of {localizable.WATCH}")
    return [
        Part("Rows", [f"{of('rows').total():,} rows, {of('dropped')['place']:,} left out because no one city is called "
                      f"as their answer says. A share of {config.test:.0%} was asked for the test file.",
                      f"Cities and countries are those of {places}."],
             ("file", "rows", "countries", "cities"), [
                 (name, f"{of('rows')[name]:,}", f"{len(of(f'countries of {name}')):,}",
                  f"{len(of(f'cities of {name}')):,}") for name in ("train", "test")]),
        card.counted("Localizability, as teachers say it", of("localizability"), "word"),
        card.counted(f"Localizability in {TAUGHT}, the reward model's", taught, "word", [
            f"{taught.total():,} rows; left out: " + (", ".join(
                f"{of('dropped')[fault]:,} {fault} ({why})" for fault, why in localizable.WHY.items()
                if of("dropped")[fault]) or "none") + "."] if config.chains else []),
        card.counted(f"Unlocalizable pictures in {WATCHED}", watched, "word"),
        card.counted("Entities in the train file", of("entities"), "", [] if of("entities")["rows with"] else [
            "None: name a looker (verify.looker), or leave out GLOBE's reward of visual grounding."]),
        card.counted("Whose chains", of("teachers"), "teacher"),
        card.counted("Countries of the train file", of("countries of train"), "country"),
        card.counted("Countries of the test file", of("countries of test"), "country")]


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
