"""A model's weights as an inference engine is sent them."""
import copy

import torch
from peft import LoraConfig, get_peft_model

from gre.models.weights import full_weights, unwrapped


def test_every_weight_comes_once_under_each_of_its_names(tiny_vlm):
    model = tiny_vlm[0]
    sent = list(full_weights(model, torch.float32))
    names = [name for name, _ in sent]
    assert len(names) == len(set(names)) and set(names) == set(model.state_dict()) and "lm_head.weight" in names
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in sent)
    assert {tensor.dtype for _, tensor in full_weights(model, torch.bfloat16)} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_adapters_are_merged_on_the_way(tiny_vlm):
    adapted = get_peft_model(copy.deepcopy(tiny_vlm[0]), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # zero at the start
                parameter.normal_(std=0.1)
    before = copy.deepcopy(adapted.state_dict())
    sent = dict(full_weights(adapted, torch.float32))
    assert all(torch.equal(value, before[name]) for name, value in adapted.state_dict().items())  # left as it was
    merged = copy.deepcopy(adapted).merge_and_unload().state_dict()
    assert sent.keys() == merged.keys()
    assert all(torch.allclose(sent[name], merged[name], atol=1e-6) for name in merged)
    moved = [name for name in merged if not torch.equal(merged[name], tiny_vlm[0].state_dict()[name])]
    assert any("visual" in name for name in moved) and any("q_proj" in name for name in moved)


def test_the_model_is_found_under_its_wrappers(tiny_vlm):
    model = copy.deepcopy(tiny_vlm[0])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert unwrapped(adapted) is model is unwrapped(torch.nn.ModuleDict({"module": adapted}))
