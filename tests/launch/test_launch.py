"""How scripts/train/*.sh start: one process or torchrun, what they refuse, and that signals arrive. Python is a stub
that notes its calls."""
import os
import signal
import subprocess
from pathlib import Path

import pytest

from scripts import quickstart
from tests.helpers.paths import ROOT
from tests.helpers.shell import end_left, wait_for, write

CLEAN = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "PMI_SIZE", "NPROC", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
         "CUDA_VISIBLE_DEVICES", "STOP_SECONDS", "CHECK_MEMORY")


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A copy of scripts/train with a Python that notes its arguments in calls.txt; no GPU, no Slurm."""
    for script in (ROOT / "scripts/train").iterdir():
        if script.is_file():
            write(tmp_path / "house/scripts/train" / script.name, script.read_text())
    write(tmp_path / "house/environment.sh", "#!/usr/bin/env bash\n")
    write(tmp_path / "house/.venv/bin/python", """#!/usr/bin/env bash
case $1 in
    */judge_needed.py) if [ -f judge_needed.txt ]; then cat judge_needed.txt; fi; exit 0 ;;
    */ready.py) echo "ready $*" >> calls.txt; if [ -f not_ready ]; then exit 2; fi; exit 0 ;;
esac
echo "${CUDA_VISIBLE_DEVICES-all} $*" >> calls.txt
if [ -f run.sh ]; then source ./run.sh; fi
""")
    gpus(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in [*CLEAN, *[name for name in os.environ if name.startswith("SLURM_")]]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "house"
    end_left()


def gpus(folder: Path, count: int) -> None:
    """Let nvidia-smi see so many GPUs of 81559 MiB."""
    listed = "".join(f"echo 'GPU {i}: NVIDIA H100 (UUID: GPU-{i})'; " for i in range(count))
    write(folder / "bin/nvidia-smi", f"""#!/usr/bin/env bash
case $1 in -L) {listed or 'exit 9'} ;; *) {'echo 81559; ' * count}: ;; esac
""")


def start(house, *arguments, script="stage3", **environment):
    command = ["bash", str(house / f"scripts/train/{script}.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def called() -> list[str]:
    return Path("calls.txt").read_text().splitlines() if Path("calls.txt").exists() else []


def test_without_a_gpu_it_is_one_process(house):
    assert start(house, "a.yaml", "seed=1").returncode == 0
    assert called() == [f"ready {house}/scripts/train/ready.py stage3 1 1 0 a.yaml seed=1",
                        "all -m stages.stage3 a.yaml seed=1"]


def test_one_gpu_is_one_process_that_was_looked_at_first(house, tmp_path):
    gpus(tmp_path, 1)
    assert start(house, "a.yaml").returncode == 0
    assert called() == [f"ready {house}/scripts/train/ready.py stage3 1 1 79.6 a.yaml", "all -m stages.stage3 a.yaml"]


def test_several_gpus_are_one_process_each(house, tmp_path):
    gpus(tmp_path, 8)
    assert start(house, "seed=1").returncode == 0
    ready, run = called()
    config = f"{house}/configs/gre7b/stage3.yaml"
    assert ready == f"ready {house}/scripts/train/ready.py stage3 8 8 79.6 {config} seed=1"
    assert run == (f"all {house}/scripts/train/launch.py --nnodes 1 --nproc-per-node 8 --standalone "
                   "--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 600 -m stages.stage3 "
                   f"{config} seed=1")


@pytest.mark.parametrize("environment, processes", [
    ({"CUDA_VISIBLE_DEVICES": "2,3"}, 2), ({"CUDA_VISIBLE_DEVICES": "GPU-7,GPU-0, GPU-1"}, 3), ({"NPROC": "4"}, 4),
    ({"CUDA_VISIBLE_DEVICES": "", "NPROC": "2"}, 2)])
def test_how_many_processes_can_be_said(house, tmp_path, environment, processes):
    gpus(tmp_path, 8)
    assert start(house, "a.yaml", **environment).returncode == 0
    assert f"--nproc-per-node {processes} " in called()[-1]


@pytest.mark.parametrize("environment, shown", [
    ({"CUDA_VISIBLE_DEVICES": ""}, " "), ({"CUDA_VISIBLE_DEVICES": "-1"}, "-1 "), ({"NPROC": "1"}, "0 "),
    ({"NPROC": "1", "CUDA_VISIBLE_DEVICES": "3,4"}, "3 ")])
def test_one_process_sees_one_gpu_or_none(house, tmp_path, environment, shown):
    gpus(tmp_path, 8)
    assert start(house, "a.yaml", **environment).returncode == 0
    assert called()[-1] == f"{shown}-m stages.stage3 a.yaml"


@pytest.mark.parametrize("asked", ["", "2"])
def test_the_quickstart_is_handed_how_many_processes_are_asked_for(house, tmp_path, asked):
    write(house / "scripts/quickstart.sh", (ROOT / "scripts/quickstart.sh").read_text())
    write(tmp_path / "run.sh", 'echo "NPROC=$NPROC" >> calls.txt\n')
    subprocess.run(["bash", str(house / "scripts/quickstart.sh"), "seed=1"], check=True,
                   env={**os.environ, "NPROC": asked})
    assert called() == [f"all {house}/scripts/quickstart.py seed=1", f"NPROC={asked}"]


@pytest.mark.parametrize("asked", ["0", "many", "-1", "1.5"])
def test_the_quickstart_refuses_what_is_no_number_of_processes(tmp_path, monkeypatch, capsys, asked):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPROC", asked)
    with pytest.raises(SystemExit) as stopped:
        quickstart.main(["run=x"])
    assert stopped.value.code == 2 and capsys.readouterr().err == (
        f"error: NPROC is {asked!r}: write a number of processes\n")
    assert not (tmp_path / "runs").exists()


def test_several_machines_by_hand(house):
    result = start(house, "a.yaml", NNODES="2", NODE_RANK="1", MASTER_ADDR="one", MASTER_PORT="1234", NPROC="3",
                   STOP_SECONDS="60")
    assert result.returncode == 0 and result.stdout == (
        "stage.sh: stage3 on 6 processes, 3 on each of 2 machines; this is machine 1, and it waits until all 2 have "
        "come to one:1234\n")
    assert called()[0].startswith(f"ready {house}/scripts/train/ready.py stage3 6 3 0 ")
    assert ("--nnodes 2 --nproc-per-node 3 --node-rank 1 --master-addr one --master-port 1234" in called()[1]
            and "--shutdown-timeout 60" in called()[1])


STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NODEID": "2",
        "SLURM_STEP_NODELIST": "n[1-4]", "SLURM_JOB_ID": "123456", "SLURM_JOB_NUM_NODES": "4"}


def test_several_machines_by_slurm(house, tmp_path):
    write(tmp_path / "bin/scontrol", '#!/usr/bin/env bash\n[ "$*" = "show hostnames n[1-4]" ] && printf "n1\\nn2\\n"\n')
    result = start(house, "a.yaml", **STEP)
    assert result.returncode == 0, result.stderr
    assert "--nnodes 4 --nproc-per-node 1 --node-rank 2 --master-addr n1 --master-port 23456" in called()[-1]


@pytest.mark.parametrize("step", [
    STEP | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_ID": "0"},
    {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"}, {"SLURM_STEP_ID": "0", "SLURM_JOB_NUM_NODES": "1"}])
def test_one_machine_asks_slurm_for_no_name(house, tmp_path, step):
    """There is no scontrol, as in a container, and not every variable of the step."""
    write(tmp_path / "bin/scontrol", "#!/usr/bin/env bash\nexit 127\n")
    result = start(house, "a.yaml", **step)
    assert result.returncode == 0 and not result.stderr
    assert called()[-1] == "all -m stages.stage3 a.yaml"


def test_a_first_machine_that_is_named_needs_no_scontrol(house, tmp_path):
    write(tmp_path / "bin/scontrol", "#!/usr/bin/env bash\nexit 127\n")
    assert start(house, "a.yaml", **STEP, MASTER_ADDR="one").returncode == 0
    assert "--node-rank 2 --master-addr one" in called()[-1]
    result = start(house, "a.yaml", **STEP)
    assert result.returncode == 2 and "scontrol does not know n[1-4]: write MASTER_ADDR" in result.stderr


@pytest.mark.parametrize("left", [{"WORLD_SIZE": "2", "RANK": "1"}, {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
                                  {"PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4"}])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_another_launcher_left_in_the_environment_is_not_waited_for(house, tmp_path, left, processes):
    write(tmp_path / "run.sh", "env | grep -E '^(WORLD_SIZE|RANK|LOCAL_RANK|MASTER|PMI|OMPI)' >> calls.txt\n")
    result = start(house, "a.yaml", NPROC=processes, MASTER_ADDR="gone", **left)
    assert "a.yaml" in called()[-1]  # nothing of it reaches Python
    said = f"WORLD_SIZE=2 and RANK={left.get('RANK')} of the environment are not heeded"
    assert (said in result.stderr) == ("RANK" in left)


@pytest.mark.parametrize("arguments", [("a.conf",), ("lr=1/a.yaml",), ("lr=1/a.yaml", "seed=1"), ("seed=1", "plain")])
def test_a_config_may_be_called_anything(house, tmp_path, arguments):
    """What gre.config takes for a file, stage.sh does; else it would add a second one."""
    write(tmp_path / "lr=1/a.yaml", "")
    assert start(house, *arguments).returncode == 0
    assert called()[-1] == f"all -m stages.stage3 {' '.join(arguments)}"


def test_a_stage_of_ones_own_is_started_as_the_others(house, tmp_path):
    gpus(tmp_path, 2)
    write(tmp_path / "mine/my stage.py", "")
    write(tmp_path / "run.sh", 'echo "${PYTHONSAFEPATH-unset}" >> calls.txt\n')
    assert start(house, "mine/my stage.py", "a.yaml", "seed=1", script="run").returncode == 0
    assert called() == [f"ready {house}/scripts/train/ready.py  2 2 0 a.yaml seed=1",
                        f"all {house}/scripts/train/launch.py --nnodes 1 --nproc-per-node 2 --standalone "
                        "--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 600 "
                        "mine/my stage.py a.yaml seed=1", "unset"]
    assert start(house, "mine/my stage.py", "--help", script="run", NPROC="1").returncode == 0
    assert called()[-2:] == ["all mine/my stage.py --help", "unset"]


@pytest.mark.parametrize("arguments, message", [
    ((), "usage: bash scripts/train/run.sh FILE.py"), (("a.yaml",), "usage"), (("gone.py",), "there is no gone.py")])
def test_what_is_no_stage_is_refused(house, arguments, message):
    result = start(house, *arguments, script="run")
    assert result.returncode == 2 and message in result.stderr and called() == []


@pytest.mark.parametrize("environment, message", [
    ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "one"}, "NODE_RANK is '2': with NNODES=2 it is 0 to 1"),
    ({"NNODES": "2", "NODE_RANK": "one", "MASTER_ADDR": "one"}, "NODE_RANK is 'one'"),
    ({"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "one", "MASTER_PORT": "x"}, "MASTER_PORT is 'x'"),
    ({"CUDA_VISIBLE_DEVICES": "8"}, "names GPU 8, and this machine has GPU 0 to 7"),
    ({"CUDA_VISIBLE_DEVICES": "0,9"}, "names GPU 9"), ({"CUDA_VISIBLE_DEVICES": "1,0,1"}, "names 1 twice"),
    ({"CUDA_VISIBLE_DEVICES": "GPU-9"}, "names GPU-9, which nvidia-smi -L does not list"),
    ({**STEP, "SLURM_NODEID": ""}, "on 4 machines, and SLURM_NODEID is not set"),
    ({**STEP, "SLURM_JOB_ID": ""}, "on 4 machines, and SLURM_JOB_ID is not set"),
    ({"NPROC": "many"}, "NPROC is 'many'"), ({"NPROC": "0"}, "NPROC is '0'"), ({"NNODES": "x"}, "NNODES is 'x'"),
    ({"NPROC": "9"}, "NPROC=9, and this machine shows 8 GPUs"),
    ({"NNODES": "2"}, "needs NODE_RANK"), ({"NNODES": "2", "NODE_RANK": "0"}, "MASTER_ADDR"),
    ({**STEP, "SLURM_STEP_NUM_TASKS": "32"}, "--ntasks-per-node=1"),
    ({"SLURM_JOB_NUM_NODES": "4"}, "this job has 4 machines and this process runs on one")])
def test_what_is_refused_before_anything_starts(house, tmp_path, environment, message):
    gpus(tmp_path, 8)
    result = start(house, "a.yaml", **environment)
    assert result.returncode == 2 and message in result.stderr
    assert called() == []


def test_gpus_without_a_driver_are_refused(house):
    result = start(house, "a.yaml", CUDA_VISIBLE_DEVICES="0,1")
    assert result.returncode == 2 and "names 2 GPUs and nvidia-smi sees none" in result.stderr and called() == []


def test_memory_is_that_of_the_gpus_that_are_shown(house, tmp_path):
    """A card of 24 GiB beside a small one for the screen."""
    gpus(tmp_path, 2)
    stub = tmp_path / "bin/nvidia-smi"
    stub.write_text(stub.read_text().replace("case $1 in", "case $1 in -i) [ $2 = 1 ] && echo 24576 ;;"))
    Path("not_ready").touch()
    start(house, "a.yaml", CUDA_VISIBLE_DEVICES="1")
    assert called()[0].startswith(f"ready {house}/scripts/train/ready.py stage3 1 1 24.0 ")


def test_nothing_starts_when_the_look_ahead_refuses(house, tmp_path):
    gpus(tmp_path, 2)
    Path("not_ready").touch()
    assert start(house, "a.yaml").returncode == 2 and len(called()) == 1
    assert start(house, "a.yaml", CHECK_MEMORY="no").returncode == 2
    assert called()[1].startswith(f"ready {house}/scripts/train/ready.py stage3 2 2 0 ")


@pytest.mark.parametrize("flag", ["--help", "--dry-run"])
def test_what_only_shows_something_starts_no_torchrun(house, tmp_path, flag):
    gpus(tmp_path, 8)
    assert start(house, "a.yaml", flag).returncode == 0
    assert called() == [f"all -m stages.stage3 a.yaml {flag}"]


# A training that notes a signal, writes its checkpoint and ends.
STOPS = """
trap 'echo TERM >> told.txt; sleep 0.3; exit 143' TERM
trap 'echo USR1 >> told.txt; sleep 0.3; exit 143' USR1
trap 'echo INT >> told.txt; exit 130' INT
echo $$ > ready
while :; do sleep 0.05; done
"""


def launch(house, script: str) -> subprocess.Popen:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it, and hands
    process = subprocess.Popen(["bash", str(house / f"scripts/train/{script}.sh"), "a.yaml"])  # that on to its children
    signal.signal(signal.SIGINT, before)
    Path("started").write_text(str(process.pid))
    return process


@pytest.mark.parametrize("number, name, status", [(signal.SIGTERM, "TERM", 143), (signal.SIGUSR1, "USR1", 143)])
@pytest.mark.parametrize("script", ["stage1", "stage2", "stage3"])
def test_a_signal_reaches_the_training(house, script, number, name, status):
    Path("run.sh").write_text(STOPS)
    process = launch(house, script)
    wait_for("ready")
    assert Path("ready").read_text().strip() == str(process.pid)  # the script has become the training
    process.send_signal(number)
    assert process.wait(30) == status and Path("told.txt").read_text() == f"{name}\n"


@pytest.mark.parametrize("number, name, status", [
    (signal.SIGTERM, "TERM", 143), (signal.SIGUSR1, "USR1", 143), (signal.SIGINT, "INT", 130)])
def test_a_signal_reaches_the_judge_that_stage_2_trains_first(house, number, name, status):
    Path("judge_needed.txt").write_text("judge.yaml\noutput_dir=runs/judge\n")
    Path("run.sh").write_text(STOPS)
    process = launch(house, "stage2")
    wait_for("ready")
    process.send_signal(number)
    assert process.wait(30) == status and Path("told.txt").read_text() == f"{name}\n"
    assert [line.split()[2] for line in called() if line.startswith("all")] == ["stages.judge"]  # no stage 2


def test_stage_2_goes_on_after_its_judge(house):
    Path("judge_needed.txt").write_text("judge.yaml\noutput_dir=runs/judge\n")
    assert start(house, "a.yaml", script="stage2").returncode == 0
    assert [line for line in called() if line.startswith("all")] == [
        "all -m stages.judge judge.yaml output_dir=runs/judge",
        "all -m stages.stage2 a.yaml judge.model_name_or_path=runs/judge"]


def test_globe_goes_on_after_its_reward_model(house):
    Path("judge_needed.txt").write_text("localizability.yaml\noutput_dir=runs/localizability\n")
    assert start(house, "a.yaml", script="globe").returncode == 0
    assert [line for line in called() if line.startswith("all")] == [
        "all -m stages.localizability localizability.yaml output_dir=runs/localizability",
        "all -m stages.globe a.yaml judge.model_name_or_path=runs/localizability"]


SETTINGS = ("OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR")


@pytest.fixture
def settings(house, tmp_path, monkeypatch):
    """Starts stage 3 on so many GPUs; the settings its Python got."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    write(tmp_path / "bin/nproc", "#!/bin/sh\necho 64\n")
    write(tmp_path / "run.sh", f"env | grep -E '^({'|'.join(SETTINGS)})=' > settings.txt || true\n")

    def found(count: int, **environment) -> dict[str, str]:
        gpus(tmp_path, count)
        assert start(house, "a.yaml", **environment).returncode == 0
        return dict(line.split("=", 1) for line in Path("settings.txt").read_text().splitlines())

    return found


def test_processes_on_gpus_share_the_cores_map_memory_anew_and_keep_caches_on_this_machine(settings, tmp_path):
    caches = tmp_path / "local" / f"gre-{os.getuid()}"
    assert settings(8) == {"OMP_NUM_THREADS": "8", "PYTORCH_ALLOC_CONF": "expandable_segments:True",
                           "VLLM_CACHE_ROOT": f"{caches}/vllm", "TRITON_CACHE_DIR": f"{caches}/triton"}
    assert caches.stat().st_mode & 0o777 == 0o700
    assert settings(1)["OMP_NUM_THREADS"] == "64"


def test_what_the_user_has_set_stays(settings):
    own = {"OMP_NUM_THREADS": "3", "VLLM_CACHE_ROOT": "/own/vllm", "TRITON_CACHE_DIR": "/own/triton"}
    assert settings(2, PYTORCH_ALLOC_CONF="backend:native", **own) == {"PYTORCH_ALLOC_CONF": "backend:native", **own}
    assert settings(2, PYTORCH_CUDA_ALLOC_CONF="max_split_size_mb:64")["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"


def test_more_processes_than_cores_have_a_thread_each(settings, tmp_path):
    write(tmp_path / "bin/nproc", "#!/bin/sh\necho 4\n")
    assert settings(8)["OMP_NUM_THREADS"] == "1"


def test_where_no_folder_for_caches_can_be_had_they_stay_where_they_are(settings, tmp_path):
    (tmp_path / "local" / f"gre-{os.getuid()}").write_text("a file, where no folder can be made")
    assert settings(2).keys() == {"OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF"}


def test_without_gpus_nothing_is_set(settings):
    assert settings(0) == {} == settings(0, NPROC="2")
