"""The first layer of the vision tower as a matrix product: the convolution's numbers, names and checkpoints."""
import copy

import torch
from torch import nn

from gre.models import patches
from gre.models.vlm import load_model


def test_it_is_the_convolution(tiny_vlm):
    model = copy.deepcopy(tiny_vlm[0]).double()
    projection = model.model.visual.patch_embed.proj
    pixels = torch.randn(40, 3 * 2 * 14 * 14, dtype=torch.float64)
    projection.weight.grad = None
    expected = model.model.visual.patch_embed(pixels)
    expected.square().sum().backward()
    gradient, names = projection.weight.grad.clone(), list(model.state_dict())
    projection.weight.grad = None
    patches.install(model)
    found = model.model.visual.patch_embed(pixels)
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(projection.weight.grad, gradient)
    assert list(model.state_dict()) == names


def test_every_loaded_model_has_it_and_is_saved_as_before(plain_model, tmp_path):
    model = load_model(plain_model)
    assert type(model.model.visual.patch_embed.proj) is patches.Patches
    model.save_pretrained(tmp_path)
    stock = type(model).from_pretrained(tmp_path)
    assert type(stock.model.visual.patch_embed.proj) is nn.Conv3d
    assert torch.equal(stock.model.visual.patch_embed.proj.weight, model.model.visual.patch_embed.proj.weight)
