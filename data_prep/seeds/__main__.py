"""Photos with coordinates → a seeds folder: `python -m data_prep.seeds [CONFIG.yaml] key=value …`.

    python -m data_prep.seeds photos=~/Pictures out=seeds                      photos that know where they were taken
    python -m data_prep.seeds table=photos.csv images=[imgs] out=seeds         any table with image, lat, lon
    python -m data_prep.seeds table=MP16_Pro.csv images=[mp16] out=seeds rows=10000 balance=country

Tables: CSV, TSV, Parquet (photos inside it too), or a folder of such, with the columns of MP16-Pro, GeoCLIP, OSV-5M or
plain image, lat, lon; YFCC100M's list without a header; GRE30K-Seed. Photos are read where they lie: folders, tars
(whole or in parts), zips. Every row is checked and every photo opened; what is left out is counted in the card and
listed in dropped.jsonl with the reason. Killed at any moment, the same command goes on. docs/data.md.
"""
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from data_prep import leaks, shards
from data_prep.leaks import KINDS
from data_prep.seeds import check, duplicates, sample, sources, write
from data_prep.seeds.check import Asked
from data_prep.seeds.pictures import Pictures
from data_prep.shards import Work
from eval.answering.shards import parse
from eval.benchmarks.reader import BenchmarkConfig
from gre import provenance
from gre.config import REQUIRED, UserError, check_least, main, option
from gre.text.prompts import COT_INSTRUCTION


@dataclass
class Config:
    """Keys of seeds."""

    photos: str = option("", "folder of one's own photos, whose EXIF data say where they were taken; or table=")
    table: str = option("", "table of photos and coordinates, or a folder of such tables")
    images: list[str] = option([], "folders, tars and zips that the table's photos lie in; empty: the table's folder")
    out: str = option(REQUIRED, "folder of the seeds")
    instruction: str = option(COT_INSTRUCTION, "what every photo is asked")
    pictures: str = option("copy", "copy: photos are checked, and written without metadata; in_place: checked, and "
                                   "named where they lie, in one folder; unopened: rows alone are looked at")
    max_pixels: int = option(1_003_520, "pixels of a copy, at most: 1280 visual tokens of Qwen2.5-VL")
    min_side: int = option(224, "pixels of a photo's shorter side, at least")
    swapped: str = option("refuse", "refuse a table whose latitude and longitude are swapped, or exchange them")
    against: list[BenchmarkConfig] = option([], "benchmarks to look for, [{name: Im2GPS3k, labels: …, images: …}]; "
                                                "what they share is always counted")
    leak_km: float | None = option(None, "count photos within so many km of a benchmark's too; null: do not look")
    drop: list[str] = option([], "which photos shared with a benchmark are left out: id, author, picture, place")
    rows: int | None = option(None, "photos to take; null: all that are good")
    balance: str = option("country", "with rows=: spread over country, over cell (126,000 km² each), or none")
    seed: int = option(0, "seed of the draw")
    licence: str = option("", "licence of rows that name none")
    shard_rows: int = option(10_000, "rows of a shard; fewer lose less when killed")
    shard: str = option("", "i/n, i from 0: this process's part of the shards; empty: all, and the joining")
    threads: int = option(8, "photos opened at once")

    def __post_init__(self):
        check_least("", self, {"max_pixels": 1, "min_side": 1, "shard_rows": 1, "threads": 1, "rows": 1, "leak_km": 0})
        for key, allowed in (("pictures", ("copy", "in_place", "unopened")), ("swapped", ("refuse", "exchange")),
                             ("balance", sample.WAYS)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} is {getattr(self, key)!r}: write one of {', '.join(allowed)}")
        if unknown := [kind for kind in self.drop if kind not in KINDS]:
            raise ValueError(f"drop names {unknown[0]!r}: write some of {', '.join(KINDS)}")
        if bool(self.photos) == bool(self.table):
            raise ValueError("write either photos=FOLDER (photos that know where they were taken) or table=FILE")
        if self.photos and self.pictures == "unopened":
            raise ValueError("photos= have their places inside: pictures=unopened needs a table")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    files = ("seeds.jsonl", "sidecar.jsonl", "dropped.jsonl", "card.html")
    return {"reads": [config.photos or config.table, *config.images,
                      *(one.labels or one.name for one in config.against)],
            "writes": [f"{config.out}/{name}" for name in files]}


def run(config: Config) -> None:
    """Go as far as this process's part reaches. Raises UserError naming file, row and remedy."""
    out, began = Path(config.out), monotonic()
    mine = parse(config.shard or "0/1")
    made_of = shards.made_of(config, out, "shard", "threads", "out", source=Path(config.photos or config.table))
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    work = Work(out / "work", made_of)
    paths = sources.listed(Path(config.table), Path(config.photos) if config.photos else None, work.folder)
    spans, exchange = sources.spans(paths, config.shard_rows, config.swapped == "exchange", work.folder / "plan.json")
    asked = _asked(config, work, exchange)
    counts = [span.count for span in spans]
    work.make("checked", counts, mine, lambda number: check.span(spans[number], asked))
    if missing := work.missing("checked", len(spans)):
        print(f"{len(missing)} of {len(spans)} shards are left to other processes. When they have ended, run the same "
              "command again")
        return
    if not _decided(config, work, len(spans), mine):
        print("shard 0 compares the shards. When it has ended, run the same command again")
        return
    work.make("written", counts, mine, lambda number: write.shard(
        work, number, spans[number], asked, out, config.instruction, config.max_pixels, config.pictures == "copy",
        frozenset(config.drop)))
    if mine[1] > 1 or work.missing("written", len(spans)):
        print("this part is written. When all have ended, run the command without shard=")
        return
    print(write.join(work, len(spans), out, f"Seeds: {out.resolve().name}", {
        "made_of": made_of, "commit": provenance.commit(), "exchanged": exchange,
        "image_root": "" if config.pictures == "copy" else str(_images(config)[0])}, [one.name for one in asked.known]))
    print(f"{out / 'seeds.jsonl'}: {sum(counts) / (monotonic() - began):,.0f} rows a second")
    work.remove()


def _decided(config: Config, work: Work, count: int, mine: tuple[int, int]) -> bool:
    """Compare the shards and draw, in the first process; whether it is done."""
    for stage, decide in (("duplicates", lambda: duplicates.find(work, count)), ("chosen", lambda: sample.draw(
            work, count, config.rows, config.balance, config.seed, frozenset(config.drop)))):
        if (stage == "duplicates" or config.rows is not None) and work.missing(stage, 1):
            if mine[0] != 0:
                return False
            decide()
    return True


def _asked(config: Config, work: Work, exchange: bool) -> Asked:
    places = _images(config)
    if config.pictures == "in_place" and (len(places) > 1 or not places[0].is_dir()):
        raise UserError("pictures=in_place needs the photos in one folder (images=[FOLDER]): rows name them from there")
    pictures = None if config.pictures == "unopened" else Pictures(places, work.folder / "photos.sqlite")
    known = [leaks.read(one, work.folder / f"benchmark{number}.parquet", config.threads)
             for number, one in enumerate(config.against)]
    return Asked(pictures, bool(config.photos), exchange, config.min_side, config.licence, known, config.leak_km,
                 config.threads)


def _images(config: Config) -> list[Path]:
    """Where photos are looked for."""
    if config.photos:
        return [Path(config.photos)]
    table = Path(config.table)
    return [Path(place) for place in config.images] or [table if table.is_dir() else table.parent]


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
