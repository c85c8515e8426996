"""Shapes of the models that are trained, published ones and any config.json: what counts and costs follow from. Loads
no torch.

The published shapes are those of the models' config.json, as far as those were at hand (docs/models.md). Their
parameter counts, which a test compares with transformers' own modules, are for Qwen2.5-VL 3,754,622,976 (3B),
8,292,166,656 (7B), 33,452,718,336 (32B) and 73,410,777,344 (72B).
"""
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gre.config import UserError

PATCHES_PER_TOKEN = 4  # 2 x 2 patches become one visual token


@dataclass(frozen=True)
class Shape:
    """Widths and depths of the text model, then those of the vision tower; the defaults are Qwen2.5-VL's.

    tied: the head is the embedding. head_width: 0 where all heads together are as wide as the model.
    """

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
    vision_gated: bool = True       # MLPs of gate, up and down, norms of a weight; else two layers, and biases
    head_width: int = 0
    head_norms: bool = False        # Qwen3-VL: queries and keys are normalised and have no bias
    patch_size: int = 14
    vision_positions: int = 0       # learned ones; there patches have a bias
    deepstack: int = 0              # blocks of which another merger makes what the first text layers are given
    tile_patches: int = 0           # InternVL: of the square tiles that a photo is cut into; 0: it stays whole
    tiles: int = 0                  # most of a photo, where nothing else is said

    @property
    def patch_values(self) -> int:
        """Numbers of a patch: colours, the photo twice (as a video of two frames, but in tiles), and pixels."""
        return 3 * (1 if self.tile_patches else 2) * self.patch_size**2

    @property
    def token_pixels(self) -> int:
        """Pixels of a photo that one visual token covers."""
        return PATCHES_PER_TOKEN * self.patch_size**2

    def visual_tokens(self, pixels: int) -> int:
        """Tokens of a photo of that many pixels; of several tiles there is one more, with all of it."""
        tokens, tile = pixels // self.token_pixels, self.tile_patches // PATCHES_PER_TOKEN
        if not tile:
            return tokens
        tiles = max(1, tokens // tile)
        return (tiles + (tiles > 1)) * tile

    @property
    def head(self) -> int:
        """Width of a head of the text model."""
        return self.head_width or self.hidden // self.heads

    @property
    def query_width(self) -> int:
        """Width of a token's queries, and of what attention makes of them."""
        return self.heads * self.head

    @property
    def kv_width(self) -> int:
        """Width of a token's keys, and of its values."""
        return self.kv_heads * self.head

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer of the text model."""
        h, q, k = self.hidden, self.query_width, self.kv_width
        beside = 2 * self.head if self.head_norms else q + 2 * k  # norms of queries and keys, or biases
        return 2 * h * q + 2 * h * k + beside + 3 * h * self.intermediate + 2 * h

    @property
    def embedding_parameters(self) -> int:
        """Weights of the word embedding; the head has as many."""
        return self.vocab * self.hidden

    @property
    def merger_parameters(self) -> int:
        """Weights of the two layers that make one visual token of four patches; DeepStack's are as many each."""
        merged = PATCHES_PER_TOKEN * self.vision_hidden
        between = self.hidden if self.tile_patches else merged
        return (merged * between + between) + (between * self.hidden + self.hidden)

    @property
    def vision_parameters(self) -> int:
        """Weights of the vision tower, patches and mergers included."""
        v, f, norm = self.vision_hidden, self.vision_intermediate, 1 if self.vision_gated else 2
        mlp = 3 * v * f + 2 * f + v if self.vision_gated else 2 * v * f + f + v
        scales = 2 * v if self.tile_patches else 0  # of what a block adds
        block = (3 * v * v + 3 * v) + (v * v + v) + mlp + 2 * norm * v + scales
        normed = (PATCHES_PER_TOKEN if self.tile_patches else 1) + PATCHES_PER_TOKEN * self.deepstack
        mergers = (1 + self.deepstack) * self.merger_parameters + norm * v * normed
        positions = (self.vision_positions + 1) * v if self.vision_positions else 0
        return self.patch_values * v + positions + self.vision_depth * block + mergers

    def adapter_parameters(self, rank: int, layers: Collection[str]) -> int:
        """Weights of a LoRA adapter of that rank beside the named linear layers of the text model."""
        h, q, k, f = self.hidden, self.query_width, self.kv_width, self.intermediate
        sides = {"q_proj": h + q, "k_proj": h + k, "v_proj": h + k, "o_proj": q + h,
                 "gate_proj": h + f, "up_proj": h + f, "down_proj": f + h}
        return self.layers * rank * sum(sides[name] for name in layers)

    @property
    def parameters(self) -> int:
        """All weights; tied ones once."""
        text = self.layers * self.layer_parameters + self.hidden + (1 if self.tied else 2) * self.embedding_parameters
        return text + self.vision_parameters


# What Qwen2-VL's and Qwen3-VL's towers have otherwise than Qwen2.5-VL's, whatever their size.
_QWEN2 = {"vision_gated": False, "vision_full_attention": 32}
_QWEN3 = {"vision_gated": False, "head_width": 128, "head_norms": True, "patch_size": 16, "vision_positions": 48**2,
          "deepstack": 3}
# InternVL's has one patch more a tile, which stands for all of it; it and the patches have learned positions.
_INTERN = {"vision_gated": False, "vision_full_attention": 0, "window_tokens": 1024, "tile_patches": 1024,
           "vision_positions": 1026, "tiles": 12}

PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(2048, 11008, 36, 16, 2, 151936, True, 3420),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(3584, 18944, 28, 28, 4, 152064, False, 3420),
    "Qwen/Qwen2.5-VL-32B-Instruct": Shape(5120, 27648, 64, 40, 8, 152064, False, 3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": Shape(8192, 29568, 80, 64, 8, 152064, False, 3456),
    "Qwen/Qwen2-VL-2B-Instruct": Shape(1536, 8960, 28, 12, 2, 151936, True, 5120, **_QWEN2),
    "Qwen/Qwen2-VL-7B-Instruct": Shape(3584, 18944, 28, 28, 4, 152064, False, 5120, **_QWEN2),
    "Qwen/Qwen3-VL-4B-Instruct": Shape(2560, 9728, 36, 32, 8, 151936, True, 4096, 1024, 24, 24, **_QWEN3),
    "Qwen/Qwen3-VL-8B-Instruct": Shape(4096, 12288, 36, 32, 8, 151936, False, 4304, 1152, 27, 27, **_QWEN3),
    "OpenGVLab/InternVL3-8B-hf": Shape(3584, 18944, 28, 28, 4, 151674, False, 4096, 1024, 24, **_INTERN),
}


def read_shape(path: Path) -> Shape:
    """The shape in a model's config.json, of transformers 4 (text keys at the top) or 5 (under text_config).

    Raises UserError when it is another kind of model or a size is missing.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text, vision = {**config, **config.get("text_config", {})}, config["vision_config"]
        if config["model_type"] not in _TOWERS:
            raise UserError(f"{path} describes a {config['model_type']}, the planner knows {', '.join(_TOWERS)}")
        return Shape(
            hidden=text["hidden_size"], intermediate=text["intermediate_size"], layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"], kv_heads=text["num_key_value_heads"], vocab=text["vocab_size"],
            tied=config["tie_word_embeddings"], **_TOWERS[config["model_type"]](text, vision))
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no config.json of a model that the planner knows ({type(error).__name__}: {error}):"
                        " name another model_name_or_path, or a published model's name") from None


def _qwen2_5(text: dict, vision: dict) -> dict:
    return {"vision_intermediate": vision["intermediate_size"], "vision_hidden": vision["hidden_size"],
            "vision_depth": vision["depth"], "patch_size": vision["patch_size"],
            "vision_full_attention": len(vision["fullatt_block_indexes"]),
            "window_tokens": (vision["window_size"] // vision["patch_size"]) ** 2}


def _qwen2(text: dict, vision: dict) -> dict:
    return {"vision_intermediate": int(vision["embed_dim"] * vision["mlp_ratio"]), "vision_hidden": vision["embed_dim"],
            "vision_depth": vision["depth"], "patch_size": vision["patch_size"],
            "vision_full_attention": vision["depth"], "vision_gated": False}


def _qwen3(text: dict, vision: dict) -> dict:
    return {"vision_intermediate": vision["intermediate_size"], "vision_hidden": vision["hidden_size"],
            "vision_depth": vision["depth"], "patch_size": vision["patch_size"],
            "vision_full_attention": vision["depth"], "vision_gated": False, "head_width": text["head_dim"],
            "head_norms": True, "vision_positions": vision["num_position_embeddings"],
            "deepstack": len(vision["deepstack_visual_indexes"])}


def _intern(text: dict, vision: dict) -> dict:
    if text["model_type"] != "qwen2" or not vision["attention_bias"] or not vision["use_mean_pooling"]:
        raise KeyError("a text model other than qwen2, or another tower than InternVL3's")
    patches = (vision["image_size"][0] // vision["patch_size"][0]) ** 2
    return {"vision_intermediate": vision["intermediate_size"], "vision_hidden": vision["hidden_size"],
            "vision_depth": vision["num_hidden_layers"], "patch_size": vision["patch_size"][0],
            "vision_full_attention": 0, "window_tokens": patches, "vision_gated": False, "tile_patches": patches,
            "vision_positions": patches + 2, "tiles": 12}


_TOWERS = {"qwen2_5_vl": _qwen2_5, "qwen2_vl": _qwen2, "qwen3_vl": _qwen3, "internvl": _intern}
