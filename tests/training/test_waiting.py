"""What would wait says what for; a lock that a killed start left on an extension's folder is not waited for."""
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch.utils.cpp_extension

from gre.config import UserError
from gre.training import extensions, waiting
from gre.training.extensions import Baton
from tests.helpers.paths import ROOT


@pytest.fixture
def build(tmp_path, monkeypatch) -> Path:
    """A folder to compile in, by our lock; half a minute passes in no time."""
    monkeypatch.setattr(torch.utils.cpp_extension, "FileBaton", torch.utils.cpp_extension.FileBaton)
    monkeypatch.setattr(waiting, "SECONDS", 0.2)
    extensions.install()
    (tmp_path / "build").mkdir()
    return tmp_path / "build"


def compile_in(folder: Path) -> None:
    """As DeepSpeed does: by torch's load."""
    source = folder.parent / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }\n')
    torch.utils.cpp_extension.load("one", [str(source)], build_directory=str(folder), is_python_module=False)


def holder(folder: Path) -> int:
    """The id of another process that compiles there."""
    child = os.fork()
    if not child:
        assert Baton(str(folder / "lock")).try_acquire()
        time.sleep(60)
        os._exit(0)
    while not (folder / "lock").exists() or not (folder / "lock").read_text():
        time.sleep(0.01)
    return child


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


@pytest.mark.slow
def test_the_lock_of_a_start_that_was_killed_is_taken(build, capsys):
    process = holder(build)
    kill(process)
    assert (build / "lock").exists()
    compile_in(build)
    assert (build / "one.so").exists() and not (build / "lock").exists()
    said = capsys.readouterr().out
    assert f"{build}/lock was left by process {process} on " in said and said.endswith(", which has ended\n")


def test_torch_s_own_lock_is_waited_for_and_said_so(build, capsys):
    """Whether its process lives cannot be told."""
    (build / "lock").touch()
    baton = Baton(str(build / "lock"))
    assert not baton.try_acquire()
    thread = threading.Thread(target=baton.wait, daemon=True)
    thread.start()
    while not (said := capsys.readouterr().out):
        time.sleep(0.05)
    assert said.startswith(f"waiting for another program that compiles in {build} since ")
    assert said.endswith(f", remove it: rm {build}/lock\n") and thread.is_alive()
    (build / "lock").unlink()
    thread.join(30)
    assert not thread.is_alive()


def test_a_process_that_compiles_is_waited_for_by_name_and_its_death_ends_the_wait(build, capsys):
    process, baton = holder(build), Baton(str(build / "lock"))
    assert not baton.try_acquire()
    ended = []

    def wait():
        try:
            baton.wait()
        except UserError as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    while not (said := capsys.readouterr().out):
        time.sleep(0.05)
    assert said.startswith(f"waiting for process {process} on ") and f"which compiles in {build} since" in said
    kill(process)
    thread.join(30)
    assert ended == [f"the process that compiled in {build} ended before it was done: start again"]
    assert not (build / "lock").exists()


def test_one_that_has_compiled_lets_the_others_go_on(build, capsys):
    first, second = Baton(str(build / "lock")), Baton(str(build / "lock"))
    assert first.try_acquire() and not second.try_acquire()
    threading.Timer(0.3, first.release).start()
    second.wait()
    assert second.try_acquire()
    second.release()
    assert list(build.iterdir()) == [] and "left by" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_that_waits_for_others_says_so(cot):
    """A stage started by hand where another launcher has left its variables."""
    code = ("import sys; from gre import config; from gre.training import waiting; waiting.SECONDS = 0.5; "
            "from stages import stage1; config.main(stage1.run, stage1.Config, argv=sys.argv[1:])")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "model_name_or_path=base", "data.path=cot/cot.json", "output_dir=out"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": "29517", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)})
    said = process.stdout.readline()
    process.kill()
    process.wait()
    assert said == ("process 1 waits for the others: WORLD_SIZE=2 says how many there are, and they meet at "
                    "127.0.0.1:29517. Left over from something else? `unset WORLD_SIZE RANK LOCAL_RANK`, and it trains "
                    "alone\n")
