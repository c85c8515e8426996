"""The launcher of several processes, for real: its status is the training's, and it prints no traceback of its own."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.shell import end_left, write

pytestmark = pytest.mark.slow  # torchrun takes seconds to start

# A training that loads no torch. It says its process, and ends as it is asked to.
WORKER = """
import os, signal, sys, time
from pathlib import Path
rank = os.environ["RANK"]
def note(number, frame):
    Path(f"told-{rank}").write_text(signal.Signals(number).name)
    if "stays" not in sys.argv:
        sys.exit(130 if number == signal.SIGINT else 143)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, note)
if "refuses" in sys.argv:
    sys.exit("error: repair it" if rank == "3" else 2)
if "fails" in sys.argv and rank == "1":
    sys.exit(7)
if "dies" in sys.argv and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
Path(f"pid-{rank}").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "worker.py", WORKER)
    yield tmp_path
    end_left()


def launch(*arguments: str, meeting: tuple[str, ...] = ("--standalone",)) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "scripts/train/launch.py"), *meeting, "--nproc-per-node", "2",
               "--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", "--shutdown-timeout", "600", "worker.py",
               *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with open("err", "w") as err:
        process = subprocess.Popen(command, stderr=err, stdout=err, env=environment)
    signal.signal(signal.SIGINT, before)
    Path("started").write_text(str(process.pid))
    return process


def come(*paths: str) -> list[str]:
    """The contents of files, once all have some."""
    while not all(Path(path).exists() and Path(path).read_text() for path in paths):
        time.sleep(0.02)
    return [Path(path).read_text() for path in paths]


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_s_status_is_the_launcher_s(place, number, status):
    process = launch()
    come("pid-0", "pid-1")
    process.send_signal(number)
    assert process.wait(30) == status
    assert come("told-0", "told-1") == [number.name, number.name] and Path("err").read_text() == ""


def test_a_second_ctrl_c_ends_all_at_once_and_other_signals_count_once(place):
    """Within the ten minutes that a checkpoint may take."""
    process = launch("stays")
    pids = come("pid-0", "pid-1")
    process.send_signal(signal.SIGUSR1)
    come("told-0", "told-1")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None and all(Path(f"/proc/{pid}").exists() for pid in pids)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert Path("err").read_text() == ""


@pytest.mark.parametrize("how, status, said", [
    ("refuses", 2, ""), ("fails", 7, "error: process 1 ended with status 7, see above, and the others with it\n"),
    ("dies", 137, "error: process 1 was ended by SIGKILL, and the others with it; the same command resumes from the "
                  "last checkpoint\n")])
def test_the_first_process_that_fails_gives_the_status(place, how, status, said):
    assert launch(how).wait(60) == status and Path("err").read_text() == said


AWAY = ("--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1", "--master-port", "29571", "--rdzv-conf")


def test_machines_that_do_not_meet_are_one_message(place):
    assert launch(meeting=(*AWAY, "timeout=1")).wait(60) == 2
    said = Path("err").read_text()
    assert "Traceback" not in said and said.splitlines()[-1].startswith(
        "error: the machines did not meet (The client socket has timed out after 1000ms while trying to connect to "
        "(127.0.0.1, 29571).): start the same command on each, with NODE_RANK")


@pytest.mark.parametrize("seconds", [1, 6])
def test_ctrl_c_ends_the_wait_for_machines_and_for_torch(place, seconds):
    process = launch(meeting=(*AWAY, "timeout=600"))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT and "Traceback" not in Path("err").read_text()


@pytest.mark.parametrize("arguments, status", [(["fails"], 7), (["refuses"], 2)])
def test_a_training_that_breaks_on_one_machine_ends_the_step_on_all(place, monkeypatch, arguments, status):
    write(place / "bin/scancel", "#!/bin/sh\necho \"$*\" >> scancel\n")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "77", "STEP_ID": "0", "STEP_NUM_NODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    if status == 7:  # on one machine nobody else waits
        assert launch(*arguments).wait(60) == status and not Path("scancel").exists()
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "4")
    assert launch(*arguments).wait(60) == status
    assert Path("scancel").read_text() == "--signal=KILL 77.0\n"


def test_a_training_that_is_stopped_leaves_the_others_to_write_their_checkpoint(place, monkeypatch):
    write(place / "bin/scancel", "#!/bin/sh\necho \"$*\" >> scancel\n")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": "77", "STEP_ID": "0", "STEP_NUM_NODES": "4"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    process = launch()
    come("pid-0", "pid-1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143 and not Path("scancel").exists()
