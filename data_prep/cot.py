"""Raw chains → GRE30K-CoT, unverified: `python -m data_prep.cot seeds=FOLDER split=FOLDER chains=[FOLDER] out=FOLDER`.

Every chain about a photo of the CoT part whose answer lies within `within_km` of the truth becomes a row; a photo may
have several, by several teachers, of which data_prep.verify keeps one. Chains of region (data_prep.regions) are taken
too. Without split= every photo is of the CoT part: photos, coordinates and the gazetteer are all that stage 1 needs.
OUT holds gre_cot.json, imgs/, sidecar.jsonl (a line a row: photo, teacher, kind, error), dropped.jsonl and a card.
"""
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep import card, photos, shards, split
from data_prep.card import Part
from data_prep.chains import Chain
from data_prep.shards import Files
from gre import provenance
from gre.config import REQUIRED, check_least, main, option
from gre.data.records import CoTRow, write_cot
from gre.text.chains import chain_of

WHY = {"cut off": "the chain ends at the limit of tokens",
       "no answer can be read": "by gre.text.answers; of one by name, no city is found in the gazetteer",
       "no chain": "an answer alone", "too far": "the answer is wrong: of the Judge part it would be a False row"}


@dataclass
class Config:
    """Keys of cot."""

    seeds: str = option(REQUIRED, "seeds folder")
    chains: list[str] = option(REQUIRED, "folders of data_prep.distil and data_prep.regions")
    out: str = option(REQUIRED, "folder of the rows")
    split: str = option("", "folder of data_prep.split; empty: every photo")
    within_km: float = option(25.0, "an answer this near to the truth is right; the judge's")

    def __post_init__(self):
        check_least("", self, {"within_km": 0})


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.seeds, *config.chains, *filter(None, [config.split])],
            "writes": [f"{config.out}/{name}" for name in ("gre_cot.json", "sidecar.jsonl", "dropped.jsonl",
                                                           "card.html")]}


def run(config: Config) -> None:
    """Write rows and card. Raises UserError naming file and remedy."""
    seeds, out = Path(config.seeds), Path(config.out)
    parts = Path(config.split) if config.split else None
    made_of = split.source(seeds, parts, config.chains) | {"within_km": config.within_km}
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    counts: dict[str, Counter[str]] = {}
    photos_of: Counter[str] = Counter()

    def rows(files: Files) -> Iterator[CoTRow]:
        for group in split.chains_of("cot", parts, config.chains):
            made = [row for chain in group for row in _row(config, chain, files, counts.setdefault(
                chain.teacher, Counter()), seeds, out)]
            photos_of["with" if made else "without"] += 1
            yield from made

    with Files(out, "sidecar", "dropped") as files:
        write_cot(out / "gre_cot.json", rows(files))
    print(card.write(out, f"GRE30K-CoT, unverified: {out.resolve().name}", _parts(config, counts, photos_of), {
        "kind": "cot", "made_of": made_of, "seeds_sha256": made_of["seeds_sha256"], "commit": provenance.commit(),
        "counts": {name: dict(sorted(own.items())) for name, own in sorted(counts.items())},
        "photos": dict(photos_of)}), end="")


def _row(config: Config, chain: Chain, files: Files, counts: Counter[str], seeds: Path, out: Path) -> Iterator[CoTRow]:
    """The row that a chain makes, if it does; noted either way."""
    error_km = chain.error_km()
    why = ("cut off" if not chain.finished else "no answer can be read" if error_km is None else
           "too far" if error_km > config.within_km else "" if chain_of(chain.response).strip() else "no chain")
    counts[why or "rows"] += 1
    if why:
        files.add("dropped", {**chain.named(), "fault": why, "why": f"{error_km:,.1f} km" if why == "too far" else
                              chain.response[-80:]})
        return
    files.add("sidecar", {**chain.named(), "error_km": round(error_km, 3)})
    yield CoTRow("", photos.put(seeds, chain.image, out), chain.instruction, chain.response.strip(), chain.truth)


def _parts(config: Config, counts: dict[str, Counter[str]], photos_of: Counter[str]) -> list[Part]:
    return [
        Part("Rows", [f"{sum(own['rows'] for own in counts.values()):,} rows about {photos_of['with']:,} photos; "
                      f"{photos_of['without']:,} photos have none.",
                      "Nothing but the answer was looked at: data_prep.verify looks at the chains."]),
        Part("By whom", head=("teacher", "rows", *WHY), rows=[
            (name, *(f"{own[which]:,}" for which in ("rows", *WHY))) for name, own in sorted(counts.items())]),
        Part("Left out", ["Each is listed in dropped.jsonl."], ("why", "chains", "what it means"), [
            (why, f"{count:,}", meaning) for why, meaning in WHY.items()
            if (count := sum(own[why] for own in counts.values()))])]


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
