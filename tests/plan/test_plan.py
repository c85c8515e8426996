"""The planner: counts against transformers' own modules, sums by hand, what fits and what is said when it does not."""
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from gre.config import ConfigError, UserError
from gre.models.shapes import PUBLISHED, Shape, read_shape
from gre.plan.__main__ import Config as PlanConfig
from gre.plan.__main__ import config_file, main
from gre.plan.memory import (
    ASLEEP_BYTES,
    COMMUNICATOR_BYTES,
    CONTEXT_BYTES,
    GIB,
    Batch,
    Engine,
    Job,
    host_bytes,
    moments,
    parts,
    peak,
    reserve,
)
from gre.plan.work import forward_flops, work
from gre.training.inputs import stage_of
from tests.helpers.paths import ROOT

SEVEN = PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"]
COUNTS = {"3B": 3_754_622_976, "7B": 8_292_166_656, "32B": 33_452_718_336, "72B": 73_410_777_344}
# Eight weights in all would be hard to check by hand: a text model of width 4 and one layer, a vision tower of width 2.
SMALL = Shape(hidden=4, intermediate=8, layers=1, heads=2, kv_heads=1, vocab=10, tied=False, vision_intermediate=3,
              vision_hidden=2, vision_depth=1, vision_full_attention=1, window_tokens=4)


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    assert PUBLISHED[f"Qwen/Qwen2.5-VL-{name}-Instruct"].parameters == COUNTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["3B", "7B"])
def test_counts_are_those_of_transformers(name):
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    shape = PUBLISHED[f"Qwen/Qwen2.5-VL-{name}-Instruct"]
    config = Qwen2_5_VLConfig(
        text_config=dict(hidden_size=shape.hidden, intermediate_size=shape.intermediate, vocab_size=shape.vocab,
                         num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
                         num_key_value_heads=shape.kv_heads, tie_word_embeddings=shape.tied),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=shape.vision_intermediate,
                           depth=shape.vision_depth, num_heads=16, out_hidden_size=shape.hidden),
        tie_word_embeddings=shape.tied)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.tie_weights()
    assert sum(p.numel() for p in model.parameters()) == shape.parameters
    assert sum(p.numel() for p in model.model.visual.parameters()) == shape.vision_parameters


def test_a_local_config_is_read(tmp_path):
    from safetensors import safe_open

    tiny = read_shape(ROOT / "gre/tiny/base/config.json")
    with safe_open(ROOT / "gre/tiny/base/model.safetensors", "np") as weights:
        sizes = [weights.get_slice(name).get_shape() for name in weights.keys()]
    count = 0
    for size in sizes:
        product = 1
        for side in size:
            product *= side
        count += product
    assert tiny.parameters == count
    # transformers 4 wrote the text model's keys at the top.
    config = json.loads((ROOT / "gre/tiny/base/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config.pop("text_config"), **config}))
    assert read_shape(tmp_path / "config.json") == tiny
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vision_config": {}}')
    with pytest.raises(UserError, match="describes a llama"):
        read_shape(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(UserError, match="no config.json of a model that .* .KeyError: 'vision_config'"):
        read_shape(tmp_path / "config.json")


def test_small_counts_by_hand():
    # q 4x4+4, k and v 4x2+2 each, o 4x4, three 4x8, two norms of 4.
    assert SMALL.layer_parameters == 20 + 10 + 10 + 16 + 96 + 8
    # patches 1176x2; block: qkv 2x6+6, proj 2x2+2, mlp 3x(2x3) + 3+3+2, norms 4; merger: norm 2, 8x8+8, 8x4+4.
    assert SMALL.vision_parameters == 2352 + (18 + 6 + 26 + 4) + (2 + 72 + 36)
    assert SMALL.parameters == 160 + 4 + 2 * 40 + 2516


BATCH = Batch(prompts=1, prompt=6, patches=16, completions=2, length=3, scored=3)


def test_a_row_by_hand():
    assert BATCH.tokens == 5 + 2 * 3 and BATCH.scored_tokens == 6


def test_parts_without_deepspeed_by_hand():
    found = parts(Job(SMALL, Engine(), BATCH, sampled=2, reference=4, judge=4, on_gpu=False))
    n = SMALL.parameters
    assert found["weights"] == 4 * n == found["gradients"] == found["reference"] == found["judge"]
    assert found["master weights and optimizer"] == 8 * n
    assert found["logits"] == 2 * 4 * 6 * 10 + 3 * 4 * 6 * 10  # logits and gradients; three of a chunk that holds all
    autocast = parts(Job(SMALL, Engine(bf16=True), BATCH))["logits"]
    assert autocast == found["logits"]  # handed out in float32
    # One layer's keys and values of width 2 in float32 for 2 x 9 tokens, twice while it grows; 40 bytes a word.
    assert found["rollout engine"] == 2 * (2 * 2 * 4 * 2 * 9) + 40 * 2 * 10
    assert "float32 gradients" not in found and "gathered weights" not in found


@pytest.mark.parametrize("zero, weights, optimizer, gradients", [
    (1, 2, 12 / 4, 2), (2, 2, 12 / 4, 2 / 4), (3, 2 / 4, 12 / 4, 2 / 4)])
def test_zero_splits_more_with_every_stage(zero, weights, optimizer, gradients):
    engine = Engine(ranks=4, zero=zero, bf16=True, live=0, bucket=0)
    found, n = parts(Job(SEVEN, engine, BATCH)), SEVEN.parameters
    assert found["weights"] == weights * n and found["master weights and optimizer"] == optimizer * n
    assert found["gradients"] == gradients * n + 2 * SEVEN.embedding_parameters  # one of them is reduced whole
    assert ("gathered weights" in found) == (zero == 3)


def test_offloading_moves_the_optimizer_to_the_machine():
    job = Job(SEVEN, Engine(ranks=4, zero=3, bf16=True, offload_optimizer=True, offload_weights=True), BATCH)
    assert not {"weights", "master weights and optimizer", "float32 gradients"} & parts(job).keys()
    assert host_bytes(job) == (16 + 2) * SEVEN.parameters / 4
    assert host_bytes(replace(job, engine=Engine(ranks=4, zero=3, bf16=True))) == 0


def test_checkpointing_freezing_and_shorter_rows_cost_less():
    job = Job(SEVEN, Engine(bf16=True), replace(BATCH, prompt=1000, patches=4000, length=500, scored=500))
    for cheaper in (replace(job, checkpointing=True), replace(job, frozen_vision=True),
                    replace(job, batch=replace(job.batch, length=250, scored=250)),
                    replace(job, engine=Engine(ranks=2, zero=3, bf16=True))):
        assert peak(cheaper)[1] < peak(job)[1]
    assert peak(replace(job, reference=2))[1] > peak(job)[1]


def test_autocast_keeps_casts_of_the_weights():
    plain = Job(replace(SMALL, vocab=10**6), Engine(), BATCH)
    casts = 2 * (plain.shape.parameters - plain.shape.embedding_parameters)
    cast = moments(replace(plain, sampled=2, engine=Engine(bf16=True), on_gpu=False))["rollout"]
    held = 12 * plain.shape.parameters
    rollout = parts(replace(plain, sampled=2, engine=Engine(bf16=True)))["rollout engine"]
    assert cast == held + casts + rollout


def test_an_adapter_by_hand():
    """q 4+4, k 4+2 and down 8+4 wide, rank 3, in one layer: 78 weights, which alone have gradients and moments."""
    adapter = SMALL.adapter_parameters(3, ["q_proj", "k_proj", "down_proj"])
    assert adapter == 3 * (8 + 6 + 12)
    job = Job(SMALL, Engine(bf16=True, adapter=adapter), BATCH, frozen_vision=True, reference=0, on_gpu=False)
    found, n = parts(job), SMALL.parameters
    assert found["weights"] == 2 * n + 4 * adapter and "reference" not in found  # frozen ones in bfloat16
    joined = parts(replace(job, engine=replace(job.engine, frozen_adapter=7)))
    assert joined == {**found, "weights": found["weights"] + 4 * 7}
    assert (found["gradients"], found["master weights and optimizer"]) == (4 * adapter, 8 * adapter)
    split = parts(replace(job, engine=replace(job.engine, zero=2, ranks=4, bucket=0)))
    assert split["weights"] == 2 * (n + adapter) and split["master weights and optimizer"] == 12 * adapter / 4
    once = forward_flops(SMALL, BATCH)
    assert work(job).flops == {"reference": once, "update": 2 * once}  # no gradients of frozen weights


def test_a_split_policy_is_whole_while_it_samples():
    job = Job(SMALL, Engine(ranks=4, zero=3, bf16=True, live=0), BATCH, sampled=2, on_gpu=False)
    found = parts(job)
    assert found["weights gathered to sample"] == 2 * SMALL.parameters
    assert moments(job)["rollout"] == sum(found[name] for name in (
        "weights", "weights gathered to sample", "master weights and optimizer", "gradients", "rollout engine"))


def test_flops_by_hand():
    text = 2 * 160 * 11 + 4 * 4 * (15 + 2 * (3 * 5 + 6))  # 5 prompt tokens see 15 pairs; a tail 3 x 5 and 6 of its own
    head = 2 * 40 * 6
    merger = 8 * (8 + 4)
    vision = 2 * (2516 - merger) * 16 + 2 * merger * 4 + 4 * 2 * (16 * 16)
    assert forward_flops(SMALL, BATCH) == text + head + vision
    done = work(Job(SMALL, Engine(ranks=2), BATCH, accumulation=3, checkpointing=True, sampled=2, reference=4))
    assert (done.prompts, done.tokens, done.scored_tokens) == (6, 66, 36)
    assert done.flops == {"rollout": 6 * (text + head + vision), "reference": 6 * (text + head + vision),
                          "update": 24 * (text + head + vision)}


def test_the_chunk_is_that_of_the_scoring():
    from gre.models.scoring import CHUNK_ENTRIES
    from gre.plan.memory import CHUNK_BYTES

    assert CHUNK_BYTES == 3 * 4 * CHUNK_ENTRIES


def test_help_and_refusals_load_no_torch():
    code = ("import atexit, sys; from gre.plan.__main__ import main; atexit.register("
            "lambda: print({'torch', 'transformers'} & set(sys.modules))); sys.exit(main(sys.argv[1:]))")
    for argv, status, said in ((["--help"], 0, "gpu_gib (float, required)"), (["gpus=8"], 2, "no value for gpu_gib"),
                               (["gpus=8", "gpu_gib=80"], 2, "one CONFIG.yaml is needed")):
        result = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == status and said in result.stdout + result.stderr
        assert result.stdout.strip().endswith("set()")


def test_which_stage_a_config_is_for(tmp_path):
    assert stage_of("configs/x/judge.yaml") == "judge" and stage_of("stage2_verdict_mine.yaml") == "stage2_verdict"
    mine = tmp_path / "mine.yaml"
    mine.write_text("# bash scripts/train/stage3.sh mine.yaml\noutput_dir: x\n")
    assert stage_of(mine) == "stage3"
    for other in ("", "output_dir: x\n# bash scripts/train/stage3.sh\n", "# bash scripts/train/stage33.sh\n"):
        mine.write_text(other)
        with pytest.raises(UserError, match="mine.yaml: which stage is it for"):
            stage_of(mine)
    with pytest.raises(ValueError, match="stage is 'stage4': write one of"):
        PlanConfig(gpus=1, gpu_gib=1, stage="stage4")
    with pytest.raises(ConfigError, match="a.yaml and b.yaml"):
        config_file(["a.yaml", "b.yaml"])


def plan(capsys, *argv):
    """(exit status, the JSON answer)."""
    status = main([*argv, "--json"])
    return status, json.loads(capsys.readouterr().out or "null")


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_the_recipe_fits_on_eight_and_not_on_a_small_one(here, capsys):
    status, answer = plan(capsys, "configs/gre7b/stage3.yaml", "gpus=8", "gpu_gib=80")
    assert status == 0 and answer["fits"] and answer["peak_gib"] <= 80 and answer["parameters"] == COUNTS["7B"]
    assert {"weights", "master weights and optimizer", "gradients", "activations", "logits", "rollout engine",
            "reference"} <= answer["parts"].keys()
    # 16 prompts of 1430 tokens but one, and 16 x 8 completions of 2048.
    assert (answer["prompts_per_step"], answer["scored_tokens_per_step"]) == (16, 16 * 8 * 2048)
    assert answer["tokens_per_step"] == 16 * (1429 + 8 * 2048)
    # Bfloat16 logits of one prompt's 8 x 2048 tokens over 152,064 words, twice, and 0.19 GiB of chunks: 9.5 GiB.
    assert answer["parts"]["logits"] == pytest.approx(2 * 2 * 8 * 2048 * 152064 / GIB + 0.1875, abs=0.01)
    status, answer = plan(capsys, "configs/gre7b/stage3.yaml", "gpus=1", "gpu_gib=24")
    assert status == 1 and not answer["fits"]
    changes = {change["change"] for change in answer["changes"]}
    assert {"gpus=2", "rollout.engine=transformers", "rollout.kv_cache_gib=2.0"} <= changes
    assert main(["configs/gre7b/stage3.yaml", "gpus=1", "gpu_gib=24"]) == 1
    assert "does not fit" in capsys.readouterr().out


def test_vllm_is_awake_in_the_rollout_alone(here, capsys):
    """auto is vLLM on a GPU: bfloat16 weights, 2 GiB of keys and values and 3 GiB for the rest."""
    settings = ["configs/gre7b/stage3.yaml", "gpus=8", "gpu_gib=80", "rollout.kv_cache_gib=2"]
    _, vllm = plan(capsys, *settings)
    _, own = plan(capsys, *settings, "rollout.engine=transformers")
    assert vllm["parts"]["rollout engine"] == pytest.approx(2 * COUNTS["7B"] / GIB + 2 + 3, abs=0.01)
    assert own["parts"]["rollout engine"] < 4
    asleep = vllm["moments"]["loss"] - own["moments"]["loss"]
    assert asleep == pytest.approx(1.03 * ASLEEP_BYTES / GIB, abs=0.02)


def test_a_budget_of_tokens_makes_passes_smaller_and_leaves_the_step(here, capsys):
    """Of 8 rows of 4095 tokens a budget of 3 rows makes 3 passes; they hold what 3 rows a micro-batch would."""
    settings = ["configs/gre7b/stage1.yaml", "gpus=8", "gpu_gib=80", "model.max_length=4096"]
    _, whole = plan(capsys, *settings, "train.per_device_batch_size=8")
    _, cut = plan(capsys, *settings, "train.per_device_batch_size=8", f"train.tokens_per_pass={3 * 4095 + 100}")
    _, three = plan(capsys, *settings, "train.per_device_batch_size=3")
    assert cut["parts"] == three["parts"] != whole["parts"]
    for same in ("prompts_per_step", "tokens_per_step", "scored_tokens_per_step"):
        assert cut[same] == whole[same]


@pytest.mark.parametrize("stage", ["stage1", "judge", "stage2", "stage2_verdict", "stage3"])
@pytest.mark.parametrize(("folder", "gpus", "gpu_gib"), [("gre7b", 8, 80), ("gre3b_lora", 1, 24), ("tiny", 1, 24)])
def test_every_shipped_config_fits_what_it_is_for(here, capsys, folder, gpus, gpu_gib, stage):
    # Its parent, which knows the form of a verdict, is made by no config.
    parent = ["model_name_or_path=gre/tiny/base"] if (folder, stage) == ("tiny", "stage2_verdict") else []
    status, answer = plan(capsys, f"configs/{folder}/{stage}.yaml", f"gpus={gpus}", f"gpu_gib={gpu_gib}", *parent)
    assert status == 0 and answer["peak_gib"] > 0
    assert ("judge" in answer["parts"]) == (stage == "stage2")


@pytest.mark.slow
def test_a_key_changes_the_plan_and_an_unknown_one_is_refused(here, capsys):
    _, whole = plan(capsys, "configs/gre7b/stage3.yaml", "gpus=8", "gpu_gib=80")
    _, half = plan(capsys, "configs/gre7b/stage3.yaml", "gpus=8", "gpu_gib=80", "rollout.max_new_tokens=1024")
    assert half["parts"]["logits"] - 0.1875 == pytest.approx((whole["parts"]["logits"] - 0.1875) / 2, abs=0.02)
    for argv, message in ((["grpo.generations=4"], "did you mean 'grpo.num_generations'"),
                          (["train.deepspeed=none.json"], "there is no DeepSpeed config none.json"),
                          (["model_name_or_path=runs/nowhere"], "the shape of runs/nowhere is not known"),
                          (["model.lora.r=8"], "an adapter is not trained under ZeRO-3"),
                          (["model.max_length=2100"], "does not hold a photo")):
        with pytest.raises(SystemExit) as stopped:
            main(["configs/gre7b/stage3.yaml", "gpus=8", "gpu_gib=80", *argv])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_shipped_deepspeed_configs_avoid_the_known_traps():
    files = {path.stem: json.loads(path.read_text()) for path in (ROOT / "configs/deepspeed").glob("*.json")}
    assert files.keys() == {"zero2", "zero2_offload", "zero3", "zero3_offload"}
    for name, content in files.items():
        zero = content["zero_optimization"]
        assert content["bf16"] == {"enabled": "auto"} and "fp16" not in content
        assert zero["stage"] == int(name[4]) and ("offload_optimizer" in zero) == name.endswith("offload")
        assert ("optimizer" in content) == name.endswith("offload")
        assert zero["stage"] == 2 or zero["stage3_gather_16bit_weights_on_model_save"] is True


def test_what_a_gpu_holds_beside_the_counted():
    """A vLLM that sleeps keeps its graphs; ZeRO-3 over several GPUs has a second communicator."""
    job = Job(SEVEN, Engine(ranks=8, zero=3, bf16=True), BATCH, sampled=2)
    asleep = moments(replace(job, served=20 * GIB))
    for moment in ("loss", "backward", "optimizer step"):
        assert asleep[moment] - moments(job)[moment] == pytest.approx(1.03 * ASLEEP_BYTES)
    assert reserve(job, 0) == CONTEXT_BYTES + COMMUNICATOR_BYTES
    assert reserve(replace(job, engine=Engine(ranks=8, zero=2)), 0) == CONTEXT_BYTES == reserve(
        replace(job, engine=Engine(ranks=1, zero=3)), 0)
