"""Finished stages of a random model, the rows that stages read, and stages run from their configs; all of it in the
current folder."""
import json
from pathlib import Path

from PIL import Image

from gre import manifest
from gre.config import load, save
from gre.judge.photos import write_photos
from gre.tiny.model import build
from stages import stage1, stage2, stage3

KEYS = ["data.path=seed/seed.jsonl", "train.max_steps=2", "train.learning_rate=1e-3", "train.per_device_batch_size=2",
        "grpo.num_generations=2", "rollout.max_new_tokens=6"]


def verdict_vlm(hidden: int, **shape):
    """(model, processor) with random weights, whose tokenizer says True and False in one token."""
    return build(["True", "False", "Where is this? <think> </think><answer>, </answer>"] * 200, hidden=hidden, layers=2,
                 vocabulary=400, **shape)


def pictures(count: int = 4, size: tuple[int, int] = (56, 56)) -> list[Image.Image]:
    return [Image.new("RGB", size, (60 * i, 99, 200)) for i in range(count)]


def write_cot(images: list[Image.Image], chains: list[str] | None = None) -> None:
    """cot/cot.json in its published form, a row for every picture."""
    Path("cot/imgs").mkdir(parents=True)
    rows = []
    for i, image in enumerate(images):
        image.save(f"cot/imgs/{i}.png")
        chain = chains[i] if chains else "The sign is French."
        turns = [{"from": "human", "value": "<image>\nWhere is this?"},
                 {"from": "gpt", "value": f"<think>{chain}</think><answer>{45 + i}.5, 2.3</answer>"}]
        rows.append({"image": f"images/{i}.png", "conversations": turns, "gt_lat": 48.9, "gt_lon": 2.3})
    Path("cot/cot.json").write_text(json.dumps(rows))


def write_seeds(images: list[Image.Image]) -> None:
    """seed/seed.jsonl in its published form, a row for every picture."""
    Path("seed/imgs").mkdir(parents=True)
    with open("seed/seed.jsonl", "w") as lines:
        for i, image in enumerate(images):
            image.save(f"seed/imgs/{i}.png")
            lines.write(json.dumps({"image": f"images/{i}.png", "instructions": "Where is this?", "gt_lat": 48.9,
                                    "gt_lon": 2.3}) + "\n")


def write_workplace(vlm, images: list[Image.Image]) -> None:
    """base, run/stage1, a run/judge that was measured on that stage 1, and a data file of some rows."""
    for part in vlm:
        part.save_pretrained("base")
    sha256 = write_stage(vlm, "stage1", {})["model_sha256"]
    write_seeds(images)
    Image.new("RGB", (56, 56), (1, 2, 3)).save("seed/imgs/judged.png")
    write_judge(vlm, sha256)


def write_stage(vlm, stage, metrics):
    """A finished stage folder holding the tiny model."""
    folder = manifest.begin(f"run/{stage}")
    save(stage3.Config(output_dir=str(folder), model_name_or_path="base"), folder / "config.yaml")
    for part in vlm:
        part.save_pretrained(folder / "model")
    parent = manifest.verify_parent("base", {manifest.BASE})
    return manifest.finish(folder, stage=stage, parent=parent, data=[], instructions=["Where is this?"],
                          metrics=metrics)


def write_judge(vlm, policy_sha256, saw="seed/imgs/judged.png"):
    """A finished judge that was measured on that policy and saw one photo."""
    photos = write_photos(manifest.begin("run/judge"), [saw])
    write_stage(vlm, "judge", {"auc": 0.9, "auc_on_policy": 0.8, "n": 40, "policy_sha256": policy_sha256,
                               "policy_sampling": {"temperature": 1.0, "max_new_tokens": 6},
                               "photos_sha256": photos})


def run1(*keys):
    stage1.run(load(stage1.Config, ["output_dir=run/stage1", "model_name_or_path=base", "data.path=cot/cot.json",
                                    "train.max_steps=2", "train.learning_rate=1e-3", *keys]))


def run2(*keys):
    stage2.run(load(stage2.Config, ["output_dir=run/stage2", "model_name_or_path=run/stage1",
                                    "judge.model_name_or_path=run/judge", *KEYS, *keys]))


def run3(*keys):
    stage3.run(load(stage3.Config, ["output_dir=run/stage3", "model_name_or_path=run/stage2", *KEYS, *keys]))
