"""GRE30K-CoT rows → those worth training on: `python -m data_prep.verify cot=FOLDER chains=[FOLDER] out=FOLDER`.

GLOBE's four checks, each a filter of its own that is counted by itself: can the place be told from the photo at all
(localizable); is the place that the chain comes to the photo's (place); do teachers agree on the place and give like
reasons (agreement, meaning); is what the chain names in the photo (entities). And form, length, language, coordinates
in the chain, words of the instruction. What needs an encoder or an LLM that sees photos is checked where one is named;
the card says what was not. One chain a photo stays. Chains of region are not checked; `region_share` says how many go
in.

OUT holds gre_cot.json, imgs/, sidecar.jsonl, dropped.jsonl, replies.jsonl and ledger.json of the looker, and a card.
Killed at any moment, the same command goes on.
"""
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pyarrow
from tqdm import tqdm

from data_prep import asked, card, chains, photos, shards, teachers
from data_prep.card import Part
from data_prep.chains import Chain
from data_prep.shards import Work, write_lines
from data_prep.teachers import Line, Teacher
from data_prep.verify.filters import FILTERS, NEAREST, UNCHECKED, Checks, Found, keep_nearest
from eval.answering.shards import parse
from gre import provenance
from gre.config import REQUIRED, UserError, check_least, main, option
from gre.data.records import CoTRow, write_cot
from gre.geo.places import gazetteer
from gre.llm import Client

STAGE = "verified"
GOOD, DROPPED, REPLY = 0, 1, 2
SCHEMA = pyarrow.schema([("kind", pyarrow.int8()), ("region", pyarrow.bool_()), ("row", pyarrow.int64()),
                         ("place", pyarrow.uint64()), ("line", pyarrow.string())])


@dataclass
class Config:
    """Keys of verify. GLOBE publishes no thresholds: these are ours."""

    cot: str = option(REQUIRED, "folder of data_prep.cot")
    chains: list[str] = option(REQUIRED, "the folders of chains it was made from")
    out: str = option(REQUIRED, "folder of the rows")
    min_characters: int = option(100, "of a chain, at least")
    max_characters: int = option(6000, "of a chain, at most")
    near_km: float = option(50.0, "a city within this may stand for the place where a chain names no country")
    agree_km: float = option(50.0, "two teachers agree on the place when their answers are this near")
    encoder: str = option("", "folder of a sentence encoder, such as all-MiniLM-L6-v2; empty: meaning is not checked")
    similarity: float = option(0.5, "least cosine to the chain of a teacher that agrees on the place")
    looker: Teacher = option(Teacher, "an LLM that sees photos; without a model: localizable and entities are not "
                                      "checked")
    seen_share: float = option(0.5, "share of the things a chain names that must be in the photo")
    region_share: float | None = option(None, "share of all rows that are chains of region; null: all there are")
    max_pixels: int = option(1_003_520, "pixels of a photo sent, at most")
    ceiling: float | None = option(None, "stop before the looker's answers cost more")
    shard_rows: int = option(200, "photos of a shard")
    shard: str = option("", "i/n, i from 0: this process's part of the shards, and of the ceiling; empty: all that is "
                            "left, and the joining")

    def __post_init__(self):
        check_least("", self, {"min_characters": 0, "max_characters": 1, "near_km": 0, "agree_km": 0, "similarity": -1,
                               "seen_share": 0, "region_share": 0, "max_pixels": 1, "shard_rows": 1, "ceiling": 0})
        if self.region_share is not None and self.region_share >= 1:
            raise ValueError("region_share is 1 or more: for chains of region alone, name no others in data_prep.cot")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.cot, *config.chains, *filter(None, [config.encoder])],
            "writes": [f"{config.out}/{name}" for name in ("gre_cot.json", "sidecar.jsonl", "dropped.jsonl",
                                                           "replies.jsonl", "ledger.json", "card.html")]}


def run(config: Config) -> None:
    """Check all rows, write the good ones. Raises UserError naming what and remedy."""
    out, looks = Path(config.out), [config.looker] if config.looker.model else []
    teachers.check(looks)
    made_of = _made_of(config, looks)
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    work, mine = Work(out / "work", made_of), parse(config.shard or "0/1")
    checks = Checks(config, gazetteer(15000), _several(config), _encoder(config), Line(
        config.looker, asked.purse(work, STAGE, looks, config.ceiling, mine)) if looks else None)
    groups, count = iter(tqdm(_groups(config), "verify", unit="photo")), 0
    while some := list(islice(groups, config.shard_rows)):
        if shards.is_mine(count, mine) and not work.path(STAGE, count).exists():
            shards.save(work.path(STAGE, count), _shard(config, work, count, some, checks))
        count += 1
    if config.shard:
        print(shards.LEFT)
        return
    print(_join(config, work, count, made_of, looks, checks), end="")
    work.remove()


def _made_of(config: Config, looks: list[Teacher]) -> dict:
    chains.same_seeds([Path(config.cot), *map(Path, config.chains)])
    keys = ("min_characters", "max_characters", "near_km", "agree_km", "similarity", "seen_share", "region_share",
            "max_pixels", "shard_rows")
    return {"rows": provenance.file_hash(Path(config.cot) / "sidecar.jsonl"),
            "chains": [provenance.file_hash(Path(folder) / "chains.jsonl") for folder in config.chains],
            "encoder": _encoder_hash(config), "looker": teachers.named(looks),
            **{key: getattr(config, key) for key in keys}}


def _encoder_hash(config: Config) -> str:
    if not config.encoder:
        return ""
    from gre.manifest import model_hash  # brings torch

    return model_hash(Path(config.encoder))


def _encoder(config: Config):
    if not config.encoder:
        return None
    from data_prep.verify.meaning import Encoder  # brings torch

    return Encoder(config.encoder)


def _several(config: Config) -> bool:
    """Whether more than one teacher spoke."""
    names = set()
    for folder in config.chains:
        for chain in chains.read(Path(folder)):
            if chain.kind != chains.REGION:
                names.add(chain.teacher)
            if len(names) > 1:
                return True
    return False


def _groups(config: Config) -> Iterator[tuple[list[Found], list[Chain]]]:
    """(the rows about a photo, all that was said of it), photos in the order of the seeds folder."""
    said = chains.by_photo([Path(folder) for folder in config.chains])
    for number, lines in groupby(_sidecar(Path(config.cot)), key=lambda line: line["row"]):
        group = next((group for group in said if group[0].row == number), [])
        by_teacher = {(chain.kind, chain.teacher): chain for chain in group}
        try:
            yield [Found(by_teacher[line["kind"], line["teacher"]], line["error_km"]) for line in lines], group
        except KeyError as error:
            raise UserError(f"{config.cot} has a row of photo {number} by {error}, of which chains= holds none: name "
                            "the folders that it was made from") from None


def _sidecar(folder: Path) -> Iterator[dict]:
    with open(folder / "sidecar.jsonl", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _shard(config: Config, work: Work, number: int, some: list[tuple[list[Found], list[Chain]]],
           checks: Checks) -> pyarrow.Table:
    """Check the chains about some photos."""
    for found, said in some:
        checks.photo(found, said)
    checks.alike([(one, said) for found, said in some for one in found])
    every = [one for found, _ in some for one in found]
    cache = asked.cache(work, number, 0)
    checks.look(every, Path(config.cot), cache)
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("checked", "wrong", "first", "kinds")}
    for found, _ in some:
        keep_nearest(found)
    rows: list[tuple] = []
    for one in every:
        counts["checked"].update(one.checked - {UNCHECKED})
        counts["wrong"].update(list(one.wrong))
        counts["first"].update(list(one.wrong)[:1])
        counts["kinds"][f"{one.chain.kind}\t{one.chain.teacher}\t{'dropped' if one.wrong else 'good'}"] += 1
        rows.append((DROPPED if one.wrong else GOOD, one.chain.kind == chains.REGION, one.chain.row,
                     int(one.chain.sha256[:16], 16), _line(one)))
    rows += [(REPLY, False, 0, 0, line) for line in asked.replies(work, number, 1)]
    taken = {config.looker.name: asdict(asked.of(Client(config.looker, cache)))} if checks.looker else {}
    likeness = sorted(round(one.likeness, 4) for one in every if one.likeness is not None)
    return pyarrow.table([list(column) for column in zip(*rows)], schema=SCHEMA.with_metadata({
        "spent": json.dumps(taken), "counts": json.dumps(counts), "likeness": json.dumps(likeness)}))


def _line(one: Found) -> str:
    """A line of dropped.jsonl, or the chain and what the sidecar says of it."""
    if one.wrong:
        first, why = next(iter(one.wrong.items()))
        return json.dumps({**one.chain.named(), "error_km": one.error_km, "fault": first, "why": why,
                           "also": list(one.wrong)[1:]}, ensure_ascii=False)
    more = {name: value for name, value in (("entities", list(one.entities)), ("localizability", one.localizability))
            if value}
    return json.dumps({"chain": asdict(one.chain), "error_km": one.error_km, "more": more}, ensure_ascii=False)


def _join(config: Config, work: Work, count: int, made_of: dict, looks: list[Teacher], checks: Checks) -> str:
    """Mix, and write rows, lists, ledger and card; returns the card's text."""
    out, cot = Path(config.out), Path(config.cot)
    chosen = _regions(work, count, config.region_share)
    written: Counter[str] = Counter()

    def rows(files: shards.Files) -> Iterator[CoTRow]:
        for kind, region, row, line in _lines(work, count):
            if kind == DROPPED:
                files.add("dropped", json.loads(line))
            elif kind == GOOD:
                content = json.loads(line)
                chain = Chain(**content["chain"])
                if region and chosen is not None and row not in chosen:
                    files.add("dropped", {**chain.named(), "error_km": content["error_km"], "fault": "share",
                                          "why": "region_share has no room for it", "also": []})
                    continue
                written[chain.kind] += 1
                files.add("sidecar", {**chain.named(), "error_km": content["error_km"], **content["more"]})
                yield CoTRow("", photos.put(cot, chain.image, out), chain.instruction, chain.response.strip(),
                             chain.truth)

    with shards.Files(out, "sidecar", "dropped") as files:
        write_cot(out / "gre_cot.json", rows(files))
    bill = asked.ledger(work, STAGE, looks)
    if looks:
        write_lines(out / "replies.jsonl", (line + "\n" for kind, _, _, line in _lines(work, count) if kind == REPLY))
        provenance.write_atomically(out / "ledger.json", json.dumps(bill, indent=2, ensure_ascii=False) + "\n")
    counts: dict[str, Counter[str]] = {}
    likeness: list[float] = []
    for number in range(count):
        for name, own in asked.metadata(work.path(STAGE, number), "counts").items():
            counts.setdefault(name, Counter()).update(own)
        likeness += asked.metadata(work.path(STAGE, number), "likeness")
    return card.write(out, f"GRE30K-CoT: {out.resolve().name}",
                      _parts(config, counts, written, likeness, bill, checks), {
        "kind": "verified", "made_of": made_of, "seeds_sha256": chains.same_seeds([cot]),
        "commit": provenance.commit(), "rows": dict(written),
        "counts": {name: dict(sorted(own.items())) for name, own in counts.items()}, "ledger": bill})


def _regions(work: Work, count: int, share: float | None) -> set[int] | None:
    """The photos whose chains of region go in; None: all. Those without a teacher's chain come first, then by content.
    """
    if share is None:
        return None
    found = [work.read(STAGE, number, ["kind", "region", "row", "place"]) for number in range(count)]
    kind, region, row, place = (np.concatenate([one[name].to_numpy() for one in found] or [np.zeros(0)])
                                for name in ("kind", "region", "row", "place"))
    good = kind == GOOD
    teachers_rows = row[good & ~region.astype(bool)]
    row, place = row[good & region.astype(bool)], place[good & region.astype(bool)]
    wanted = round(len(teachers_rows) * share / (1 - share))
    order = np.lexsort((place, np.isin(row, teachers_rows)))
    return set(row[order[:wanted]].tolist())


def _lines(work: Work, count: int) -> Iterator[tuple[int, bool, int, str]]:
    for number in range(count):
        table = work.read(STAGE, number)
        yield from zip(*(table[name].to_pylist() for name in ("kind", "region", "row", "line")))


def _parts(config: Config, counts: dict[str, Counter[str]], written: Counter[str], likeness: list[float],
           bill: dict[str, dict], checks: Checks) -> list[Part]:
    total, regions = written.total(), written[chains.REGION]
    by = {tuple(name.split("\t")): count for name, count in counts.get("kinds", Counter()).items()}
    whose = sorted({(kind, teacher) for kind, teacher, _ in by})
    share = [] if config.region_share is None else [
        f"A share of {config.region_share:.0%} was asked for." + (
            "" if regions >= round((total - regions) * config.region_share / (1 - config.region_share))
            else " There are no more.")]
    missing = {"agreement": "chains of one teacher alone", "meaning": "no encoder= is named, or one teacher alone",
               "localizable": "no looker.model is named", "entities": "no looker.model is named"}
    wrong, first, checked = (counts.get(name, Counter()) for name in ("wrong", "first", "checked"))
    tenths = np.quantile(likeness, np.linspace(0.1, 0.9, 9)) if likeness else []
    return [
        Part("Rows", [f"{total:,} rows: {total - regions:,} of teachers, {regions:,} chains of region "
                      f"({regions / max(1, total):.1%}). sidecar.jsonl says which row is which.", *share]),
        Part("Filters", ["Each counts by itself; dropped first: the row's first fault in this order. "
                         f"{wrong[UNCHECKED]:,} chains could not be checked and are out. {wrong[NEAREST]:,} are as "
                         "good, but another about their photo is nearer. All are listed in dropped.jsonl."],
             ("filter", "looked at", "found wrong", "dropped first", "what it means"), [
                 (name, f"{checked[name]:,}", f"{wrong[name]:,}", f"{first[name]:,}", meaning) if checked[name] else
                 (name, "not checked", "", "", missing.get(name, "no chain of a teacher came so far"))
                 for name, meaning in FILTERS.items()]),
        Part("By whom", head=("who", "good", "dropped"), rows=[
            (f"{teacher} ({kind})", *(f"{by.get((kind, teacher, which), 0):,}" for which in ("good", "dropped")))
            for kind, teacher in whose]),
        Part("Likeness of chains whose teachers agree on the place",
             head=("", *(f"{tenth}0 %" for tenth in range(1, 10))),
             rows=[("cosine", *(f"{value:.3f}" for value in tenths))] if likeness else []),
        *([asked.part(bill)] if bill else [])]


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
