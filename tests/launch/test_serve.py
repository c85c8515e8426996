"""The command by which scripts/serve.sh serves a stage's policy or its judge, and that the trainer wants just that."""
import json

import pytest
import torch

from gre import manifest
from gre.config import UserError, load
from gre.judge.reward import served_judge
from gre.models.vlm import load_processor
from gre.rollout import engines
from scripts import serve
from stages import stage2
from tests.helpers.stages import KEYS


def option(line: list[str], name: str) -> str:
    return line[line.index(name) + 1]


def test_a_policy_s_command_holds_what_the_trainer_compares(workplace):
    keys = [*KEYS, "model_name_or_path=run/stage1", "output_dir=run/stage2", "rollout.url=http://127.0.0.1:8123",
            "model.max_length=256", "rollout.batch_size=16"]
    line = serve.command("rollouts", keys)
    parent = manifest.verify_parent("run/stage1", {"stage1"})
    assert option(line, "--model") == str((workplace / "run/stage1/model").absolute())
    assert (option(line, "--host"), option(line, "--port"), option(line, "--dtype")) == ("127.0.0.1", "8123", "float32")
    wanted = engines.rollout_server(parent, load_processor(parent.model_dir), 256, torch.float32)
    assert option(line, "--logprobs-mode") == wanted["logprobs_mode"] == "processed_logprobs"
    assert json.loads(option(line, "--additional-config")) == wanted["additional_config"]
    assert wanted["additional_config"]["model_sha256"] == parent.sha256 and wanted["additional_config"]["banned"]
    assert json.loads(option(line, "--mm-processor-kwargs")) == wanted["mm_processor_kwargs"]
    assert option(line, "--max-model-len") == "256" and option(line, "--max-num-seqs") == "16"
    assert {"--no-enable-chunked-prefill", "--enable-scale-out"} <= set(line)
    assert option(line, "--generation-config") == "vllm"


def test_a_dry_run_writes_nothing(workplace, monkeypatch, capsys, tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    keys = [*KEYS, "model_name_or_path=run/stage1", "output_dir=run/stage2", "rollout.url=http://127.0.0.1:8123",
            "model.lora.r=4"]
    serve.main(["rollouts", *keys, "--dry-run"])
    assert "=FOLDER-MADE-AT-THE-START" in capsys.readouterr().out and not list(temporary.iterdir())
    (module,) = [text for text in serve.command("rollouts", keys) if str(temporary) in text]
    (made,) = temporary.iterdir()
    assert module.endswith(f"={made}") and (made / "adapter_model.safetensors").is_file()


def test_a_judge_s_command(workplace):
    keys = [*KEYS, "model_name_or_path=run/stage1", "output_dir=run/stage2", "judge.model_name_or_path=run/judge"]
    line = serve.command("judge", [*keys, "judge.url=http://node7:8001"])
    assert (option(line, "--host"), option(line, "--port")) == ("node7", "8001")
    assert option(line, "--logprobs-mode") == "raw_logprobs" and option(line, "--max-model-len") == "8192"
    assert json.loads(option(line, "--additional-config")) == {
        "banned": [], "model_sha256": manifest.verify_parent("run/judge", {"judge"}).sha256}
    with pytest.raises(UserError, match="judge.model_name_or_path and judge.url"):
        serve.command("judge", keys)
    cached = load(stage2.Config, [*keys, "judge.url=http://node7:8001", "data.cache_gib=1"])
    with pytest.raises(UserError, match="data.cache_gib"):
        served_judge(cached.judge, cached, manifest.verify_parent("run/judge", {"judge"}))


def test_without_a_kind_it_says_which_there_are(capsys):
    for argv in ([], ["policy", "model=x"]):
        with pytest.raises(UserError, match="write locate, teacher, rollouts or judge"):
            serve.main(argv)
    serve.main(["--help"])
    assert "serve.py locate model=PATH" in capsys.readouterr().out


def test_a_teacher_s_command(tmp_path, capsys):
    line = serve.teacher_command(["model=some/teacher-72B", "url=http://127.0.0.1:8123", "max_length=512"])
    assert option(line, "--model") == "some/teacher-72B" and option(line, "--served-model-name") == "teacher"
    assert (option(line, "--host"), option(line, "--port")) == ("127.0.0.1", "8123")
    assert option(line, "--max-model-len") == "512"
    assert capsys.readouterr().out == "ask it as {model: teacher, url: 'http://127.0.0.1:8123/v1'}\n"
    (tmp_path / "model").mkdir()
    assert option(serve.teacher_command([f"model={tmp_path / 'model'}"]), "--model") == str(tmp_path / "model")


def test_which_servers_a_stage_asks(tmp_path):
    (tmp_path / "stage3.yaml").write_text("output_dir: a\nmodel_name_or_path: b\ngps: {thetas_km: [1]}\n"
                                          "rollout: {engine: served}\n")
    assert serve.needed([str(tmp_path / "stage3.yaml"), "gps.curriculum.window=9"]) == ["rollouts"]
    assert serve.needed([str(tmp_path / "stage3.yaml"), "rollout.engine=vllm", "judge.url=http://a:1"]) == ["judge"]
    assert serve.needed([str(tmp_path / "stage3.yaml"), "rollout.engine=auto"]) == []
