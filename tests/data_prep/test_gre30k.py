"""scripts/data/gre30k.sh: the whole chain, killed at any moment, and with nothing but coordinates."""
import random
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_prep import recipe
from gre.config import UserError
from gre.data.records import DataConfig, read_cot, read_judge, read_seed
from tests.helpers.paths import ROOT
from tests.helpers.seeds import TeacherServer, chain, kill_in_step, seeds, usual

KILLS = 3
CONFIG, REGIONS = ROOT / "configs/data/gre30k.yaml", ROOT / "configs/data/regions.yaml"


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory) -> Path:
    """Folder with photos.csv and photos/."""
    folder = tmp_path_factory.mktemp("sixteen")
    seeds(folder, 16)
    return folder


def said(number: int, _: int):
    """Every fifth photo is placed wrongly, every seventh not at all."""
    if number % 7 == 6:
        return 500, {}, "broken"
    return usual(chain(number, off=4.0 * (number % 5 == 4)))


def keys(sixteen: Path, url: str, out: Path) -> list[str]:
    return [str(CONFIG), f"out={out}", f"seeds.table={sixteen / 'photos.csv'}", "seeds.min_side=100", "seeds.rows=null",
            "distil.shard_rows=4", f"distil.teachers=[{{model: m, url: '{url}', tries: 1, concurrency: 2}}]"]


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.parent.name != "steps"}


@pytest.mark.slow
def test_killed_in_any_step_the_files_are_those_of_an_undisturbed_run(sixteen, tmp_path):
    rng = random.Random()
    with TeacherServer(lambda number, times: (time.sleep(0.2), said(number, times))[1]) as server:
        command = [sys.executable, "-m", "data_prep.recipe", *keys(sixteen, server.url, tmp_path / "killed" / "out")]
        for _ in range(KILLS):
            step = rng.choice(("seeds", "split", "distil", "judge", "cot", "verify"))
            kill_in_step(command, step, rng.uniform(0, 1.0))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        answered = {number: count for number, count in server.asked.items() if number % 7 != 6}
        whole = subprocess.run(["bash", str(ROOT / "scripts/data/gre30k.sh"), *keys(
            sixteen, server.url, tmp_path / "whole" / "out")], cwd=tmp_path, capture_output=True, text=True)
        assert whole.returncode == 0, whole.stderr[-2000:]
    # at most the questions that were under way at the kills were asked twice
    assert sum(answered.values()) <= len(answered) + KILLS * 2
    killed, undisturbed = files(tmp_path / "killed" / "out"), files(tmp_path / "whole" / "out")
    assert killed.keys() == undisturbed.keys()
    assert [name for name in killed if killed[name] != undisturbed[name]] == []

    out = tmp_path / "whole" / "out"
    cot = read_cot(DataConfig(path=str(out / "gre_cot/gre_cot.json")))
    judge = read_judge(DataConfig(path=str(out / "gre_judge/gre_judge.json")))
    seed = read_seed(DataConfig(path=str(out / "gre_seed/gre_seed.jsonl")))
    parts = [{row.image.name for row in rows} for rows in (cot, judge, seed)]
    assert all(parts) and not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert not (set(server.asked) - set(range(16))) and not any("work" in name.split("/") for name in undisturbed)


@pytest.mark.slow
def test_coordinates_alone_are_enough_for_stage_1(sixteen, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [str(REGIONS), f"seeds.table={sixteen / 'photos.csv'}", "seeds.min_side=100",
             "regions.min_population=15000"]
    recipe.main([*given, "--dry-run"])
    assert not list(tmp_path.iterdir()) and "dataset/regions/gre_cot/gre_cot.json" in capsys.readouterr().out
    recipe.main(given)
    rows = read_cot(DataConfig(path="dataset/regions/gre_cot/gre_cot.json"))
    assert len(rows) == 16 and rows[0].response.startswith("<think>Country: France")
    assert "16 rows, 16 can be used" in capsys.readouterr().out
    again = Path("dataset/regions/steps/cot.yaml")  # each step is a command of its own
    done = subprocess.run([sys.executable, "-m", "data_prep.cot", str(again)], capture_output=True, text=True)
    assert "was finished before" in done.stdout, done.stderr


@pytest.mark.parametrize("given, fault", [
    ([], "name one config"), ([str(REGIONS), "region.within_km=3"], "unknown key 'region'; did you mean 'regions'"),
    ([str(REGIONS)], "write either photos=FOLDER"),
    ([str(CONFIG), "seeds.table=t"], "no value for teachers"),
    ([str(REGIONS), "steps=[seeds, cotton]"], "steps names 'cotton'"),
    ([str(REGIONS), "seeds.table=t", "cot.within=3"], "unknown key 'within'; did you mean 'within_km'"),
    ([str(REGIONS), "seeds.table=t", "steps=[seeds, judge]"], "no section judge"),
    ([str(REGIONS), "--wet-run"], "--wet-run is not an option")])
def test_what_is_wrong_is_told_before_the_first_step(tmp_path, monkeypatch, given, fault):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=fault):
        recipe.main(given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted((ROOT / "configs/data").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_name_every_section_that_they_run(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert set(content) == {"out", "steps", *content["steps"]}
    first = path.read_text().splitlines()[0]
    script = "mp16_reason" if path.stem == "mp16_reason" else "gre30k"
    assert re.match(rf"# bash scripts/data/{script}.sh configs/data/{path.name} ", first)
    for step in content["steps"]:
        assert import_module(recipe.STEPS[step]).Config
