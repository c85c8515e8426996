"""What zero_ranks.py runs: stages under DeepSpeed and without it, whole, stopped and killed; and what they read."""
import json
import os
import shutil
from pathlib import Path

from PIL import Image

from tests.helpers.judge_rows import write_rows
from tests.helpers.paths import ROOT
from tests.helpers.stages import verdict_vlm, write_judge, write_stage
from tests.helpers.two_ranks import torchrun

COMPILER = shutil.which("c++")  # DeepSpeed builds its CPU operators


def engine(name):
    return f"train.deepspeed={ROOT}/configs/deepspeed/{name}.json"


RL = ["data.path=seed/seed.jsonl", "grpo.num_generations=3", "rollout.max_new_tokens=6", "train.save_steps=1"]
STAGES = {
    "stage1": ["model_name_or_path=base", "data.path=cot/cot.json"],
    "judge": ["model_name_or_path=base", "data.path=judged/judge.json", "held_out_share=0.3"],
    "stage2": ["model_name_or_path=run/stage1", "judge.model_name_or_path=run/judge", *RL],
    "stage3": ["model_name_or_path=run/stage2", *RL],
}


def job(name, per_process, *keys, kill=None):
    """A stage of three steps of four prompts; kill: [rank, rollout, signal]."""
    stage = name.split("_")[-1]
    return [stage, [*STAGES[stage], f"output_dir=out/{name}", "train.max_steps=3", "train.learning_rate=1e-4",
                    "train.warmup_steps=0", f"train.per_device_batch_size={per_process}", *keys], kill]


TWICE, UNTIED = "train.gradient_accumulation_steps=2", "model_name_or_path=untied"
CHECKPOINTING = "model.gradient_checkpointing=true"  # what is recomputed is gathered twice; numbers stay
LORA = ["model.lora.r=4", "model.lora.alpha=8"]
JOBS = [
    job("zero3_stage3", 2, engine("zero3")),
    job("zero2_stage3", 2, engine("zero2")),
    job("zero3_offload_stage3", 2, engine("zero3_offload")),
    job("zero3_stage2", 1, engine("zero3"), TWICE, CHECKPOINTING),
    job("zero2_stage2", 1, engine("zero2"), TWICE),
    job("zero3_judge", 2, engine("zero3")),
    job("zero2_judge", 2, engine("zero2")),
    job("lora_judge", 2, engine("zero2"), *LORA),
    job("zero3_untied_stage1", 2, engine("zero3"), UNTIED, CHECKPOINTING),
    job("zero2_offload_stage1", 2, engine("zero2_offload")),
    job("bf16_stage1", 2, engine("zero3"), "train.bf16=true"),
    job("lora_untied_stage1", 2, engine("zero2"), UNTIED, *LORA),
    job("lora_stage3", 2, engine("zero2"), *LORA),
    job("lora_stopped_stage3", 2, engine("zero2"), *LORA, kill=[1, 2, "SIGTERM"]),
    job("lora_stopped_stage3", 2, engine("zero2"), *LORA),
    # A budget that about half of all pairs of groups fit into: one process needs two passes where the other needs one.
    job("cut_stage3", 2, engine("zero3"), "train.tokens_per_pass=90"),
    job("cut_stage1", 2, "train.tokens_per_pass=102"),
]
KILLED = job("killed_stage3", 2, engine("zero3"))
POSITIONS = ["positions", ["base", "out/positions", f"{ROOT}/configs/deepspeed/zero3.json", "rounding.json"]]


def write_data(vlm, untied):
    """Base models, finished stages and the data all four stages read, in the current folder."""
    for part in vlm:
        part.save_pretrained("base")
    for part in untied:
        part.save_pretrained("untied")
    sha256 = write_stage(vlm, "stage1", {})["model_sha256"]
    write_stage(vlm, "stage2", {})
    for folder in ("seed", "cot"):
        Path(folder, "imgs").mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (56 + 28 * (i % 3), 56), (20 * i, 99, 200 - 10 * i)).save(f"{folder}/imgs/{i}.png")
    Image.new("RGB", (56, 56), (1, 2, 3)).save("seed/imgs/judged.png")
    write_judge(vlm, sha256)
    rows = [{"image": f"images/{i}.png", "instructions": "Where is this?", "gt_lat": 48.9, "gt_lon": 2.3}
            for i in range(12)]
    Path("seed/seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"image": f"images/{i}.png", "gt_lat": 48.9, "gt_lon": 2.3, "conversations": [
        {"from": "human", "value": "<image>\nWhere?"},
        {"from": "gpt", "value": f"<think>{'sign ' * (i % 4)}</think><answer>{40 + i}.5, 2</answer>"}]}
        for i in range(12)]
    Path("cot/cot.json").write_text(json.dumps(rows))
    write_rows(Path("judged"), 20)


def prepare(folder: Path) -> None:
    """Write the data, let one of two processes be killed in the midst of a stage, and leave all jobs to come, of which
    the first goes on from there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("jobs.json").write_text("[]")
        if not COMPILER:
            return
        write_data(verdict_vlm(128), verdict_vlm(128, tied=False))  # heads of 32, for vLLM
        shipped = json.loads((ROOT / "configs/deepspeed/zero3.json").read_text())
        Path("rounding.json").write_text(json.dumps({k: value for k, value in shipped.items() if k != "data_types"}))
        Path("jobs.json").write_text(json.dumps([[*KILLED[:2], [1, 3, "SIGKILL"]]]))
        killed = torchrun("two_ranks", folder.parent, "zero_ranks")
        assert killed.returncode != 0 and not Path("out/killed_stage3/manifest.json").exists()
        Path("jobs.json").write_text(json.dumps([KILLED, POSITIONS, *JOBS]))
    finally:
        os.chdir(before)
