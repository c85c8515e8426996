"""An adapter: zero at first, off it is the base; handed on beside its base, joined with the next one, merged once."""
import copy
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from gre import config, export, manifest
from gre.config import UserError
from gre.models import adapter, lora
from gre.models.attention import shared_prefix
from gre.models.packing import Group
from gre.models.scoring import score
from gre.models.vlm import encode_prompt, load_model
from gre.training.sft import SFTTrainer
from gre.training.stage import Stage
from gre.training.trainer import checkpoints
from stages import stage1, stage3
from tests.helpers.resuming import Killed, lines
from tests.helpers.stages import run1, run3, write_stage
from tests.helpers.zero_ranks import lengths

LORA = ["model.lora.r=4", "model.lora.alpha=8"]


@pytest.fixture
def model(tiny_vlm):
    """With an adapter whose second factor is no longer zero."""
    made = copy.deepcopy(tiny_vlm[0])
    shared_prefix.install(made)
    lora.adapt(made, lora.LoraConfig(r=4, alpha=8), seed=0)
    return made


def noise(model):
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))


@pytest.fixture
def log_probs(tiny_vlm):
    prompt = encode_prompt(tiny_vlm[1], "where?", Image.new("RGB", (56, 56), (9, 99, 200)))
    groups = [Group(prompt, [torch.tensor([40, 50, 60]), torch.tensor([70, 80])])]
    return lambda model: score(model.eval(), groups).log_probs.detach()


def test_on_off_and_merged(tiny_vlm, model, log_probs):
    base = copy.deepcopy(tiny_vlm[0])
    shared_prefix.install(base)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    # Two factors beside seven layers of each of two text layers; gate_proj and others exist in the vision tower too.
    assert len(names) == 2 * 7 * 2 and all("language_model" in name for name in names)
    assert sum(isinstance(module, torch.nn.Linear) for module in base.model.language_model.modules()) == 2 * 7
    assert torch.equal(log_probs(model), log_probs(base))
    noise(model)
    trained = log_probs(model)
    assert (trained - log_probs(base)).abs().max() > 0.01
    with lora.off(model):
        assert torch.equal(log_probs(model), log_probs(base))
    assert torch.equal(log_probs(model), trained)
    assert all(model.get_parameter(name).requires_grad for name in names)


def hand_on(model, base, folder):
    """`model` as base and adapter, as a stage writes it, without its processor."""
    base.save_pretrained(folder / "base")
    adapter.write(dict(lora.weights(model)), folder)


def test_handed_on_it_is_joined_with_the_next_one_and_merged_once(tiny_vlm, model, log_probs, tmp_path):
    noise(model)
    trained = log_probs(model)
    hand_on(model, tiny_vlm[0], tmp_path / "first")
    child = load_model(tmp_path / "first")
    assert adapter.rank(tmp_path / "first") == 4
    torch.testing.assert_close(log_probs(child), trained, atol=1e-5, rtol=0)
    assert child.state_dict().keys() == tiny_vlm[0].state_dict().keys()
    assert not any("lora" in name for name, _ in child.named_parameters())
    lora.adapt(child, lora.LoraConfig(r=2, alpha=6), seed=1)
    noise(child)
    with lora.off(child):  # the reference of RL: the parent
        torch.testing.assert_close(log_probs(child), trained, atol=1e-5, rtol=0)
    further = log_probs(child)
    assert (further - trained).abs().max() > 0.01
    hand_on(child, tiny_vlm[0], tmp_path / "second")
    grandchild = load_model(tmp_path / "second")
    assert adapter.rank(tmp_path / "second") == 6
    torch.testing.assert_close(log_probs(grandchild), further, atol=1e-5, rtol=0)
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "second/base")
    stock.load_adapter(str(tmp_path / "second"))  # peft reads it as one of its own
    shared_prefix.install(stock)
    torch.testing.assert_close(log_probs(stock), further, atol=1e-5, rtol=0)
    assert lora.merge(grandchild) < 1e-6
    assert {type(layer) for layer in grandchild.model.language_model.modules() if isinstance(layer, torch.nn.Linear)
            } == {torch.nn.Linear}
    torch.testing.assert_close(log_probs(grandchild), further, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1e-5, 1e-4, 3e-4, 1e-3])
def test_an_adapter_handed_on_in_bfloat16_keeps_small_changes(tiny_vlm, log_probs, tmp_path, size):
    """The same change merged into bfloat16 weights is mostly gone."""
    tiny_vlm[0].save_pretrained(tmp_path)
    base, exact = (load_model(tmp_path, torch.bfloat16) for _ in range(2))
    lora.adapt(exact, lora.LoraConfig(r=4, alpha=4), seed=0)
    for name, parameter in exact.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size, generator=torch.Generator().manual_seed(len(name)))
    hand_on(exact, base, tmp_path / "on")
    handed_on, merged = (load_model(tmp_path / "on", torch.bfloat16) for _ in range(2))
    lora.merge(merged)
    before = log_probs(base.double())
    changes = [log_probs(each.double()) - before for each in (exact, handed_on, merged)]
    kept, rounded = (float(torch.corrcoef(torch.stack([changes[0], change]))[0, 1]) for change in changes[1:])
    assert kept > 0.99 and (rounded < 0.9 or size > 1e-5)


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda weights: {name: tensor for name, tensor in weights.items() if "layers.1.mlp.up_proj.lora_B" not in name},
     "layers.1.mlp.up_proj is no linear layer .* or lacks one of its two factors"),
    (lambda weights: {name: tensor[:, :4] if "k_proj.lora_A" in name else tensor for name, tensor in weights.items()},
     "k_proj are of another shape than its weight in base/"),
    (lambda weights: {name.replace("o_proj", "oh_proj"): tensor for name, tensor in weights.items()},
     "oh_proj is no linear layer")])
def test_an_adapter_that_does_not_fit_is_refused(tiny_vlm, model, tmp_path, spoil, message):
    tiny_vlm[0].save_pretrained(tmp_path / "base")
    adapter.write(spoil(dict(lora.weights(model))), tmp_path)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("more", [{"use_dora": True}, {"rank_pattern": {"q_proj": 8}}, {"peft_type": "IA3"}])
def test_an_adapter_of_another_kind_is_refused(tiny_vlm, model, tmp_path, more):
    hand_on(model, tiny_vlm[0], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **more}))
    with pytest.raises(UserError, match="another kind than plain LoRA"):
        load_model(tmp_path)


def test_the_seed_draws_the_adapter(tiny_vlm):
    drawn = []
    for seed in (0, 0, 1):
        made = copy.deepcopy(tiny_vlm[0])
        torch.rand(seed + len(drawn))  # the ambient random state does not count
        lora.adapt(made, lora.LoraConfig(r=2), seed)
        drawn.append(made.state_dict()["model.language_model.layers.0.mlp.up_proj.lora_A.default.weight"])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_checkpoint_of_another_adapter_is_refused(tiny_vlm, model, tmp_path):
    model.save_pretrained(tmp_path)
    noise(model)
    lora.load(model, tmp_path)
    assert all((parameter == 0).all() for name, parameter in model.named_parameters() if "lora_B" in name)
    other = copy.deepcopy(tiny_vlm[0])
    lora.adapt(other, lora.LoraConfig(r=2), 0)
    with pytest.raises(UserError, match="does not hold the adapter that model.lora describes"):
        lora.load(other, tmp_path)


@pytest.mark.slow
def test_stage1_hands_on_base_and_adapter_and_goes_on_after_a_kill(cot, monkeypatch, capsys):
    steps = [*LORA, "train.max_steps=3", "train.save_steps=2", "train.per_device_batch_size=2"]
    run1(*steps)
    trained, base = load_model("run/stage1/model/base").state_dict(), load_model("base").state_dict()
    assert all(torch.equal(trained[name], base[name]) for name in base)
    assert adapter.rank("run/stage1/model") == 4
    monkeypatch.setattr("sys.argv", ["export", "model=run/stage1", "out=plain", "dtype=float32"])
    config.main(export.run, export.Config)
    assert "plain: stage1 of run/stage1 in float32, its adapter merged" in capsys.readouterr().out
    assert "> Where is this?" in (cot / "plain/README.md").read_text()
    stock = AutoModelForImageTextToText.from_pretrained("plain").state_dict()
    moved = {name for name in base if not torch.equal(stock[name], base[name])}
    assert moved == {name for name in base if "language_model" in name
                     and name.split(".")[-2] in adapter.TEXT_LAYERS and name.endswith("weight")}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Stage, "hand_on", lambda *_, **__: (_ for _ in ()).throw(Killed))
        run1(*steps, "output_dir=run/again")
    saved = checkpoints.in_order(cot / "run/again/checkpoints")[-1]
    assert all("lora" in name for name in load_file(saved / "adapter_model.safetensors"))
    assert not (saved / "model.safetensors").exists()
    run1(*steps, "output_dir=run/again")
    sha256 = [manifest.read_manifest(cot / "run" / name)["model_sha256"] for name in ("stage1", "again")]
    assert sha256[0] == sha256[1]
    assert lines(cot / "run/again/metrics.jsonl") == lines(cot / "run/stage1/metrics.jsonl")


@pytest.mark.slow
def test_frozen_weights_are_bfloat16_and_the_adapter_float32(cot, monkeypatch):
    seen = {}
    monkeypatch.setattr(stage1, "SFTTrainer", lambda model, *arguments, **keys: (
        seen.update({name: parameter.dtype for name, parameter in model.named_parameters()}),
        SFTTrainer(model, *arguments, **keys))[1])
    run1(*LORA, "train.bf16=true", "model.gradient_checkpointing=true", "train.per_device_batch_size=2")
    assert {dtype for name, dtype in seen.items() if "lora" in name} == {torch.float32}
    assert {dtype for name, dtype in seen.items() if "lora" not in name} == {torch.bfloat16}
    trained, base = (AutoModelForImageTextToText.from_pretrained(path) for path in ("run/stage1/model/base", "base"))
    assert trained.dtype == torch.bfloat16
    name = "model.language_model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(trained.get_parameter(name), base.get_parameter(name).bfloat16())
    assert {each.dtype for each in load_file("run/stage1/model/adapter_model.safetensors").values()} == {torch.float32}


@pytest.mark.slow
def test_in_rl_the_reference_is_the_policy_without_its_adapter(workplace, vlm, monkeypatch):
    write_stage(vlm, "stage2", {})
    loaded = []
    monkeypatch.setattr(Stage, "load_frozen", lambda *arguments: loaded.append(arguments))
    monkeypatch.setattr(stage3, "format_rewards", lengths)
    run3(*LORA, "train.max_steps=3", "train.warmup_steps=0")
    logs = lines(workplace / "run/stage3/metrics.jsonl")
    assert loaded == [] and logs[0]["kl"] == 0 and logs[1]["kl"] > 0 and logs[0]["grad_norm"] > 0
    child = manifest.verify_parent("run/stage3", {"stage3"})
    assert load_model(child.model_dir).state_dict().keys() == load_model("base").state_dict().keys()
    again = ["model_name_or_path=run/stage3", "accept_parent=any", "train.max_steps=2", "train.warmup_steps=0"]
    run3(*LORA, *again, "output_dir=run/further")  # from an adapter, by another one
    logs = lines(workplace / "run/further/metrics.jsonl")
    assert loaded == [] and logs[0]["kl"] == 0 and logs[1]["kl"] > 0
    assert adapter.rank("run/further/model") == 8
    with pytest.raises(UserError, match="model.lora.r=0 would train the base beside it: set model.lora.r"):
        run3(*again, "output_dir=run/whole")
