"""Submitting to Slurm and being put back into its queue, with stubs of sbatch, srun and scontrol that note calls."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.shell import end_left, wait_for, write

# Settings are read by the real reader; serve.py says that no server is needed.
PYTHON = f"""#!/usr/bin/env bash
case $1 in
    */scripts/train/setting.py) exec {sys.executable} {ROOT}/scripts/train/setting.py "${{@:2}}" ;;
    */scripts/cluster/chain.py) exec {sys.executable} {ROOT}/scripts/cluster/chain.py "${{@:2}}" ;;
esac
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A copy of the scripts whose environment.sh installs nothing, and stubs on the PATH; calls go to calls.txt."""
    for name in ("scripts/cluster/submit.sh", "scripts/cluster/stage.sbatch"):
        write(tmp_path / "house" / name, (ROOT / name).read_text())
    (tmp_path / "base").mkdir()
    (tmp_path / "rows.json").touch()
    for stage in ("stage1", "judge", "stage2", "stage3"):
        write(tmp_path / f"house/scripts/train/{stage}.sh", "#!/usr/bin/env bash\n")
        write(tmp_path / f"configs/{stage}.yaml", f"output_dir: runs/a/{stage}  # here\nmodel_name_or_path: base\n"
              "data: {path: rows.json}\n")
    write(tmp_path / "house/environment.sh", "#!/usr/bin/env bash\n")
    write(tmp_path / "house/.venv/bin/python", PYTHON)
    note = '#!/usr/bin/env bash\n{ printf "%s" "$(basename "$0")"; printf "|%s" "$@"; echo; } >> calls.txt\n'
    write(tmp_path / "bin/sbatch", note + 'echo "$((100 + $(grep -c ^sbatch calls.txt)));cluster"\n')
    write(tmp_path / "bin/scontrol", note)
    write(tmp_path / "bin/srun", note)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "house"
    end_left()


def calls(name: str) -> list[list[str]]:
    return [line.split("|")[1:] for line in Path("calls.txt").read_text().splitlines() if line.startswith(name + "|")]


def submit(house, *arguments):
    command = ["bash", str(house / "scripts/cluster/submit.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_four_stages_wait_for_each_other(house):
    result = submit(house, "configs", "--", "--nodes=2", "--time=1:00:00")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:4] == ["stage1: job 101", "judge: job 102", "stage2: job 103", "stage3: job 104"]
    submitted = calls("sbatch")
    assert [[text for text in call if text.startswith("--dependency")] for call in submitted] == [
        [], ["--dependency=afterok:101"], ["--dependency=afterok:102"], ["--dependency=afterok:103"]]
    batch = str(house / "scripts/cluster/stage.sbatch")
    behind = [call[call.index(batch) + 1:] for call in submitted]
    assert behind == [[str(house), "stage1", "configs/stage1.yaml"], [str(house), "judge", "configs/judge.yaml"],
                      [str(house), "stage2", "configs/stage2.yaml", "judge.model_name_or_path=runs/a/judge"],
                      [str(house), "stage3", "configs/stage3.yaml"]]
    for call in submitted:
        assert {"--nodes=2", "--time=1:00:00", "--parsable"} <= set(call[:call.index(batch)])
    assert Path("slurm").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("written, read", [
    (b"output_dir: 'runs/a b/judge'", "runs/a b/judge"), (b"output_dir: runs/a b/judge  # two words", "runs/a b/judge"),
    (b'output_dir: "runs/a#b/judge" # here', "runs/a#b/judge"), (b"output_dir: runs/a#b/judge", "runs/a#b/judge"),
    (b"output_dir: runs/a/judge\r", "runs/a/judge"), (b"seed: 7\noutput_dir: runs/${seed}/judge", "runs/7/judge"),
    (b"output_dir:\n  runs/a/judge", "runs/a/judge"), (b"output_dir: ~/runs/judge", "HOME/runs/judge"),
    (b"{output_dir: runs/a/judge, seed: 1}", "runs/a/judge"),
    (b"output_dir: ${oc.env:HOME}/runs/judge", "HOME/runs/judge")])
def test_the_judge_s_folder_is_what_its_stage_will_read(house, tmp_path, monkeypatch, written, read):
    monkeypatch.setenv("HOME", str(tmp_path))
    parent = b"" if written.startswith(b"{") else b"\nmodel_name_or_path: base\r\n"
    Path("configs/judge.yaml").write_bytes(written.replace(b"{output_dir", b"{model_name_or_path: base, output_dir")
                                           + parent)
    result = submit(house, "configs", "stage2")
    assert result.returncode == 0, result.stderr
    assert calls("sbatch")[0][-1] == "judge.model_name_or_path=" + read.replace("HOME", str(tmp_path))


def config(stage: str, folder: str, parent: str, rows: str = "rows.json") -> None:
    Path(f"configs/{stage}.yaml").write_text(
        f"output_dir: {folder}\nmodel_name_or_path: {parent}\ndata: {{path: {rows}}}\n")


@pytest.mark.parametrize("stages, said", [
    ("stage1 stage2", ["configs/stage2.yaml: model_name_or_path: there is no runs/a/stage_1, and no stage before it "
                       "writes it: train that stage first, or name another model folder"]),
    ("stage1 judge stage3", ["configs/stage3.yaml: data.path: there is no seed.json, and no stage before it writes"]),
    ("stage3 stage1", ["configs/stage3.yaml: model_name_or_path=runs/a/stage1 is made by configs/stage1.yaml, which "
                       "comes after it: name the stages in their order"]),
    ("stage1 stage1", ["configs/stage1.yaml: output_dir=runs/a/stage1 is that of configs/stage1.yaml too"])])
def test_what_no_stage_before_it_writes_lets_none_be_submitted(house, stages, said):
    """A typo in the parent of the last stage, or stages out of order, showed when that job began."""
    config("stage2", "runs/a/stage2", "runs/a/stage_1")
    config("stage3", "runs/a/stage3", "runs/a/stage1", "seed.json")
    result = submit(house, "configs", *stages.split())
    assert result.returncode == 2 and not Path("calls.txt").exists()
    for line in said:
        assert line in result.stderr
    assert result.stderr.endswith("error: a stage of this chain would not start: nothing is submitted\n")


def test_a_chain_may_read_what_it_writes(house):
    config("judge", "runs/a/judge", "runs/a/stage1")
    config("stage2", "runs/a/stage2", "runs/a/stage1/model")
    config("stage3", "runs/a/stage3", "runs/a/stage2")
    assert submit(house, "configs").returncode == 0 and len(calls("sbatch")) == 4


def test_a_stage_that_would_refuse_its_settings_lets_none_be_submitted(house):
    """The last one of four; it is asked with the arguments of its job."""
    write(house / "scripts/train/stage2.sh", '#!/usr/bin/env bash\necho "$*" > asked\n')
    write(house / "scripts/train/stage3.sh", "#!/usr/bin/env bash\necho error: unknown key >&2\nexit 2\n")
    result = submit(house, "configs")
    assert result.returncode == 2 and result.stderr.splitlines() == [
        "error: unknown key", "error: stage3 would refuse configs/stage3.yaml: nothing is submitted"]
    assert Path("asked").read_text() == "configs/stage2.yaml judge.model_name_or_path=runs/a/judge --dry-run\n"
    assert not Path("calls.txt").exists() and not Path("slurm").exists()


@pytest.mark.slow
def test_the_stage_itself_is_asked(house):
    """By its real scripts, which load torch: once, for all that a dry run refuses."""
    for name in ("stage.sh", "stage3.sh"):
        write(house / "scripts/train" / name, (ROOT / "scripts/train" / name).read_text())
    write(house / "scripts/cluster/chain.py", (ROOT / "scripts/cluster/chain.py").read_text())
    write(house / ".venv/bin/python", f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    with open("configs/stage3.yaml", "a") as file:
        file.write("grpo: {num_generation: 4}")
    result = submit(house, "configs", "stage3")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "error: configs/stage3.yaml: unknown key 'grpo.num_generation'; did you mean" in result.stderr
    assert not Path("calls.txt").exists()


def test_a_judge_s_config_of_no_use_submits_nothing(house):
    Path("configs/judge.yaml").write_text("model_name_or_path: base\n")
    result = submit(house, "configs")
    assert result.returncode == 2 and "error: no value for output_dir" in result.stderr
    assert not Path("calls.txt").exists()


@pytest.fixture
def globe(house):
    """GLOBE's configs beside the others, by the names and weights of configs/globe7b."""
    for stage in ("globe", "localizability", "stage2_verdict"):
        write(house / f"scripts/train/{stage}.sh", "#!/usr/bin/env bash\n")
    config("localizability", "runs/a/localizability", "base")
    for name, weight in (("globe", 0.0), ("globe_three", 0.5), ("globe_three_readme", 0.2)):
        config(name, f"runs/a/{name}", "base")
        Path(f"configs/{name}.yaml").open("a").write(f"weights: {{localizability: {weight}}}\n")
    return house


def test_a_config_s_name_begins_with_its_stage(globe):
    config("stage2_verdict_long", "runs/a/verdict", "base")
    result = submit(globe, "configs", "localizability", "globe_three", "globe_three_readme", "globe",
                    "stage2_verdict_long")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[1] == "globe_three: job 102"
    batch, asked = str(globe / "scripts/cluster/stage.sbatch"), "judge.model_name_or_path=runs/a/localizability"
    assert [call[call.index(batch) + 2:] for call in calls("sbatch")] == [
        ["localizability", "configs/localizability.yaml"], ["globe", "configs/globe_three.yaml", asked],
        ["globe", "configs/globe_three_readme.yaml", asked], ["globe", "configs/globe.yaml"],  # asks no reward model
        ["stage2_verdict", "configs/stage2_verdict_long.yaml"]]


def test_else_its_first_line_says_which(house):
    own = Path("configs/mine.yaml")
    config("stage3", "runs/a/mine", "runs/a/stage2")
    own.write_text("# bash scripts/train/stage3.sh configs/mine.yaml\n" + Path("configs/stage3.yaml").read_text())
    assert submit(house, "configs", "stage2", "mine").returncode == 0
    batch = str(house / "scripts/cluster/stage.sbatch")
    assert [call[call.index(batch) + 2:][0] for call in calls("sbatch")] == ["stage2", "stage3"]
    own.write_text("# nothing of the kind\n" + own.read_text())
    result = submit(house, "configs", "mine")
    assert result.returncode == 2 and "configs/mine.yaml: which stage is it for?" in result.stderr


def test_a_reward_model_that_nobody_would_ask_is_not_trained(globe):
    result = submit(globe, "configs", "localizability", "globe")
    assert result.returncode == 2 and not Path("calls.txt").exists()
    assert "would be trained and never asked: weights.localizability is 0" in result.stderr


def test_some_stages_only(house):
    assert submit(house, "configs", "stage2", "stage3").returncode == 0
    assert [[text for text in call if text.startswith("--dep")] for call in calls("sbatch")] == [
        [], ["--dependency=afterok:101"]]


@pytest.mark.parametrize("arguments, message", [
    ([], "usage"), (["--", "--nodes=1"], "usage"), (["configs", "stage4"], "there is no configs/stage4.yaml"),
    (["elsewhere"], "there is no elsewhere/stage1.yaml")])
def test_what_is_refused_submits_nothing(house, arguments, message):
    result = submit(house, *arguments)
    assert result.returncode == 2 and message in result.stderr
    assert not Path("calls.txt").exists()


def batch(house, srun: str) -> subprocess.Popen:
    """The batch script as Slurm starts it: from a copy elsewhere."""
    write(Path("bin/srun"), Path("bin/srun").read_text() + srun)
    write(Path("spool/slurm_script"), (house / "scripts/cluster/stage.sbatch").read_text())
    job = subprocess.Popen(["bash", "spool/slurm_script", str(house), "stage3", "configs/stage3.yaml", "seed=1"],
                           env={**os.environ, "SLURM_JOB_ID": "77"})
    Path("started").write_text(str(job.pid))
    return job


# A step that is told, writes its checkpoint and ends as a stopped training does.
STOPS = """
trap 'echo USR1 >> told.txt; sleep 0.3; touch checkpoint; exit 143' USR1
trap 'echo TERM >> told.txt; exit 137' TERM  # as srun, which kills its tasks
echo $$ > ready
while :; do sleep 0.05; done
"""


def test_a_job_whose_time_is_nearly_up_is_put_back(house):
    job = batch(house, STOPS)
    wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert Path("checkpoint").exists() and Path("told.txt").read_text() == "USR1\n"
    assert calls("scontrol") == [["requeue", "77"]]
    step = calls("srun")[0]
    assert step[-4:] == ["bash", str(house / "scripts/train/stage3.sh"), "configs/stage3.yaml", "seed=1"]


def test_a_cluster_that_puts_no_job_back_says_what_to_do(house, capfd):
    write(Path("bin/scontrol"), "#!/usr/bin/env bash\nexit 1\n")
    job = batch(house, STOPS)
    wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 143 and "submit it again, and it resumes from its checkpoint" in capfd.readouterr().err


@pytest.mark.parametrize("sbatch, said", [
    ("exit 1", "error: sbatch does not take stage2; scancel 101 102 takes back what was submitted before"),
    ("echo Welcome", "error: sbatch --parsable answers 'Welcome' for stage2, which is no job's number: see squeue")])
def test_what_sbatch_says_is_looked_at(house, sbatch, said):
    """Of the third job."""
    third = f'[ "$(grep -c ^sbatch calls.txt)" -lt 3 ] || {{ {sbatch}; exit; }}\n'
    write(Path("bin/sbatch"), Path("bin/sbatch").read_text().replace('echo "$((', third + 'echo "$(('))
    result = submit(house, "configs")
    assert result.returncode == 2 and result.stderr.splitlines() == [said] and len(calls("sbatch")) == 3


def test_a_preempted_or_cancelled_job_writes_its_checkpoint_and_leaves_the_queue_to_slurm(house):
    job = batch(house, STOPS)
    wait_for("ready")
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 143
    assert Path("checkpoint").exists() and Path("told.txt").read_text() == "USR1\n" and not calls("scontrol")


@pytest.mark.parametrize("status", [0, 1])
def test_a_job_that_ends_by_itself_hands_on_its_status(house, status):
    assert batch(house, f"exit {status}").wait(30) == status
    assert not calls("scontrol")


def test_the_processors_that_were_asked_for_are_the_steps_too(house, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "48")
    assert batch(house, 'echo "$SRUN_CPUS_PER_TASK" > processors').wait(30) == 0
    assert Path("processors").read_text() == "48\n"


def test_a_job_that_finishes_while_it_is_told_is_not_put_back(house):
    job = batch(house, "trap 'sleep 0.2; exit 0' USR1; echo $$ > ready; while :; do sleep 0.05; done")
    wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0 and not calls("scontrol")


def test_the_last_machine_serves_and_the_others_train(house, monkeypatch):
    write(house / ".venv/bin/python", '#!/usr/bin/env bash\n[ "$2" = needed ] && printf "rollouts\\njudge\\n"\n')
    hosts = 'if [ "$1" = show ]; then printf "a\\nb\\nc\\n"; fi\n'
    write(Path("bin/scontrol"), Path("bin/scontrol").read_text() + hosts)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "[a-c]")
    # A server runs until it is told to end.
    assert batch(house, 'case "$*" in *serve.sh*) echo $$ >> serving; exec sleep 60 ;; esac; sleep 0.5').wait(30) == 0
    urls = ["rollout.url=http://c:8000", "judge.url=http://c:8001"]
    behind = ["configs/stage3.yaml", "seed=1", *urls]
    steps = {step[step.index("bash") + 1].rsplit("/", 1)[1]: step for step in calls("srun") if "judge" not in step}
    assert steps["serve.sh"][-5:] == ["rollouts", *behind] and "--nodelist=c" in steps["serve.sh"]
    assert "CUDA_VISIBLE_DEVICES=0" in steps["serve.sh"]
    assert steps["stage3.sh"][-4:] == behind and {"--nodes=2", "--ntasks=2", "--exclude=c"} <= set(steps["stage3.sh"])
    (judge,) = [step for step in calls("srun") if "judge" in step]
    assert judge[-5:] == ["judge", *behind] and "CUDA_VISIBLE_DEVICES=1" in judge
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in Path("serving").read_text().split()):
            return
        time.sleep(0.05)
    raise AssertionError("a server outlived its job")


def test_a_server_needs_a_machine_of_its_own(house, monkeypatch):
    write(house / ".venv/bin/python", "#!/usr/bin/env bash\necho rollouts\n")
    write(Path("bin/scontrol"), Path("bin/scontrol").read_text() + "echo a\n")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "a")
    assert batch(house, "").wait(30) == 2 and not Path("calls.txt").read_text().count("srun|")


def test_a_job_whose_machines_are_not_named_starts_nothing(house, monkeypatch, capfd):
    write(house / ".venv/bin/python", "#!/usr/bin/env bash\necho rollouts\n")
    write(Path("bin/scontrol"), "#!/usr/bin/env bash\nexit 1\n")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "[a-c]")
    assert batch(house, "").wait(30) == 2 and not Path("calls.txt").exists()
    assert "scontrol does not name the machines of [a-c]" in capfd.readouterr().err


def test_the_batch_file_names_no_site(house):
    text = (ROOT / "scripts/cluster/stage.sbatch").read_text()
    assert {line.split()[1].split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")} == {
        "--ntasks-per-node", "--requeue", "--signal", "--open-mode"}
