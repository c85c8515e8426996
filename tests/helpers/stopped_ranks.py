"""A job of two_ranks.py (tests/training/test_two_processes.py): a signal to one of two processes stops both at one
step, and both go on to the weights of a run that was never stopped."""
import os
from pathlib import Path

from PIL import Image
from transformers import TrainerCallback

from gre.tiny.model import build
from tests.helpers.resuming import TellAt, start
from tests.helpers.sft import Row


def main(folder: Path) -> None:
    rank, corpus = int(os.environ["RANK"]), ["<answer>48.86, 2.35</answer> Where is this? " * 10] * 50
    vlm = build(corpus, hidden=64, layers=2, vocabulary=400)
    rows = [Row(f"row:{i}", folder / f"{rank}_{i}.png", "Where?", f"<answer>4{i}.1, {i}.5</answer>") for i in range(12)]
    for i, row in enumerate(rows):
        Image.new("RGB", (56, 56), (20 * i, 200 - 15 * i, 90)).save(row.image)
    tell = TellAt(5) if rank == 1 else TrainerCallback()  # in the second epoch, between two checkpoints
    for kind in ("sft", "grpo"):
        whole = start(kind, vlm, rows, folder / kind)
        try:
            start(kind, vlm, rows, folder / f"{kind}_stopped", tell)
            print(f"{kind}: rank {rank} did not stop", flush=True)
        except SystemExit as stopped:
            print(f"{kind}: rank {rank} stopped with {stopped.code}", flush=True)
        resumed = start(kind, vlm, rows, folder / f"{kind}_stopped")
        print(f"{kind}: rank {rank} {'equal' if resumed == whole else 'different'}", flush=True)
