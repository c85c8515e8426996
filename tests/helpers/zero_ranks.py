"""A job of two_ranks.py (tests/training/test_zero.py): stages one after the other, as FOLDER/jobs.json tells: [[stage,
[key=value, …], kill], …].

Rewards of stages 2 and 3 are made to differ between completions, which a random policy's own would not; stage 2's judge
is asked about some of them, more on one process than on another. Every completion's tokens are written to
OUTPUT/tokens-RANK.jsonl, and OUTPUT/gathered-RANK says that it took part in gathering weights. kill: null, or [rank,
call, signal], sent to that rank before its so manieth rollout.
"""
import gc
import importlib
import json
import os
import signal
from pathlib import Path

import torch.utils.cpp_extension
from accelerate import Accelerator

from gre.config import load
from gre.judge import reward
from gre.rollout.generate import TransformersRollout
from gre.training.extensions import Baton
from gre.training.trainer.stopping import STATUS
from stages import stage2, stage3
from tests.helpers import zero_jobs, zero_positions
from tests.helpers.two_ranks import compile_less, forget_engine

RANK = os.environ.get("RANK", "0")
prepare = zero_jobs.prepare


def lengths(groups):
    """A reward for every completion, by the characters it holds."""
    return [[len(text.encode()) % 7 / 7 for text in group.texts] for group in groups]


def judged(texts, ask):
    """P(True) of the texts of odd length, 0 for the others."""
    odd = [i for i, text in enumerate(texts) if len(text) % 2]
    asked = dict(zip(odd, ask(odd), strict=True))
    return [asked.get(i, 0.0) for i in range(len(texts))]


def recording(folder: Path, kill: list | None):
    """A TransformersRollout.generate that also writes {row: tokens of its completions} of every call."""
    generate, calls = TransformersRollout.generate, iter(range(1, 1000))

    def record(self, model, prompts, num_generations, keys, **kwargs):
        if kill and [int(RANK), next(calls)] == kill[:2]:
            os.kill(os.getpid(), signal.Signals[kill[2]])
        groups = generate(self, model, prompts, num_generations, keys, **kwargs)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"tokens-{RANK}.jsonl", "a") as file:
            file.write(json.dumps({key: [one.token_ids.tolist() for one in group]
                                   for key, group in zip(keys, groups, strict=True)}) + "\n")
        return groups
    return record


def noting(folder: Path):
    """An Accelerator.get_state_dict that leaves a file."""
    gather = Accelerator.get_state_dict

    def note(self, *args, **kwargs):
        (folder / f"gathered-{RANK}").touch()
        return gather(self, *args, **kwargs)
    return note


def run(stage: str, keys: list[str], kill: list | None = None) -> None:
    """Run a stage as its command does, in this process, to its end or until it is told to stop; or zero_positions."""
    if stage == "positions":
        return zero_positions.run(*keys)
    module = importlib.import_module(f"stages.{stage}")
    config = load(module.Config, keys)
    own = (stage3.format_rewards, reward.judge_rewards, TransformersRollout.generate, Accelerator.get_state_dict)
    stage2.format_rewards = stage3.format_rewards = lengths
    reward.judge_rewards = judged
    TransformersRollout.generate = recording(Path(config.output_dir), kill)
    Accelerator.get_state_dict = noting(Path(config.output_dir))
    try:
        module.run(config)
    except SystemExit as stopped:
        assert kill and stopped.code == STATUS
    finally:
        (stage3.format_rewards, reward.judge_rewards, TransformersRollout.generate, Accelerator.get_state_dict) = own
        stage2.format_rewards = stage3.format_rewards
        gc.collect()


def main(folder: Path) -> None:
    compile_less()
    before = Path.cwd()
    os.chdir(folder)
    for job in json.loads(Path("jobs.json").read_text()):
        run(*job)
        forget_engine()
    assert torch.utils.cpp_extension.FileBaton is Baton  # DeepSpeed compiles under our lock
    os.chdir(before)
