"""The adapter that earlier stages handed on: low-rank factors in float32 beside the weights they were trained beside.

    model/{adapter_config.json, adapter_model.safetensors, config.json, tokenizer and processor, base/}

`base/` is a whole model. The two are not merged from stage to stage, since in bfloat16 most of a small update would be
rounded away; `gre.export` merges them once. The folder is an ordinary adapter of PEFT, for vLLM and others too.
"""
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from gre.config import UserError
from gre.models import folder as model_folder

TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYERS = rf"model\.language_model\..*\.({'|'.join(TEXT_LAYERS)})"  # the vision tower has layers of these names too
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's, before every name
MORE = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")  # of peft's, not read here
A, B = ".lora_A.weight", ".lora_B.weight"


class Adapted(nn.Linear):
    """A linear layer beside which a trained adapter stands, frozen: W x + b + lora_b (lora_a x).

    lora_a (r, in) and lora_b (out, r) are float32 buffers, scaled, and no part of the state dict.
    """

    lora_a: Tensor
    lora_b: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        output = super().forward(inputs)
        return output + linear(linear(inputs.to(self.lora_a.dtype), self.lora_a), self.lora_b).to(output.dtype)


def rank(folder: str | Path) -> int:
    """The rank of the adapter in a model folder; 0 where there is none. Raises UserError for one of another kind."""
    if not model_folder.holds_adapter(Path(folder)):
        return 0
    return int(_config(Path(folder))["r"])


def attach(model: nn.Module, folder: str | Path) -> None:
    """Put the adapter of a model folder beside the weights of `model`, frozen. Raises UserError when it is of another
    kind than ours, or does not fit."""
    config, weights = _config(Path(folder)), load_file(Path(folder) / WEIGHTS)
    names = sorted({name.removesuffix(A).removesuffix(B) for name in weights})
    scale = config["lora_alpha"] / config["r"]
    for name in names:
        try:
            layer = model.get_submodule(name.removeprefix(PREFIX))
            lora_a, lora_b = weights.pop(name + A).float(), scale * weights.pop(name + B).float()
        except (AttributeError, KeyError):
            raise UserError(f"{Path(folder) / WEIGHTS}: {name} is no linear layer of the model in base/, or lacks one "
                            "of its two factors: take the whole folder of the stage again") from None
        if lora_b.shape[0] != layer.weight.shape[0] or lora_a.shape[1] != layer.weight.shape[1]:
            raise UserError(f"{Path(folder) / WEIGHTS}: the factors of {name} are of another shape than its weight in "
                            "base/: take the whole folder of the stage again")
        put_beside(layer, lora_a, lora_b)


def put_beside(layer: nn.Linear, lora_a: Tensor, lora_b: Tensor) -> None:
    """Make `layer` an `Adapted` one."""
    layer.__class__ = Adapted
    device = layer.weight.device
    layer.register_buffer("lora_a", lora_a.to(device), persistent=False)
    layer.register_buffer("lora_b", lora_b.to(device), persistent=False)


def write(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write an adapter's factors, scaled, as PEFT has them. weights: from `gre.models.lora.weights`."""
    from peft import LoraConfig

    folder.mkdir(parents=True, exist_ok=True)
    held = {name: tensor.detach().float().contiguous() for name, tensor in weights.items()}
    r = next(tensor.shape[0] for name, tensor in held.items() if name.endswith(A))
    save_file(held, folder / WEIGHTS)
    LoraConfig(r=r, lora_alpha=r, target_modules=LAYERS, inference_mode=True,
               base_model_name_or_path=model_folder.BASE).save_pretrained(folder)


def none(layer_name: str, width_in: int, width_out: int) -> dict[str, Tensor]:
    """The factors of an adapter that changes nothing, for an engine that must be started with one."""
    return {f"{PREFIX}{layer_name}{A}": torch.zeros(1, width_in), f"{PREFIX}{layer_name}{B}": torch.zeros(width_out, 1)}


def _config(folder: Path) -> dict:
    """The adapter's config, of plain LoRA with one rank: what `write` writes, and others may."""
    try:
        config = json.loads((folder / model_folder.ADAPTER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / model_folder.ADAPTER} is not JSON ({error}): take the whole folder of the stage "
                        "again") from None
    if config.get("peft_type") != "LORA" or not config.get("r") or any(config.get(name) for name in MORE):
        raise UserError(f"{folder} holds an adapter of another kind than plain LoRA: merge it into its base (peft's "
                        "merge_and_unload, then save_pretrained) and name that folder")
    return config
