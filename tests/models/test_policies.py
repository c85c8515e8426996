"""Every architecture a policy may have, on random weights: packed rows, photos, adapters, budgets and refusals."""
import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gre import manifest
from gre.config import UserError
from gre.judge.model import verdict_tokens
from gre.models import features, folder, lora, patches, tower
from gre.models.adapter import TEXT_LAYERS
from gre.models.attention import shared_prefix
from gre.models.packing import Group, unexpanded
from gre.models.scoring import score
from gre.models.vlm import (
    banned_tokens,
    encode_prompt,
    freeze_vision,
    load_model,
    load_processor,
    process_picture,
    prompt_ids,
)
from tests.helpers.plain_rows import assert_close, assert_same_gradients, make_groups, plain_scores
from tests.helpers.policies import POLICIES, make_policy

every = pytest.mark.parametrize("policy", POLICIES, indirect=True)
others = pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"qwen2_5_vl"}), indirect=True)
MADE = {}


@pytest.fixture
def policy(request):
    """(model with shared-prefix attention, processor), to be trained at will."""
    if request.param not in MADE:
        MADE[request.param] = make_policy(request.param)
    model, processor = MADE[request.param]
    model = copy.deepcopy(model)
    shared_prefix.install(model)
    patches.install(model)
    return model, processor


def stock_of(model):
    """The same weights as transformers runs them."""
    stock = copy.deepcopy(model)
    stock.set_attn_implementation("sdpa")
    for module in stock.modules():
        if type(module) is patches.Patches:
            module.__class__ = nn.Conv3d
    return stock


@pytest.mark.slow
@others  # tests/models/test_shared_prefix.py has Qwen2.5-VL
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_equal_plain_ones(policy, checkpointing):
    """Log-probs, entropies and the gradient of every weight, the tower's too."""
    shared, processor = policy
    stock, groups = stock_of(shared), make_groups(processor)
    if checkpointing:
        shared.train().gradient_checkpointing_enable({"use_reentrant": False})
    log_probs, entropies = plain_scores(stock, groups)
    ours = score(shared, groups)
    assert_close(ours.log_probs, log_probs)
    assert_close(ours.entropies, entropies)
    weights = torch.linspace(-1, 1, len(log_probs))
    (log_probs * weights).sum().backward()
    (ours.log_probs * weights).sum().backward()
    nothing = [name for name, _ in shared.named_parameters() if "vision_tower" in name and name.endswith("k_proj.bias")]
    for name, model in [(name, model) for name in nothing for model in (shared, stock)]:
        gradient = model.get_parameter(name).grad  # it adds one number to all scores of a query: only rounding is left
        assert gradient.abs().max() < 1e-6
        gradient.zero_()
    assert_same_gradients(shared, stock)
    assert all(weight.grad.any() for name, weight in shared.named_parameters() if name not in nothing)


@every
def test_photos_of_one_size_stay_apart(policy):
    """The photo of a group decides its log-probs, by all ways it takes into the text model."""
    model, processor = policy
    first, second = (encode_prompt(processor, "where?", Image.new("RGB", (64, 96), colour))
                     for colour in ("red", "blue"))
    groups = [Group(prompt, [torch.arange(30, 36)]) for prompt in (first, second, first)]
    with torch.no_grad():
        one, other, again = score(model, groups).log_probs.view(3, 6)
    assert torch.allclose(one, again, atol=1e-6) and not torch.allclose(one, other, atol=1e-4)


@every
def test_what_a_tower_that_is_not_trained_makes_of_a_photo_is_all_that_is_needed(policy):
    model, processor = policy
    freeze_vision(model)
    assert features.shared(model, None)
    groups = make_groups(processor)
    with features.kept(model, groups):
        by_pixels = score(model, groups).log_probs
    held = len(getattr(tower.modules(model)[0], "deepstack_merger_list", []))
    assert [len(group.prompt.features) for group in groups] == [1 + held] * 3
    seen = tower.modules(model)[0].register_forward_hook(lambda *_: pytest.fail("the tower was asked again"))
    by_features = score(model, groups).log_probs
    seen.remove()
    assert torch.equal(by_features, by_pixels)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for name, ours, reference in zip(names, torch.autograd.grad(by_features.sum(), weights),
                                     torch.autograd.grad(by_pixels.sum(), weights), strict=True):
        assert torch.equal(ours, reference), name


@every
def test_an_adapter_stands_beside_every_layer_of_the_text_model_and_none_of_the_tower(policy):
    model, processor = policy
    wanted = {f"model.language_model.layers.{i}.{part}.{name}" for i in range(3)
              for part, names in (("self_attn", TEXT_LAYERS[:4]), ("mlp", TEXT_LAYERS[4:])) for name in names}
    groups = make_groups(processor)
    before = score(model, groups).log_probs
    lora.adapt(model, lora.LoraConfig(r=2), seed=0)
    held = {name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name, _ in lora.weights(model)}
    assert held == wanted
    assert torch.equal(score(model, groups).log_probs, before)
    score(model, groups).log_probs.sum().backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == {
        name for name, _ in model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"internvl"}), indirect=True)
def test_the_first_layer_of_the_tower_is_its_convolution(policy):
    projection = policy[0].model.visual.patch_embed.proj
    pixels = torch.randn(10, *projection.weight.shape[1:])
    torch.testing.assert_close(projection(pixels), nn.Conv3d.forward(projection, pixels))


@every
def test_a_prompt_has_the_same_tokens_whoever_counts_them(policy, tmp_path):
    """encode_prompt, the same from pixels kept, without the photo, and transformers' own; within the stage's budget."""
    for part in policy:
        part.save_pretrained(tmp_path)
    processor = load_processor(tmp_path, max_pixels=20_000)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8))
    prompt = encode_prompt(processor, "where?", image)
    again = encode_prompt(processor, "where?", process_picture(processor, image))
    assert torch.equal(prompt.input_ids, again.input_ids) and torch.equal(prompt.pixel_values, again.pixel_values)
    assert torch.equal(prompt.mm_token_type_ids, again.mm_token_type_ids)
    short, whole = prompt_ids(processor, "where?", 200, 300)
    assert whole == prompt.input_ids.tolist() and short.count(processor.image_token_id) == 1
    turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "where?"}]}
    own = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=True, return_dict=True,
                                        return_tensors="pt", processor_kwargs={"return_mm_token_type_ids": True})
    for name in ("input_ids", "mm_token_type_ids", "pixel_values", "image_grid_thw"):
        ours = getattr(prompt, name)
        assert ours is None and name not in own or torch.equal(ours, own[name].view_as(ours)), name
    assert unexpanded(prompt) == short
    visual = whole.count(processor.image_token_id)
    whole_photo = 56**2 if tower.tiled(processor) else 0  # one more tile
    assert 10_000 < visual * tower.token_pixels(processor) - whole_photo <= 20_000
    assert len(whole) - len(short) + 1 <= tower.most_tokens(processor)
    with pytest.raises(UserError, match="30000 pixels at least and 20000 at most: set model.min_pixels too"):
        load_processor(tmp_path, 30_000, 20_000)


@every
def test_neither_a_photos_tokens_nor_control_tokens_are_drawn(policy):
    model, processor = policy
    banned = banned_tokens(processor.tokenizer, model.config.text_config.vocab_size)
    control = processor.image_token_ids + processor.tokenizer.convert_tokens_to_ids(
        [processor.video_token, "<|im_start|>"])
    assert banned[control].all() and not banned[processor.tokenizer.eos_token_id]
    assert [len(verdict_tokens(processor.tokenizer, verdict)) > 0 for verdict in (True, False)] == [True, True]


@every
def test_the_limit_of_a_released_folder_is_no_budget(policy, tmp_path):
    """16,384 tokens a photo; a stage without a budget takes 1,280. InternVL's tiles are one."""
    model, processor = policy
    if tower.tiled(processor):
        for part in policy:
            part.save_pretrained(tmp_path)
        budget = manifest.verify_parent(str(tmp_path), {manifest.BASE}).pixel_budget
        assert (budget.min_pixels, budget.max_pixels) == (56**2, 6 * 56**2)
        return
    side = processor.image_processor.patch_size * 2
    processor = copy.deepcopy(processor)
    processor.image_processor.size = {"shortest_edge": 4 * side**2, "longest_edge": 16_384 * side**2}
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    budget = manifest.verify_parent(str(tmp_path), {manifest.BASE}).pixel_budget
    assert (budget.min_pixels, budget.max_pixels) == (4 * side**2, 1_280 * side**2)
    assert folder.MODEL_TYPES[model.config.model_type]
    load_model(tmp_path)


@pytest.mark.parametrize("kind", folder.REFUSED)
def test_what_was_not_shown_is_refused_by_name(plain_model, tmp_path, kind):
    for file in plain_model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((plain_model / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    with pytest.raises(UserError) as error:
        folder.check(tmp_path)
    assert f"a model of type {kind!r}" in str(error.value) and folder.REFUSED[kind] in str(error.value)
