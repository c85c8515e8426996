"""The command, as the shell starts it: formats, standard input, resuming, files that cannot be read, exit statuses."""
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from gre import export
from gre.locate.__main__ import main
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


def gre_locate(taught, *arguments: str, given: bytes = b"", model: str = "run/stage3") -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "gre.locate", *arguments, "--model", model, "--max-new-tokens", "60"],
                          cwd=taught, input=given, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_help_and_usage_need_no_model():
    for arguments, status in ((["--help"], 0), (["a.jpg"], 2), (["a.jpg", "--model", "x", "--json", "--kml"], 2)):
        done = subprocess.run([sys.executable, "-m", "gre.locate", *arguments], capture_output=True, text=True)
        assert done.returncode == status and "--samples" in done.stdout + done.stderr


def test_names_on_standard_input_are_answered_and_what_cannot_be_read_is_named_at_the_end(taught):
    bad, good = b"imgs/\xff\n'quoted\".png", os.fsdecode(b"imgs/\xfe.png")
    (taught / os.fsdecode(bad)).write_bytes(b"no photo")
    (taught / good).write_bytes((taught / "imgs/tokyo.png").read_bytes())
    done = gre_locate(taught, "imgs/tokyo.png", good, "-", "--json", "--map", "out/map.html", given=b"\0".join(
        [b"imgs/paris.png", bad, b"imgs/gone.png", b"imgs/tokyo.png", b"a" * 300]))
    (taught / os.fsdecode(bad)).unlink()
    (taught / good).unlink()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["path"], one["latitude"]) for one in lines] == [
        ("imgs/tokyo.png", 35.68), (good, 35.68), ("imgs/paris.png", 48.86)]
    assert list(lines[0]) == ["path", "latitude", "longitude", "place", "radius_km", "reasoning", "raw"]
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "3 of 6 could not be read:" in said and "imgs/gone.png: there is no such file" in said
    assert "cannot be read as a photo" in said and "6/6" in said
    assert "File name too long" in said and "Traceback" not in said
    assert "tokyo.png" in (page := (taught / "out/map.html").read_text()) and "<h2>imgs/\\udcfe.png</h2>" in page


def test_a_map_replaces_no_photo_and_no_answers_and_what_cannot_be_written_is_said_before_the_work(taught, tmp_path):
    (tmp_path / "linked").symlink_to(tmp_path)
    (page := tmp_path / "page.html").write_bytes((taught / "imgs/tokyo.png").read_bytes())  # a photo, whatever its name
    for given, said in ((["--map", "a.png", "b.png"], "--map a.png: the map is a web page: name a file that ends in"),
                        (["b.png", "--map", "z.jsonl", "--out", "z.jsonl"], "--map z.jsonl: the map is a web page"),
                        (["b.png", "--map", "z.html", "--out", "linked/z.html"], "would replace a photo, or the ans"),
                        (["page.html", "--map", "linked/page.html"], "would replace a photo, or the answers"),
                        (["b.png", "--map", "page.html/map.html"], "page.html: File exists"),
                        (["b.png", "--map", "/proc/map.html"], "/proc")):
        done = gre_locate(tmp_path, *given, model=str(taught / "run/stage3"))
        last = done.stderr.decode().splitlines()[-1]
        assert done.returncode == 2 and last.startswith("error: ") and said in last, done.stderr
        assert not done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linked", "page.html"]
    assert page.read_bytes() == (taught / "imgs/tokyo.png").read_bytes()


def test_a_long_list_resumes(taught):
    first = gre_locate(taught, "imgs/tokyo.png", "--out", "kept.jsonl", "--csv")
    assert first.returncode == 0, first.stderr
    before = (taught / "kept.jsonl").read_text()
    (taught / "kept.jsonl").write_text(before.replace("35.68", "36.68"))  # a mark: what is kept is not asked again
    both = gre_locate(taught, "imgs/paris.png", "imgs/tokyo.png", "--out", "kept.jsonl")
    assert both.returncode == 0 and "36.6800, 139.6900" in both.stdout.decode()
    assert both.stdout.decode().startswith("imgs/paris.png\n  48.8600, 2.3500  Paris")
    assert len((taught / "kept.jsonl").read_text().splitlines()) == 2
    other = gre_locate(taught, "imgs/paris.png", "--out", "kept.jsonl", "--samples", "2")
    assert other.returncode == 2 and "made with another decoding" in other.stderr.decode()


def test_a_model_is_a_folder_and_what_is_wrong_with_it_is_one_message_in_options(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    shutil.copytree("run/stage3", "run/altered")
    with open("run/altered/model/generation_config.json", "a") as stream:
        stream.write("\n")
    monkeypatch.setattr("gre.models.hub.fetch", lambda *_: pytest.fail("the Hub was asked"))
    for given, said in (
            (["--model", "quickstart/stage3"], f"there is no model folder {taught}/quickstart/stage3: name that of a"),
            (["--model", "base"], "write --prompt … --min-pixels … --max-pixels …; both"),
            (["--model", "run/altered"], "name another model, or write --accept-parent any"),
            (["--model", "run/stage3", "--max-pixels", "784"], "--max-pixels 784 is asked for: leave both out, or"),
            (["--model", "run/stage3", "--dtype", "int8"], "dtype is 'int8': write one of auto, float32, bfloat16"),
            (["--model", "run/stage3", "--batch-size", "0"], "--batch-size is 0: it must be at least 1")):
        with pytest.raises(SystemExit, match="2"):
            main(["imgs/paris.png", *given])
        assert said in capsys.readouterr().err
    shutil.rmtree("run/altered")


def test_the_card_of_an_exported_stage_holds_the_command_that_asks_it(taught, tmp_path):
    export.run(export.Config(str(taught / "run/stage3"), str(tmp_path / "plain"), dtype="float32"))
    card = (tmp_path / "plain/README.md").read_text()
    (line,) = [line for line in card.splitlines() if line.startswith("gre-locate ")]
    arguments = ["-m", "gre.locate", *shlex.split(line.replace("PHOTO", str(taught / "imgs/paris.png")))[1:]]
    done = subprocess.run([sys.executable, *arguments, "--max-new-tokens", "60", "--json"], cwd=tmp_path / "plain",
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["latitude"], found["longitude"]) == (48.86, 2.35) and "--prompt 'Where is this?'" in line
