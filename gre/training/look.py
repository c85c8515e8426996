"""What the rows of a stage say, counted before they are trained on: one line that is always printed, and a refusal of a
file most of whose rows teach something else than was meant. No torch.

Readers look at each row alone (gre.data.records). Here the same reader of answers and the same format reward as in RL
look at all of them: responses without tags or answers, answers of other places or with longitude first, labels the
wrong way round all train without a sound.
"""
from collections import Counter
from collections.abc import Sequence
from statistics import median

from gre.data.raw import DataError
from gre.data.reason import ReasonRow
from gre.data.records import LABELS, CoTRow, JudgeRow, SeedRow
from gre.geo.accuracy import THRESHOLDS_KM
from gre.geo.point import LatLon, distance_km, valid
from gre.rewards.format import format_reward
from gre.text.answers import parse_answer
from gre.text.named import parse_names
from gre.text.prompts import JUDGE_INSTRUCTION

FAR_KM = float(THRESHOLDS_KM[-1])  # another continent: no rounding and no near miss
MOST = 0.5    # of the rows: what is wrong with more is wrong with the file; a few bad chains are the user's own choice
FEW = 10      # rows of a label, fewer of which say nothing about its median
EXCHANGED = 3  # times as far as wrong answers lie right ones only where the labels are exchanged
SOME = 100    # rows, fewer of which may well show one place


def look_at(rows: Sequence[CoTRow] | Sequence[JudgeRow] | Sequence[SeedRow] | Sequence[ReasonRow], name: str) -> str:
    """The line about the rows of one file. Raises DataError when they are not what they are taken for."""
    kinds = {CoTRow: _cot, JudgeRow: _judge, SeedRow: _seed, ReasonRow: _reason}
    return f"{name}: {kinds[type(rows[0])](rows, name)}"


def _cot(rows: Sequence[CoTRow], name: str) -> str:
    verdicts = [row for row in rows if row.response.strip().lower() in LABELS]
    asked_for = [row for row in verdicts if row.instruction.startswith(JUDGE_INSTRUCTION)]
    _refuse(len(verdicts) - len(asked_for), len(rows), "responses", "say True or False, as those of GRE30K-Judge do, "
            "to questions about places. Name a GRE30K-CoT file with data.path=FILE", name)
    others = {row.id for row in asked_for}
    chains = [row for row in rows if row.id not in others]
    said = f"; {len(asked_for):,} more say True or False when asked the judge's question" if asked_for else ""
    return (_chains(chains, name) if chains else "no response about a place") + said


def _chains(rows: Sequence[CoTRow], name: str) -> str:
    total = len(rows)
    formless = sum(not format_reward(row.response, finished=True) for row in rows)
    answers = [(answer, row.truth) for row in rows if row.truth and (answer := parse_answer(row.response)) is not None]
    named = sum(parse_answer(row.response) is None and any(parse_names(row.response)) for row in rows)
    far = sum(distance_km(*pair) > FAR_KM for pair in answers)
    exchanged = sum(_is_exchanged(*pair) for pair in answers)
    unread = total - len(answers) - named
    for count, fault in (
            (formless, "are not of the form <think>…</think><answer>…</answer>, which RL pays for. Write them so"),
            (unread, "have no answer that can be read (docs/answers.md). Write one place between <answer> and "
                     "</answer>, such as 48.8584, 2.2945"),
            (exchanged, "say longitude first. Exchange the two numbers of their answers"),
            (far, f"answer with a place more than {FAR_KM:g} km from gt_lat, gt_lon. They belong to other photos: join "
                  "the table again")):
        _refuse(count, total, "responses", fault, name)
    return (f"{formless:,} of {total:,} responses would earn no format, {unread:,} have no readable answer, "
            + (f"{named:,} answer by name, " if named else "") + _far(answers, far)
            + (f"; {exchanged:,} say longitude first" if exchanged else ""))


def _judge(rows: Sequence[JudgeRow], name: str) -> str:
    answers = {label: [(answer, row.truth) for row in rows if row.label is label
                       and (answer := parse_answer(row.answer)) is not None] for label in (True, False)}
    true = sum(row.label for row in rows)
    far = {label: sum(distance_km(*pair) > FAR_KM for pair in pairs) for label, pairs in answers.items()}
    _refuse(far[True], len(answers[True]), "answers labelled True", f"lie more than {FAR_KM:g} km from gt_lat, gt_lon: "
            "the labels are the wrong way round, or belong to other photos. Correct them", name)
    unread = len(rows) - sum(map(len, answers.values()))
    _refuse(unread, len(rows), "rows", "have a predicted_answer in which no coordinates can be read (docs/answers.md), "
            "and a judge is asked about coordinates. Write them so, such as 48.8584, 2.2945", name)
    if true in (0, len(rows)):
        raise DataError(f"{name}: all of {len(rows):,} rows are labelled {bool(true)}: a judge learns from rows of "
                        "both labels. Name a file that has them")
    _refuse_exchanged(answers, name)
    return (f"{true:,} of {len(rows):,} rows are labelled True, {unread:,} have no readable answer; of those labelled "
            f"True {_far(answers[True], far[True])}; of those labelled False {_far(answers[False], far[False])}")


def _refuse_exchanged(answers: dict[bool, list[tuple[LatLon, LatLon]]], name: str) -> None:
    """Right answers lie nearer than wrong ones; labels that were drawn by lot say neither."""
    if min(map(len, answers.values())) < FEW:
        return
    km = {label: median(distance_km(*pair) for pair in pairs) for label, pairs in answers.items()}
    if km[True] > EXCHANGED * km[False]:
        raise DataError(f"{name}: answers labelled True lie {km[True]:,.0f} km from gt_lat, gt_lon in the median, "
                        f"those labelled False {km[False]:,.0f} km: the labels are the wrong way round. Exchange them")


def _seed(rows: Sequence[SeedRow], name: str) -> str:
    places = Counter(row.truth for row in rows)
    place, count = places.most_common(1)[0]
    if len(rows) >= SOME:
        _refuse(count, len(rows), "rows", f"have the very same gt_lat, gt_lon ({place.lat_deg:g}, {place.lon_deg:g}), "
                "as a default value would be. Write where each photo was taken", name)
    questions = len({row.instruction for row in rows})
    return f"{len(rows):,} rows ask {questions:,} questions about {len(places):,} places"


def _reason(rows: Sequence[ReasonRow], name: str) -> str:
    said = Counter(row.localizable for row in rows)
    return (f"{len(rows):,} rows name {len({row.names for row in rows if row.names.country}):,} places and list "
            f"{len({entity for row in rows for entity in row.entities}):,} different entities; {said[True]:,} are "
            f"marked localizable, {said[False]:,} not, {said[None]:,} neither")


def _far(answers: Sequence[tuple[LatLon, LatLon]], far: int) -> str:
    """How far answers lie from the truth."""
    if not answers:
        return "none says how far it lies from the truth"
    return (f"{far:,} lie farther than {FAR_KM:g} km from the truth (median distance "
            f"{median(distance_km(*pair) for pair in answers):.0f} km)")


def _is_exchanged(answer: LatLon, truth: LatLon) -> bool:
    there = LatLon(answer.lon_deg, answer.lat_deg)
    return distance_km(answer, truth) > FAR_KM and valid(*there) and (
        10 * distance_km(there, truth) < distance_km(answer, truth))


def _refuse(count: int, total: int, what: str, fault: str, name: str) -> None:
    if count > MOST * total:
        raise DataError(f"{name}: {count:,} of {total:,} {what} {fault}")
