"""Stage 3 with vLLM in a process of its own: run through, then killed while it saves and run again.

    python -m tests.helpers.vllm_stage key=value …

Prints the sha256 of both models as JSON on the last line.
"""
import json
import sys
from pathlib import Path

from gre import manifest
from gre.config import load
from gre.rewards import answers
from gre.training import rl
from gre.training.trainer import checkpoints
from stages import stage3


class Killed(Exception):
    """What a kill is here."""


def run(folder: str) -> str:
    stage3.run(load(stage3.Config, [*sys.argv[1:], f"output_dir={folder}"]))
    return manifest.read_manifest(Path(folder))["model_sha256"]


def main() -> None:
    kept, make, complete = [], rl.make_rollout, checkpoints.complete
    rl.make_rollout = lambda *args: kept[0] if kept else kept.append(make(*args)) or kept[0]  # one engine for all runs
    answers.distance_km = lambda text, truth: 100.0 * (len(text) % 3)  # a random policy's answers are unreadable
    found = {"whole": run("run/stage3")}

    def killed_in_the_second(folder, step, *rest):
        if step == 2:
            raise Killed
        complete(folder, step, *rest)

    checkpoints.complete = killed_in_the_second
    try:
        run("run/resumed")
    except Killed:
        checkpoints.complete = complete
        found["resumed"] = run("run/resumed")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
