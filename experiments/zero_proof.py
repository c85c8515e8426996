"""DeepSpeed on two processes, a vLLM in each: the numbers of one process, and a killed run that goes on.

    bash experiments/zero_proof.sh [run=quickstart] [stage=NAME] [out=FILE.json]

Reads the models of a finished quickstart run. A stage of RL first trains on one process for a few steps, and what vLLM
samples is recorded. Then two processes do the same steps with the same global batch under ZeRO-2 and under ZeRO-3: both
vLLMs sample from the policy as it is, and the recorded completions are learned from, so that loss and norm of the
gradient can be compared. Last, a rank under ZeRO-3 is killed when it has sampled for the third step, and the same
command is given again. What the same code has finished before is kept. Exit status 1 when

- a loss or a norm differs from that of one process by more than 1e-5 (of the norm, where that is above 1);
- two processes sample other words in the first step than one does;
- the other rank outlives the killed one, or the job hangs or ends well;
- the run that was killed learns from other rows, or comes to other weights, than the one that was not.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gre import config, manifest, provenance
from gre.config import UserError, option

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("stage2", "stage3")
STEPS, PROMPTS, KILLED_STEP = 4, 8, 3
BOUND = 1e-5
PATIENCE_SECONDS = 300  # with a job whose rank was killed


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/ that parents are taken from")
    stage: str = option("", "stage2 or stage3; empty: both")
    out: str = option("", "where the result is written; empty: runs/NAME/zero_proof/results.json")


def command(stage: str, run: Path, folder: Path) -> list[str]:
    """What trains the stage for a few steps into a folder named one, zero2, zero3 or killed: on one process, or under
    DeepSpeed on two that are given what the one has sampled."""
    parent = {"stage2": "stage1", "stage3": "stage2"}[stage]
    judge = [f"judge.model_name_or_path={run}/judge"] if stage == "stage2" else []
    keys = [f"{ROOT}/configs/tiny/{stage}.yaml", f"output_dir={folder}", f"model_name_or_path={run}/{parent}", *judge,
            f"data.path={run}/data/gre_seed/gre_seed.jsonl", f"guards.places={run}/data/places.csv",
            f"train.max_steps={STEPS}", "train.warmup_steps=0", "train.save_steps=1", "rollout.engine=vllm",
            "grpo.num_generations=4"]
    alone = [sys.executable, f"{ROOT}/experiments/zero_rank.py", stage, *keys]
    if folder.name == "one":
        return [*alone, f"train.per_device_batch_size={PROMPTS}"]
    engine = "zero3" if folder.name == "killed" else folder.name
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *alone[1:],
            f"train.per_device_batch_size={PROMPTS // 2}", f"train.deepspeed={ROOT}/configs/deepspeed/{engine}.json",
            f"given={folder.with_name('one')}"]


def start(command: list[str], folder: Path, kill: str = "") -> subprocess.Popen:
    """Start a stage; what it prints is added to FOLDER.log."""
    with open(folder.with_suffix(".log"), "a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={
            **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
            "KILL": kill})


def finish(command: list[str], folder: Path) -> None:
    """Run a stage to its end."""
    began, child = time.monotonic(), start(command, folder)
    if child.wait():
        raise UserError(f"the stage ended with status {child.returncode}: see {folder.with_suffix('.log')}")
    print(f"{folder}: {time.monotonic() - began:.0f} s", flush=True)


def lines(folder: Path, pattern: str) -> list:
    """The lines of all files of that name."""
    return [json.loads(line) for path in sorted(folder.glob(pattern))
            for line in path.read_text(encoding="utf-8").splitlines()]


def numbers(folder: Path) -> dict:
    """What a finished run says of every step; words: how many of its completions are those it was given."""
    logs = [line for line in lines(folder, "metrics.jsonl") if "loss" in line]
    sampled = lines(folder, "rollouts-*.jsonl")
    return {"loss": [log["loss"] for log in logs], "grad_norm": [log["grad_norm"] for log in logs],
            "sampling_gap": max(log["sampling_gap"] for log in logs),
            "words": [sum(line["equal"] for line in sampled if line["step"] == step) for step in range(STEPS)],
            "sampled": sum(line["sampled"] for line in sampled if line["step"] == 0),
            "learned": [sorted(name for step, names in lines(folder, "learned-*.jsonl") if step == number
                               for name in names) for number in range(1, STEPS + 1)],
            "sha256": manifest.read_manifest(folder)["model_sha256"]}


def compared(one: dict, other: dict) -> dict:
    """How far another run of the same completions is from that on one process, and whether that is near enough."""
    loss, norm = (max(abs(ours - theirs) / max(1.0, theirs) for ours, theirs in zip(other[name], one[name]))
                  for name in ("loss", "grad_norm"))
    same = len(one["loss"]) == len(other["loss"]) == STEPS and other["learned"] == one["learned"]
    return {"loss_difference": loss, "grad_norm_difference": norm,
            "equal": same and max(loss, norm) <= BOUND and other["words"][0] == other["sampled"]}


def kill(command: list[str], folder: Path) -> dict:
    """Start the stage, let one of its ranks be killed, and see how the job ends."""
    child, killed = start(command, folder, kill=f"1:{KILLED_STEP}"), folder / "killed"
    while child.poll() is None:
        time.sleep(0.1)
        if killed.exists() and time.time() - killed.stat().st_mtime > PATIENCE_SECONDS:
            child.terminate()  # the launcher ends the other rank
            child.wait()
            raise UserError(f"a killed rank leaves the job hanging: see {folder.with_suffix('.log')}")
    if not killed.exists():
        raise UserError(f"the stage ended before it was killed: see {folder.with_suffix('.log')}")
    seconds = time.time() - killed.stat().st_mtime
    left = [path.name for path in sorted(folder.glob("pid-*")) if alive(int(path.read_text()))]
    return {"status": child.returncode, "seconds_to_the_end": round(seconds, 1), "outlived_by": left}


def alive(pid: int) -> bool:
    """Whether a process is there, and not just waiting to be forgotten."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def went_on_from(folder: Path) -> int | None:
    """The step of the checkpoint that a run went on from, as it printed."""
    found = [line.rpartition("checkpoint-")[2] for line in folder.with_suffix(".log").read_text("utf-8").splitlines()
             if line.startswith("resuming from")]
    return int(found[-1]) if found else None


def prove(stage: str, run: Path, out: Path) -> dict:
    """The stage on one process, on two, and killed. out: its folder, in which what is finished is kept."""
    out.mkdir(parents=True, exist_ok=True)
    made = {}
    for name in ("one", "zero2", "zero3"):
        folder = out / name
        if not (folder / manifest.MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)
            finish(command(stage, run, folder), folder)
        made[name] = numbers(folder)
    for name in ("zero2", "zero3"):
        made[name] |= compared(made["one"], made[name])
    folder = out / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    killed = kill(command(stage, run, folder), folder)
    finish(command(stage, run, folder), folder)
    done = numbers(folder)
    same = {name: done[name] == made["zero3"][name] for name in ("learned", "loss", "sha256")}
    killed |= {"went_on_from": went_on_from(folder), "same": same}
    killed["equal"] = (killed["status"] != 0 and not killed["outlived_by"] and all(same.values())
                       and killed["went_on_from"] == KILLED_STEP - 1)
    for part in made.values():
        part["rows"] = sum(map(len, part.pop("learned")))
    return {"steps": STEPS, **made, "killed": killed}


def run(settings: Config) -> None:
    """Prove the stages and print what was found."""
    folder = Path("runs") / settings.run
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    if settings.stage not in ("", *STAGES):
        raise UserError(f"stage={settings.stage!r}: write {' or '.join(STAGES)}, or leave it out for both")
    for package in ("vllm", "deepspeed"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed: run bash environment.sh")
    out = folder / "zero_proof"
    file = Path(settings.out) if settings.out else out / "results.json"
    command = f"bash experiments/zero_proof.sh run={settings.run}" + f" stage={settings.stage}" * bool(settings.stage)
    made = {"commit": provenance.commit(), "command": command, "stages": {}}
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8")))["commit"] == made["commit"]:
        made["stages"] = before["stages"]
    for stage in [settings.stage] if settings.stage else STAGES:
        if stage not in made["stages"]:
            made["stages"][stage] = prove(stage, folder, out / made["commit"][:12] / stage)
        provenance.write_atomically(file, json.dumps(made, indent=1) + "\n")
    for stage, proof in made["stages"].items():
        for name in ("zero2", "zero3"):
            part = proof[name]
            print(f"{stage} {name}: loss within {part['loss_difference']:.0e}, norm within "
                  f"{part['grad_norm_difference']:.0e} of one process, first step {part['words'][0]} of "
                  f"{part['sampled']} completions the same: {'equal' if part['equal'] else 'DIFFERENT'}")
        killed = proof["killed"]
        print(f"{stage} killed: status {killed['status']} after {killed['seconds_to_the_end']} s, went on from step "
              f"{killed['went_on_from']}: {'equal' if killed['equal'] else 'DIFFERENT'}")
    if not all(proof[name]["equal"] for proof in made["stages"].values() for name in ("zero2", "zero3", "killed")):
        raise SystemExit(1)


if __name__ == "__main__":
    config.main(run, Config, __doc__, argv=sys.argv[1:])
