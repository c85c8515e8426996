"""report.html of a run: `python -m eval.quickstart.report run=runs/NAME data=runs/NAME/data`.

One self-contained file: no script, no network, photos as data URIs, charts and maps as inline SVG. What models wrote
is untrusted and escaped. Every number comes from results.json, scores.json or the stages' metrics.jsonl; none is typed.
"""
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from eval.drawing import charts, cues, heat, photos, tables, worldmap
from eval.predictions import Prediction
from eval.quickstart import results
from eval.quickstart.results import CHECKPOINTS, CONTROLS, DATA, load, read_json, read_lines
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import DataConfig, read_seed
from gre.geo import land

STAGE2 = {  # by its mode: (title, {legend: key in metrics.jsonl})
    "judge": (("Stage 2: reward", {"total": "reward", "format": "reward/format", "judge": "reward/judge"}),
              ("Stage 2: does P(True) follow nearness?", {"rank correlation within groups": "rank_correlation"})),
    results.VERDICT: (("Stage 2: reward", {"verdict": "reward/verdict"}),
                      ("Stage 2: verdicts", {"balanced accuracy": "verdict/balanced_accuracy",
                                             "share of True": "verdict/true_share"}))}
STEP = ("rollout", "rewards", "exchange", "passes", "update", "rest")  # seconds/… in metrics.jsonl of RL
EXTREMES = 2  # best, and as many worst, photos of stage 3 that are shown
TEXTS = {name: f"<p>{text}</p>" for name, text in {
    "places": "Test photos of places the model has seen other photos of. Small print: 95 % intervals.",
    "controls": "What a model must beat: the one place of the training data that scores best when given for every "
                "photo; stage 1 on grey photos; stage 1 on photos dealt to rows of other places. A model that "
                "looks falls to about the constant's level when its photos are swapped.",
    "new_places": "Photos of places that no training row shows. Nobody has told the model where they are: expect "
                  "little.",
    "curves": "Thin: what was measured. Thick: its mean over the last tenth of the run.",
    "said": "Of one prompt of the first, the middle and the last step: the completion with the highest advantage and "
            "the one with the lowest.",
    "profile": "Mean seconds of a step of RL. In the exchange several processes wait for the slowest and deal "
               "groups out evenly; passes are the reference's and the old policy's; the rest is photos, logging and "
               "saving.",
    "map": "From each photo's place (dot) to the answer, along the globe. Coastlines: Natural Earth.",
    "samples": "Photos drawn at random, not chosen.",
    "protocol": "Answers are coordinates, read by one parser; no geocoder. Decoding is greedy. Distances are on a "
                "sphere of radius 6371.0088 km and “within” means at most. An answer that cannot be read counts as "
                "wrong (GeoScore 0, 20,015 km) and stays in the denominator. GeoScore is 5000·exp(−d / 1492.7 km). "
                "Intervals are 95 %, from 10,000 bootstrap draws that resample places; gains are paired by photo. "
                "Reward is stage 3's (format + gps, at most 2), the same function for every row of the tables.",
}.items()}


@dataclass
class Config:
    run: str = option(REQUIRED, "the run's folder, with results.json and scores.json")
    data: str = option(REQUIRED, "the data folder")
    samples: int = option(6, "photos shown with what the checkpoints said about them")
    seed: int = option(0, "which photos are shown")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.run, config.data], "writes": [f"{config.run}/report.html"]}


def run(config: Config) -> None:
    """Write report.html from what the run holds. Raises UserError naming what is missing."""
    folder, data = Path(config.run), Path(config.data)
    made = read_json(folder / "results.json", "eval.quickstart.results writes it")
    scores = read_json(folder / "scores.json", "eval.quickstart.results writes it")
    ids = [row.id for row in read_seed(DataConfig(path=str(data / DATA["test"])))]
    answers = {name: load(folder, name, ids) for name in CHECKPOINTS}
    provenance.write_atomically(folder / "report.html", page(
        folder.resolve().name, made, scores, answers, (data / DATA["test"]).parent,
        planted=planted_errors(data / "truth.jsonl"), curves=curves(folder),
        said="".join(said_in_training(folder, stage) for stage in ("stage2", "stage3")),
        profile=tables.profile({stage: profile(folder / stage / "metrics.jsonl") for stage in ("stage2", "stage3")}),
        samples=config.samples, seed=config.seed))


def page(name: str, results: Mapping, scores: Mapping, answers: Mapping[str, list[Prediction]], pictures: Path, *,
         planted: str, curves: str, said: str, profile: str, samples: int, seed: int) -> str:
    """The whole document. answers: checkpoint → rows. pictures: the folder the rows' images are relative to. planted,
    curves, said, profile: HTML; every other text is escaped here."""
    style = resources.files("eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
    bars = [(label, "control" if label in CONTROLS else "", scores["geoscore"][label])
            for label in (*CONTROLS, *CHECKPOINTS)]
    shown = photos.side_by_side(answers, pictures, _picked(len(answers["stage1"]), samples, seed))
    best, worst = (photos.side_by_side(answers, pictures, indices)
                   for indices in photos.best_and_worst(answers["stage3"], EXTREMES))
    sections = [
        _head(name, results, scores), planted,
        "<h2>What each stage did</h2>", tables.checkpoints(results, scores, CHECKPOINTS), TEXTS["places"],
        _grid(charts.intervals("Mean GeoScore, 95 % interval", bars, 5000), tables.gains(results, scores)),
        "<h2>Controls</h2>", TEXTS["controls"], tables.checkpoints(results, scores, CONTROLS, style="control"),
        "<h2>New places</h2>", TEXTS["new_places"], tables.new_places(scores),
        "<h2>The judge</h2>", tables.judge(results, scores), tables.verdicts(scores),
        "<h2>Training curves</h2>", TEXTS["curves"], _grid(curves),
        "<h2>What was said in training</h2>", TEXTS["said"], said,
        "<h2>Errors on the map</h2>", TEXTS["map"], worldmap.legend(), land.symbol(),
        _grid(*(worldmap.errors(label, rows) for label, rows in answers.items())),
        "<h2>By country</h2>", heat.explained(),
        _grid(*(heat.figure(label, heat.by_country(rows)) for label, rows in answers.items())),
        "<h2>What the checkpoints said</h2>", TEXTS["samples"], cues.explained(known=False, unknown=True), shown,
        "<h2>Best of stage 3</h2>", best, "<h2>Worst of stage 3</h2>", worst,
        "<h2>Time and rows</h2>", tables.seconds(results["seconds"]), tables.rows(results["rows"]),
        TEXTS["profile"], profile, f"<footer>{TEXTS['protocol']}</footer>"]
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(name)}: geo-localization report</title><style>{style}</style></head><body>"
            + "\n".join(sections) + "</body></html>\n")


def planted_errors(truth: Path) -> str:
    """The notice that a world's teacher errs by design, with its rates; empty for data whose sidecar plants none."""
    errors = Counter(row["teacher_error"] for row in read_lines(truth) if row["split"] == "gre_cot")
    wrong = {error: count for error, count in errors.items() if error not in (None, "none")}
    if not wrong:
        return ""
    total = sum(errors.values())
    kinds = ", ".join(f"{escape(error)} {count / total:.0%}" for error, count in sorted(wrong.items()))
    return ("<p class='notice'><b>A synthetic planet.</b> The photos are drawn and the teacher's errors are planted: "
            f"{sum(wrong.values()) / total:.0%} of its {total:,} chains err ({kinds}). Stage 3 can gain because those "
            "errors are there to be repaired. The gain shows that the machinery works, and nothing about real photos."
            "</p>")


def curves(folder: Path) -> str:
    """The training curves of all stages. Raises UserError when a stage never logged what is to be drawn."""
    return "".join(charts.lines(title, {legend: curve(folder / stage / "metrics.jsonl", key)
                                        for legend, key in keys.items()}, "step")
                   for title, stage, keys in wanted(folder))


def wanted(folder: Path) -> list[tuple[str, str, dict[str, str]]]:
    """The curves a run should have logged: (title, stage, {legend: key in metrics.jsonl})."""
    kl = {stage: {"KL": "kl"} for stage in ("stage2", "stage3")
          if results.stage_config(folder, stage).get("grpo", {}).get("beta") != 0}  # without a reference there is none
    found = [("Stage 1: loss", "stage1", {"loss": "loss"}),
             *([("Judge: loss", "judge", {"loss": "loss"})] if results.has_judge(folder) else []),
             *((title, "stage2", keys) for title, keys in STAGE2[results.mode(folder)]),
             ("Stage 2: KL to stage 1", "stage2", kl.get("stage2")),
             ("Stage 3: reward", "stage3", {"total": "reward", "format": "reward/format", "gps": "reward/gps"}),
             ("Stage 3: KL to stage 2", "stage3", kl.get("stage3"))]
    return [curve for curve in found if curve[2]]


def curve(path: Path, key: str) -> list[tuple[float, float]]:
    """(step, value) of one logged number, in the order of the file."""
    points = [(row["step"], row[key]) for row in read_lines(path) if key in row]
    if not points:
        raise UserError(f"{path} holds no {key}: train that stage again with this version")
    return points


def profile(path: Path) -> dict[str, float]:
    """Mean seconds of each part of a step. Raises UserError when one was never logged."""
    logs = len(curve(path, "seconds/update"))  # with grpo.num_iterations above 1, not every step has a rollout
    return {part: sum(value for _, value in curve(path, f"seconds/{part}")) / logs for part in STEP}


def said_in_training(folder: Path, stage: str) -> str:
    """Completions of the first, the middle and the last step of a stage's samples.jsonl, best and worst of a group."""
    lines = read_lines(folder / stage / "samples.jsonl")
    steps = sorted({line["step"] for line in lines})
    cards = []
    for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
        group = sorted((line for line in lines if line["step"] == step), key=lambda line: line["advantage"])
        for line in (group[-1], group[0]):
            rewards = ", ".join(f"{escape(name)} {value:.3f}" for name, value in line["rewards"].items())
            cards.append(f"<b>{stage}, step {step}, {escape(line['id'])} · advantage {line['advantage']:+.2f} "
                         f"({rewards})</b><blockquote>{escape(line['text'])}</blockquote>")
    return "".join(cards)


def _head(name: str, results: Mapping, scores: Mapping) -> str:
    rollout, known = results["rollout"], results["gain"]["stage3_over_stage1"]["geoscore"]
    return (f"<h1>Where was this photo taken?</h1><p class='soft'>Run {escape(name)} · seed {results['seed']} · commit "
            f"{escape(results['commit'][:12])} · rollouts by {escape(rollout['engine'])} "
            f"{escape(rollout['version'])}</p><p>Stage 3 changes the mean GeoScore of stage 1 by {tables.plain(known)} "
            f"on {results['checkpoints']['base']['n']:,} test photos of places it has seen other photos of, and by "
            f"{tables.plain(scores['test_new_places_gain'])} on {scores['test_new_places']['base']['n']:,} of places "
            "that no training row shows.</p>")


def _picked(total: int, count: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(total), min(count, total)))


def _grid(*parts: str) -> str:
    return "<div class='grid2'>" + "".join(parts) + "</div>"


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
