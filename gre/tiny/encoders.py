"""Stand-ins for the encoders that score chains: a CLIP that can tell climates, and a BERT of random weights.

    python -m gre.tiny.encoders out=runs/encoders [seed=0]

    OUT/clip    real CLIPModel folder, trained for some seconds on random scenes: it sees the climate and nothing else
    OUT/bert    real BertModel folder with its own WordPiece words, untrained: it tells words apart and not meanings

Numbers made with them show that the machinery works and nothing about real photos or texts.
"""
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from gre.config import REQUIRED, main, option
from gre.tiny.picture import SIDE, draw, random_scene
from gre.tiny.places import COLOURS, DISTRICTS, SHAPES, TREES, flags, places
from gre.tiny.pretrain import cues

SAID = {"building": "Architecture: {}.", "flag": "Signs: {}.", "tree": "Plants: {}.", "sun": "Terrain: {}.",
        "vehicle": "Transport: {}."}
"""Cue → the teacher's sentence about it."""
TAUGHT = ("tree",)  # the rest would take minutes
OTHERWISE = ("A photo with {}.", "I can see {} here.", "There is {} in the picture.")
WORDS = 1500  # of either tokenizer, at most
FACTOR = 3.0  # on CLIP's initial weights, which are made for wide models
SHARPNESS = 20.0  # what cosines are multiplied by in the loss


@dataclass
class Config:
    out: str = option(REQUIRED, "folder to write clip and bert into")
    seed: int = option(0, "seed of weights and scenes")
    scenes: int = option(192, "pictures the CLIP is trained on")
    steps: int = option(150, "its optimiser steps")
    batch_size: int = option(32, "pictures a step")
    learning_rate: float = option(2e-3, "peak of the one-cycle schedule")


def values() -> dict[str, list[str]]:
    """Every value of every cue."""
    return {"building": [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES],
            "flag": [f"{' '.join(stripes)}, {country}" for country, stripes in flags().items()],
            "tree": [f"{tree}, {climate}" for climate, tree in TREES.items()],
            "sun": ["sun in the north", "sun in the south"], "vehicle": list(DISTRICTS)}


def corpus() -> list[str]:
    """Sentences that hold every word of the planet's chains."""
    named = [form.format(value) for cue, several in values().items() for value in several
             for form in (SAID[cue], *OTHERWISE)]
    return [*named, *(f"So {place.name}." for place in places()), "hidden"]


def train_clip(config: Config) -> tuple[CLIPModel, CLIPProcessor]:
    """Teach a small CLIP which of all cues a picture shows: softmax over their sentences, a target for each cue."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    tokenizer = CLIPTokenizer().train_new_from_iterator(corpus(), WORDS)
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE), tokenizer)
    end = tokenizer.eos_token_id
    model = CLIPModel(CLIPConfig(
        text_config=dict(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1,
                         num_attention_heads=2, bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=end,
                         initializer_factor=FACTOR),
        vision_config=dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
                           image_size=SIDE, patch_size=28, initializer_factor=FACTOR), projection_dim=64,
        initializer_factor=FACTOR))
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.steps)
    said = [(cue, value) for cue in TAUGHT for value in values()[cue]]
    scenes = [random_scene(rng) for _ in range(config.scenes)]
    pictures = processor(images=[draw(scene, rng) for scene in scenes], return_tensors="pt").pixel_values
    shown = torch.tensor([[said.index((cue, cues(scene)[cue])) for cue in TAUGHT] for scene in scenes])  # scenes, cues
    for _ in tqdm(range(config.steps), desc="clip"):
        batch = torch.randint(config.scenes, (config.batch_size,))
        texts = processor(text=[rng.choice((SAID[cue], *OTHERWISE)).format(value) for cue, value in said],
                          return_tensors="pt", padding=True)
        logits = SHARPNESS / model.logit_scale.exp() * model(**texts, pixel_values=pictures[batch]).logits_per_image
        loss = cross_entropy(logits.repeat_interleave(shown.shape[1], dim=0), shown[batch].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval(), processor


def build_bert(seed: int) -> tuple[BertModel, BertTokenizer]:
    """A BERT that has learned nothing."""
    torch.manual_seed(seed)
    tokenizer = BertTokenizer(model_max_length=512).train_new_from_iterator(corpus(), WORDS)
    model = BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                                 intermediate_size=128))
    return model.eval(), tokenizer


def run(config: Config) -> None:
    out = Path(config.out)
    for name, parts in (("clip", train_clip(config)), ("bert", build_bert(config.seed))):
        for part in parts:
            part.save_pretrained(out / name)
        print(f"{out / name}: written")


if __name__ == "__main__":
    main(run, Config, __doc__)
