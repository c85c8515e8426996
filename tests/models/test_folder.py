"""What a stage starts from is asked for all that is asked of what it hands on, before anything is trained."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from eval import predict
from gre import manifest
from gre.config import UserError
from gre.models import folder
from gre.models.vlm import load_processor
from tests.helpers.stages import run1, run2


def edit(path, **changes):
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**content, **changes}))


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def a_tokenizer_that_cannot_spell(folder):
    """It makes an unknown token of everything, which an interrupted conversion leaves."""
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    empty = Tokenizer(models.BPE())
    empty.add_special_tokens([token.content for token in own.get_added_tokens_decoder().values()])
    empty.save(str(folder / "tokenizer.json"))


def without_processor(folder):
    (folder / "processor_config.json").unlink()


def without_template(folder):
    (folder / "chat_template.jinja").unlink()


def a_text_models_template(folder):
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}")


def a_template_that_drops_photos(folder):
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for part in m['content'] %}{{ part.get('text', '') }}{% endfor %}{% endfor %}")


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def a_pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 16\n")


def an_empty_file(folder):
    (folder / "model.safetensors").write_bytes(b"")


def an_error_page(folder):
    (folder / "model.safetensors").write_text("<html><body>504 Gateway Time-out</body></html>")


def a_missing_shard(folder):
    """Two files and an index, one of the files gone."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, held in list(parts.items())[:1]:
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {name: file for file, held in parts.items() for name in held}}))


def pickled_weights(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def an_adapter(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct"}')


def a_checkpoint(folder):
    (folder / "trainer_state.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    (folder / "processor_config.json").unlink()


def half_a_config(folder):
    (folder / "config.json").write_text((folder / "config.json").read_text()[:100])


def another_kind_of_model(folder):
    edit(folder / "config.json", model_type="qwen2")


def an_internvl_of_another_text_model(folder):
    edit(folder / "config.json", model_type="internvl", text_config={"model_type": "qwen3"})


def quantised(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4})


def an_adapter_beside(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "x", "peft_type": "LORA"}')


def an_adapter_without_its_base(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "base", "peft_type": "LORA", "r": 4}')
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def weights_elsewhere(folder):
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub/model.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "sub/model.safetensors"}}')


def another_image_token(folder):
    edit(folder / "config.json", image_token_id=5)


def of_image_processor(folder, **changes):
    own = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    edit(folder / "processor_config.json", image_processor={**own, **changes})


def other_patches(folder):
    of_image_processor(folder, patch_size=16)


def clips_processor(folder):
    of_image_processor(folder, image_processor_type="CLIPImageProcessor")


def a_template_without_the_assistant(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("add_generation_prompt", "false"))


def a_thinking_models_template(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"))


def layers_that_do_not_agree(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder / "config.json", text_config={**text, "num_hidden_layers": 9})


DAMAGES = {
    an_internvl_of_another_text_model: r"base holds an InternVL whose text model is 'qwen3': only those of qwen2 can",
    quantised: r"base holds quantised weights \(awq\), which are not trained or asked here: name the model",
    an_adapter_beside: r"base holds an adapter beside its model \(adapter_config.json\), and transformers would load",
    an_adapter_without_its_base: r"base holds an adapter that a stage handed on, without its base/: take the whole",
    weights_elsewhere: r"names weights outside the folder \(sub/model.safetensors\), which no identity would cover",
    another_image_token: r"base: image_token_id of its processor is \d+, and of its config.json 5",
    other_patches: r"base: patch_size of its processor is 16, and of its config.json 14",
    clips_processor: r"base: its photos are read by a CLIPImageProcessor",
    a_template_without_the_assistant: r"base: its chat template never begins the assistant's turn",
    a_thinking_models_template: r"base: its chat template opens <think> for the assistant, .*: take the Instruct model",
    layers_that_do_not_agree: r"base: its tokenizer and processor do not load \(.*validate_layer_type",
    without_tokenizer: r"base lacks tokenizer.json: the download is not whole",
    a_tokenizer_that_cannot_spell: r"base: its tokenizer makes '' of 'Île de Sein",
    without_processor: r"base lacks preprocessor_config.json",
    without_template: r"base has no chat template, neither in chat_template.jinja or .json nor in tokenizer_config",
    a_text_models_template: r"base: its chat template takes no turn with a photo",
    a_template_that_drops_photos: r"base: its chat template leaves 0 places for the photo of a turn",
    truncated: r"model.safetensors has \d+ bytes and should have \d+: the download is not whole",
    a_pointer: r"model.safetensors is a pointer of git-lfs, not the weights: run `git lfs pull`",
    an_empty_file: r"model.safetensors is no safetensors file \(0 bytes\)",
    an_error_page: r"model.safetensors is no safetensors file",
    a_missing_shard: r"base lacks 1 of 2 files of weights \(model-00002-of-00002.safetensors\)",
    pickled_weights: r"base holds weights as pickles \(pytorch_model.bin\), which run code",
    an_adapter: r"base is an adapter without its base model \(Qwen/Qwen2.5-VL-7B-Instruct\): merge the two",
    a_checkpoint: r"base is a checkpoint of a training that was not finished, without tokenizer.json and preproc",
    half_a_config: r"config.json is not JSON",
    another_kind_of_model: r"base holds a model of type 'qwen2': this code trains and asks Qwen2.5-VL, .* only$",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_base_that_is_not_whole_is_refused_before_training(cot, damage):
    damage(cot / "base")
    with pytest.raises(UserError, match=DAMAGES[damage]):
        run1()
    assert not (cot / "run").exists()


@pytest.mark.parametrize("damage", [without_tokenizer, a_pointer, a_text_models_template],
                         ids=lambda damage: damage.__name__)
def test_so_are_a_judge_and_an_evaluated_folder(workplace, damage):
    message = DAMAGES[damage].replace("base", "model")
    shutil.copytree("run/judge/model", "copied")
    damage(workplace / "run/judge/model")
    with pytest.raises(UserError, match=message):
        run2("accept_parent=any")
    damage(workplace / "copied")
    with pytest.raises(UserError, match=DAMAGES[damage].replace("base", "copied")):
        predict.run(predict.Config(model="copied", data="seed/seed.jsonl", out="out.jsonl"))


@pytest.mark.parametrize("text, said", [({"vocab_size": 100}, "mismatched_keys"), ({"hidden_size": 77}, "hidden_size")])
def test_weights_of_another_shape_are_named(cot, text, said):
    edit("base/config.json", text_config={**json.loads(Path("base/config.json").read_text())["text_config"], **text})
    with pytest.raises(UserError, match=f"base.*config.json.*{said}"):
        run1()


def test_a_file_of_a_model_is_told_from_its_folder():
    with pytest.raises(UserError, match="config.json is a file: name the folder it lies in, gre/tiny/base"):
        folder.check(Path("gre/tiny/base/config.json"))


def test_a_template_in_the_tokenizers_config_is_taken(cot):
    template = (cot / "base/chat_template.jinja").read_text()
    (cot / "base/chat_template.jinja").unlink()
    edit("base/tokenizer_config.json", chat_template=template)
    assert load_processor("base").chat_template == template


@pytest.mark.slow
def test_a_model_copied_away_keeps_its_pixel_budget(cot):
    run1("model.max_pixels=6272")
    shutil.copytree("run/stage1/model", "copied")
    parent = manifest.verify_parent("copied", {manifest.BASE})
    assert parent.pixel_budget.max_pixels == 6272 and parent.manifest is None
    assert manifest.child_budget(parent, None, None).max_pixels == 6272


def test_qwens_own_limit_is_no_budget(cot):
    edit("base/processor_config.json", image_processor={
        **json.loads(Path("base/processor_config.json").read_text())["image_processor"],
        "size": {"shortest_edge": 3136, "longest_edge": 12_845_056}})
    assert manifest.verify_parent("base", {manifest.BASE}).pixel_budget.max_pixels == 1_003_520


def test_what_is_loaded_decides_the_identity(plain_model, tmp_path):
    """A stray pickle beside safetensors is never loaded and does not count; of an old folder it is all that is."""
    shutil.copytree(plain_model, tmp_path / "both")
    (tmp_path / "both/pytorch_model.bin").write_bytes(b"stray")
    assert manifest.model_hash(tmp_path / "both") == manifest.model_hash(plain_model)
    (tmp_path / "both/model.safetensors").unlink()
    first = manifest.model_hash(tmp_path / "both")
    (tmp_path / "both/pytorch_model.bin").write_bytes(b"other")
    assert manifest.model_hash(tmp_path / "both") != first


def test_it_needs_no_torch():
    code = "import sys, gre.models.folder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
