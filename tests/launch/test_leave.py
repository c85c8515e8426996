"""The end of a process that has done its work is well, though the interpreter's own end would abort."""
import signal
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

ENDS = """
import atexit, ctypes
from gre.leave import leave
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)
atexit.register(print, "closed")
print("written")
"""
LATE = """
import atexit, os, time, torch
from pathlib import Path
from gre.leave import leave
rank = os.environ["RANK"]
torch.distributed.init_process_group("gloo")
if rank == "1":
    time.sleep(2)
Path(f"{rank} leaves").write_text(str(time.time()))
atexit.register(lambda: Path(f"{rank} left").write_text(str(time.time())))
leave()
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_though_its_end_would_abort():
    """As threads of collectives and vLLM's memory pools may do when they outlive the interpreter."""
    assert run(ENDS).returncode == -signal.SIGABRT
    result = run(ENDS + "leave(3)")
    assert (result.returncode, result.stdout) == (3, "written\nclosed\n")


@pytest.mark.slow
def test_no_process_goes_before_all_have_come_to_their_end(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
                           "late.py"], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    at = {path.name: float(path.read_text()) for path in tmp_path.glob("[01] *")}
    assert at["0 left"] > at["1 leaves"] > at["0 leaves"] + 1


@pytest.mark.parametrize("stage", sorted(path.stem for path in ROOT.glob("stages/[a-z]*.py")))
def test_every_stage_ends_so(stage):
    last = (ROOT / f"stages/{stage}.py").read_text().splitlines()[-3:]
    assert last[0] == 'if __name__ == "__main__":' and last[1].startswith("    main(") and last[2] == "    leave()"
