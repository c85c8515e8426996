"""A job of two_ranks.py (tests/training/test_balance.py): a step of SFT and one of GRPO over eight rows of unlike
pictures, and what each process had and then forwarded. Each process writes FOLDER/RANK.json.
"""
import copy
import hashlib
import json
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from PIL import Image

from gre.models.attention import shared_prefix
from gre.models.packing import Group, Prompt
from gre.tiny.model import build
from gre.training import grpo, sft
from gre.training.groups import Rolled
from gre.training.trainer.balance import balanced, exchange
from gre.training.trainer.passes import forwarded_tokens
from tests.helpers import grpo as grpo_trainer
from tests.helpers import sft as sft_trainer


def rows(folder: Path) -> list[sft_trainer.Row]:
    """Eight rows, the pictures of 4 to 32 visual tokens."""
    made = [sft_trainer.Row(f"row:{i}", folder / f"{i}.png", "Where?", f"<answer>4{i}.1, {i}.5{'0' * i}</answer>")
            for i in range(8)]
    for i, row in enumerate(made):
        Image.new("RGB", (56, 56 * (1 + i)), (30 * i, 200 - 15 * i, 90)).save(row.image)
    return made


def step(kind: str, folder: Path, per_pass: int) -> dict:
    """A step of one trainer, `per_pass` rows a micro-batch: what is logged, and what this process had and forwarded."""
    state, found = PartialState(cpu=True), {}
    vlm = build(["Where is this? <answer>48.86, 2.35</answer> " * 10] * 50, hidden=64, layers=2, vocabulary=400)
    own = folder / str(state.process_index)
    own.mkdir(exist_ok=True)
    size = {"per_device_batch_size": per_pass, "gradient_accumulation_steps": 8 // state.num_processes // per_pass}
    module, describe = (sft, described_pair) if kind == "sft" else (grpo, described_rolled)

    def watched(accelerator, batches, tokens):
        dealt = balanced(accelerator, batches, tokens)
        for name, these in (("had", batches), ("forwarded", dealt)):
            found[name] = [[describe(item) for item in batch] for batch in these]
        kept = {id(item) for batch in batches for item in batch}
        assert all((prompt_of(item).image is None) != (id(item) in kept) for batch in dealt for item in batch)
        return dealt

    module.balanced = watched
    if kind == "sft":
        model = copy.deepcopy(vlm[0])
        shared_prefix.install(model)
        trainer = sft_trainer.trainer_of(model, vlm[1], rows(own), own, max_steps=1, **size)
    else:
        trainer = grpo_trainer.trainer_of(vlm, rows(own), own, **size)
    trainer.train()
    module.balanced = balanced
    logged = next(log for log in trainer.state.log_history if "loss" in log)
    return {**found, "loss": logged["loss"], "grad_norm": logged["grad_norm"]}


def prompt_of(item: tuple[str, Group] | Rolled) -> Prompt:
    return item[1].prompt if isinstance(item, tuple) else item.prompt


def described_pair(pair: tuple[str, Group]) -> list:
    """[id, tokens, digest of all that is trained on]."""
    row_id, group = pair
    return [row_id, forwarded_tokens(group), digest(group)]


def described_rolled(rolled: Rolled) -> list:
    more = [rolled.advantages, *rolled.rewards.values(), *(one.log_probs for one in rolled.completions)]
    assert rolled.record()["id"] == rolled.row.id and len(rolled.record()["completions"]) == len(rolled.texts)
    return [rolled.row.id, forwarded_tokens(rolled.group), digest(rolled.group, more, rolled.texts)]


def digest(group: Group, tensors: list[torch.Tensor] = (), texts: list[str] = ()) -> str:
    """Of everything a group holds."""
    prompt, all_of = group.prompt, hashlib.sha256(json.dumps(list(texts)).encode())
    for tensor in (prompt.input_ids, prompt.mm_token_type_ids, prompt.pixel_values, prompt.image_grid_thw,
                   *group.completions, *tensors):
        all_of.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return all_of.hexdigest()


def exchanged(accelerator: Accelerator) -> list:
    """What came to this process, as plain numbers, and how many bytes of a view's storage came with it."""
    rank, large = accelerator.process_index, torch.arange(1_000_000)
    sent = [[("from", rank, "to", to), large[to:to + 3 + rank]] if to != rank else ["own"] for to in range(2)]
    assert exchange(accelerator, [[], []]) == [[], []]
    arrived = exchange(accelerator, sent)
    assert arrived[rank] is sent[rank]
    (name, view) = arrived[1 - rank]
    return [name, view.tolist(), view.untyped_storage().nbytes()]


def main(folder: Path) -> None:
    here = PartialState(cpu=True)
    results = {f"{kind}_{per_pass}": step(kind, folder, per_pass) for kind in ("sft", "grpo") for per_pass in (1, 2)}
    results["exchanged"] = exchanged(Accelerator(cpu=True))
    (folder / f"{here.process_index}.json").write_text(json.dumps(results))
