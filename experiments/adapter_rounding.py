"""What of a small adapter's change those see who are handed it, in bfloat16.

    bash experiments/adapter_rounding.sh [run=quickstart] [out=FILE.json]

Beside stage 1 of a finished quickstart, its weights rounded to bfloat16, stands an adapter of rank 32 whose second
factor is noise of a given size; once alone, and once joined with a parent's adapter of size 1e-2. The change it makes
to the log-probabilities of the validation rows' answers is computed exactly (float64 arithmetic), and from what
    handed_on   a stage writes and `load_model` reads: the next stage, evaluation, a judge
    vllm        vLLM's own memory holds after it was sent to it
    merged      would be left after adding it to the weights
make of it. Printed and written: the correlation with the exact change, and the size relative to it.
"""
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gre import config, provenance
from gre.config import UserError, option
from gre.data.images import load_image
from gre.data.records import DataConfig, read_seed
from gre.models import adapter, lora
from gre.models.packing import Group
from gre.models.scoring import score
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, encode_text, load_model, load_processor
from gre.rollout.vllm.engine import Engine

SIZES = (1e-5, 1e-4, 3e-4, 1e-3)
RANK, PARENT_SIZE, ROWS = 32, 1e-2, 16
ANSWER = "<think>The sign is French.</think><answer>48.8566, 2.3522</answer>"


@dataclass
class Config:
    run: str = option("quickstart", "name of the finished run in runs/")
    out: str = option("", "where the result is written; empty: runs/NAME/adapter_rounding.json")


def noisy(model: nn.Module, size: float, seed: int) -> nn.Module:
    """`model` with an adapter whose second factor is noise of that standard deviation."""
    lora.adapt(model, lora.LoraConfig(r=RANK, alpha=RANK), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=size, generator=generator)
    return model


def in_vllm(worker) -> dict[str, tuple[Tensor, Tensor]]:
    """{layer of transformers: (lora_a, lora_b)} in the memory of a vLLM worker, in float32."""
    found = {}
    for name, layer in worker.model_runner.lora_manager._adapter_manager.modules.items():
        if ".layers." not in name or "visual" in name:
            continue
        parent, own = name.replace("language_model.model.", "model.language_model.").rsplit(".", 1)
        parts = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}.get(own, [own])
        for part, lora_a, lora_b in zip(parts, layer.lora_a_stacked, layer.lora_b_stacked, strict=True):
            found[f"{parent}.{part}"] = (lora_a[0, 0].float().clone(), lora_b[0, 0].float().clone())
    return found


def measure(base: Path, place: Path, parent: Path | None, size: float, log_probs, engine: Engine) -> dict:
    """Correlation and relative size of the change for all three. parent: the folder the adapter's stage starts from."""
    start = parent or base
    trained = noisy(load_model(start, torch.bfloat16), size, seed=1)
    folder = place / f"{'joined' if parent else 'alone'}_{size:g}"
    load_model(base, torch.bfloat16).save_pretrained(folder / "base")
    adapter.write(dict(lora.weights(trained)), folder)
    held = load_model(start, torch.bfloat16)
    merged = load_model(folder, torch.bfloat16)
    lora.merge(merged)
    before_merged = load_model(start, torch.bfloat16)
    lora.merge(before_merged)
    engine.answer(trained, [], [], 1)
    sent = engine._llm.collective_rpc(in_vllm)[0]
    in_engine, engine_before = load_model(base, torch.bfloat16), load_model(base, torch.bfloat16)
    for name, (lora_a, lora_b) in sent.items():
        adapter.put_beside(in_engine.get_submodule(name), lora_a, lora_b)
        if parent:  # the first ranks are the parent's
            adapter.put_beside(engine_before.get_submodule(name), lora_a[:RANK], lora_b[:, :RANK])
    exact = log_probs(trained) - log_probs(held)
    changes = {"handed_on": log_probs(load_model(folder, torch.bfloat16)) - log_probs(held),
               "vllm": log_probs(in_engine) - log_probs(engine_before),
               "merged": log_probs(merged) - log_probs(before_merged)}
    return {name: {"correlation": float(torch.corrcoef(torch.stack([exact, change]))[0, 1]),
                   "relative_size": float(change.norm() / exact.norm())} for name, change in changes.items()}


def run(settings: Config) -> None:
    """Measure all sizes, alone and joined; print and write the table."""
    folder = Path("runs") / settings.run
    base = folder / "stage1" / "model"
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} is not a finished quickstart: bash scripts/quickstart.sh run={settings.run} first")
    processor = load_processor(base)
    rows = read_seed(DataConfig(path=str(folder / "data/validation/validation.jsonl")))[:ROWS]
    answer = encode_text(processor, ANSWER)
    groups = [Group(encode_prompt(processor, row.instruction, load_image(row.image)), [answer]) for row in rows]

    @torch.no_grad()
    def log_probs(model) -> Tensor:
        return score(model.double().eval(), groups).log_probs

    banned = banned_tokens(processor.tokenizer, load_model(base).config.text_config.vocab_size)
    engine = Engine(base, processor_settings(processor), banned, max_length=512, dtype=torch.bfloat16, sequences=1,
                    kv_cache_gib=0.1, adapter_rank=2 * RANK)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        parent = Path(place) / "parent"
        load_model(base, torch.bfloat16).save_pretrained(parent / "base")
        adapter.write(dict(lora.weights(noisy(load_model(base, torch.bfloat16), PARENT_SIZE, seed=0))), parent)
        for name, before in (("alone", None), ("joined", parent)):
            for size in SIZES:
                found[f"{name}, B at {size:g}"] = measure(base, Path(place), before, size, log_probs, engine)
    for name, each in found.items():
        print(f"{name:>20}: " + ", ".join(f"{who} {one['correlation']:.4f} ({one['relative_size']:.3f})"
                                          for who, one in each.items()), flush=True)
    result = {"command": f"bash experiments/adapter_rounding.sh run={settings.run}", "commit": provenance.commit(),
              "versions": provenance.versions(), "tokens": sum(len(group.completions[0]) for group in groups),
              "changes": found}
    out = Path(settings.out or folder / "adapter_rounding.json")
    provenance.write_atomically(out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    config.main(run, Config, __doc__)
