"""The quickstart's own work: who gets which setting, what is kept, what is timed. The phases here are stand-ins."""
import importlib.util
import json
import os
import signal
import sys
import threading
import time

import pytest

from gre.config import ConfigError, UserError
from tests.helpers.paths import ROOT

SCRIPT = ROOT / "scripts" / "quickstart.py"
spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
quickstart = importlib.util.module_from_spec(spec)
sys.modules["quickstart"] = quickstart  # dataclasses look their module up
spec.loader.exec_module(quickstart)

KNOWN = {"world": ["out", "seed", "test"], "stage1": ["output_dir", "train.max_steps", "train.bf16"],
         "judge": ["output_dir", "train.max_steps"], "stage2": ["judge.min_auc", "judge.model_name_or_path"],
         "stage3": ["gps.thetas_km", "train.max_steps", "seed"], "evaluation": ["run", "data", "base", "batch_size"]}


def shared(*overrides):
    return {phase: texts for phase, texts in quickstart.share_out(list(overrides), KNOWN).items() if texts}


def test_an_override_reaches_every_phase_that_knows_it():
    assert shared("train.max_steps=2") == {phase: ["train.max_steps=2"] for phase in ("stage1", "judge", "stage3")}
    assert shared("test=4", "gps.thetas_km=[1, 2]") == {"world": ["test=4"], "stage3": ["gps.thetas_km=[1, 2]"]}


def test_a_phase_can_be_named_and_a_stage_s_own_key_goes_first():
    assert shared("stage3.train.max_steps=2") == {"stage3": ["train.max_steps=2"]}
    assert shared("judge.train.max_steps=2") == {"judge": ["train.max_steps=2"]}
    assert shared("judge.min_auc=0.5") == {"stage2": ["judge.min_auc=0.5"]}


def test_a_later_override_wins_by_coming_later():
    assert shared("train.max_steps=2", "stage1.train.max_steps=3")["stage1"] == ["train.max_steps=2",
                                                                                 "train.max_steps=3"]


@pytest.mark.parametrize("text", ["train.max_step=2", "max_steps=2", "stage2.train.max_stepz=2", "train.max_steps"])
def test_an_unknown_key_names_its_neighbour(text):
    with pytest.raises(ConfigError, match="did you mean 'train.max_steps'"):
        shared(text)


@pytest.mark.parametrize("text", ["output_dir=x", "judge.model_name_or_path=x", "stage1.output_dir=x", "data=x"])
def test_what_the_quickstart_sets_is_not_overridden(text):
    with pytest.raises(ConfigError, match="sets .* itself"):
        shared(text)


def test_every_phase_gets_its_parent_and_the_seed_where_it_takes_one(tmp_path):
    lines = quickstart.commands(tmp_path, 7, KNOWN)
    assert list(lines) == list(quickstart.PHASES)
    assert f"model_name_or_path={tmp_path}/stage1" in lines["stage2"] and "seed=7" in lines["stage3"]
    assert f"judge.model_name_or_path={tmp_path}/judge" in lines["stage2"] and "seed=7" not in lines["stage2"]


def test_processes_share_the_rows_of_a_step(tmp_path):
    def rows(processes):
        lines = quickstart.commands(tmp_path, 0, KNOWN, processes)
        return [text for stage in ("stage1", "judge", "stage2", "stage3") for text in lines[stage]
                if text.startswith("train.per_device_batch_size=")]
    key = "train.per_device_batch_size="
    assert rows(1) == [f"{key}32", f"{key}32", f"{key}36", f"{key}36"]
    assert rows(2) == [f"{key}16", f"{key}16", f"{key}18", f"{key}18"]
    with pytest.raises(UserError, match="stage2.yaml has 36 rows, which 8 processes cannot share evenly"):
        rows(8)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Phases that append their name to calls.txt; the last one writes results.json, as eval.quickstart.run does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart.config, "keys", lambda cls: ["text"] if cls is not quickstart.Config else [])
    monkeypatch.setattr(quickstart.importlib, "import_module", lambda name: type("Stage", (), {"Config": object}))
    code = ("import pathlib, sys; folder = pathlib.Path(sys.argv[1]); (folder / 'results.json').write_text('{}');"
            "open(folder / 'calls.txt', 'a').write(sys.argv[2] + ' ')\nsys.exit(3 if 'text=fail' in sys.argv else 0)")
    monkeypatch.setattr(quickstart, "commands", lambda folder, seed, known, processes: {
        phase: [sys.executable, "-c", code, str(folder), phase, f"seed={seed}"] for phase in quickstart.PHASES})

    def run(*overrides, **own):
        quickstart.run(quickstart.Config(run="r", **own), list(overrides))
        calls = (tmp_path / "runs/r/calls.txt").read_text().split()
        (tmp_path / "runs/r/calls.txt").unlink(missing_ok=True)
        return calls
    return run


@pytest.mark.slow
def test_finished_phases_are_kept_until_something_changes(stand_ins, tmp_path, capsys):
    assert stand_ins() == list(quickstart.PHASES)
    seconds = json.loads((tmp_path / "runs/r/results.json").read_text())["seconds"]
    assert list(seconds) == list(quickstart.PHASES) and all(value >= 0 for value in seconds.values())
    assert "[2/6 stage1]" in capsys.readouterr().out
    assert stand_ins("stage2.text=new") == ["stage2", "stage3", "evaluation"]
    assert stand_ins("stage2.text=new", fresh=True) == list(quickstart.PHASES)
    assert stand_ins(seed=1) == list(quickstart.PHASES)


def test_a_failing_phase_stops_it_and_the_next_call_goes_on(stand_ins, capsys):
    with pytest.raises(SystemExit) as stopped:
        stand_ins("judge.text=fail")
    assert stopped.value.code == 3 and "[3/6 judge] stopped" in capsys.readouterr().err
    assert stand_ins() == ["world", "stage1", "judge", "judge", "stage2", "stage3", "evaluation"]  # one line a call


def test_a_phase_that_was_stopped_keeps_its_folder_for_the_same_command(tmp_path):
    (tmp_path / "r").mkdir()

    def begin(mark):
        progress = quickstart.Progress(tmp_path / "r", fresh=False)
        assert not progress.kept("stage1", mark)
        (tmp_path / "r/stage1/checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "r/judge").mkdir(exist_ok=True)
        return progress

    first = begin("a")
    (tmp_path / "r/stage1/checkpoints/half").touch()
    first.stop("stage1", 5.0)
    second = begin("a")
    assert (tmp_path / "r/stage1/checkpoints/half").exists()
    second.end("stage1", 2.0)
    assert second.seconds() == {"stage1": 7.0}
    third = quickstart.Progress(tmp_path / "r", fresh=False)
    assert third.kept("stage1", "a") and not third.kept("judge", "b")
    assert third.seconds() == {"stage1": 7.0}
    begin("c")
    assert not (tmp_path / "r/stage1/checkpoints/half").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_handed_to_the_phase(tmp_path, monkeypatch, number):
    code = ("import pathlib, signal, sys, time\nfor n in (signal.SIGTERM, signal.SIGUSR1):\n"
            "    signal.signal(n, lambda n, frame: sys.exit(n))\npathlib.Path('ready').touch()\ntime.sleep(20)")

    def tell():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=tell)
    thread.start()
    monkeypatch.chdir(tmp_path)
    status = quickstart.call([sys.executable, "-c", code], dict(os.environ))
    thread.join()
    assert status == number
    assert quickstart.call(["bash", "-c", "kill -9 $$"], dict(os.environ)) == 137


def test_a_folder_that_is_no_quickstart_is_left_alone(stand_ins, tmp_path):
    (tmp_path / "runs/r/stage1").mkdir(parents=True)
    with pytest.raises(UserError, match="name another run"):
        stand_ins()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".."])
def test_a_run_is_a_plain_name(name):
    with pytest.raises(UserError, match="plain name"):
        quickstart.run(quickstart.Config(run=name), [])
