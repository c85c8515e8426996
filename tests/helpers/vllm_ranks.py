"""Run by torchrun on two processes: a policy split by ZeRO-3, which both sample from as it is, before and after
updates, by a vLLM in each (tests/rollout/test_vllm_stages.py) or by one server (tests/rollout/test_vllm_served.py),
which takes weights by a folder first, then by broadcast, and which one of them then loses. Each process writes
FOLDER/RANK.json.

    torchrun … --module tests.helpers.vllm_ranks FOLDER MODEL [URL]
"""
import dataclasses
import json
import os
import sys
from pathlib import Path

import deepspeed
import numpy as np
import torch
from accelerate import PartialState
from PIL import Image

from gre.config import UserError
from gre.models.packing import Group
from gre.models.scoring import score
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, load_model, load_processor
from gre.rollout.vllm.client import Server
from gre.rollout.vllm.engine import Engine, VLLMRollout
from gre.rollout.vllm.served import ServedRollout
from gre.rollout.vllm.transfer import ByBroadcast, ByFolder
from tests.helpers.two_ranks import compile_less


def main(folder: Path, base: Path, url: str | None = None) -> None:
    compile_less()
    PartialState(cpu=True)
    processor, model = load_processor(base), load_model(base)
    policy, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
        config={"train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}})  # small weights too
    prompts = [encode_prompt(processor, "where?", Image.fromarray(
        np.random.default_rng(number).integers(0, 255, (84, 112, 3), dtype=np.uint8))) for number in range(2)]
    banned = banned_tokens(processor.tokenizer, model.config.text_config.vocab_size)
    settings = {"end_token_id": processor.tokenizer.eos_token_id, "banned": banned, "max_new_tokens": 8,
                "temperature": 2.0}
    if url:
        rollout = ServedRollout(Server(url, 60.0), "", ByFolder(folder / "weights"), torch.float32, **settings)
    else:
        rollout = VLLMRollout(Engine(base, processor_settings(processor), banned, max_length=256, dtype=torch.float32,
                                     sequences=8, kv_cache_gib=0.1), **settings)
    found = {"gaps": [], "words": []}
    for _ in range(2):
        groups = rollout.generate(policy, prompts, 2, [3, 4], seed=0, step=1)
        packed = [Group(prompt, [one.token_ids for one in group]) for prompt, group in zip(prompts, groups)]
        with torch.no_grad():
            scores = score(policy, packed, temperature=2.0, banned=banned)
        drawn = torch.cat([one.log_probs for group in groups for one in group])
        found["gaps"].append((scores.log_probs - drawn).abs().max().item())
        found["words"].append([[one.token_ids.tolist() for one in group] for group in groups])
        for _ in range(2):
            policy.backward(-score(policy, [Group(prompts[0], [torch.arange(40, 60)])], banned=banned).log_probs.mean())
            policy.step()
        if url:
            rollout = dataclasses.replace(rollout, transfer=ByBroadcast(torch.device("cpu")))
    if url:
        if PartialState().process_index == 1:
            rollout = dataclasses.replace(rollout, server=Server("http://127.0.0.1:9", 60.0))
        try:
            rollout.generate(policy, prompts, 2, [3, 4], seed=0, step=1)
        except UserError as error:
            found["stopped"] = str(error)
    found["parted"] = sum(parameter.numel() == 0 for parameter in model.parameters())
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    torch.distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
