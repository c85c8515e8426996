"""Kill every stage at random moments; it must end with the weights of an uninterrupted run.

    bash experiments/kill_proof.sh [run=quickstart] [kills=10] [stage=NAME] [out=FILE.json]

Reads the models of a finished quickstart run. Each stage trains for a few steps on a small world, once left alone, then
again from nothing while it is killed and started again by the same command, until `kills` kills have fallen and it
comes to its end. Moments are drawn uniformly over the seconds of the uninterrupted run, start and end included; every
third kill waits for a checkpoint that is being written, and every fifth is a SIGTERM. Stages proven before by the same
code are kept. Exit status 1 when a hash or a logged loss differs. GLOBE with its three rewards is proven where it is
named (stage=globe): policy and reward model are the arms names and localizability of experiments/globe.sh.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gre import config, manifest, provenance
from gre.config import UserError, option
from gre.tiny import reason
from gre.training.trainer.checkpoints import MARKER, in_order
from gre.training.trainer.stopping import STATUS

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("stage1", "judge", "stage2", "stage3")
GLOBE = "globe"  # its parents are none of a quickstart
STEPS = 8
SHORT = [f"train.max_steps={STEPS}", "train.per_device_batch_size=8", "train.save_steps=2", "train.logging_steps=1"]
RL = ["grpo.num_generations=4", "rollout.max_new_tokens=48"]
WORLD = ["cot=1", "judge=4", "seed_photos=1", "validation=1", "test=1", "test_new_places=1", "seed=1"]


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/ that parents are taken from")
    kills: int = option(10, "kills a stage")
    stage: str = option("", "stage1, judge, stage2, stage3 or globe; empty: the first four")
    seed: int = option(0, "seed of the moments")
    out: str = option("", "where the result is written; empty: runs/NAME/kill_proof/results.json")


def commands(run: Path, data: Path) -> dict[str, list[str]]:
    """What trains each stage for a few steps, but for its output_dir."""
    base, seeds = ROOT / "gre" / "tiny" / "base", f"data.path={data}/gre_seed/gre_seed.jsonl"
    settings = {
        "stage1": [f"model_name_or_path={base}", f"data.path={data}/gre_cot/gre_cot.json", *SHORT],
        "judge": [f"model_name_or_path={base}", f"data.path={data}/gre_judge/gre_judge.json", *SHORT,
                  f"policy.model_name_or_path={run}/stage1", f"policy.data={data}/validation/validation.jsonl",
                  "policy.num_photos=8"],
        "stage2": [f"model_name_or_path={run}/stage1", f"judge.model_name_or_path={run}/judge", seeds, *SHORT, *RL],
        "stage3": [f"model_name_or_path={run}/stage2", seeds, *SHORT, *RL, "grpo.num_iterations=2"],
        GLOBE: [f"model_name_or_path={run}/globe/names", f"judge.model_name_or_path={run}/globe/localizability",
                f"data.path={data}/gre_seed/reason.jsonl", *SHORT, *RL, "rollout.max_new_tokens=96"],  # up to the place
    }
    shapes = {GLOBE: "globe_three"}
    return {stage: [sys.executable, "-m", f"stages.{stage}", f"{ROOT}/configs/tiny/{shapes.get(stage, stage)}.yaml",
                    *keys] for stage, keys in settings.items()}


def start(command: list[str], folder: Path) -> subprocess.Popen:
    """Start a stage; what it prints is added to FOLDER.log."""
    with open(folder.with_suffix(".log"), "a", encoding="utf-8") as log:
        return subprocess.Popen([*command, f"output_dir={folder}"], stdout=log, stderr=log,
                                env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
                                     "TOKENIZERS_PARALLELISM": "false"})


def finished(child: subprocess.Popen, folder: Path) -> tuple[str, list]:
    """(weights, logged losses) of a stage that ended well."""
    if child.wait():
        raise UserError(f"the stage ended with status {child.returncode}: see {folder.with_suffix('.log')}")
    logs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [[log["step"], log["loss"]] for log in logs if "loss" in log]
    return manifest.read_manifest(folder)["model_sha256"], losses


def unfinished(folder: Path) -> set[str]:
    """The checkpoints without a marker: one that is being written, or one that an earlier kill left."""
    return {path.name for path in in_order(folder / "checkpoints") if not (path / MARKER).exists()}


def kill(child: subprocess.Popen, folder: Path, number: int, moment_s: float) -> dict | None:
    """Kill the stage at that moment, or in the first save after it; None when it ended before."""
    began, left, saving = time.monotonic(), unfinished(folder), False
    while child.poll() is None and (time.monotonic() - began < moment_s or number % 3 == 1 and not saving):
        time.sleep(0.002)
        now = unfinished(folder)
        left &= now  # what an earlier kill left counts as a save only after it is gone and written again
        saving = bool(now - left)
    if child.poll() is not None:
        return None
    chosen = signal.SIGTERM if number % 5 == 4 else signal.SIGKILL
    note = {"signal": chosen.name, "seconds": round(time.monotonic() - began, 2), "saving": saving}
    child.send_signal(chosen)
    status = child.wait()
    if chosen == signal.SIGTERM and status not in (STATUS, -signal.SIGTERM):
        raise UserError(f"SIGTERM ended the stage with status {status}: see {folder.with_suffix('.log')}")
    return {**note, "status": status, "whole_checkpoints": [
        int(path.name.split("-")[1]) for path in in_order(folder / "checkpoints") if (path / MARKER).exists()]}


def prove(stage: str, command: list[str], out: Path, kills: int, rng: random.Random) -> dict:
    """Kills of one stage, and whether every run that was killed ended as the one that was not."""
    shutil.rmtree(out / stage, ignore_errors=True)
    (out / stage).mkdir(parents=True)
    began = time.monotonic()
    whole = finished(start(command, out / stage / "whole"), out / stage / "whole")
    seconds = time.monotonic() - began
    notes, runs = [], []
    while len(notes) < kills:
        folder = out / stage / f"killed{len(runs)}"
        while True:
            child = start(command, folder)
            note = kill(child, folder, len(notes), rng.uniform(0, seconds)) if len(notes) < kills else None
            if note is None:
                break
            notes.append(note)
            print(f"{stage}: kill {len(notes)}, {note}", flush=True)
        runs.append(finished(child, folder) == whole)
        if runs[-1]:
            shutil.rmtree(folder)
    return {"sha256": whole[0], "seconds": round(seconds, 1), "steps": STEPS, "kills": notes, "runs": len(runs),
            "equal": all(runs)}


def run(settings: Config) -> None:
    """Prove the stages and print a line for each."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    if settings.stage not in ("", *STAGES, GLOBE):
        raise UserError(f"stage={settings.stage!r}: write {', '.join((*STAGES, GLOBE))}, or leave it out for the first "
                        "four")
    if settings.stage == GLOBE and not (folder / "globe" / "localizability" / "manifest.json").exists():
        raise UserError(f"{folder}/globe holds no reward model: bash experiments/globe.sh run={settings.run} "
                        "arm=names, then arm=localizability")
    out = folder / "kill_proof"
    if not (out / "data" / "truth.jsonl").exists():
        subprocess.run([sys.executable, "-m", "gre.tiny.world", f"out={out}/data", *WORLD], check=True,
                       env={**os.environ, "PYTHONPATH": str(ROOT)})
    if settings.stage == GLOBE and not (out / "data" / "gre_seed" / "reason.jsonl").exists():
        reason.run(reason.Config(f"{out}/data", localizability=1))
    file, lines = Path(settings.out) if settings.out else out / "results.json", commands(folder, out / "data")
    made = {"commit": provenance.commit(), "stages": {}}
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8")))["commit"] == made["commit"]:
        made["stages"] = before["stages"]
    for stage in [settings.stage] if settings.stage else STAGES:
        if len(made["stages"].get(stage, {}).get("kills", ())) != settings.kills:
            made["stages"][stage] = prove(stage, lines[stage], out, settings.kills,
                                          random.Random(f"{settings.seed}{stage}"))
        made["command"] = (f"bash experiments/kill_proof.sh run={settings.run} kills={settings.kills} "
                           f"seed={settings.seed}" + f" stage={settings.stage}" * bool(settings.stage))
        provenance.write_atomically(file, json.dumps(made, indent=1) + "\n")
    for stage, proof in made["stages"].items():
        in_save = sum(note["saving"] for note in proof["kills"])
        polite = sum(note["signal"] == "SIGTERM" for note in proof["kills"])
        print(f"{stage:7} {len(proof['kills'])} kills ({in_save} in a save, {polite} SIGTERM), {proof['runs']} runs: "
              f"{'equal' if proof['equal'] else 'DIFFERENT'} ({proof['sha256'][:12]})")
    if not all(proof["equal"] for proof in made["stages"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
