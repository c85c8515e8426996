"""What several people's decisions about a row come to, and how far they agree. No torch.

Who accepts or edits keeps a row. A row is kept when more keep than reject it, rejected when fewer do, and disputed when
as many do: one more annotator settles it. Of several edits the last one counts.
"""
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from data_prep.review.decisions import ACCEPT, EDIT, REJECT, Decision

ACCEPTED, EDITED, REJECTED, DISPUTED, UNDECIDED = OUTCOMES = (
    "accepted", "edited", "rejected", "disputed", "undecided")


class Agreement(NamedTuple):
    """Of two annotators, on the rows that both judged. agree: share of rows on which both keep or both reject; kappa:
    Cohen's, of that; kappa_of_three: of accept, edit, reject. None where it is not defined."""

    names: tuple[str, str]
    rows: int
    agree: float
    kappa: float | None
    kappa_of_three: float | None


def outcome(said: Sequence[Decision]) -> str:
    """What a row's decisions, one an annotator, come to: one of OUTCOMES."""
    rejecting = sum(one.decision == REJECT for one in said)
    if not said:
        return UNDECIDED
    if 2 * rejecting >= len(said):
        return DISPUTED if 2 * rejecting == len(said) else REJECTED
    return EDITED if any(one.decision == EDIT for one in said) else ACCEPTED


def last_edit(said: Sequence[Decision]) -> Decision:
    """The edit that counts."""
    return max((one for one in said if one.decision == EDIT), key=lambda one: one.at)


def agreements(decisions: Mapping[str, Mapping[str, Decision]], rows: Sequence[str]) -> list[Agreement]:
    """Of every two annotators who judged a row in common. rows: sha256 of those that count."""
    found = []
    for first, second in combinations(sorted(decisions), 2):
        both = [(decisions[first][row].decision, decisions[second][row].decision) for row in rows
                if row in decisions[first] and row in decisions[second]]
        if both:
            kept = [tuple(ACCEPT if one == EDIT else one for one in pair) for pair in both]
            found.append(Agreement((first, second), len(both), sum(a == b for a, b in kept) / len(both),
                                   cohens_kappa(kept), cohens_kappa(both)))
    return found


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """(agreement - chance) / (1 - chance), chance from how often each says what (Cohen 1960). None where chance is 1:
    both always say the same one thing, which shows nothing."""
    n = len(pairs)
    first, second = (Counter(pair[at] for pair in pairs) for at in (0, 1))
    chance = sum(first[what] * second[what] for what in first) / n**2  # whole numbers until here
    return None if chance == 1 else (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
