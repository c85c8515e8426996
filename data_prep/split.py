"""Which photos are for chains, which for the judge, which for RL: `python -m data_prep.split seeds=FOLDER out=FOLDER`.

A photo's part follows from its content (sha256) and the shares alone: it is the same in every run, and stays what it is
when photos are added. OUT holds the Seed part as stages read it (gre_seed.jsonl, imgs/) and a card; data_prep.judge and
data_prep.cot take their parts by naming OUT (split=OUT). Parts share no photo; near duplicates are the business of
data_prep.seeds.
"""
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep import card, chains, photos, shards
from data_prep.card import Part
from data_prep.chains import Chain
from gre import provenance
from gre.config import REQUIRED, UserError, check_least, main, option
from gre.data.raw import IMAGE_MARK
from gre.data.records import SeedRow, write_seed

PARTS = ("cot", "judge", "seed")


@dataclass
class Config:
    """Keys of split. The shares are GRE30K's own by default: 20, 10 and 10 thousand photos."""

    seeds: str = option(REQUIRED, "seeds folder")
    out: str = option(REQUIRED, "folder of the Seed part")
    cot: float = option(0.5, "share of photos that teachers' right chains are trained on (stage 1)")
    judge: float = option(0.25, "share of photos for the judge")
    seed: float = option(0.25, "share of photos for RL")

    def __post_init__(self):
        check_least("", self, {name: 0 for name in PARTS})
        if abs(self.cot + self.judge + self.seed - 1) > 1e-9:
            raise ValueError(f"cot, judge and seed add up to {self.cot + self.judge + self.seed:g}: write shares of 1")


def part(sha256: str, shares: Mapping[str, float]) -> str:
    """The part a photo belongs to, of PARTS."""
    at, reached = int(sha256[:13], 16) / 16**13, 0.0
    for name in PARTS:
        reached += shares[name]
        if at < reached:
            return name
    return max((name for name in PARTS if shares[name]), key=PARTS.index)  # the shares' sum may be rounded below 1


def shares_of(folder: Path, seeds: Path | None = None) -> dict[str, float]:
    """The shares that a split folder was made with. seeds: the folder it must be a split of. Raises UserError."""
    try:
        content = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        shares = {name: content["shares"][name] for name in PARTS}
    except (OSError, KeyError):
        raise UserError(f"split={folder} is no finished folder of data_prep.split") from None
    if seeds is not None and content["seeds_sha256"] != chains.seeds_hash(seeds):
        raise UserError(f"split={folder} was made from other seeds than {seeds}: split these")
    return shares


def source(seeds: Path, parts: Path | None, folders: Sequence[str]) -> dict:
    """What rows are made of, by content. Raises UserError for folders that do not belong together."""
    photos.check(seeds)
    if parts is not None:
        shares_of(parts, seeds)
    if chains.same_seeds(map(Path, folders)) != chains.seeds_hash(seeds):
        raise UserError(f"{folders[0]} was made from other seeds than {seeds}")
    return {"seeds_sha256": chains.seeds_hash(seeds),
            "split": "" if parts is None else provenance.file_hash(parts / "card.json"),
            "chains": [provenance.file_hash(Path(folder) / "chains.jsonl") for folder in folders]}


def chains_of(name: str, parts: Path | None, folders: Sequence[str]) -> Iterator[list[Chain]]:
    """The chains about each photo of one part; without a split, of every photo."""
    shares = None if parts is None else shares_of(parts)
    for group in tqdm(chains.by_photo([Path(folder) for folder in folders]), name, unit="photo"):
        if shares is None or part(group[0].sha256, shares) == name:
            yield group


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.seeds], "writes": [f"{config.out}/gre_seed.jsonl", f"{config.out}/card.html"]}


def run(config: Config) -> None:
    """Write the Seed part and the card. Raises UserError naming file and remedy."""
    seeds, out = Path(config.seeds), Path(config.out)
    photos.check(seeds)
    shares = {name: getattr(config, name) for name in PARTS}
    made_of = {"seeds_sha256": chains.seeds_hash(seeds), "shares": shares}
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    counts: Counter[str] = Counter()

    def rows() -> Iterator[SeedRow]:
        for photo in tqdm(photos.read(seeds), "split", unit="photo"):
            own = part(photo.sha256, shares)
            counts[own] += 1
            if own == "seed":
                yield SeedRow("", photos.put(seeds, photo.image, out), f"{IMAGE_MARK}\n{photo.instruction}",
                              photo.truth)

    out.mkdir(parents=True, exist_ok=True)
    write_seed(out / "gre_seed.jsonl", rows())
    total = counts.total() or 1
    print(card.write(out, f"Split: {out.resolve().name}", [
        Part("Parts", ["By the content of the photos: no photo is in two."],
             ("part", "photos", "of all", "asked for"),
             [(name, f"{counts[name]:,}", f"{counts[name] / total:.1%}", f"{shares[name]:.1%}") for name in PARTS])],
        {"kind": "split", "made_of": made_of, **made_of, "commit": provenance.commit(), "counts": dict(counts)}),
        end="")


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
