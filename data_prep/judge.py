"""Raw chains → GRE30K-Judge: `python -m data_prep.judge seeds=FOLDER split=FOLDER chains=[FOLDER] out=FOLDER`.

Every chain of a teacher about a photo of the Judge part becomes a row: True where its answer lies within `within_km` of
where the photo was taken, False where not. An answer that cannot be read is neither: such chains are left out, counted
and listed. Chains stay as they were written. OUT holds gre_judge.json, imgs/, sidecar.jsonl (a line a row: photo,
teacher, error), dropped.jsonl and a card, which says how the labels stand to each other and how well they can be told
without the photo.
"""
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep import blind, card, chains, photos, shards, split
from data_prep.blind import Row
from data_prep.card import Part
from data_prep.shards import Files
from gre import provenance
from gre.config import REQUIRED, check_least, main, option
from gre.data.records import JudgeRow, write_judge
from gre.text.answers import split_completion
from gre.text.chains import chain_of
from gre.text.prompts import JUDGE_INSTRUCTION

WARN_AUC = 0.65
LOOKED_AT = 20_000  # rows that the picture-blind classifier is fitted on, at most


@dataclass
class Config:
    """Keys of judge."""

    seeds: str = option(REQUIRED, "seeds folder")
    split: str = option(REQUIRED, "folder of data_prep.split")
    chains: list[str] = option(REQUIRED, "folders of data_prep.distil")
    out: str = option(REQUIRED, "folder of the rows")
    within_km: float = option(25.0, "an answer this near to the truth is right")

    def __post_init__(self):
        check_least("", self, {"within_km": 0})


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.seeds, config.split, *config.chains],
            "writes": [f"{config.out}/{name}" for name in ("gre_judge.json", "sidecar.jsonl", "dropped.jsonl",
                                                           "card.html")]}


def run(config: Config) -> None:
    """Write rows and card. Raises UserError naming file and remedy."""
    seeds, out = Path(config.seeds), Path(config.out)
    made_of = split.source(seeds, Path(config.split), config.chains) | {"within_km": config.within_km}
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    counts: Counter[str] = Counter()
    by_teacher: dict[str, Counter[str]] = {}
    seen: list[Row] = []

    def rows(files: Files) -> Iterator[JudgeRow]:
        for chain in (one for group in split.chains_of("judge", Path(config.split), config.chains) for one in group
                      if one.kind == chains.TEACHER):
            error_km = chain.error_km()
            reasoning, answer = chain_of(chain.response).strip(), (split_completion(chain.response)[1] or "").strip()
            own = by_teacher.setdefault(chain.teacher, Counter())
            why = "cut off" if not chain.finished else "no answer can be read" if error_km is None else (
                "no chain" if not reasoning else "")
            counts[why or str(error_km <= config.within_km)] += 1
            own["dropped" if why else str(error_km <= config.within_km)] += 1
            if why:
                files.add("dropped", {**chain.named(), "fault": why, "why": chain.response[-80:]})
                continue
            label = error_km <= config.within_km
            files.add("sidecar", {**chain.named(), "error_km": round(error_km, 3), "label": label})
            seen.append(Row(chain.sha256, reasoning, answer, label))
            if len(seen) > 2 * LOOKED_AT:  # by content: a table may be sorted by country
                seen[:] = sorted(seen)[:LOOKED_AT]
            yield JudgeRow("", photos.put(seeds, chain.image, out), JUDGE_INSTRUCTION, reasoning, answer, label,
                           chain.truth)

    with Files(out, "sidecar", "dropped") as files:
        write_judge(out / "gre_judge.json", rows(files))
    seen = sorted(seen)[:LOOKED_AT]
    auc = blind.auc_of(seen)
    print(card.write(out, f"GRE30K-Judge: {out.resolve().name}", _parts(config, counts, by_teacher, auc, len(seen)), {
        "kind": "judge", "made_of": made_of, "seeds_sha256": made_of["seeds_sha256"], "commit": provenance.commit(),
        "counts": dict(sorted(counts.items())), "blind_auc": auc}), end="")


def _parts(config: Config, counts: Counter, by_teacher: dict[str, Counter], auc: float | None, seen: int) -> list[Part]:
    right, wrong = counts["True"], counts["False"]
    left_out = {why: count for why, count in counts.items() if why not in ("True", "False")}
    told = (f"Fewer than {blind.FEWEST} rows of a label: not measured." if auc is None else
            f"AUC {auc:.3f} on {seen:,} rows, each scored by a classifier that saw no row of its photo.")
    warning = [] if auc is None or auc <= WARN_AUC else [
        f"WARNING: above {WARN_AUC}. Labels can be told from the text: a judge may learn a teacher's tone in place of "
        "looking. Take more teachers, or photos on which each is sometimes right."]
    return [
        Part("Rows", [f"{right + wrong:,} rows, {right:,} True (within {config.within_km:g} km) and {wrong:,} False: "
                      f"{right / max(1, right + wrong):.1%} are True."]),
        card.counted("Left out", left_out, "why", ["Listed in dropped.jsonl; none is labelled False."]),
        Part("Teachers", head=("teacher", "True", "False", "left out"), rows=[
            (name, *(f"{own[which]:,}" for which in ("True", "False", "dropped")))
            for name, own in sorted(by_teacher.items())]),
        Part("Told without the photo", [told, *warning])]


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
