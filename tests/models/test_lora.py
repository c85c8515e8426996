"""An adapter: zero at first, off it is the base, merged it is an ordinary model; and through the stages."""
import copy

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from gre import manifest
from gre.config import UserError
from gre.models import lora
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
    lora.merge(model)
    assert not lora.adapted(model) and model.state_dict().keys() == base.state_dict().keys()
    assert torch.allclose(log_probs(model), trained, atol=1e-5)


def test_the_seed_draws_the_adapter(tiny_vlm):
    drawn = []
    for seed in (0, 0, 1):
        made = copy.deepcopy(tiny_vlm[0])
        torch.rand(seed + len(drawn))  # the ambient random state does not count
        lora.adapt(made, lora.LoraConfig(r=2), seed)
        drawn.append(made.state_dict()["model.language_model.layers.0.mlp.up_proj.lora_A.default.weight"])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_checkpoint_of_another_adapter_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    noise(model)
    lora.load(model, tmp_path)
    assert all((parameter == 0).all() for name, parameter in model.named_parameters() if "lora_B" in name)
    lora.merge(model)
    lora.adapt(model, lora.LoraConfig(r=2), 0)
    with pytest.raises(UserError, match="does not hold the adapter that model.lora describes"):
        lora.load(model, tmp_path)


@pytest.mark.slow
def test_stage1_hands_on_an_ordinary_model_and_goes_on_after_a_kill(cot, monkeypatch):
    steps = [*LORA, "train.max_steps=3", "train.save_steps=2", "train.per_device_batch_size=2"]
    run1(*steps)
    trained, base = load_model("run/stage1/model").state_dict(), load_model("base").state_dict()
    moved = {name for name in base if not torch.equal(trained[name], base[name])}
    assert moved == {name for name in base if "language_model" in name
                     and name.split(".")[-2] in lora.TEXT_LAYERS and name.endswith("weight")}
    assert not list((cot / "run/stage1/model").glob("adapter*"))
    stock = AutoModelForImageTextToText.from_pretrained("run/stage1/model").state_dict()
    assert all(torch.equal(stock[name], trained[name]) for name in trained)
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
    trained, base = (AutoModelForImageTextToText.from_pretrained(path) for path in ("run/stage1/model", "base"))
    assert trained.dtype == torch.bfloat16
    name = "model.language_model.layers.1.self_attn.q_proj.weight"
    assert not torch.equal(trained.get_parameter(name), base.get_parameter(name).bfloat16())


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
