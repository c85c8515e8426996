"""Make the tiny base: teach a small Qwen2.5-VL to see, with general questions about the planet's photos.

    python -m gre.tiny.pretrain [out=gre/tiny/base] [seed=0] [key=value …]

It learns what is drawn, whose flag flies, which colour, and whether a description fits (yes or no, true or false), on
scenes whose cues are drawn independently of each other, so that it never meets a place. It is never shown coordinates,
reasoning chains or a judge's question: like a real base it can see and compare, and cannot localize. `out` gets the
weights in bfloat16, the processor, and recipe.json with settings, accuracy per question and the weights' hash.
"""
import hashlib
import json
import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from gre.config import main, option
from gre.models.attention import shared_prefix
from gre.models.packing import Group, Prompt
from gre.models.scoring import packed_logits, score
from gre.models.vlm import encode_text
from gre.provenance import readable_as_others
from gre.text import prompts
from gre.tiny.model import build
from gre.tiny.picture import Scene, draw, random_scene, scene_of
from gre.tiny.places import TREES, flags, places
from gre.tiny.teacher import describe

TURN = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"
CHECKS = (("Does this fit?", "yes", "no"), ("Is this description right? Say True or False.", "True", "False"))
"""Ways to ask whether a description fits, with the two answers."""


@dataclass
class Config:
    out: str = option("gre/tiny/base", "folder of the base model")
    seed: int = option(0, "seed of weights, scenes and questions")
    steps: int = option(2400, "optimiser steps")
    pictures: int = option(16, "photos a step")
    hidden: int = option(192, "width of the text model")
    layers: int = option(4, "layers of the text model")
    vocabulary: int = option(1000, "words of the tokenizer, at most")
    learning_rate: float = option(2e-3, "peak of the one-cycle schedule")


def cues(scene: Scene) -> dict[str, str]:
    """What can be said about a scene, cue by cue."""
    return {"building": " ".join(scene.landmark), "flag": f"{' '.join(flags()[scene.country])}, {scene.country}",
            "tree": f"{TREES[scene.climate]}, {scene.climate}",
            "sun": f"sun in the {'north' if scene.southern else 'south'}", "vehicle": scene.vehicle}


def questions(scene: Scene, rng: random.Random, names: int = 5, checks: int = 4,
              longest: int = 5) -> list[tuple[str, str, str]]:
    """(kind, question, answer): `names` cues by name, then `checks` descriptions, of `longest` cues at most, that fit
    or have one cue wrong. The kind of a check ends in its number of cues."""
    asked = [(cue, f"Which {cue}?", value) for cue, value in rng.sample(list(cues(scene).items()), names)]
    for _ in range(checks):
        described, fits = cues(scene), rng.random() < 0.5
        shown = sorted(rng.sample(list(described), rng.randint(1, longest)), key=list(described).index)
        if not fits:
            wrong = rng.choice([cue for cue in shown for _ in range(3 if cue in ("building", "flag") else 1)])
            while described[wrong] == cues(scene)[wrong]:
                described[wrong] = cues(random_scene(rng))[wrong]
        question, *verdicts = rng.choice(CHECKS)
        label = rng.choice(("{cue}: {value}", "{value}"))
        text = ". ".join(label.format(cue=cue, value=described[cue]) for cue in shown)
        asked.append((f"check {len(shown)}", f"{question} {text}.", verdicts[not fits]))
    return asked


def corpus(rng: random.Random) -> list[str]:
    """Text for the tokenizer only: every word the planet uses. No model is trained on it."""
    texts = [prompts.JUDGE_INSTRUCTION + prompts.JUDGE_CHAIN, prompts.COT_INSTRUCTION] * 20
    texts += ["True", "False", "yes", "no", "user", "assistant"] * 1000  # single words: frequent enough to be one token
    for place in places() * 20:
        texts.append(describe(place, scene_of(place, rng, 0.05), rng).response)
        texts += [f"{question} {reply}" for _, question, reply in questions(random_scene(rng), rng)]
    return texts


def encode(processor, scenes: list[Scene], rng: random.Random, names: int = 5, checks: int = 4,
           longest: int = 5) -> tuple[list[Group], list[str]]:
    """One group a scene: the photo as shared prompt, every question with its answer as a completion, only the answer
    scored. Also the kind of each completion."""
    pictures = processor(text=[TURN] * len(scenes), images=[draw(scene, rng) for scene in scenes], return_tensors="pt")
    patches = pictures["image_grid_thw"].prod(-1).tolist()
    reply = torch.tensor(processor.tokenizer(REPLY).input_ids)
    end = torch.tensor([processor.tokenizer.eos_token_id])
    groups, kinds = [], []
    for i, (scene, pixels) in enumerate(zip(scenes, pictures["pixel_values"].split(patches), strict=True)):
        prompt = Prompt(pictures["input_ids"][i], pictures["mm_token_type_ids"][i], pixels,
                        pictures["image_grid_thw"][i:i + 1])
        group = Group(prompt, [], [])
        for kind, question, answer in questions(scene, rng, names, checks, longest):
            asked = torch.cat([encode_text(processor, question), reply])
            answered = torch.cat([encode_text(processor, answer), end])
            group.completions.append(torch.cat([asked, answered]))
            group.scored.append(torch.arange(len(asked) + len(answered)) >= len(asked))
            kinds.append(kind)
        groups.append(group)
    return groups, kinds


@torch.no_grad()
def accuracy(model, processor, seed: int, pictures: int = 160) -> dict[str, float]:
    """Share of questions whose every answer token is the most likely one, per kind, on scenes of another seed."""
    rng, right = random.Random(seed), defaultdict(list)
    for _ in range(0, pictures, 20):
        groups, kinds = encode(processor, [random_scene(rng) for _ in range(20)], rng)
        logits, scores = packed_logits(model, groups), score(model, groups)
        labels = torch.cat([c[s] for group in groups for c, s in zip(group.completions, group.scored, strict=True)])
        hit = logits.argmax(-1) == labels
        for number, kind in enumerate(kinds):
            right[kind].append(bool(hit[scores.completion == number].all()))
    return {kind: round(sum(hits) / len(hits), 3) for kind, hits in sorted(right.items())}


def lesson(progress: float) -> tuple[int, int, int]:
    """(names, checks, longest) of `questions` at that share of the training: things are named first, then checked one
    by one, then in whole descriptions. Without the lesson in between, 1,200 steps left whole descriptions at chance."""
    if progress < 0.15:
        return 5, 0, 1
    return (2, 6, 1) if progress < 0.5 else (2, 5, 5)


def run(config: Config) -> None:
    rng = random.Random(config.seed)
    model, processor = build(corpus(rng), config.hidden, config.layers, config.vocabulary, seed=config.seed,
                             max_pixels=112 * 112)
    shared_prefix.install(model.train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1,
                                                   pct_start=0.1)
    progress = tqdm(range(1, config.steps + 1), desc="base")
    for step in progress:
        scenes = [random_scene(rng) for _ in range(config.pictures)]
        groups, _ = encode(processor, scenes, rng, *lesson(step / config.steps))
        loss = -score(model, groups).log_probs.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")
        if step % 200 == 0:
            tqdm.write(f"step {step}: {accuracy(model, processor, config.seed + 1)}")
    out = Path(config.out)
    model.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)
    readable_as_others(out)
    right = accuracy(model.float(), processor, config.seed + 1, pictures=400)  # of the weights as they are stored
    weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    settings = {name: value for name, value in asdict(config).items() if name != "out"}
    (out / "recipe.json").write_text(json.dumps(
        {"command": "python -m gre.tiny.pretrain", **settings, "torch": torch.__version__, "accuracy": right,
         "model.safetensors sha256": weights}, indent=1) + "\n")
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters in {out}: {right}")


if __name__ == "__main__":
    main(run, Config, __doc__)
