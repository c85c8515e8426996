"""environment.sh cuda: the driver, and flash-attn last. Stubs stand for nvidia-smi, Python, uv and nvcc."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.shell import write

pytestmark = pytest.mark.slow
PYTHON = """#!/usr/bin/env bash
echo "$*" >> "$HERE/calls"
case "$*" in
    *"import sys; sys.exit("*) exec python3 -c "import sys; sys.version_info = ($VERSION, 0)${2#import sys}" ;;
    *"-m venv"*)
        mkdir -p .venv/bin
        cp "$HERE/python" .venv/bin/python
        echo "$PWD/.venv" > .venv/pyvenv.cfg ;;
    *"import flash_attn"*)
        if [ -f "$HERE/imports" ]; then exit 0; fi
        echo "ImportError: undefined symbol: _ZN3c10" >&2
        exit 1 ;;
    *sysconfig*) echo "$HERE/include" ;;
    *cpp_extension*) echo "$CUDA_HOME 13.0" ;;
    *--editable*flash-attn*)
        echo "MAX_JOBS=${MAX_JOBS-unset}" >> "$HERE/calls"
        if [ -f "$HERE/build.log" ]; then cat "$HERE/build.log"; exit 1; fi
        if [ ! -f "$HERE/unusable" ]; then touch "$HERE/imports"; fi ;;
esac
"""


@pytest.fixture
def house(tmp_path):
    """A checkout whose Python only notes what it is asked; a driver and a toolkit that fit."""
    for name in ("environment.sh", "setup.py", "gre/__init__.py", "scripts/flash_attn.sh", "constraints/cuda.txt",
                 "constraints/cpu.txt", "constraints/override.txt"):
        (tmp_path / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "house" / name)
    write(tmp_path / "python", PYTHON)
    write(tmp_path / "bin/c++", "#!/bin/sh\n")
    write(tmp_path / "bin/gcc", "#!/bin/sh\nexec test -f \"$HERE/include/Python.h\"\n")
    write(tmp_path / "include/Python.h", "")
    nvcc(tmp_path, "13.0")
    driver(tmp_path, "580.65.06")
    return tmp_path


def driver(folder: Path, *versions: str) -> None:
    """Let nvidia-smi tell a driver version for each GPU; without any it fails as where no driver is loaded."""
    answer = f"printf '%s\\n' {' '.join(versions)}" if versions else "echo NVIDIA-SMI has failed; exit 9"
    write(folder / "bin/nvidia-smi", f"#!/usr/bin/env bash\n{answer}\n")


def nvcc(folder: Path, release: str) -> None:
    write(folder / "cuda/bin/nvcc", f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")


def environment(house: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    path = f"{house / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    clean = {"PATH": path, "HERE": str(house), "PYTHON": str(house / "python"), "CUDA_HOME": str(house / "cuda"),
             "HOME": os.environ["HOME"], "VERSION": "3, 12"}
    return subprocess.run(["bash", str(house / "house/environment.sh"), *arguments], capture_output=True, text=True,
                          env={**clean, **variables})


def calls(house: Path) -> list[str]:
    return (house / "calls").read_text().splitlines() if (house / "calls").exists() else []


@pytest.mark.parametrize("version", ["570.124.06", "535.54.03", "580.64.99"])
def test_a_driver_too_old_is_refused_before_anything_is_installed(house, version):
    driver(house, "580.95.05", version)  # two GPUs never differ; the older one would count
    result = environment(house, "cuda")
    assert result.returncode == 1 and not calls(house)
    assert f"the NVIDIA driver is {version}" in result.stderr and "needs 580.65.06 or newer" in result.stderr
    assert environment(house, "cuda", CHECK_DRIVER="no").returncode == 0


@pytest.mark.parametrize("version", ["580.65.06", "580.159.04", "590.44.01", "1000.1"])
def test_a_newer_driver_is_taken(house, version):
    driver(house, version)
    result = environment(house, "cuda")
    assert result.returncode == 0 and "ready after" in result.stdout and "NVIDIA" not in result.stderr


def test_without_a_driver_it_installs_and_says_which_is_needed(house):
    driver(house)
    result = environment(house, "cuda")
    assert result.returncode == 0 and "ready after" in result.stdout
    assert "no NVIDIA driver answers" in result.stderr and "driver 580.65.06 or newer" in result.stderr


def test_without_python_s_headers_or_a_compiler_it_says_what_will_fail(house):
    (house / "include/Python.h").unlink()
    result = environment(house, "cuda")
    assert result.returncode == 0 and "ready after" in result.stdout
    assert f"/gcc cannot compile against {house}/include/Python.h" in result.stderr
    assert "apt-get install gcc libpython3-dev" in result.stderr
    assert "Python.h" not in environment(house, "cpu").stderr


def test_the_compiler_that_triton_takes_is_tried(house):
    result = environment(house, "cuda", CC="no-such-compiler")
    assert result.returncode == 0 and "no-such-compiler cannot compile" in result.stderr


def test_flash_attn_is_built_last_with_max_jobs_and_only_once(house):
    result = environment(house, "cuda", MAX_JOBS="3")
    assert result.returncode == 0 and not result.stderr
    assert "MAX_JOBS=3: by its authors' word 3 to 5 minutes on 64 cores" in result.stdout
    assert result.stdout.index("ready after") < result.stdout.index("compiling") < result.stdout.index("built in")
    build, jobs, imported = calls(house)[-3:]
    assert "--constraint constraints/cuda.txt" in build and build.endswith("flash-attn --editable .[flash-attn]")
    assert jobs == "MAX_JOBS=3" and "import flash_attn" in imported
    before = len(calls(house))
    assert environment(house, "cuda").returncode == 0
    assert calls(house)[before:] == ["-c import flash_attn"]


def test_a_second_script_says_that_it_waits_for_the_first(house):
    (house / "house/.venv").mkdir()
    holds = subprocess.Popen(["flock", str(house / "house/.venv"), "sh", "-c", "echo held; sleep 1"],
                             stdout=subprocess.PIPE, text=True)
    assert holds.stdout.readline() == "held\n"
    result = environment(house, "cuda")
    assert holds.wait() == 0 and result.returncode == 0
    assert result.stdout.splitlines()[0] == (
        f"environment.sh: waiting for another script, which installs into {house}/house/.venv")


def test_a_script_never_starts_the_build(house):
    """It calls environment.sh without an argument, here with an environment whose build failed."""
    (house / "build.log").write_text("error: something\n")
    assert environment(house, "cuda").returncode == 0
    before = len(calls(house))
    result = environment(house)
    assert result.returncode == 0 and len(calls(house)) == before and not result.stderr
    assert environment(house, "cuda").returncode == 0 and len(calls(house)) > before  # by name: tried again


@pytest.mark.parametrize("log, cause", [
    ("nvcc fatal\nKilled\nerror: command '/usr/local/cuda/bin/nvcc' failed\n", "the compiler ran out of memory"),
    ("fatal: No space left on device\nerror: x\n", "no space is left on the disk"),
    ("  compiling\n  flash.cu(3): error: identifier undefined\n  bye\n", "flash.cu(3): error: identifier undefined"),
    ("what is this\n", "what is this")])
def test_a_failed_build_leaves_a_working_environment_and_its_cause(house, log, cause):
    (house / "build.log").write_text(log)
    result = environment(house, "cuda")
    assert result.returncode == 0 and "ready after" in result.stdout
    assert f"flash-attn was not built: {cause}" in result.stderr and "log: .venv/flash-attn.log" in result.stderr
    assert "without flash-attn attention is torch's own" in result.stderr
    assert (house / "house/.venv/stamp").exists()


def test_a_build_that_does_not_import_is_taken_out_again(house):
    (house / "unusable").touch()
    result = environment(house, "cuda")
    assert result.returncode == 0
    assert "does not import, so it is out again: ImportError: undefined symbol: _ZN3c10" in result.stderr
    assert any("uninstall" in call and call.endswith("flash-attn") for call in calls(house))


@pytest.mark.parametrize("release, cause", [
    (None, "there is no nvcc: install the toolkit of CUDA 13.0"),
    ("12.8", "is of CUDA 12.8 and torch is built for CUDA 13.0")])
def test_no_build_is_begun_without_a_toolkit_that_fits(house, release, cause):
    shutil.rmtree(house / "cuda")
    if release:
        nvcc(house, release)
    result = environment(house, "cuda")
    assert result.returncode == 0 and cause in result.stderr and "compiling" not in result.stdout


def test_cpu_asks_for_no_driver_and_builds_nothing(house):
    driver(house, "470.1")
    result = environment(house, "cpu")
    assert result.returncode == 0 and not any("flash" in call for call in calls(house))


@pytest.mark.parametrize("setup, version, taken", [
    ("cuda", "3, 11", True), ("cuda", "3, 13", False), ("cpu", "3, 13", True), ("cpu", "3, 10", False),
    ("cpu", "3, 1", False), ("cpu", "3, 14", False)])
def test_which_pythons_are_taken(house, setup, version, taken):
    result = environment(house, setup, VERSION=version)
    assert (result.returncode == 0) == taken
    assert taken or "is not Python 3.11 or 3.12" in result.stderr and ("3.13" in result.stderr) == (setup == "cpu")
