"""Stand-ins for the encoders that score chains: a CLIP that sees a little, and a BERT of random weights.

    python -m gre.tiny.encoders out=runs/encoders [seed=0]

    OUT/clip    real CLIPModel folder, random but for its last layer, fitted to climates: of 256 photos it was not
                fitted to it tells the climate of 57 to 75 %, by the sentence asked (four climates, chance is 25 %)
    OUT/bert    real BertModel folder with its own WordPiece words, untrained: it tells words apart and not meanings

Numbers made with them show that the machinery works and nothing about real photos or texts.
"""
import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize
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
from gre.provenance import readable_as_others
from gre.tiny.picture import SIDE, draw, random_scene
from gre.tiny.places import COLOURS, DISTRICTS, SHAPES, TREES, flags, places
from gre.tiny.pretrain import cues

SAID = {"building": "Architecture: {}.", "flag": "Signs: {}.", "tree": "Plants: {}.", "sun": "Terrain: {}.",
        "vehicle": "Transport: {}."}
"""Cue → the teacher's sentence about it."""
OTHERWISE = ("A photo with {}.", "I can see {} here.", "There is {} in the photo.")
WORDS = 1500  # of either tokenizer, at most
FACTOR = 3.0  # on CLIP's initial weights, which are made for wide models
COMMON = 0.2  # how near photos lie to all sentences, so that cosines are seldom below 0
RIDGE = 1e-6  # of the mean square


@dataclass
class Config:
    out: str = option(REQUIRED, "folder to write clip and bert into")
    seed: int = option(0, "seed of weights and scenes")
    scenes: int = option(256, "photos the CLIP is fitted to")


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


def trained(tokenizer: CLIPTokenizer | BertTokenizer) -> CLIPTokenizer | BertTokenizer:
    """A tokenizer of the corpus's words, numbered by the alphabet: the trainer numbers what is equally frequent each
    time in another way, and a word's weights go by its number."""
    model = json.loads(tokenizer.train_new_from_iterator(corpus(), WORDS).backend_tokenizer.to_str())["model"]
    special = [word for word in tokenizer.all_special_tokens if word in model["vocab"]]
    words = [*special, *sorted(model["vocab"].keys() - set(special))]
    merges = {"merges": [tuple(pair) for pair in model["merges"]]} if "merges" in model else {}
    return type(tokenizer)(vocab={word: at for at, word in enumerate(words)}, **merges,
                           model_max_length=tokenizer.model_max_length)


@torch.no_grad()
def build_clip(config: Config) -> tuple[CLIPModel, CLIPProcessor]:
    """A random CLIP whose last layer is fitted by ridge regression: photos of one climate land where the sentences
    about its trees lie, apart from those about other trees."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    tokenizer = trained(CLIPTokenizer())
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE), tokenizer)
    end = tokenizer.eos_token_id
    model = CLIPModel(CLIPConfig(
        text_config=dict(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1,
                         num_attention_heads=2, bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=end,
                         initializer_factor=FACTOR),
        vision_config=dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4,
                           image_size=SIDE, patch_size=28, initializer_factor=FACTOR), projection_dim=64,
        initializer_factor=FACTOR)).eval()
    trees = values()["tree"]
    said = processor(text=[form.format(tree) for tree in trees for form in (SAID["tree"], *OTHERWISE)],
                     return_tensors="pt", padding=True)
    means = normalize(model.get_text_features(**said).pooler_output, dim=-1).unflatten(0, (len(trees), -1)).mean(dim=1)
    centre = means.mean(dim=0, keepdim=True)
    aims = normalize(means - centre, dim=-1) + COMMON * normalize(centre, dim=-1)  # trees, width
    scenes = [random_scene(rng) for _ in range(config.scenes)]
    pictures = processor(images=[draw(scene, rng) for scene in scenes], return_tensors="pt").pixel_values
    seen = model.vision_model(pixel_values=pictures).pooler_output.double()  # scenes, width
    wanted = aims[[trees.index(cues(scene)["tree"]) for scene in scenes]].double()
    square = seen.T @ seen
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.double)
    model.visual_projection.weight.copy_(torch.linalg.solve(square + ridge, seen.T @ wanted).T)
    return model, processor


def build_bert(seed: int) -> tuple[BertModel, BertTokenizer]:
    """A BERT that has learned nothing."""
    torch.manual_seed(seed)
    tokenizer = trained(BertTokenizer(model_max_length=512))
    model = BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                                 intermediate_size=128))
    return model.eval(), tokenizer


def run(config: Config) -> None:
    out = Path(config.out)
    for name, parts in (("clip", build_clip(config)), ("bert", build_bert(config.seed))):
        for part in parts:
            part.save_pretrained(out / name)
        readable_as_others(out / name)
        print(f"{out / name}: written")


if __name__ == "__main__":
    main(run, Config, __doc__)
