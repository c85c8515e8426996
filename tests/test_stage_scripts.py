"""The stages' shell scripts hand a signal on to the training they started. A stub stands for Python."""
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUB = """#!/usr/bin/env bash
case "$*" in
    *judge_needed.py*) printf '%s\\n' judge.yaml output_dir=runs/judge policy.model_name_or_path=x; exit ;;
esac
echo "$@" >> "$HERE/calls"
trap 'echo TERM > "$HERE/signal"; exit 143' TERM
trap 'echo USR1 > "$HERE/signal"; exit 143' USR1
touch "$HERE/ready"
for ((i = 0; i < 400; i++)); do sleep 0.05; done
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("script", "module"), [("stage1", "stages.stage1"), ("stage2", "stages.judge")])
def test_a_signal_reaches_the_training(tmp_path, script, module, number):
    """stage2.sh trains a judge first; stopped there, it does not go on to stage 2."""
    shutil.copytree(ROOT / "scripts" / "train", tmp_path / "scripts" / "train")
    (tmp_path / "environment.sh").write_text("exit 0\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB)
    python.chmod(0o755)
    shell = subprocess.Popen(["bash", f"{tmp_path}/scripts/train/{script}.sh", "output_dir=o"],
                             env={"PATH": "/usr/bin:/bin", "HERE": str(tmp_path)})
    while not (tmp_path / "ready").exists():
        assert shell.poll() is None
        time.sleep(0.02)
    shell.send_signal(number)
    assert shell.wait(30) == 143
    assert (tmp_path / "signal").read_text().strip() == number.name.removeprefix("SIG")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1 and module in calls[0]
