"""GLOBE on the tiny world: one, two and three rewards, beside fine-tuning and rejection sampling at equal samples.

    bash experiments/globe.sh [run=quickstart] [seed=N] [sft_steps=N] [arms=[NAME,…]] [arm=NAME] [out=FILE.json]

Reads the world of a finished quickstart run and trains into runs/NAME/globe. All arms start from `names`, a stage 1
that answers with country and city as its teacher did, errors and all. An arm that ended before is kept
and one that was stopped goes on; without `arm` the missing ones are trained and all are measured, on the same test
photos. Gains have 95 % intervals over places.

    names       fine-tuning on the teacher's chains: where the others start
    one         GRPO on the place by name
    two         and on what the chain claims to see, as GLOBE's README recommends
    three       and on localizability by a reward model, weighed as by GLOBE's script
    continued   fine-tuning gone on with, on as many rows as the others sampled completions
    rejection   fine-tuning for 3 epochs on the nearest of 8 samples of as many photos as the others saw

The last two use RL's learning rate.
"""
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from eval import predict
from eval.predictions import Prediction
from eval.quickstart import numbers, results
from experiments.ablation import ROOT, train
from gre import config, manifest, provenance
from gre.config import UserError, option
from gre.data.records import DataConfig, read_seed, write_seed
from gre.geo import accuracy
from gre.geo.places import gazetteer
from gre.rewards.answers import Answers
from gre.rewards.grounding import GroundingConfig, Vocabulary, grounding_rewards
from gre.rewards.place import MIN_POPULATION, named_distance_km, same_by_gazetteer
from gre.text.named import Names
from gre.text.one_place import read
from gre.tiny import reason
from gre.tiny.reason import QUESTION
from stages import globe, stage1

NAMES = "names"
RL = {"one": "globe_one", "two": "globe", "three": "globe_three"}
TRAINED = (NAMES, "localizability", *RL, "continued", "rejection")
PAIRS = (*((arm, NAMES) for arm in (*RL, "continued", "rejection")), ("two", "one"), ("three", "two"), ("three", "one"),
         *((arm, "rejection") for arm in RL))
MEASURES = ("country", "city", "grounding", "geoscore")


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    seed: int = option(0, "seed of all trainings, of the reward model's photos and of the bootstrap")
    sft_steps: int = option(300, "steps of the fine-tuning that the others start from; few: it errs in countries too")
    arms: list[str] = option(list(TRAINED), "which are trained and measured")
    arm: str = option("", f"train this one alone: {', '.join(TRAINED)}; empty: all of arms, and measure them")
    out: str = option("", "where the result is written; empty: runs/NAME/globe/results.json")


def arms(folder: Path, seed: int, sft_steps: int) -> dict[str, list[list[str]]]:
    """The commands of each arm, in order. The last one trains it, into folder/globe/ARM."""
    data, ours = folder / "data", folder / "globe"
    shape = config.load(globe.Config, [f"{ROOT}/configs/tiny/globe.yaml"])
    photos, completions = shape.train.max_steps * shape.train.per_device_batch_size, shape.grpo.num_generations
    taught, best = data / "gre_cot" / "reason.jsonl", data / "gre_seed" / "named_best.json"
    rate = f"train.learning_rate={shape.train.learning_rate}"

    def stage(name: str, settings: str, arm: str, parent: Path, *keys: str) -> list[str]:
        return ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{settings}.yaml",
                f"output_dir={ours / arm}", f"model_name_or_path={parent}", *keys, f"seed={seed}"]

    def tuned(arm: str, rows: Path, *keys: str) -> list[str]:
        return stage("stage1", "stage1_globe", arm, ours / NAMES, "accept_parent=any", f"data.path={rows}", rate, *keys)

    made = {NAMES: [stage("stage1", "stage1_globe", NAMES, ROOT / "gre" / "tiny" / "base", f"data.path={taught}",
                            f"train.max_steps={sft_steps}")],
            "localizability": [stage("localizability", "localizability", "localizability", ours / NAMES,
                                     f"data.path={data / 'localizability' / 'reason.jsonl'}")]}
    for arm, settings in RL.items():
        judge = [f"judge.model_name_or_path={ours / 'localizability'}"] if arm == "three" else []
        made[arm] = [stage("globe", settings, arm, ours / NAMES,
                           f"data.path={data / 'gre_seed' / 'reason.jsonl'}", *judge)]
    rows_a_step = config.load(stage1.Config, [f"{ROOT}/configs/tiny/stage1_globe.yaml"]).train.per_device_batch_size
    made["continued"] = [tuned("continued", taught, f"train.max_steps={photos * completions // rows_a_step}")]
    made["rejection"] = [
        [sys.executable, "-m", "data_prep.rejection", f"model={ours / NAMES}",
         f"data.path={data / 'gre_seed' / 'named.jsonl'}", f"out={best}", f"num_photos={photos}",
         f"num_generations={completions}", f"rollout.max_new_tokens={shape.rollout.max_new_tokens}",
         f"rollout.batch_size={shape.rollout.batch_size}", f"seed={seed}"],
        tuned("rejection", best, "train.max_steps=-1", "train.num_train_epochs=3")]
    return made


def write_asked(data: Path) -> None:
    """GRE30K-Seed and test rows that ask what GLOBE's ask, for rejection sampling and for the answers to the test."""
    for split in ("seed", "test"):
        path = data / results.DATA[split]
        if not (path.parent / "named.jsonl").exists():  # another arm may be reading it
            rows = read_seed(DataConfig(path=str(path)))
            write_seed(path.parent / "named.jsonl", [replace(row, instruction=QUESTION) for row in rows])


def scores(rows: Sequence[Prediction], data: Path) -> dict[str, list[float]]:
    """Of each answer: is the country right, is the city, what is the chain's grounding reward, and the GeoScore of the
    place that is named."""
    truth = {Path(line["image"]).name: line
             for line in map(json.loads, (data / "truth.jsonl").read_text(encoding="utf-8").splitlines())}
    places, said = gazetteer(MIN_POPULATION), [truth[Path(row.image).name] for row in rows]
    right = [same_by_gazetteer(places, one.names, Names(true["country"], true["city"])) if one else (False, False)
             for one, true in zip((read(row.text, places) for row in rows), said)]
    known = Vocabulary(line["entities"] for line in truth.values())
    seen = grounding_rewards(GroundingConfig(), known, [
        Answers(Seen(tuple(true["entities"])), [row.text], [row.finished]) for row, true in zip(rows, said)])
    return {"country": [float(country) for country, _ in right], "city": [float(city) for _, city in right],
            "grounding": [one for one, in seen],
            "geoscore": [accuracy.geoscore(named_distance_km(row.text, row.truth, places)) for row in rows]}


@dataclass(frozen=True)
class Seen:
    """What the grounding reward reads of a row."""

    entities: tuple[str, ...]


def measure(folder: Path, seed: int, trained: Sequence[str]) -> dict:
    """Answers of these arms to the test rows, their scores and the paired gains."""
    data, ours = folder / "data", folder / "globe"
    shape = config.load(globe.Config, [f"{ROOT}/configs/tiny/globe.yaml"])
    kept = [arm for arm in trained if arm != "localizability"]
    rows = {arm: predict.run(predict.Config(
        model=str(ours / arm), data=str(data / "test" / "named.jsonl"), places=str(data / "truth.jsonl"),
        out=str(ours / f"{arm}.jsonl"), max_new_tokens=shape.rollout.max_new_tokens)) for arm in kept}
    found = {arm: scores(rows[arm], data) for arm in kept}
    places = [row.place for row in rows[NAMES]]
    metrics = {arm: manifest.read_manifest(ours / arm)["metrics"] for arm in trained}
    reward_model = metrics.get("localizability", {})
    return {
        "arms": {arm: {"steps": metrics[arm]["steps"], "train_seconds": metrics[arm]["train_seconds"],
                       **{name: fmean(found[arm][name]) for name in MEASURES}} for arm in kept},
        "gain": {f"{a}_over_{b}": {name: numbers.gain(found[a][name], found[b][name], places, seed)
                                   for name in MEASURES} for a, b in PAIRS if {a, b} <= set(kept)},
        "reward_model": {key: value for key, value in reward_model.items() if isinstance(value, (int, float))},
        "n": len(places),
    }


def run(settings: Config) -> None:
    """Train what is missing, then measure and print."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    if unknown := {settings.arm, *settings.arms} - {"", *TRAINED}:
        raise UserError(f"no arm is called {', '.join(sorted(unknown))}: write {', '.join(TRAINED)}")
    if NAMES not in settings.arms or "three" in settings.arms and "localizability" not in settings.arms:
        raise UserError("arms: the others start from names, and three needs localizability, too")
    if not (folder / "data" / "localizability" / "reason.jsonl").exists():
        reason.run(reason.Config(str(folder / "data"), seed=settings.seed))
    write_asked(folder / "data")
    for arm, commands in arms(folder, settings.seed, settings.sft_steps).items():
        if arm == settings.arm or not settings.arm and arm in settings.arms:
            train(folder / "globe" / arm, commands)
    if settings.arm:
        return
    made = {"commit": provenance.commit(),
            "command": f"bash experiments/globe.sh run={settings.run} seed={settings.seed} "
                       f"sft_steps={settings.sft_steps} 'arms=[{','.join(settings.arms)}]'",
            **measure(folder, settings.seed, settings.arms)}
    provenance.write_atomically(Path(settings.out) if settings.out else folder / "globe" / "results.json",
                                json.dumps(made, indent=1) + "\n")
    for arm, one in made["arms"].items():
        print(f"{arm:>10}: country {one['country']:6.1%}, city {one['city']:6.1%}, grounding {one['grounding']:.3f}, "
              f"GeoScore {one['geoscore']:5.0f}, {one['steps']} steps")
    for pair, gains in made["gain"].items():
        print(pair + ": " + ", ".join(f"{name} {gain['mean']:+.3g} [{gain['low']:+.3g}, {gain['high']:+.3g}]"
                                      for name, gain in gains.items()))


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
