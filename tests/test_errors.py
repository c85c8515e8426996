"""What a user can repair, raised by Python or another library, is one message that names key or file; a bug is not."""
import csv
import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from gre import config
from gre.config import REQUIRED, option
from gre.training.watching.completions import read_places
from stages import judge, stage1, stage2, stage3


@dataclass
class Settings:
    output_dir: str = option(REQUIRED, "where it is written")
    seed: int = option(0, "seed")


def told(capsys, run, config_class=Settings, *argv) -> str:
    """What a command prints on stderr, which ends it with status 2."""
    with pytest.raises(SystemExit) as stopped:
        config.main(run, config_class, argv=list(argv) or ["output_dir=a"])
    assert stopped.value.code == 2
    before, error, said = capsys.readouterr().err.rpartition("error: ")
    assert error and "Traceback" not in before + said
    return said.strip()


@pytest.mark.parametrize("text, said", [
    ("output_dir: ${oc.env:NOT_SET}/x", "output_dir: \"Environment variable 'NOT_SET' not found\""),
    ("output_dir: ${nothing}", "output_dir: Interpolation key 'nothing' not found"),
    ("output_dir: ${output_dir}", "output_dir: Recursive interpolation detected"),
    ("output_dir: ${oc.nothing:X}", "output_dir: Unsupported interpolation type oc.nothing"),
    ("output_dir: a\nseed: ${oc.env:WORD}", "seed: While dereferencing interpolation '${oc.env:WORD}': Value 'abc'"),
    ("output_dir: '${'", "c.yaml: ")])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_reference_that_leads_nowhere_names_its_key(capsys, tmp_path, monkeypatch, text, said, flags):
    monkeypatch.setenv("WORD", "abc")
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    assert told(capsys, lambda settings: None, Settings, "c.yaml", *flags).startswith(said)


def test_a_reference_that_is_not_closed_on_the_command_line(capsys):
    assert told(capsys, lambda settings: None, Settings, "output_dir=${").startswith("command line: output_dir: ")


@pytest.mark.parametrize("wrong, said", [
    ("train.lr_scheduler_type=cosin", "train.lr_scheduler_type is 'cosin': write linear or cosine or "),
    ("train.lr_scheduler_type=cosine_with_min_lr", "train.lr_scheduler_type is 'cosine_with_min_lr': write linear or "),
    ("train.report_to=swanlab", "train.report_to is 'swanlab': write none or tensorboard or wandb"),
    ("train.learning_rate=-1", "train.learning_rate is -1.0: it must be at least 0"),
    ("train.learning_rate=nan", "train.learning_rate is nan: it must be at least 0"),
    ("train.gradient_accumulation_steps=0", "train.gradient_accumulation_steps is 0: it must be at least 1"),
    ("train.dataloader_num_workers=-1", "train.dataloader_num_workers is -1: it must be at least 0"),
    ("train.num_train_epochs=0", "train.num_train_epochs is 0.0: it must be above 0"),
    ("train.learning_rate=inf", "train.learning_rate is inf: it must be at least 0 and finite"),
    ("train.max_steps=0", "train.max_steps is 0: write -1 for as many steps as train.num_train_epochs makes"),
    ("accept_changes=rows", "command line: accept_changes takes a list: write 'accept_changes=[rows]'"),
    ("model=Qwen/x", "command line: model is a section, with keys such as model.min_pixels; did you mean model_name"),
    ("train=3", "command line: train is a section, with keys such as train.learning_rate"),
    ("train.lora_r=8", "command line: unknown key 'train.lora_r'; did you mean 'model.lora.r'?"),
    ("output_dir=", "output_dir is empty: name a folder, such as runs/NAME/stage1"),
    ("output_dir=$HOME/x", "$HOME/x: variables of the environment are written ${oc.env:NAME} here"),
    ("seed=-1", "seed is -1: it must lie between 0 and 4294967295"),
    ("model.lora.r=-1", "model.lora.r is -1: it must be at least 0"),
    ("model.max_pixels=0", "model.max_pixels is 0: it must be at least 784"),
    ("model.max_length=-4", "model.max_length is -4: it must be at least 1"),
    ("validation.eval_every=-1", "validation.eval_every is -1: it must be at least 0"),
    ("accept_parent=all", "accept_parent is 'all': write 'verified' or 'any'")])
@pytest.mark.parametrize("stage", [stage1, stage3])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_settings_that_training_refuses_are_refused_by_a_dry_run_too(capsys, stage, wrong, said, flags):
    assert told(capsys, stage.run, stage.Config, "output_dir=a", "model_name_or_path=b", wrong, *flags).startswith(said)


@pytest.mark.parametrize("stage, wrong, said", [
    (stage3, "grpo.beta=-1", "grpo.beta is -1.0: it must be at least 0"),  # away from the reference, in silence
    (stage3, "grpo.clip_epsilon=-1", "grpo.clip_epsilon is -1.0: it must be at least 0"),
    (stage3, "rollout.temperature=0", "rollout.temperature is 0.0: it must be above 0"),
    (stage3, "rollout.max_new_tokens=0", "rollout.max_new_tokens is 0: it must be at least 1"),
    (stage3, "rollout.batch_size=0", "rollout.batch_size is 0: it must be at least 1"),
    (judge, "policy.batch_size=0", "policy.batch_size is 0: it must be at least 1"),
    (judge, "held_out_share=1", "held_out_share is 1.0: it must lie between 0 and 1, both left out"),
    (stage2, "judge.batch_size=-8", "judge.batch_size is -8: it must be at least 1")])
def test_numbers_that_mean_nothing_are_refused_by_a_dry_run_too(capsys, stage, wrong, said):
    assert told(capsys, stage.run, stage.Config, "output_dir=a", "model_name_or_path=b", wrong,
                "--dry-run").startswith(said)


def test_the_least_photo_is_no_larger_than_the_largest(capsys):
    assert told(capsys, stage1.run, stage1.Config, "output_dir=a", "model_name_or_path=b", "model.max_pixels=784",
                "model.min_pixels=7840") == "model.min_pixels is 7840, above model.max_pixels=784"


def test_a_stage_names_the_file_it_cannot_read(capsys, cot):
    """On the way a user takes: a list of places in another encoding, read by stage 3."""
    Path("places.csv").write_bytes("name,lat,lon\nMünchen,48,11\n".encode("latin-1"))
    said = told(capsys, stage3.run, stage3.Config, "output_dir=out", "model_name_or_path=base",
                "data.path=cot/cot.json", "guards.places=places.csv")
    assert said == "places.csv is not utf-8 text (invalid start byte at byte 14): save it as UTF-8"


def test_a_stage_names_the_place_it_cannot_write(capsys, cot):
    Path("file").touch()
    said = told(capsys, stage1.run, stage1.Config, "output_dir=file/out", "model_name_or_path=base",
                "data.path=cot/cot.json")
    assert said.startswith(f"{cot}/file: File exists (gre/data/photos.py, line ")
    assert said.endswith("a file is where a folder should be: move it, or name another place")


def test_a_table_with_a_field_too_long_is_named(capsys, tmp_path):
    table = tmp_path / "places.csv"
    table.write_text("name,lat,lon\n" + "x" * (csv.field_size_limit() + 1) + ",1,2\n")
    said = told(capsys, lambda settings: read_places(str(table)))
    assert said.startswith(f"{table} cannot be read as CSV: field larger than field limit")


def test_damaged_weights_are_named(capsys, tmp_path):
    def read(folder):
        return safe_open(f"{folder}/model.safetensors", framework="np")

    (tmp_path / "model.safetensors").write_bytes(b"\0" * 7)
    said = told(capsys, lambda settings: read(tmp_path))
    assert said.startswith(f"{tmp_path}: weights cannot be read or written (") and "interrupted copy" in said
    with pytest.raises(SafetensorError):
        read(tmp_path)


def denied(settings):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/root/x")


def full(settings):
    with open("/dev/full", "w") as stream:
        stream.write("x")
        stream.flush()


def full_path(settings):
    Path("/dev/full").write_text("x")


@pytest.mark.parametrize("run, start, end", [
    (denied, "/root/x: Permission denied (tests/test_errors.py, line ", "its permissions, or name another place"),
    (full, "/dev/full: No space left on device (tests/test_errors.py, line ", "and the same command resumes"),
    (full_path, "/dev/full: No space left on device (tests/test_errors.py, line ", "and the same command resumes"),
    (lambda settings: os.listdir("nowhere"), "nowhere: No such file or directory (", "make it, or name another")])
def test_a_file_system_s_refusals_name_the_file_and_a_remedy(capsys, run, start, end):
    said = told(capsys, run)
    assert said.startswith(start) and said.endswith(end)


@pytest.mark.parametrize("bug", [
    KeyError("a"), TypeError("a"), AssertionError("a"), ValueError("a"), AttributeError("a"), IndexError("a"),
    OSError(errno.EBADF, "Bad file descriptor"), RuntimeError("a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "wrong")])
def test_a_bug_keeps_its_traceback(bug):
    def run(settings):
        raise bug

    with pytest.raises(type(bug)) as raised:
        config.main(run, Settings, argv=["output_dir=a"])
    assert raised.value is bug
