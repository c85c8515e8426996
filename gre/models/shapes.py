"""Shapes of Qwen2.5-VL models, published ones and any config.json: what counts and costs follow from. Loads no torch.

The published shapes are those of the models' config.json; their parameter counts, which a test compares with
transformers' own modules, are 3,754,622,976 (3B), 8,292,166,656 (7B), 33,452,718,336 (32B) and 73,410,777,344 (72B).
"""
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gre.config import UserError

PATCH_VALUES = 3 * 2 * 14 * 14  # colours, the photo twice (as a video of two frames), 14 x 14 pixels
PATCHES_PER_TOKEN = 4           # 2 x 2 patches become one visual token


@dataclass(frozen=True)
class Shape:
    """Widths and depths of the text model, then those of the vision tower. tied: the head is the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool
    vision_intermediate: int
    vision_hidden: int = 1280
    vision_depth: int = 32
    vision_full_attention: int = 4  # blocks that see the whole photo; the others see windows of 112 pixels
    window_tokens: int = 64         # patches of a window

    @property
    def kv_width(self) -> int:
        """Width of a token's keys, and of its values."""
        return self.kv_heads * self.hidden // self.heads

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer of the text model."""
        h, k = self.hidden, self.kv_width
        return (h * h + h) + 2 * (h * k + k) + h * h + 3 * h * self.intermediate + 2 * h

    @property
    def embedding_parameters(self) -> int:
        """Weights of the word embedding; the head has as many."""
        return self.vocab * self.hidden

    @property
    def vision_parameters(self) -> int:
        """Weights of the vision tower, patches and merger included."""
        v, f, merged = self.vision_hidden, self.vision_intermediate, PATCHES_PER_TOKEN * self.vision_hidden
        block = (3 * v * v + 3 * v) + (v * v + v) + (3 * v * f + 2 * f + v) + 2 * v
        merger = v + (merged * merged + merged) + (merged * self.hidden + self.hidden)
        return PATCH_VALUES * v + self.vision_depth * block + merger

    def adapter_parameters(self, rank: int, layers: Collection[str]) -> int:
        """Weights of a LoRA adapter of that rank beside the named linear layers of the text model."""
        h, k, f = self.hidden, self.kv_width, self.intermediate
        sides = {"q_proj": h + h, "k_proj": h + k, "v_proj": h + k, "o_proj": h + h,
                 "gate_proj": h + f, "up_proj": h + f, "down_proj": f + h}
        return self.layers * rank * sum(sides[name] for name in layers)

    @property
    def parameters(self) -> int:
        """All weights; tied ones once."""
        text = self.layers * self.layer_parameters + self.hidden + (1 if self.tied else 2) * self.embedding_parameters
        return text + self.vision_parameters


PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(2048, 11008, 36, 16, 2, 151936, True, 3420),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(3584, 18944, 28, 28, 4, 152064, False, 3420),
    "Qwen/Qwen2.5-VL-32B-Instruct": Shape(5120, 27648, 64, 40, 8, 152064, False, 3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": Shape(8192, 29568, 80, 64, 8, 152064, False, 3456),
}


def read_shape(path: Path) -> Shape:
    """The shape in a model's config.json, of transformers 4 (text keys at the top) or 5 (under text_config).

    Raises UserError when it is another kind of model or a size is missing.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text, vision = {**config, **config.get("text_config", {})}, config["vision_config"]
        if config["model_type"] != "qwen2_5_vl":
            raise UserError(f"{path} describes a {config['model_type']}, the planner knows qwen2_5_vl")
        return Shape(
            hidden=text["hidden_size"], intermediate=text["intermediate_size"], layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"], kv_heads=text["num_key_value_heads"], vocab=text["vocab_size"],
            tied=config["tie_word_embeddings"], vision_intermediate=vision["intermediate_size"],
            vision_hidden=vision["hidden_size"], vision_depth=vision["depth"],
            vision_full_attention=len(vision["fullatt_block_indexes"]),
            window_tokens=(vision["window_size"] // vision["patch_size"]) ** 2)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no config.json of a Qwen2.5-VL ({type(error).__name__}: {error}): name another "
                        "model_name_or_path, or a published model's name") from None
