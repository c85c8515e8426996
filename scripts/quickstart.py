"""World, stage 1, judge, stage 2, stage 3, evaluation, with the seconds of each.

    bash scripts/quickstart.sh [run=NAME] [seed=N] [fresh=true] [key=value …]

key=value reaches every phase that knows the key; PHASE.key=value reaches that phase alone (stage3.train.max_steps=5).
A phase that ended before, with the same command and code, is kept, and one that was stopped or killed goes on from its
last checkpoint; fresh=true starts over. SIGTERM and SIGUSR1 are handed to the phase: stages write a checkpoint first.
"""
import time

STARTED = time.monotonic()  # before the slow imports: the seconds of the phases sum to the wall time

import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from gre import config, provenance
from gre.config import ConfigError, UserError, option

ROOT = Path(__file__).resolve().parents[1]
PHASES = {"world": "gre.tiny.world", "stage1": "stages.stage1", "judge": "stages.judge", "stage2": "stages.stage2",
          "stage3": "stages.stage3", "evaluation": "eval.quickstart.run"}
OWN = ("out", "run", "data", "base", "output_dir", "model_name_or_path", "data.path", "judge.model_name_or_path",
        "policy.model_name_or_path", "policy.data", "validation.data", "guards.places")


@dataclass
class Config:
    run: str = option("quickstart", "name of the run: everything lands in runs/NAME")
    seed: int = option(0, "seed of the world, of every stage and of the evaluation")
    fresh: bool = option(False, "start over, though phases of this run have ended before")


def commands(folder: Path, seed: int, known: dict[str, list[str]], processes: int = 1) -> dict[str, list[str]]:
    """The command of each phase. known: the keys each phase takes. processes: how many train a stage; they share the
    rows of its steps, and gradients do not tell how many they are."""
    data, base = folder / "data", ROOT / "gre" / "tiny" / "base"
    watched = f"validation.data={data}/validation/validation.jsonl"
    prompts = [f"data.path={data}/gre_seed/gre_seed.jsonl", f"guards.places={data}/places.csv", watched]
    settings = {
        "stage1": [f"model_name_or_path={base}", f"data.path={data}/gre_cot/gre_cot.json", watched],
        "judge": [f"model_name_or_path={folder}/stage1", f"data.path={data}/gre_judge/gre_judge.json",
                  f"policy.model_name_or_path={folder}/stage1", f"policy.data={data}/validation/validation.jsonl"],
        "stage2": [f"model_name_or_path={folder}/stage1", f"judge.model_name_or_path={folder}/judge", *prompts],
        "stage3": [f"model_name_or_path={folder}/stage2", *prompts],
    }
    lines = {"world": [sys.executable, "-m", PHASES["world"], f"out={data}"]}
    for stage, keys in settings.items():
        path = ROOT / "configs" / "tiny" / f"{stage}.yaml"
        lines[stage] = ["bash", f"{ROOT}/scripts/train/{stage}.sh", str(path), f"output_dir={folder}/{stage}",
                        f"train.per_device_batch_size={rows_each(path, processes)}", *keys]
    lines["evaluation"] = [sys.executable, "-m", PHASES["evaluation"], f"run={folder}", f"data={data}", f"base={base}",
                           "batch_size=180", f"processes={processes}"]
    return {phase: line + ([f"seed={seed}"] if "seed" in known[phase] else []) for phase, line in lines.items()}


def rows_each(path: Path, processes: int) -> int:
    """Rows of a step for each process, of a config for one process. Raises UserError when they do not come out even."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["train"]["per_device_batch_size"]
    if rows % processes:
        raise UserError(f"a step of {path} has {rows} rows, which {processes} processes cannot share evenly: "
                        "write NPROC=2")
    return rows // processes


def processes_asked_for() -> int:
    """NPROC, as scripts/train/stage.sh takes it. Raises UserError."""
    asked = os.environ.get("NPROC") or str(default_processes())
    if not re.fullmatch("[1-9][0-9]*", asked):
        raise UserError(f"NPROC is {asked!r}: write a number of processes")
    return int(asked)


def default_processes() -> int:
    """Two share the rows of a step on a CPU of two cores or more: the tiny model gains nothing by a second thread. One
    on a machine with GPUs."""
    return 1 if shutil.which("nvidia-smi") or (os.cpu_count() or 1) < 2 else 2


def share_out(overrides: list[str], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """The overrides each phase gets. Raises ConfigError for a key no phase knows, or one the quickstart sets itself."""
    shares = {phase: [] for phase in known}
    everything = sorted({key for keys in known.values() for key in keys} - set(OWN))
    for text in overrides:
        key, equals, value = text.partition("=")
        phase, _, inner = key.partition(".")
        takers = {name: key for name, keys in known.items() if key in keys}
        if not takers and inner in known.get(phase, []):
            key, takers = inner, {phase: inner}
        if not equals or not takers:
            raise ConfigError(f"no phase takes {text!r}; did you mean {config.nearest(key, everything)!r}?")
        if key in OWN:
            raise ConfigError(f"the quickstart sets {key} itself; for another one call scripts/train/*.sh")
        for name, inner_key in takers.items():
            shares[name].append(f"{inner_key}={value}")
    return shares


class Progress:
    """Which phases of a run have begun and ended, by which command, in how many seconds (runs/NAME/phases.json).

    A phase that has begun and not ended has no seconds; what it left is kept for the same command to go on with.
    """

    def __init__(self, folder: Path, fresh: bool):
        self.folder, self.file = folder, folder / "phases.json"
        if folder.exists() and any(folder.iterdir()) and not self.file.exists():
            raise UserError(f"{folder} holds something that is no quickstart: name another run=NAME")
        folder.mkdir(parents=True, exist_ok=True)
        self.done = {} if fresh or not self.file.exists() else json.loads(self.file.read_text(encoding="utf-8"))
        self._write()

    def kept(self, phase: str, fingerprint: str) -> bool:
        """Whether the phase ended before in the same way. If not, it begins: what later ones left is removed, and what
        it left itself too, unless it was begun in the same way."""
        entry = self.done.get(phase, {})
        same = entry.get("fingerprint") == fingerprint
        if same and "seconds" in entry:
            return True
        for later in list(PHASES)[list(PHASES).index(phase) + same:]:
            self.done.pop(later, None)
            shutil.rmtree(self.folder / {"world": "data", "evaluation": "predictions"}.get(later, later),
                          ignore_errors=True)
        self.done[phase] = {"fingerprint": fingerprint, "before": entry["before"] if same else 0.0}
        self._write()
        return False

    def stop(self, phase: str, seconds: float) -> None:
        """Note the seconds of a phase that did not come to its end. Those of one that is killed together with the
        quickstart are lost."""
        self.done[phase]["before"] += seconds
        self._write()

    def end(self, phase: str, seconds: float) -> None:
        """Note that a phase has ended."""
        entry = self.done[phase]
        self.done[phase] = {"fingerprint": entry["fingerprint"], "seconds": round(entry["before"] + seconds, 2)}
        self._write()

    def seconds(self) -> dict[str, float]:
        """Seconds of every phase that has ended."""
        return {phase: entry["seconds"] for phase, entry in self.done.items() if "seconds" in entry}

    def _write(self) -> None:
        provenance.write_atomically(self.file, json.dumps(self.done, indent=2) + "\n")


def fingerprint(command: list[str], before: str) -> str:
    """Hash of a command, its config file, the code's commit and the phase before."""
    files = [Path(text).read_bytes() for text in command if text.endswith(".yaml")]
    return hashlib.sha256(b"\0".join([before.encode(), provenance.commit().encode(), *map(str.encode, command), *files])
                          ).hexdigest()


def call(command: list[str], environment: dict[str, str]) -> int:
    """Run a phase and return its exit status. SIGTERM and SIGUSR1 are handed on to it: it knows how to stop."""
    child = subprocess.Popen(command, env=environment)
    before = {number: signal.signal(number, lambda number, frame: child.send_signal(number))
              for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        status = child.wait()
    except KeyboardInterrupt:  # the terminal told the phase, too
        child.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status  # as a shell says it


def run(settings: Config, overrides: list[str]) -> None:
    """Run the phases that are not done. Raises UserError; a phase that fails ends the quickstart with its status."""
    if Path(settings.run).name != settings.run or settings.run in ("", ".", ".."):
        raise UserError(f"run={settings.run!r} is not a plain name: the run lands in runs/NAME")
    known = {phase: config.keys(importlib.import_module(module).Config) for phase, module in PHASES.items()}
    folder, processes = Path("runs") / settings.run, processes_asked_for()
    lines, shares = commands(folder, settings.seed, known, processes), share_out(overrides, known)
    progress = Progress(folder, settings.fresh)
    environment = {**os.environ, "NPROC": str(processes), "TOKENIZERS_PARALLELISM": "false",
                   "HF_HUB_OFFLINE": "1"}  # nothing is fetched
    started, mark = STARTED, ""
    for number, phase in enumerate(PHASES, 1):
        command = lines[phase] + shares[phase]
        mark = fingerprint(command, mark)
        if progress.kept(phase, mark):
            print(f"[{number}/{len(PHASES)} {phase}] done before, kept (fresh=true starts over)", flush=True)
            continue
        print(f"[{number}/{len(PHASES)} {phase}] {' '.join(command)}", flush=True)
        status = call(command, environment)
        now = time.monotonic()
        if status:
            progress.stop(phase, now - started)
            print(f"[{number}/{len(PHASES)} {phase}] stopped, see above; the same command resumes from here",
                  file=sys.stderr)
            raise SystemExit(status)
        progress.end(phase, now - started)
        print(f"[{number}/{len(PHASES)} {phase}] {now - started:.0f} s", flush=True)
        started = now
    finish(folder, progress.seconds())


def finish(folder: Path, seconds: dict[str, float]) -> None:
    """Put the seconds of the phases into results.json and say where everything is."""
    path = folder / "results.json"
    results = {**json.loads(path.read_text(encoding="utf-8")), "seconds": seconds}
    provenance.write_atomically(path, json.dumps(results, indent=2) + "\n")
    print(f"{sum(seconds.values()):.0f} s in all; see {folder.resolve()}/report.html and results.json")


def main(argv: list[str]) -> None:
    """Tell the quickstart's own keys from the overrides."""
    own = [text for text in argv if text.startswith("-") or text.partition("=")[0] in config.keys(Config)]
    config.main(lambda settings: run(settings, [text for text in argv if text not in own]), Config, __doc__, argv=own)


if __name__ == "__main__":
    main(sys.argv[1:])
