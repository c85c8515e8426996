"""The planner against measured memory: peak resident size of real training steps on the CPU, a fresh process each.

    python bench/plan_memory.py [NAME …]

Measures what is not yet in docs/results/plan_memory.json (all CASES unless named; a NAME is measured anew), then writes
and prints docs/results/plan_memory.md. Interrupted, the same command goes on.

Measured: VmHWM of two optimizer steps of the real trainers, less what the process held before the model was made, after
a warm-up with a very small one. malloc is told to give memory back at once, so that the size follows what is alive.
"""
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from gre.models.shapes import Shape
from gre.plan.memory import Batch, Engine, Job, parts, peak
from gre.provenance import commit

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "gre" / "tiny" / "base"
RESULTS = ROOT / "docs" / "results" / "plan_memory.json"
TABLE = RESULTS.with_suffix(".md")
MIB = 2**20
BOUND = 0.15
TINY = Shape(192, 768, 4, 4, 2, 1000, True, 192, 96, 2, 1)
MIDDLE = Shape(768, 3072, 8, 16, 4, 16000, False, 1152, 384, 4, 1)
WIDE = Shape(384, 1536, 6, 8, 2, 8000, False, 512, 192, 4, 2)
TALL = Shape(576, 1728, 12, 12, 4, 24000, True, 768, 288, 6, 2)
# Byte for byte given back: large blocks come from mmap, and nothing is kept for later.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Case:
    """A training: its shape, prompts a micro-batch, completions of `length` tokens each, photos of `side` pixels.

    completions: 1 is supervised fine-tuning, more is GRPO with a reference. bf16: autocast. held_out: looked at by
    nobody while the planner was written.
    """

    shape: Shape
    prompts: int
    completions: int
    length: int
    side: int
    accumulation: int = 1
    checkpointing: bool = False
    frozen_vision: bool = False
    bf16: bool = False
    held_out: bool = True


CASES = {
    "tiny_sft": Case(TINY, 32, 1, 200, 112, held_out=False),
    "middle_sft_checkpointed": Case(MIDDLE, 4, 1, 400, 448, accumulation=2, checkpointing=True, held_out=False),
    "tiny_grpo": Case(TINY, 16, 8, 96, 112),
    "middle_grpo": Case(MIDDLE, 2, 8, 96, 224, accumulation=2),
    "wide_sft_checkpointed": Case(WIDE, 6, 1, 200, 224, accumulation=2, checkpointing=True),
    "tall_sft_frozen_vision": Case(TALL, 4, 1, 300, 336, frozen_vision=True),
}


def job(case: Case, prompt: int, patches: int, on_gpu: bool = False) -> Job:
    """What the planner is told of a case."""
    sampled = case.prompts * case.accumulation * case.completions if case.completions > 1 else 0
    batch = Batch(case.prompts, prompt, patches, case.completions, case.length, case.length)
    return Job(case.shape, Engine(bf16=case.bf16), batch, accumulation=case.accumulation,
               checkpointing=case.checkpointing, frozen_vision=case.frozen_vision, sampled=sampled,
               reference=4 if sampled else 0, on_gpu=on_gpu)


def measure(name: str) -> dict:
    """In this process: {peak_bytes, prompt, patches} of a case."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        train(replace(case, shape=replace(TINY, layers=1), prompts=1, accumulation=1, length=4), f"{folder}/warm")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        before = status("VmRSS")
        prompt, patches, _ = train(case, f"{folder}/run")
        return {"peak_bytes": status("VmHWM") - before, "prompt": prompt, "patches": patches}


def train(case: Case, folder: str) -> tuple[int, int, list[dict]]:
    """Two optimizer steps of the real trainer; tokens of a prompt, patches of its photo, and the trainer's log."""
    import copy
    from types import SimpleNamespace

    import torch
    from PIL import Image

    from gre.models.packing import Group
    from gre.models.vlm import banned_tokens, encode_prompt, end_token_id, freeze_vision, load_processor
    from gre.rollout.generate import TransformersRollout
    from gre.training.arguments import TrainConfig, training_arguments

    processor = load_processor(BASE, 28 * 28, 28 * 28 * 1280)
    tokenizer = processor.tokenizer
    model = random_model(case.shape, "cuda" if torch.cuda.is_available() else "cpu")
    prompt = encode_prompt(processor, "Where is this?", Image.new("RGB", (case.side, case.side), (90, 120, 200)))
    rows = [SimpleNamespace(id=str(i)) for i in range(case.prompts * case.accumulation * 2)]
    settings = TrainConfig(max_steps=2, per_device_batch_size=case.prompts,
                           gradient_accumulation_steps=case.accumulation, bf16=case.bf16)
    args = training_arguments(settings, folder, 0, case.checkpointing)
    if case.frozen_vision:
        freeze_vision(model)
    if case.completions == 1:
        from gre.training.sft import SFTTrainer

        completion = torch.arange(10, 10 + case.length) % 900 + 20
        trainer = SFTTrainer(model, args, rows, lambda row: Group(prompt, [completion]))
    else:
        from gre.training.grpo import GRPOConfig, GRPOTrainer

        banned = banned_tokens(tokenizer, case.shape.vocab)
        banned[end_token_id(tokenizer)] = True  # every completion takes its full length
        rollout = TransformersRollout(end_token_id(tokenizer), tokenizer.pad_token_id, banned, case.length)
        trainer = GRPOTrainer(
            model, args, rows=rows, encode=lambda row: prompt, rollout=rollout, tokenizer=tokenizer,
            rewards={"length": lambda groups: [[float(len(text) % 7) for text in group.texts] for group in groups]},
            reference=copy.deepcopy(model), grpo=GRPOConfig(num_generations=case.completions),
            samples=Path(folder) / "samples.jsonl")
    trainer.train()
    return len(prompt.input_ids), len(prompt.pixel_values), trainer.state.log_history


def random_model(shape: Shape, device: str = "cpu"):
    """A model of random weights with the tiny base's tokens."""
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    from gre.models.attention import shared_prefix

    config = AutoConfig.from_pretrained(BASE, attn_implementation="sdpa")
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.vocab_size = shape.hidden, shape.intermediate, shape.vocab
    text.num_hidden_layers, text.layer_types = shape.layers, ["full_attention"] * shape.layers
    text.num_attention_heads, text.num_key_value_heads = shape.heads, shape.kv_heads
    half = shape.hidden // shape.heads // 2  # of a head, which MRoPE splits into time, height and width
    text.rope_parameters["mrope_section"] = [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8]
    text.tie_word_embeddings = config.tie_word_embeddings = shape.tied
    vision.hidden_size, vision.intermediate_size = shape.vision_hidden, shape.vision_intermediate
    vision.depth = shape.vision_depth
    vision.num_heads = shape.vision_hidden // (80 if shape.vision_hidden == 1280 else 24)  # Qwen's heads, or the base's
    vision.out_hidden_size = shape.hidden
    vision.fullatt_block_indexes = list(range(shape.vision_depth))[-shape.vision_full_attention:]
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(config).float()
    assert sum(weight.numel() for weight in model.parameters()) == shape.parameters
    shared_prefix.install(model)
    return model


def status(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def table(measured: dict) -> str:
    """Predicted and measured, for docs/results."""
    lines = ["# The planner against measured memory", "",
             "`python bench/plan_memory.py`, on the CPU in float32. MiB of two optimizer steps above what the process "
             "held before.", "",
             "| case | held out | weights | predicted | moment | measured | predicted / measured | commit |",
             "|---|---|---|---|---|---|---|---|"]
    for name, found in measured.items():
        case = CASES[name]
        moment, size = peak(job(case, found["prompt"], found["patches"]))
        held_out = "yes" if case.held_out else "no"
        lines.append(f"| {name} | {held_out} | {case.shape.parameters:,} | {size / MIB:,.0f} | {moment} | "
                     f"{found['peak_bytes'] / MIB:,.0f} | {size / found['peak_bytes']:.2f} | {found['commit'][:7]} |")
    errors = [abs(peak(job(CASES[name], found["prompt"], found["patches"]))[1] / found["peak_bytes"] - 1)
              for name, found in measured.items() if CASES[name].held_out]
    expected = sum(case.held_out for case in CASES.values())
    lines += ["", f"Held out: {len(errors)} of {expected} measured, the furthest off by "
                  f"{max(errors, default=0):.0%}; within {BOUND:.0%} was asked."]
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> None:
    """Measure what is missing or named, and write the table."""
    measured, code = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}, commit()
    for name in names or [name for name in CASES if name not in measured]:
        command = [sys.executable, str(Path(__file__)), "--one", name]
        result = subprocess.run(command, env={**os.environ, **MALLOC}, stdout=subprocess.PIPE, text=True, check=True)
        measured[name] = {**json.loads(result.stdout.splitlines()[-1]), "commit": code}
        RESULTS.write_text(json.dumps(measured, indent=2) + "\n")
        print(f"{name}: {measured[name]['peak_bytes'] / MIB:,.0f} MiB", flush=True)
    TABLE.write_text(table(measured))
    print(TABLE.read_text(), end="")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    elif sys.argv[1:2] == ["--parts"]:  # what a prediction is made of, for a case that was measured
        found = json.loads(RESULTS.read_text())[sys.argv[2]]
        print({name: round(size / MIB, 1) for name, size in
               parts(job(CASES[sys.argv[2]], found["prompt"], found["patches"])).items()})
    else:
        main(sys.argv[1:])
