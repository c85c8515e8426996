"""Rollouts and verdicts by a real `vllm serve` on this machine, started as scripts/serve.sh starts it."""
import copy
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from gre import manifest
from gre.config import UserError, load
from gre.judge.model import Judge
from gre.judge.reward import served_judge
from gre.models import weights
from gre.models.vlm import encode_prompt, load_model, load_processor
from gre.rewards import answers
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm import served
from gre.rollout.vllm.transfer import ByBroadcast
from gre.training import rl
from stages import stage2, stage3
from tests.helpers.paths import ROOT
from tests.helpers.sampling import gap, greedy, learn, words
from tests.helpers.stages import KEYS, pictures, write_stage, write_workplace
from tests.helpers.two_ranks import torchrun

LORA = ["model.lora.r=3", "model.lora.alpha=6"]
CHAINS = [["It is red.", "It is blue, and far away.", ""], ["It is red."]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # three servers start
pytest.importorskip("vllm", reason="vLLM is not installed")
both_ways = pytest.mark.parametrize("transfer", [None, ByBroadcast(torch.device("cpu"))], ids=["folder", "broadcast"])


class Served:
    """A server in processes of its own; it takes some seconds to come up, for which whoever asks it waits."""

    def __init__(self, what: str, port: int, *keys: str):
        self.log = open(f"{what}-{port}.log", "ab")
        command = [sys.executable, f"{ROOT}/scripts/serve.py", what, *keys]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True, env={
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
        self.url = f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def place(wide_vlm, tmp_path_factory):
    """A folder with run/stage1, run/stage2, run/judge, a data file of four rows, and the keys of its stage 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("served"))
        patch.setattr("openai._base_client.MAX_RETRY_DELAY", 1.0)
        patch.setattr("gre.rollout.vllm.client.START_TRIES", 1800)
        write_workplace(wide_vlm, pictures(size=(56, 84)))
        write_stage(wide_vlm, "stage2", {})
        yield [*KEYS, "train.max_steps=3", "train.save_steps=1", "grpo.num_generations=4", "model.max_length=256",
               "rollout.kv_cache_gib=0.1", "rollout.batch_size=16", "rollout.engine=served", "rollout.weights_dir=."]


@pytest.fixture(scope="module")
def served_at(place):
    """{"first", "second", "adapter", "judge"}: servers that come up together. The first two sample the same policy,
    the third one that trains an adapter."""
    policy = ["model_name_or_path=run/stage2", "output_dir=run/stage3", *place]
    started = {}
    try:
        for name, keys in (("first", []), ("second", []), ("adapter", LORA)):
            port = free_port()
            started[name] = Served("rollouts", port, *policy, *keys, f"rollout.url=http://127.0.0.1:{port}")
        port = free_port()
        started["judge"] = Served("judge", port, *judged(place), f"judge.url=http://127.0.0.1:{port}")
        yield started
    finally:
        for server in started.values():
            server.kill()


def judged(keys: list[str]) -> list[str]:
    """The keys of stage 2, whose judge is served and whose rollouts are not."""
    return ["model_name_or_path=run/stage1", "judge.model_name_or_path=run/judge", "output_dir=run/judged",
            "rollout.max_new_tokens=6", "rollout.kv_cache_gib=0.1",
            *(key for key in keys if not key.startswith("rollout."))]


def run3(keys: list[str], server: Served, folder: str) -> list[dict]:
    """Stage 3; its log."""
    stage3.run(load(stage3.Config, ["model_name_or_path=run/stage2", f"output_dir={folder}", *keys,
                                    f"rollout.url={server.url}"]))
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def server(place, served_at):
    """The server of the rollouts: the second one. Stage 3 was training with the first when that was killed."""
    first, second = served_at["first"], served_at["second"]
    reached, calls = stage3.format_rewards, []

    def killed_in_the_second(groups):
        calls.append(len(groups))
        if len(calls) == 2:
            first.kill()
        return reached(groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage3, "format_rewards", killed_in_the_second)
        patch.setattr(answers, "distance_km", lambda text, truth: 100.0 * (len(text) % 3))
        with pytest.raises(UserError, match="new weights") as stopped:
            run3(place, first, "run/stage3")
    second.stopped_with = str(stopped.value)
    return second


@pytest.fixture(scope="module")
def policy(place, server):
    """(the model, its prompts, what samples from it by the server, and by transformers)."""
    config = load(stage3.Config, ["model_name_or_path=run/stage2", "output_dir=run/other", *place,
                                  f"rollout.url={server.url}"])
    setup = rl.prepare(*rl.read("stage3", config, {"stage2"}))
    stage, rollout = setup.stage, setup.rollout
    prompts = [rl.encode(stage.processor, row) for row in setup.rows]
    model = load_model(stage.parent.model_dir).eval()
    own = TransformersRollout.of(stage.processor.tokenizer, model.config.text_config.vocab_size,
                                 rollout.max_new_tokens)
    return model, prompts, rollout, own


def test_a_killed_server_stops_the_run_which_goes_on_with_a_new_one(place, server, monkeypatch, capfd):
    assert "gave no answer in 8 tries" in server.stopped_with
    assert "run the same command: it resumes from the last checkpoint" in server.stopped_with
    assert not Path("run/stage3/manifest.json").exists()
    monkeypatch.setattr(answers, "distance_km", lambda text, truth: 100.0 * (len(text) % 3))
    with pytest.raises(UserError, match=r"rewards.format \(\w{12} there, \w{12} here\)"):  # a killer's code is not ours
        run3(place, server, "run/stage3")
    logs = run3([*place, "accept_changes=[rewards.format]"], server, "run/stage3")[:3]
    said = capfd.readouterr().out
    assert "resuming from run/stage3/checkpoints/checkpoint-2" in said and "served at http://127.0.0.1" in said
    assert [log["step"] for log in logs] == [1, 2, 3] and len({log["loss"] for log in logs}) == 3
    assert all(0 <= log["sampling_gap"] < 1e-5 and abs(log["importance"] - 1) < 1e-5 for log in logs)
    assert manifest.read_manifest(Path("run/stage3"))["metrics"]["rollout"]["engine"] == "served"
    samples = [json.loads(line) for line in Path("run/stage3/samples.jsonl").read_text().splitlines()]
    run3(place, server, "run/whole")  # never interrupted
    whole = [json.loads(line) for line in Path("run/whole/samples.jsonl").read_text().splitlines()]
    assert [(one["step"], one["id"], one["text"]) for one in samples] == [
        (one["step"], one["id"], one["text"]) for one in whole]
    assert not Path("rollout_weights").exists()


@both_ways
def test_greedy_tokens_and_log_probs_equal_the_trainers_before_and_after_updates(policy, transfer):
    model, prompts, rollout, own = policy
    rollout = replace(rollout, transfer=transfer or rollout.transfer)
    model = copy.deepcopy(model)
    before = greedy(rollout, model, prompts)
    assert words(before) == words(greedy(own, model, prompts)) and gap(model, prompts, rollout, before) < 1e-4
    first = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learn(policy, model)
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, first[name])]
    after = greedy(rollout, model, prompts)
    assert words(after) == words(greedy(own, model, prompts)) != words(before)
    assert gap(model, prompts, rollout, after) < 1e-4
    drawn = rollout.generate(model, prompts, 4, [5, 6, 7, 8], seed=1, step=2)
    assert gap(model, prompts, rollout, drawn) < 1e-4
    assert words(rollout.generate(model, prompts[::-1], 4, [8, 7, 6, 5], seed=1, step=2)) == words(drawn)[::-1]
    assert words(rollout.generate(model, prompts, 4, [5, 6, 7, 8], seed=1, step=3)) != words(drawn)


@both_ways
def test_a_server_with_other_weights_than_it_was_sent_is_an_error(policy, transfer, monkeypatch):
    model, prompts, rollout, _ = policy
    rollout = replace(rollout, transfer=transfer or rollout.transfer)

    def without_a_weight(model, dtype):
        return ((name, tensor) for name, tensor in weights.full_weights(model, dtype)
                if "layers.1.self_attn.k_proj.weight" not in name)

    monkeypatch.setattr(served, "trained_weights", without_a_weight)
    with pytest.raises(UserError, match="not sent all of its weights: .*layers.1.self_attn.qkv_proj"):
        greedy(rollout, model, prompts)
    monkeypatch.undo()
    monkeypatch.setattr(rollout.server, "renew", lambda version: None)  # as if it had been started anew
    with pytest.raises(UserError, match="does not have the weights it was sent: it was started anew"):
        greedy(rollout, model, prompts)
    monkeypatch.undo()
    assert gap(model, prompts, rollout, greedy(rollout, model, prompts)) < 1e-4
    with pytest.raises(UserError, match="refuses .*HTTP 400"):  # a prompt that is too long for the engine
        long = encode_prompt(load_processor("base"), "where? " * 200, Image.new("RGB", (56, 56)))
        greedy(rollout, model, [long])


@pytest.mark.parametrize("way", [["rollout.weights_dir=."], ["rollout.weights_dir=null"]], ids=["folder", "broadcast"])
def test_an_adapter_is_sent_alone_and_sampled_with(place, served_at, monkeypatch, way):
    server = served_at["adapter"]
    monkeypatch.setattr(answers, "distance_km", lambda text, truth: 100.0 * (len(text) % 3))
    keys = [*place, *LORA, *way, "train.learning_rate=1e-2", "train.save_steps=0"]
    logs = run3(keys, server, f"run/adapter_{way[0][-1]}")[:3]
    assert logs[2]["kl"] > 1e-4 and all(0 <= log["sampling_gap"] < 1e-5 for log in logs)
    with pytest.raises(UserError, match="another server than this run needs: .*additional_config"):
        run3([key for key in keys if "lora" not in key], server, "run/plain")


def test_two_processes_under_zero_3_ask_one_server_and_stop_together(server, tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    done = torchrun("vllm_ranks", tmp_path, "run/stage2/model", server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["parted"] > 0 and max(first["gaps"] + second["gaps"]) < 1e-4
    assert first["words"] == second["words"]                # seeds come from the row, not from the rank
    assert first["words"][0] != first["words"][1]           # the second time from what was learned
    assert first["stopped"] == second["stopped"]            # though only the second one has lost the server
    assert "127.0.0.1:9" in first["stopped"] and "gave no answer in 8 tries" in first["stopped"]


@pytest.mark.parametrize("keys, message", [
    (["train.bf16=true"], "dtype is float32 there and bfloat16 here"),
    (["model.max_pixels=3136", "accept_parent=any"], "mm_processor_kwargs is .* there and .*3136.* here"),
    (["model_name_or_path=run/stage1", "accept_parent=any"], None),  # the same weights: the same server will do
    (["model.max_length=300"], "max_model_len is 256 there and 300 here")])
def test_another_server_than_the_one_that_is_needed_is_refused(place, server, keys, message):
    config = load(stage3.Config, ["model_name_or_path=run/stage2", "output_dir=run/other", *place,
                                  f"rollout.url={server.url}", *keys])
    if message is None:
        assert rl.prepare(*rl.read("stage3", config, {"stage2"})).rollout.engine == "served"
        return
    with pytest.raises(UserError, match=f"another server than this run needs: .*{message}"):
        rl.prepare(*rl.read("stage3", config, {"stage2"}))


def test_a_served_judge_gives_the_same_verdicts_and_rewards(place, served_at):
    serving = served_at["judge"]
    config = load(stage2.Config, [*judged(place), f"judge.url={serving.url}", "rollout.engine=transformers"])
    by_server = served_judge(config.judge, config, manifest.verify_parent("run/judge", {"judge"}))
    processor = load_processor("run/judge/model")
    own = Judge(load_model("run/judge/model"), processor)
    prompts = [own.prompt(Image.new("RGB", (56, 84), colour)) for colour in ("red", "blue")]
    expected, found = own.p_true(prompts, CHAINS), by_server.p_true(prompts, CHAINS)
    torch.testing.assert_close(found.p_true, expected.p_true, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.outside, expected.outside, rtol=0, atol=1e-5)
    assert len(by_server.p_true(prompts[:1], [[]]).p_true) == 0
    with pytest.raises(UserError, match="another server than this run needs: .*logprobs_mode is raw_logprobs"):
        rl.prepare(*stage3.read(load(stage3.Config, ["model_name_or_path=run/stage2", "output_dir=run/x", *place,
                                                     f"rollout.url={serving.url}"])))
    serving.kill()
    with pytest.raises(UserError, match="a verdict: .* gave no answer in 8 tries"):
        by_server.p_true(prompts, CHAINS)
