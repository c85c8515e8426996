"""The tables of the report, as HTML. Everything that is not a number is escaped."""
from collections.abc import Mapping, Sequence
from html import escape

from eval.scoring.printed import percent
from gre.geo.accuracy import THRESHOLDS_KM

HEAD = ("", "GeoScore", "median km", *(f"≤ {km} km" for km in THRESHOLDS_KM), "reward", "unparsed", "cut off", "n")
FITS = 4  # columns that a phone's screen has room for
GAINS = (("stage1_over_constant", "geoscore", "stage 1 over the constant"),
         ("stage2_over_stage1", "judge_reward", "stage 2 over stage 1, judge's P(True)"),
         ("stage2_over_stage1", "geoscore", "stage 2 over stage 1"),
         ("stage3_over_stage2", "geoscore", "stage 3 over stage 2"),
         ("stage3_over_stage1", "geoscore", "stage 3 over stage 1"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table whose first column names the rows. Cells are HTML already. style: `prose` wraps its cells, of which the
    last two are text. On a narrow screen the rows of such a table, and of one with more than FITS columns, are cards
    whose cells carry their heading."""
    cards = style == "prose" or len(head) > FITS
    header = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr class='{style}'><th scope='row'>{first}</th>" + "".join(
        f"<td data-label='{escape(label)}'>{cell}</td>" if cards else f"<td>{cell}</td>"
        for label, cell in zip(head[1:], rest, strict=True)) + "</tr>" for first, *rest in rows)
    return (f"<div class='wide'><table class='{style}{' cards' * cards}'><thead><tr>{header}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>")


def checkpoints(results: Mapping, scores: Mapping, names: Sequence[str], style: str = "") -> str:
    """One row per checkpoint or control of results.json, with the interval of its GeoScore."""
    blocks = {**results["checkpoints"], **results["controls"]}
    return table(HEAD, [_row(name, blocks[name], scores["geoscore"][name], scores["cut_off"][name]) for name in names],
                 style)


def new_places(scores: Mapping) -> str:
    """The checkpoints on places no training row shows."""
    geoscore, cut_off = scores["test_new_places_geoscore"], scores["test_new_places_cut_off"]
    return table(HEAD, [_row(name, block, geoscore[name], cut_off[name])
                        for name, block in scores["test_new_places"].items()])


def gains(results: Mapping, scores: Mapping) -> str:
    """The paired gains with their intervals, that on new places among them."""
    found = [(label, measure, results["gain"][pair][measure]) for pair, measure, label in GAINS
             if measure in results["gain"][pair]]
    found.append(("stage 3 over stage 1, new places", "geoscore", scores["test_new_places_gain"]))
    return table(("gain, paired by photo", "mean"), [
        (escape(label), f"{signed(value, measure)}<small>{interval(value, measure)}</small>")
        for label, measure, value in found])


def judge(results: Mapping, scores: Mapping) -> str:
    """How good the judge is, and what it thinks of each checkpoint's greedy answers."""
    block = results["judge"]
    if block is None:
        return "<p>This run has no judge: in its stage 2 the policy itself says True or False (stage2_verdict).</p>"
    quality = table(("the judge, on photos it was not trained on", ""), [
        ("AUC, held-out Judge rows", f"{block['auc']:.3f}"),
        ("AUC with photos swapped", f"{block['auc_swapped_pictures']:.3f}"),
        ("AUC on stage 1's own answers", f"{block['auc_on_policy']:.3f}"),
        ("calibration error", f"{block['calibration_error']:.3f}"), ("rows", f"{block['n']:,}")])
    opinion = table(("mean P(True) of greedy test answers", ""), [
        (escape(name), f"{value:.3f}") for name, value in scores["judge_reward"].items()])
    return f"<div class='grid2'>{quality}{opinion}</div>"


def verdicts(scores: Mapping) -> str:
    """How well the policy itself judges before and after a stage 2 in the paper's form; nothing for another stage 2."""
    if "verdict" not in scores:
        return ""
    block = scores["verdict"]
    return table((f"verdicts of the policy, {block['n']:,} held-out Judge rows", "stage 1", "stage 2",
                  "gain in balanced accuracy"), [
        (escape(way), *(f"{block[way][policy]['balanced_accuracy']:.3f}" for policy in ("parent", "trained")),
         f"{signed(block[way]['gain'], 'verdict')}<small>{interval(block[way]['gain'], 'verdict')}</small>")
        for way in ("greedy", "sampled")])


def seconds(phases: Mapping[str, float]) -> str:
    """Wall time of each phase as a bar and a table."""
    total = sum(phases.values())
    parts = "".join(f"<div style='flex:{value:.1f}' title='{escape(phase)} {value:.0f} s'></div>"
                    for phase, value in phases.items())
    return (f"<p>{total / 60:.1f} minutes from the first photo to this page, installation aside.</p>"
            f"<div class='phases'>{parts}</div>"
            + table(("phase", *phases, "total"), [("seconds", *(f"{value:,.0f}" for value in phases.values()),
                                                   f"{total:,.0f}")]))


def profile(stages: Mapping[str, Mapping[str, float]]) -> str:
    """Where the seconds of a step go, by stage, as bars and a table."""
    bars = "".join(
        f"<p class='soft'>{escape(stage)}</p><div class='phases'>"
        + "".join(f"<div style='flex:{value:.3f}' title='{escape(part)} {value:.2f} s'></div>"
                  for part, value in parts.items()) + "</div>" for stage, parts in stages.items())
    names = list(next(iter(stages.values())))
    return bars + table(("seconds a step", *names, "total"), [
        (escape(stage), *(f"{parts[name]:.2f}" for name in names), f"{sum(parts.values()):.2f}")
        for stage, parts in stages.items()])


def rows(counts: Mapping[str, int]) -> str:
    """Rows of each data split."""
    return "<p></p>" + table(("data", *counts), [("rows", *(f"{count:,}" for count in counts.values()))])


def signed(value: Mapping[str, float], measure: str = "geoscore") -> str:
    """A gain's mean, coloured only when its interval leaves out zero."""
    style = "up" if value["low"] > 0 else "down" if value["high"] < 0 else "open"
    return f"<span class='{style}'>{_difference(value['mean'], measure)}</span>"


def plain(value: Mapping[str, float]) -> str:
    """A gain in GeoScore with its interval, without colour."""
    return f"{_difference(value['mean'], 'geoscore')} ({interval(value)})"


def interval(value: Mapping[str, float], measure: str = "geoscore") -> str:
    """A gain's 95 % interval in words."""
    return f"{_difference(value['low'], measure)} to {_difference(value['high'], measure)}"


def _difference(value: float, measure: str) -> str:
    return f"{value:+,.0f}" if measure == "geoscore" else f"{value:+.3f}"


def _row(name: str, block: Mapping, geoscore: Mapping[str, float], cut_off: int) -> list[str]:
    between = f"<small>{geoscore['low']:,.0f} to {geoscore['high']:,.0f}</small>"
    return [escape(name), f"{block['mean_geoscore']:,.0f}{between}",
            f"{block['median_km']:,.0f}", *(f"{percent(block['within_km'][str(km)])}%" for km in THRESHOLDS_KM),
            f"{block['mean_reward']:.3f}", f"{block['unparsed']:,}", f"{cut_off:,}", f"{block['n']:,}"]
