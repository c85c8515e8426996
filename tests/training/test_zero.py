"""DeepSpeed on two processes: the numbers of one, whole models handed on, and a killed run that goes on."""
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from gre import manifest
from gre.answering.engines import Decoding, by_transformers
from gre.answering.vllm_offline import by_vllm
from gre.config import UserError, load
from gre.models import lora, zero
from gre.models.folder import weights_folder
from gre.models.vlm import PixelBudget, load_model
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.stage import save_model
from stages import stage1
from tests.helpers.paths import ROOT
from tests.helpers.resuming import lines
from tests.helpers.two_ranks import said
from tests.helpers.zero_jobs import COMPILER, LORA, UNTIED, engine, job
from tests.helpers.zero_ranks import run

needs_compiler = pytest.mark.skipif(not COMPILER, reason="DeepSpeed builds its CPU operators, by a C++ compiler")


@pytest.fixture
def ran(zero_ranks_folder, monkeypatch):
    """The current folder, in which every job ran on two processes."""
    monkeypatch.chdir(zero_ranks_folder)
    return zero_ranks_folder


def steps(folder):
    """(loss, norm of the gradient) of every step."""
    return [(line["loss"], line["grad_norm"]) for line in lines(folder / "metrics.jsonl") if "loss" in line]


def tokens(folder, call):
    """{row: tokens of its completions} of all processes' `call`-th rollout."""
    return {row: words for path in sorted(folder.glob("tokens-*.jsonl"))
            for row, words in json.loads(path.read_text().splitlines()[call]).items()}


def alone(ran, stage, *keys):
    """The folder of the same steps on one process."""
    folder = ran / "out" / "_".join(["one", *(key.split("=")[-1] for key in keys), stage])
    if not folder.exists():
        run(*job(folder.name, 4, *keys))
    return folder


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("name", "keys"), [
    ("zero3_stage3", []), ("zero2_stage3", []), ("zero3_offload_stage3", []), ("zero3_stage2", []),
    ("zero2_stage2", []), ("zero3_judge", []), ("zero2_judge", []), ("lora_judge", LORA),
    ("zero3_untied_stage1", [UNTIED]), ("zero2_offload_stage1", []), ("lora_untied_stage1", [UNTIED, *LORA]),
    ("lora_stage3", LORA), ("cut_stage3", []), ("cut_stage1", [])])
def test_the_numbers_of_one_process(ran, name, keys):
    """Loss and norm of each step, the first step's tokens, and the weights handed on."""
    folder, stage = ran / "out" / name, name.split("_")[-1]
    one = alone(ran, stage, *keys)
    assert len(steps(folder)) == 3 and all(norm > 0 for _, norm in steps(folder))
    for ours, theirs in zip(steps(folder), steps(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    if stage in ("stage2", "stage3"):
        assert len(tokens(one, 0)) == 4 and tokens(folder, 0) == tokens(one, 0)
    ours, theirs, base = (merged(path) for path in (
        folder / "model", one / "model", ran / ("untied" if UNTIED in keys else "base")))
    assert ours.keys() == theirs.keys() == base.keys()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in ours)  # Adam's first steps are signs
    assert any(not torch.equal(ours[key], base[key]) for key in ours)


def merged(folder):
    """The weights of a model folder, its adapter among them."""
    model = load_model(folder)
    lora.merge(model)
    return model.state_dict()


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["zero3_stage3", "zero2_stage2", "zero3_judge", "zero3_untied_stage1", "bf16_stage1",
                                  "zero3_offload_stage3", "lora_judge", "lora_untied_stage1"])
def test_whole_models_are_handed_on(ran, name):
    """Tied and untied, in the type they were trained in, loaded by transformers alone."""
    folder = weights_folder(ran / "out" / name / "model")
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert model.dtype == (torch.bfloat16 if name.startswith("bf16") else torch.float32)
    tied = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tied == ("untied" not in name)
    assert AutoProcessor.from_pretrained(folder).chat_template and GenerationConfig.from_pretrained(folder).eos_token_id
    assert manifest.check_model(folder) and not list(folder.glob("*.bin"))
    assert (folder.name == "base") == ("lora" in name)


@pytest.mark.slow
@needs_compiler
def test_only_those_who_must_hold_a_copy_of_the_model_to_save_it(ran):
    """Under ZeRO-2 every process has all weights, and one writes them, in checkpoints and at the end."""
    assert {name: len(list((ran / "out" / name).glob("gathered-*"))) for name in (
        "zero3_stage3", "zero2_stage3", "zero2_judge", "cut_stage1")} == {
        "zero3_stage3": 2, "zero2_stage3": 1, "zero2_judge": 1, "cut_stage1": 1}
    assert (ran / "out/zero2_stage3/gathered-0").exists()


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("cut", "whole"), [("killed", "zero3"), ("lora_stopped", "lora")])
def test_a_run_that_was_cut_goes_on_to_the_same_weights(ran, cut, whole):
    """One of two processes is killed before the third rollout, or told to stop in the second step: no row is lost, none
    is trained on twice."""
    assert f"resuming from out/{cut}_stage3/checkpoints/checkpoint-2" in said(ran)
    cut, whole = (ran / "out" / f"{name}_stage3" for name in (cut, whole))
    assert lines(cut / "metrics.jsonl") == lines(whole / "metrics.jsonl")
    assert (cut / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    assert [tokens(cut, call) for call in range(3)] == [tokens(whole, call) for call in range(3)]
    assert manifest.read_manifest(cut)["model_sha256"] == manifest.read_manifest(whole)["model_sha256"]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["lora_judge", "lora_untied_stage1"])
def test_vllm_loads_what_is_handed_on(ran, name):
    """Tied and untied, with an adapter beside them: its greedy answer is that of transformers."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    folder, budget = ran / "out" / name / "model", PixelBudget(28 * 28, 112 * 112)
    decoding = Decoding(max_new_tokens=8, samples=1, temperature=0.0, seed=0)
    asked = [["Where is this?"], [Image.new("RGB", (56, 84), (90, 120, 200))], [0]]
    answers = [engine(folder, budget, decoding, "float32", last)(*asked) for engine, last in (
        (by_vllm, asked[0]), (by_transformers, 1))]
    assert answers[0] == answers[1] and answers[0][0][0].text


@pytest.mark.slow
@needs_compiler
def test_positions_stay_exact_where_weights_are_bfloat16(ran):
    """Split by ZeRO-3 as the model is built, in DeepSpeed's engine, and by a config that would round them: refused."""
    printed = said(ran)
    assert printed.count("built: exact, in the engine: exact") == 2
    assert printed.count("refused: DeepSpeed would round the positions to the training type") == 2


def test_a_split_model_is_made_whole_by_its_engine_only():
    parameter = SimpleNamespace(ds_id=0)
    with pytest.raises(ValueError, match="pass the engine, not its module"), zero.whole(
            SimpleNamespace(parameters=lambda: [parameter])):
        pass


def test_a_tied_weight_is_written_once(tiny_vlm, tmp_path):
    """ZeRO-2 hands out copies, in which the head is no longer the embedding."""
    model, processor = tiny_vlm
    copies = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert "lm_head.weight" in copies
    trainer = SimpleNamespace(model=model, model_wrapped=model, is_world_process_zero=lambda: True, accelerator=(
        SimpleNamespace(get_state_dict=lambda _: copies, unwrap_model=lambda model: model)))
    save_model(trainer, processor, tmp_path)
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "lm_head" in name]
    assert manifest.check_model(tmp_path / "model")


@pytest.mark.slow
@needs_compiler
def test_one_process_needs_no_launcher(ran):
    """As stage.sh starts the stage on one GPU."""
    environment = {name: text for name, text in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    code = ("import runpy; from tests.helpers.two_ranks import compile_less; compile_less(); "
            "runpy.run_module('stages.stage1', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code, *job("alone_stage1", 4, engine("zero2"))[1]],
                          capture_output=True, text=True, env={**environment, "PYTHONPATH": str(ROOT),
                                                               "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    found, one = steps(ran / "out/alone_stage1"), steps(alone(ran, "stage1"))
    assert len(found) == len(one) == 3
    assert all(ours == pytest.approx(theirs, rel=1e-5, abs=1e-5) for ours, theirs in zip(found, one, strict=True))


def test_what_deepspeed_would_do_silently_is_refused(tmp_path):
    def arguments(content):
        (tmp_path / "ds.json").write_text(content)
        training_arguments(TrainConfig(deepspeed=str(tmp_path / "ds.json")), tmp_path, seed=0)

    for content, message in (('{"zero_optimization": {"stage": 3}}', "no weights would be saved"),
                             ("{}", "no DeepSpeed config with zero_optimization.stage"), ("[", "no DeepSpeed config")):
        with pytest.raises(UserError, match=message):
            arguments(content)
    with pytest.raises(UserError, match="there is no DeepSpeed config none.json"):
        training_arguments(TrainConfig(deepspeed="none.json"), tmp_path, seed=0)


def test_an_adapter_under_zero3_is_refused(tiny_vlm, monkeypatch):
    monkeypatch.setattr(lora, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(UserError, match="not trained under ZeRO-3: set train.deepspeed=configs/deepspeed/zero2.json"):
        lora.adapt(tiny_vlm[0], load(stage1.Config, ["output_dir=a", "model_name_or_path=b"]).model.lora, 0)
