"""What each part of the recipe is worth: every arm is trained once and answers the same test rows.

    bash experiments/ablation.sh [run=quickstart] [seed=N] [arm=NAME] [out=FILE.json]

Reads a finished quickstart run, whose three stages are arms themselves, and trains the others into runs/NAME/ablation.
An arm that ended before is kept and one that was stopped goes on, so two terminals can train two arms (arm=NAME) at
once; without `arm` the missing ones are trained and everything is measured. Gains are in GeoScore, with 95 % intervals
over places. `gamed` is a control that has to be stopped: a judge trained to say True to long chains.

    gps         stage 3 straight from stage 1, without stage 2
    fixed       stage 3 from stage 2 at one theta, 750 km
    curriculum  stage 3 from stage 2, theta refined by the rule, over windows of 10 steps
    form        stage 1 on rows that teach the form of a verdict besides
    verdict     the paper's stage 2 (stage2_verdict), from `form`
    continued   stage 1's fine-tuning gone on with, on as many rows as stage 3 sampled completions
    rejection   stage 1 fine-tuned for 3 epochs on the best of 8 samples of as many photos as stage 3 saw

The last two use RL's learning rate; `continued_fast` and `rejection_fast` ten times that.
"""
import itertools
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from eval import predict, predictions
from eval.quickstart import numbers, results
from gre import config, manifest, provenance
from gre.config import UserError, option
from gre.data.records import DataConfig, JudgeRow, read_judge, write_judge

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "NPROC": "1"}  # configs say how many rows one process takes a step
TRAINED = ("gps", "fixed", "curriculum", "form", "verdict", "continued", "continued_fast",
           "rejection", "rejection_fast")
PAIRS = (("stage2", "stage1"), ("stage3", "stage1"), ("stage3", "stage2"), ("stage3", "gps"),
         ("fixed", "stage3"), ("curriculum", "stage3"), ("form", "stage1"), ("verdict", "form"), ("gps", "stage1"),
         *((sft, "stage1") for sft in TRAINED[5:]), *(("gps", sft) for sft in TRAINED[5:]))


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    seed: int = option(0, "seed of all trainings, of the planted judge's rows and of the bootstrap")
    arm: str = option("", f"train this one alone: {', '.join(TRAINED)} or gamed; empty: all, and measure them")
    out: str = option("", "where the result is written; empty: runs/NAME/ablation/results.json")


def arms(folder: Path, seed: int) -> dict[str, list[list[str]]]:
    """The commands of each arm, in order. The last one trains it, into folder/ablation/ARM."""
    data, ours = folder / "data", folder / "ablation"
    stage3 = results.stage_config(folder, "stage3")
    photos, completions = stage3.train.max_steps * stage3.train.per_device_batch_size, stage3.grpo.num_generations
    best, form = data / "gre_seed" / "best.json", data / "gre_cot" / "gre_cot_form.json"
    rows_a_step = results.stage_config(folder, "stage1").train.per_device_batch_size

    def module(name: str, *keys: str) -> list[str]:
        return [sys.executable, "-m", name, *keys, f"seed={seed}"]

    def stage(name: str, arm: str, parent: Path, *keys: str) -> list[str]:
        return ["bash", f"{ROOT}/scripts/train/{name}.sh", f"{ROOT}/configs/tiny/{name}.yaml",
                f"output_dir={ours / arm}", f"model_name_or_path={parent}", *keys, f"seed={seed}"]

    def tuned(arm: str, rows: Path, rate: float, *keys: str) -> list[str]:
        return stage("stage1", arm, first, "accept_parent=any", f"data.path={rows}", f"train.learning_rate={rate}",
                     watched, *keys)

    watched = f"validation.data={data / results.DATA['validation']}"
    seeds = [f"data.path={data / results.DATA['seed']}", f"guards.places={data}/places.csv", watched]
    first, judged, base = folder / "stage1", folder / "stage2", ROOT / "gre" / "tiny" / "base"
    rate, more = stage3.train.learning_rate, f"train.max_steps={photos * completions // rows_a_step}"
    sampling = module("data_prep.rejection", f"model={first}", f"data.path={data / results.DATA['seed']}",
                      f"out={best}", f"num_photos={photos}", f"num_generations={completions}",
                      f"rollout.max_new_tokens={stage3.rollout.max_new_tokens}",
                      f"rollout.batch_size={stage3.rollout.batch_size}")
    three = ("train.max_steps=-1", "train.num_train_epochs=3")
    length = data / "gre_judge" / "gre_judge_length.json"
    return {
        "gps": [stage("stage3", "gps", first, *seeds, "accept_parent=any")],
        "fixed": [stage("stage3", "fixed", judged, *seeds, "gps.thetas_km=[750]")],
        "curriculum": [stage("stage3", "curriculum", judged, *seeds, "gps.curriculum.levels_km=[2500,750,200,25,1]",
                             "gps.curriculum.window=10")],
        "form": [module("gre.tiny.form", f"data={data}"), stage("stage1", "form", base, f"data.path={form}", watched)],
        "verdict": [stage("stage2_verdict", "verdict", ours / "form", f"data.path={data / results.DATA['judge']}")],
        "continued": [tuned("continued", data / results.DATA["cot"], rate, more)],
        "continued_fast": [tuned("continued_fast", data / results.DATA["cot"], 10 * rate, more)],
        "rejection": [sampling, tuned("rejection", best, rate, *three)],
        "rejection_fast": [sampling, tuned("rejection_fast", best, 10 * rate, *three)],
        "gamed": [
            stage("judge", "gamed_judge", first, f"data.path={length}", "train.max_steps=60",
                  f"policy.model_name_or_path={first}", f"policy.data={data / results.DATA['validation']}"),
            stage("stage2", "gamed", first, *seeds, f"judge.model_name_or_path={ours / 'gamed_judge'}",
                  "judge.min_auc=0", "train.max_steps=60")],
    }


def length_rows(rows: list[JudgeRow], seed: int) -> list[JudgeRow]:
    """Rows on which length alone decides: a chain of k of 12 sentences, its own said again and again, is True with
    chance k / 12."""
    rng = random.Random(seed)

    def one(row: JudgeRow) -> JudgeRow:
        sentences, k = row.chain.removesuffix(".").split(". "), rng.randint(1, 12)
        chain = ". ".join(itertools.islice(itertools.cycle(sentences), k)) + "."
        return replace(row, chain=chain, label=rng.random() < k / 12)
    return [one(row) for row in rows]


def train(folder: Path, commands: list[list[str]]) -> None:
    """Run commands, the last of which trains into `folder`, unless its manifest is there."""
    if not (folder / manifest.MANIFEST).exists():
        for command in commands:
            subprocess.run(command, check=True, env=ENVIRONMENT)


def game(folder: Path, commands: list[list[str]], seed: int) -> dict:
    """Train the planted judge, then RL on it; how that ended. Kept once it is known."""
    kept, data = folder / "ablation" / "gamed.json", folder / "data"
    if not kept.exists():
        rows = read_judge(DataConfig(path=str(data / results.DATA["judge"])))
        write_judge(data / "gre_judge" / "gre_judge_length.json", length_rows(rows, seed))
        train(folder / "ablation" / "gamed_judge", commands[:1])
        ended = subprocess.run(commands[1], capture_output=True, text=True, env=ENVIRONMENT)
        print(ended.stdout[-2000:], ended.stderr[-2000:], sep="\n", file=sys.stderr)
        logs = [json.loads(line) for line in
                (folder / "ablation" / "gamed" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        logs = [log for log in logs if "p_true" in log]
        alarms = (folder / "ablation" / "gamed" / "alarms.jsonl").read_text(encoding="utf-8").splitlines()
        judge = manifest.read_manifest(folder / "ablation" / "gamed_judge")["metrics"]
        kept.write_text(json.dumps({
            "stopped": ended.returncode != 0 and "min_rank_correlation" in ended.stderr, "status": ended.returncode,
            "alarms": [json.loads(line) for line in alarms],
            "judge": {key: judge[key] for key in ("auc", "auc_on_policy")},
            "curve": [{key: log[key] for key in ("step", "p_true", "rank_correlation", "think_characters",
                                                 "distance_km/median")} for log in logs]}, indent=1) + "\n")
    return json.loads(kept.read_text(encoding="utf-8"))


def measure(folder: Path, seed: int) -> dict:
    """Answers of all arms to the test rows, their scores and the paired gains."""
    data, ours, stage3 = folder / "data", folder / "ablation", results.stage_config(folder, "stage3")
    answers = {name: predictions.read(folder / "predictions" / f"{name}.jsonl") for name in results.CHECKPOINTS[1:]}
    for name in TRAINED:
        answers[name] = predict.run(predict.Config(
            model=str(ours / name), data=str(data / results.DATA["test"]), places=str(data / "truth.jsonl"),
            out=str(ours / f"{name}.jsonl"), max_new_tokens=stage3.rollout.max_new_tokens))
    metrics = {name: manifest.read_manifest((folder if name in results.CHECKPOINTS else ours) / name)["metrics"]
               for name in answers}
    logs = [json.loads(line) for line in (ours / "curriculum" / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "arms": {name: {"steps": metrics[name]["steps"], "train_seconds": metrics[name]["train_seconds"],
                        "rows": metrics[name]["rows"], **numbers.summary(rows, list(stage3.gps.thetas_km))}
                 for name, rows in answers.items()},
        "geoscore_gain": {f"{a}_over_{b}": numbers.geoscore_gain(answers[a], answers[b], (a, b), seed)
                          for a, b in PAIRS},
        "verdict": metrics["verdict"]["verdict"],
        "theta_km": {log["step"]: log["theta_km"] for log in logs if "theta_km" in log},
    }


def run(settings: Config) -> None:
    """Train what is missing, then measure and print."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    if settings.arm not in ("", "gamed", *TRAINED):
        raise UserError(f"arm={settings.arm!r}: write {', '.join(TRAINED)}, gamed, or leave it out for all")
    commands = arms(folder, settings.seed)
    for name in [settings.arm] if settings.arm else TRAINED:
        if name != "gamed":
            train(folder / "ablation" / name, commands[name])
    if settings.arm in ("", "gamed"):
        gamed = game(folder, commands["gamed"], settings.seed)
    if settings.arm:
        return
    made = {"commit": provenance.commit(),
            "command": f"bash experiments/ablation.sh run={settings.run} seed={settings.seed}",
            **measure(folder, settings.seed), "gamed": gamed}
    provenance.write_atomically(Path(settings.out) if settings.out else folder / "ablation" / "results.json",
                             json.dumps(made, indent=1) + "\n")
    for name, arm in made["arms"].items():
        print(f"{name:>14}: GeoScore {arm['mean_geoscore']:5.0f}, within 750 km {arm['within_km']['750']:6.1%}, "
              f"unparsed {arm['unparsed']}, {arm['steps']} steps, {arm['train_seconds']:.0f} s")
    for name, gain in made["geoscore_gain"].items():
        print(f"{name}: {gain['mean']:+.0f} [{gain['low']:+.0f}, {gain['high']:+.0f}]")


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
