"""dataclass < YAML < key=value, and errors a person can act on."""
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from gre import config
from gre.config import CHECKOUT, REQUIRED, ConfigError, UserError, option, shipped


@dataclass
class Train:
    learning_rate: float = option(1e-5, "peak learning rate")
    bf16: bool = option(False, "autocast")
    max_steps: int = option(-1, "steps")


@dataclass
class Settings:
    output_dir: str = option(REQUIRED, "where the run is written")
    seed: int = option(0, "seed of everything")
    parent: str | None = option(None, "the folder to start from")
    thetas_km: list[float] = option([25.0, 750.0], "scales of the reward")
    weights: dict[str, float] = option({}, "weight by name")
    train: Train = option(Train(learning_rate=1e-6), "optimiser")


@dataclass
class Report:
    report: str = option("", "a folder")


@dataclass
class Paths:
    output_dir: str = option("", "a folder")
    parent: str | None = option(None, "a folder")
    files: list[str] = option([], "files")
    by_name: dict[str, str] = option({}, "files by name")
    other: str = option("", "a folder")
    train: Report = option(Report, "a section")


def load(*argv):
    return config.load(Settings, list(argv), description="A command.")


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return str(path)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_dataclass(tmp_path):
    path = write(tmp_path, "output_dir: a\ntrain:\n  learning_rate: 2e-5\n  max_steps: 7\n")
    settings = load(path, "train.max_steps=9", "thetas_km=[1, 2.5]", "weights.a=3")
    assert isinstance(settings, Settings) and isinstance(settings.train, Train)
    assert settings.train == Train(learning_rate=2e-5, max_steps=9)
    assert settings.thetas_km == [1.0, 2.5] and settings.weights == {"a": 3.0}
    assert load("output_dir=b") == Settings("b")


@pytest.mark.parametrize("text", ["007", "1e5", "a=b", "2026-11-21", "null", "", "runs/x y", "[1", "./~"])
def test_text_is_taken_as_written(text):
    assert load(f"output_dir={text}").output_dir == text


def test_a_path_in_a_home_folder_is_read_once_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNS", "~/runs")
    home, of_root = str(tmp_path / "home"), os.path.expanduser("~root")
    path = write(tmp_path, "output_dir: ~/runs/x\nparent: ${output_dir}/stage1\nfiles: [a, ~/b]\nby_name: {c: ~/d}\n"
                           "train:\n  report: ${oc.env:RUNS}\n")
    settings = config.load(Paths, [path, "other=~root/x"])
    assert settings == Paths(f"{home}/runs/x", f"{home}/runs/x/stage1", ["a", f"{home}/b"], {"c": f"{home}/d"},
                             f"{of_root}/x", Report(f"{home}/runs"))
    (tmp_path / "home").mkdir()
    write(tmp_path / "home", "output_dir: a\n")
    assert config.load(Paths, ["~/c.yaml", "other=~"]).other == home
    assert config.config_files(["--dry-run", "~/c.yaml", "seed=1"]) == [f"{home}/c.yaml"]


def test_a_dry_run_shows_the_path_that_is_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        config.load(Paths, ["output_dir=~/x", "--dry-run"], plan=lambda settings: {"writes": [settings.output_dir]})
    said = capsys.readouterr().out
    assert f"output_dir: {tmp_path}/x\n" in said and said.endswith(f"#   {tmp_path}/x\n") and "~" not in said


@pytest.mark.parametrize("text", ["~about 5 words", "a~/b", "~", "~5", "x ~/y"])
def test_other_text_with_a_tilde_is_taken_as_written(text, monkeypatch):
    monkeypatch.setenv("HOME", "~")
    assert load(f"output_dir={text}").output_dir == text


def test_the_home_folder_of_nobody_is_refused():
    with pytest.raises(ConfigError) as raised:
        load("output_dir=~no_such_user/x")
    assert str(raised.value) == ("~no_such_user/x: there is no user 'no_such_user' with a home folder; a folder of "
                                 "that name is written ./~no_such_user/x")
    assert load("output_dir=./~no_such_user/x").output_dir == "./~no_such_user/x"


def test_a_shells_variable_is_no_folder(tmp_path, monkeypatch):
    """$HOME/x made a folder called $HOME; ${HOME}/x was an unknown key and nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError) as raised:
        load("output_dir=$HOME/runs/x")
    assert str(raised.value) == ("$HOME/runs/x: variables of the environment are written ${oc.env:NAME} here: "
                                 "${oc.env:HOME}/runs/x")
    with pytest.raises(ConfigError, match=r"'HOME' not found: the variable of the environment is written "
                                          r"\$\{oc.env:HOME\}"):
        load(write(tmp_path, "output_dir: ${HOME}/runs\n"))
    assert load("output_dir=costs $5/x").output_dir == "costs $5/x"


def test_a_part_of_a_config_may_refer_to_keys_that_the_reader_does_not_know(tmp_path):
    """output_dir: as the whole config's reader has it, with the command line's value too."""
    path = write(tmp_path, "output_dir: runs/${name}/${train.optimiser.kind}\nname: a\n"
                           "train:\n  optimiser: {kind: adam}\n  max_steps: 3\n")
    settings = config.load(Settings, [path, "name=b", "train.optimiser.kind=sgd"], partial=("", "train"))
    assert settings.output_dir == "runs/b/sgd" and settings.train.max_steps == 3
    assert config.load(Settings, ["output_dir=a", "prompt=@file", "note=[x"], partial=("",)) == Settings("a")
    with pytest.raises(ConfigError, match="output_dir: Interpolation key 'name' not found"):
        config.load(Settings, ["output_dir=${name}"], partial=("",))


def test_null_clears_a_key_that_may_be_empty():
    assert load("output_dir=a", "parent=null").parent is None
    assert load("output_dir=a", "parent=runs/x").parent == "runs/x"


@pytest.mark.parametrize("wrong, right", [
    ("train.learning_rat=1", "train.learning_rate"), ("learning_rate=1", "train.learning_rate"),
    ("train.lr=1", "train.learning_rate"), ("lr=1", "train.learning_rate"), ("steps=1", "train.max_steps"),
    ("train.learn=1", "train.learning_rate"), ("out=a", "output_dir"), ("train.max_stpes=1", "train.max_steps"),
    ("thetas=[1]", "thetas_km"), ("sed=1", "seed"), ("train.seed=1", "seed")])
def test_an_unknown_key_names_its_neighbour(wrong, right):
    with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
        load("output_dir=a", wrong)


def test_an_unknown_key_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path, "output_dir: a\ntrain:\n  lerning_rate: 1\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: unknown key 'train.lerning_rate'; did you mean 'train.learning_"):
        load(path)


@pytest.mark.parametrize("wrong", ["seed=1.5", "seed=abc", "train.bf16=maybe", "train.learning_rate=fast", "seed=[1",
                                   "thetas_km=[a]", "thetas_km=3", "train=3", "seed=null", "seed="])
def test_a_wrong_type_names_its_key(wrong):
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        load("output_dir=a", wrong)


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "seed: 1\nseed: 2\n", "5"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="c.yaml"):
        load(write(tmp_path, text))


@pytest.mark.parametrize("argv, message", [
    ((), "no value for output_dir"), (("nowhere.yaml",), "no config file nowhere.yaml"),
    (("a.yaml", "b.yaml"), "one config file"), (("--seed", "output_dir=a"), "--seed is not an option")])
def test_other_mistakes(argv, message):
    with pytest.raises(ConfigError, match=message):
        load(*argv)


def test_help_lists_every_key(capsys):
    with pytest.raises(SystemExit) as stopped:
        load("--help")
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and all(f"  {key} (" in text for key in config.keys(Settings))
    assert "train.learning_rate (float, default 1e-06)" in text and "peak learning rate" in text
    assert "output_dir (str, required)" in text


def test_dry_run_prints_what_would_be_read_and_written(capsys):
    with pytest.raises(SystemExit) as stopped:
        config.load(Settings, ["output_dir=out", "--dry-run"],
                    plan=lambda c: {"reads": ["data.json"], "writes": [c.output_dir]})
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "learning_rate: 1.0e-06" in text
    assert text.endswith("# reads:\n#   data.json\n# writes:\n#   out\n")


def test_a_file_that_a_config_names_is_the_callers_or_the_checkouts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "configs/deepspeed/zero3.json"
    assert shipped(name) == CHECKOUT / name and shipped(name).exists()
    assert shipped("none.json") == Path("none.json") and shipped("/none.json") == Path("/none.json")
    (tmp_path / "configs/deepspeed").mkdir(parents=True)
    (tmp_path / name).write_text("{}")
    assert shipped(name) == Path(name)


def test_what_is_saved_loads_again(tmp_path):
    settings = load("output_dir=a", "train.bf16=true", "weights.b=2")
    config.save(settings, tmp_path / "deep" / "config.yaml")
    assert load(str(tmp_path / "deep" / "config.yaml")) == settings


def test_a_user_error_is_one_message(capsys):
    def run(settings):
        raise UserError("data.json is missing: run the world first")

    with pytest.raises(SystemExit) as stopped:
        config.main(run, Settings, argv=["output_dir=a"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: data.json is missing: run the world first\n"


def test_a_bug_keeps_its_traceback_and_memory_does_not(capsys):
    def raises(error):
        def run(settings):
            raise error
        return run

    with pytest.raises(RuntimeError, match="a bug"):
        config.main(raises(RuntimeError("a bug")), Settings, argv=["output_dir=a"])
    with pytest.raises(SystemExit):
        config.main(raises(MemoryError()), Settings, argv=["output_dir=a"])
    assert "out of memory" in capsys.readouterr().err
