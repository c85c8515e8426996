"""A model's weights as an inference engine is sent them."""
import copy

import torch
from peft import LoraConfig, get_peft_model

from gre.models import lora
from gre.models.weights import full_weights, trained_weights, unwrapped


def test_every_weight_comes_once_under_each_of_its_names(tiny_vlm):
    model = tiny_vlm[0]
    sent = list(full_weights(model, torch.float32))
    names = [name for name, _ in sent]
    assert len(names) == len(set(names)) and set(names) == set(model.state_dict()) and "lm_head.weight" in names
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in sent)
    assert {tensor.dtype for _, tensor in full_weights(model, torch.bfloat16)} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_an_adapter_is_sent_alone_in_the_type_it_is_trained_in(tiny_vlm):
    model = copy.deepcopy(tiny_vlm[0])
    assert dict(trained_weights(model, torch.bfloat16)).keys() == model.state_dict().keys()
    lora.adapt(model.bfloat16(), lora.LoraConfig(r=4, alpha=8), seed=0)
    before = copy.deepcopy(model.state_dict())
    sent = dict(trained_weights(torch.nn.ModuleDict({"module": model}), torch.bfloat16))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # left as it was
    assert len(sent) == 2 * 7 * 2 and {tensor.dtype for tensor in sent.values()} == {torch.float32}
    name = "model.language_model.layers.1.mlp.up_proj"
    assert torch.equal(sent[f"base_model.model.{name}.lora_A.weight"], before[f"{name}.lora_A.default.weight"])


def test_the_model_is_found_under_its_wrappers(tiny_vlm):
    model = copy.deepcopy(tiny_vlm[0])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert unwrapped(adapted) is model is unwrapped(torch.nn.ModuleDict({"module": adapted}))
