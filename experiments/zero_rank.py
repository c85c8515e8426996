"""One process of zero_proof.py: a stage of RL as its command runs it, that writes down what it samples and learns from.

    python experiments/zero_rank.py STAGE [given=FOLDER] key=value …

Into the stage's folder go rollouts-RANK.jsonl (a step's completions), learned-RANK.jsonl (the rows of every backward
pass) and pid-RANK. given: another run's folder, whose completions are learned from in place of the own ones; these are
sampled all the same, and counted when they are equal. KILL=RANK:STEP ends that rank, as kill -9 does, when it has
sampled for that step, so that the other one waits for it.
"""
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import torch

from gre.config import load
from gre.rollout.completion import Completion
from gre.training import rl
from gre.training.grpo import GRPOTrainer

RANK = os.environ.get("RANK", "0")


class Recorded:
    """A rollout that is written down; given: {step: {row: completions}} to hand out in its place."""

    def __init__(self, rollout, folder: Path, given: dict[int, dict[int, list[Completion]]]):
        self.rollout, self.folder, self.given = rollout, folder, given

    def __getattr__(self, name):
        return getattr(self.rollout, name)

    def generate(self, model, prompts, num_generations, keys, *, step, **kwargs):
        """See `Rollout`."""
        groups = self.rollout.generate(model, prompts, num_generations, keys, step=step, **kwargs)
        if os.environ.get("KILL") == f"{RANK}:{step + 1}":
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        given = [self.given[step][key] for key in keys] if self.given else groups
        equal = sum(torch.equal(own.token_ids, other.token_ids) for pair in zip(groups, given)
                    for own, other in zip(*pair))
        write(self.folder / f"rollouts-{RANK}.jsonl", {"step": step, "sampled": len(keys) * num_generations,
              "equal": equal, "groups": {key: [[one.token_ids.tolist(), one.finished, one.log_probs.tolist()]
                                               for one in group] for key, group in zip(keys, groups)}})
        return given


class Noting(GRPOTrainer):
    """Writes down the rows it learns from."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        write(self.samples.path.parent / f"learned-{RANK}.jsonl", [
            self.state.global_step + 1, [each.row.id for each in inputs["batch"].rolled]])
        return loss


def write(path: Path, content) -> None:
    """Add a line of JSON to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def read(folder: Path) -> dict[int, dict[int, list[Completion]]]:
    """What all ranks of a run sampled: {step: {row: completions}}."""
    steps: dict[int, dict[int, list[Completion]]] = {}
    for path in folder.glob("rollouts-*.jsonl"):
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            steps.setdefault(line["step"], {}).update({
                int(key): [Completion(torch.tensor(ids), finished, torch.tensor(log_probs))
                           for ids, finished, log_probs in group] for key, group in line["groups"].items()})
    return steps


def main(stage: str, argv: list[str]) -> None:
    """Run the stage."""
    given = [text.partition("=")[2] for text in argv if text.startswith("given=")]
    module = importlib.import_module(f"stages.{stage}")
    config = load(module.Config, [text for text in argv if not text.startswith("given=")])
    folder, make = Path(config.output_dir), rl.make_rollout
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"pid-{RANK}").write_text(str(os.getpid()))
    rl.make_rollout = lambda *args: Recorded(make(*args), folder, read(Path(given[0])) if given else {})
    rl.GRPOTrainer = Noting
    module.run(config)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
