"""What a review comes to: the rows that were kept, the list of those that were not, and the card. No torch."""
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_prep import card
from data_prep.card import Part
from data_prep.review import decisions, settled
from data_prep.review.decisions import DECISIONS
from data_prep.review.rows import Item
from data_prep.review.settled import ACCEPTED, DISPUTED, EDITED, OUTCOMES, REJECTED, UNDECIDED, Agreement
from data_prep.shards import write_lines, write_rows
from gre import provenance
from gre.config import UserError
from gre.data.raw import BadRow
from gre.data.records import KINDS

MEANING = {ACCEPTED: "as they were", EDITED: "with the last edit", REJECTED: "left out and listed",
           DISPUTED: "as many keep as reject: left out and listed; one more annotator settles them",
           UNDECIDED: "nobody judged them: left out"}


def rejected_of(out: Path) -> Path:
    """The list beside the rows that were kept."""
    return out.with_name(f"{out.stem}.rejected.jsonl")


def write(kind: str, path: Path, items: Sequence[Item], out: Path) -> str:
    """Write rows, list and card; returns the card's text. Raises UserError where nobody judged a row."""
    by = decisions.of_all(path)
    said = [[own[item.sha256] for own in by.values() if item.sha256 in own] for item in items]
    if not any(said):
        raise UserError(f"no row of {path} was judged: python -m data_prep.review {path} name=ANNOTATOR")
    outcomes = [settled.outcome(one) for one in said]
    kept = [item if what == ACCEPTED else _edited(path, item, settled.last_edit(own).fields)
            for item, own, what in zip(items, said, outcomes) if what in (ACCEPTED, EDITED)]
    listed = [(item, what, {name: own[item.sha256] for name, own in by.items() if item.sha256 in own})
              for item, what in zip(items, outcomes) if what in (REJECTED, DISPUTED)]
    write_rows(out, (item.value for item in kept))
    write_lines(rejected_of(out), (json.dumps({
        "row": item.number, "image": item.image, "sha256": item.sha256, "outcome": what,
        "said": {name: one.decision for name, one in own.items()},
        "why": {name: one.why for name, one in own.items() if one.why}}, ensure_ascii=False) + "\n"
        for item, what, own in listed))
    counts = Counter(outcomes)
    agreements = settled.agreements(by, [item.sha256 for item in items])
    here = {item.sha256 for item in items}
    elsewhere = {name: gone for name, own in by.items() if (gone := len(own.keys() - here))}
    return card.write(out.parent, f"Reviewed: {KINDS[kind]}, {path.name}", [
        Part("Rows", [f"{len(items):,} rows, {len(kept):,} kept."], ("", "rows", "what becomes of them"),
             [(what, f"{counts[what]:,}", MEANING[what]) for what in OUTCOMES if counts[what]]),
        Part("Annotators", [f"{name}: {gone:,} decisions are about rows that are not in this file."
                            for name, gone in elsewhere.items()], ("", "rows", *DECISIONS),
             [_annotator(name, [own[item.sha256].decision for item in items if item.sha256 in own])
              for name, own in by.items()]),
        _agreement(agreements),
        Part("Rejected and disputed", [f"Each is in {rejected_of(out).name}."] if listed else [],
             ("row", "", "by", "why"), [(str(item.number), what, ", ".join(f"{name} {one.decision}" for name, one in
                                                                          own.items()),
                                         "; ".join(one.why for one in own.values() if one.why))
                                        for item, what, own in listed[:card.LISTED]])],
        {"kind": "review", "sha256": provenance.file_hash(path), "commit": provenance.commit(),
         "decisions_sha256": {name: provenance.file_hash(decisions.path_of(path, name)) for name in by},
         "rows": len(items), "counts": {what: counts[what] for what in OUTCOMES},
         "agreement": [one._asdict() for one in agreements]}, name=f"{out.stem}.card")


def _edited(path: Path, item: Item, fields: dict[str, str]) -> Item:
    try:
        return item.edited(fields)
    except BadRow as error:  # somebody wrote into the decisions
        raise UserError(f"{path}, row {item.number}: its edit cannot be used ({error}): edit the row again") from None


def _annotator(name: str, said: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(said)
    return (name, f"{len(said):,}", *(f"{counts[what]:,}" for what in DECISIONS))


def _agreement(agreements: Sequence[Agreement]) -> Part:
    def shown(kappa: float | None) -> str:
        return "–" if kappa is None else f"{kappa:.2f}"

    notes = ["Cohen's kappa over the rows that both judged: of keeping (accept or edit) against rejecting, and of the "
             "three. 0 is what chance alone would give, 1 is always; – where both said but one thing."]
    return Part("Agreement", notes if agreements else ["No row was judged by two."],
                ("", "rows", "agree", "kappa", "of three"),
                [(" and ".join(one.names), f"{one.rows:,}", f"{one.agree:.1%}", shown(one.kappa),
                  shown(one.kappa_of_three)) for one in agreements])
