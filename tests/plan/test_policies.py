"""The planner on every architecture a policy may have: counts against transformers' own modules, and plans."""
import json
from dataclasses import replace

import pytest

from gre.models.adapter import TEXT_LAYERS
from gre.models.shapes import PUBLISHED, Shape
from gre.models.tower import modules
from gre.plan.__main__ import main
from gre.plan.memory import Batch, Engine, Job, parts
from gre.plan.recipe import find_parent
from gre.plan.work import forward_flops
from tests.helpers.paths import ROOT

COUNTS = {"Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600, "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
          "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808, "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
          "OpenGVLab/InternVL3-8B-hf": 7_944_373_760}


def config_of(name: str):
    """transformers' config of a published model: what differs from its defaults comes from the shape."""
    from transformers import InternVLConfig, Qwen2VLConfig, Qwen3VLConfig

    shape = PUBLISHED[name]
    kind = {"Qwen2-VL": Qwen2VLConfig, "Qwen3-VL": Qwen3VLConfig, "InternVL3": InternVLConfig}[
        name.split("/")[1].rsplit("-", 2)[0]]
    text = {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "vocab_size": shape.vocab,
            "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads, "tie_word_embeddings": shape.tied}
    vision = {"depth": shape.vision_depth, "num_heads": 16}
    if kind is InternVLConfig:
        vision = {"attention_bias": True}
    elif kind is Qwen2VLConfig:
        vision |= {"embed_dim": shape.vision_hidden, "hidden_size": shape.hidden, "mlp_ratio": 4}
    else:
        vision |= {"hidden_size": shape.vision_hidden, "intermediate_size": shape.vision_intermediate,
                   "out_hidden_size": shape.hidden}
    if kind is Qwen3VLConfig and shape.vision_depth == 24:
        vision |= {"deepstack_visual_indexes": [5, 11, 17]}
    return kind(text_config=text, vision_config=vision, tie_word_embeddings=shape.tied)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_configs_are_those_of_transformers(name, tmp_path):
    import torch
    from transformers import AutoModelForImageTextToText

    shape, config = PUBLISHED[name], config_of(name)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    assert sum(weight.numel() for weight in model.parameters()) == shape.parameters == COUNTS[name]
    assert sum(weight.numel() for part in modules(model) for weight in part.parameters()) == shape.vision_parameters
    linear = dict(model.model.language_model.named_modules())
    sides = sum(sum(layer.weight.shape) for part, layer in linear.items() if part.rsplit(".", 1)[-1] in TEXT_LAYERS)
    assert shape.adapter_parameters(2, TEXT_LAYERS) == 2 * sides
    config.save_pretrained(tmp_path)
    assert find_parent(str(tmp_path), tmp_path / "stage1.yaml").shape == shape


def test_qwen3_by_hand():
    """A text model of width 4, whose two heads are 3 wide, and a tower of width 2 with one DeepStack merger."""
    shape = Shape(hidden=4, intermediate=8, layers=1, heads=2, kv_heads=1, vocab=10, tied=True, vision_intermediate=5,
                  vision_hidden=2, vision_depth=1, vision_full_attention=1, vision_gated=False, head_width=3,
                  head_norms=True, patch_size=16, vision_positions=9, deepstack=1)
    # q and o 4x6, k and v 4x3, norms of 3 for queries and keys, three 4x8, two norms of 4.
    assert shape.layer_parameters == 48 + 24 + 6 + 96 + 8
    # patches 1536x2+2, positions 9x2; block: qkv 2x6+6, proj 2x2+2, mlp 2x5+5 and 5x2+2, two norms of 2 with biases;
    # merger: norm 2 with bias, 8x8+8, 8x4+4; DeepStack's: the same behind a norm of 8 with bias.
    assert shape.vision_parameters == 3074 + 18 + (18 + 6 + 27 + 8) + (4 + 72 + 36) + (16 + 72 + 36)
    assert shape.token_pixels == 32**2 and shape.query_width == 6 and shape.kv_width == 3
    # One row of 8 text tokens and 16 patches, all of which see each other; no token meets the head.
    batch = Batch(prompts=1, prompt=9, patches=16, completions=0, length=0, scored=0)
    mergers = 2 * 8 * (8 + 4)
    vision = 2 * (shape.vision_parameters - mergers - 18) * 16 + 2 * mergers * 4 + 4 * 2 * 16 * 16
    assert forward_flops(shape, batch) == vision + 2 * shape.layer_parameters * 8 + 4 * 6 * 36


@pytest.mark.parametrize("name", [name for name in COUNTS if "Qwen2" not in name])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_there_is_a_plan(name, stage, capsys, monkeypatch):
    """GRE's recipe with another model's name and nothing else changed."""
    monkeypatch.chdir(ROOT)
    judge = [f"judge.model_name_or_path={name}"] if stage == "stage2" else []
    status = main([f"configs/gre7b/{stage}.yaml", "gpus=8", "gpu_gib=80", f"model_name_or_path={name}", *judge,
                   "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert status == 0 and answer["fits"] and answer["parameters"] == COUNTS[name]
    assert ("judge" in answer["parts"]) == (stage == "stage2")


def test_a_larger_patch_makes_fewer_tokens_of_the_same_pixels(tmp_path):
    parents = [find_parent(name, tmp_path / "x.yaml") for name in COUNTS]
    assert [parent.max_pixels for parent in parents] == [1280 * 28**2] * 2 + [1280 * 32**2] * 2 + [12 * 448**2]
    assert [parent.shape.visual_tokens(parent.max_pixels) for parent in parents] == [1280] * 4 + [13 * 256]
    assert [parent.shape.visual_tokens(448**2) for parent in parents] == [256, 256, 196, 196, 256]


def test_a_folders_tiles_are_its_budget(tmp_path):
    config_of("OpenGVLab/InternVL3-8B-hf").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"max_patches": 6, "size": {"height": 448, "width": 448}}')
    assert find_parent(str(tmp_path), tmp_path / "x.yaml").max_pixels == 6 * 448**2


def test_deepstack_and_wide_heads_cost_memory():
    whole = PUBLISHED["Qwen/Qwen3-VL-4B-Instruct"]
    batch = Batch(prompts=1, prompt=1000, patches=3400, completions=8, length=200, scored=200)
    size = parts(Job(whole, Engine(), batch, on_gpu=False))["activations"]
    for less in ({"deepstack": 0}, {"head_width": 80}, {"head_norms": False}, {"patch_size": 14}):
        assert parts(Job(replace(whole, **less), Engine(), batch, on_gpu=False))["activations"] < size, less
