"""Fetching from a stand-in of the Hub, by the command: confirmed, pinned, compared, resumed, and what it says where it
cannot."""
import hashlib
import json
import os
import pty
import random
import subprocess
import sys
import time

import pytest

from data_prep import fetch
from gre.config import UserError, load
from tests.helpers.hub import COMMIT, Hub, serving
from tests.helpers.paths import ROOT

FILES = {"README.md": b"# GRE30K\n", "gre_cot/gre_cot.json": b"[]\n",
         "gre_cot/photos.bin": random.Random(0).randbytes(12_000_000)}
DATA = ["gre30k", f"revision={COMMIT}"]


@pytest.fixture
def hub():
    with serving(Hub("Anonymous0515/GRE30K", "dataset", dict(FILES), {"license": "cc-by-nc-4.0"})) as hub:
        yield hub


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


COMMAND = [sys.executable, "-m", "data_prep.fetch"]


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": os.path.abspath("home")}


def run(url: str, *keys: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *keys], env=environment(url), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)


def fetched(hub: Hub) -> list[str]:
    return [path.rpartition("/")[2] for method, path, _ in hub.asked if method == "GET" and "/resolve/" in path]


@pytest.mark.slow
def test_shown_confirmed_fetched_compared_and_recorded(hub, tmp_path):
    asked = run(hub.url, *DATA)
    assert asked.returncode == 2 and "nothing was fetched: write yes=true" in asked.stderr and not fetched(hub)
    assert f"Anonymous0515/GRE30K (dataset) at commit {COMMIT}, last changed 2025-06-01" in asked.stdout
    assert "licence: cc-by-nc-4.0; its photos are of MP16-Pro, which is for academic use" in asked.stdout
    assert "3 files, 11.4 MiB, of which 11.4 MiB are not in dataset/published/gre30k yet" in asked.stdout
    assert not (tmp_path / "dataset").exists()
    done = run(hub.url, *DATA, "yes=true")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "dataset/published/gre30k"
    assert {path: (out / path).read_bytes() for path in FILES} == FILES
    record = json.loads((out / "fetched.json").read_text())
    assert (record["repo"], record["kind"], record["revision"], record["licence"]) == (
        "Anonymous0515/GRE30K", "dataset", COMMIT, "cc-by-nc-4.0")
    assert record["files"] == {path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                               for path, content in FILES.items()}
    assert "hf_x" not in done.stdout + done.stderr + (out / "fetched.json").read_text()


@pytest.mark.slow
def test_kill_9_keeps_what_is_whole(hub, tmp_path):
    hub.stop_after, hub.stall = 11_000_000, True
    out = tmp_path / "dataset/published/gre30k"
    small = [path for path in FILES if not path.endswith(".bin")]
    killed = subprocess.Popen([*COMMAND, *DATA, "yes=true"], env=environment(hub.url), stdout=subprocess.DEVNULL)
    assert hub.stopped.wait(120)
    end = time.monotonic() + 60
    while not all((out / path).exists() for path in small):
        assert time.monotonic() < end
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    hub.go_on.set()
    assert not (out / "fetched.json").exists() and not (out / "gre_cot/photos.bin").exists()
    hub.asked.clear()
    done = run(hub.url, *DATA, "yes=true")
    assert done.returncode == 0, done.stderr
    assert "of which 11.4 MiB are not in" in done.stdout and fetched(hub) == ["photos.bin"]
    assert {path: (out / path).read_bytes() for path in FILES} == FILES
    assert not list(out.rglob("*.incomplete"))


@pytest.fixture
def reach(monkeypatch):
    """Lets this process ask a stand-in."""
    from huggingface_hub import constants

    def reach(hub: Hub) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            hub.url + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix("https://huggingface.co"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", os.path.abspath("cache"))
    return reach


def fetch_here(*keys: str) -> None:
    fetch.run(load(fetch.Config, fetch.arguments([*keys])))


def refused(*keys: str) -> str:
    with pytest.raises(UserError) as told:
        fetch_here(*keys)
    return str(told.value)


@pytest.mark.slow
def test_the_same_command_again(hub, reach, tmp_path, capsys):
    reach(hub)
    fetch_here(*DATA, "yes=true")
    hub.asked.clear()
    fetch_here("gre30k")  # its record says which commit
    assert "was fetched before, and is whole" in capsys.readouterr().out and not hub.asked
    said = refused("gre30k", f"revision={'f' * 40}", "yes=true")
    assert f"holds Anonymous0515/GRE30K at commit {COMMIT}" in said
    file = tmp_path / "dataset/published/gre30k/gre_cot/gre_cot.json"
    file.write_bytes(b"[1]\n")
    assert "gre_cot.json is not what was published: delete it, and run" in refused(*DATA)
    file.unlink()
    fetch_here(*DATA, "yes=true")
    assert fetched(hub) == ["gre_cot.json"]  # that file alone


@pytest.mark.slow
def test_a_broken_connection_goes_on_where_it_broke(hub, reach, tmp_path):
    reach(hub)
    hub.stop_after = 11_000_000
    fetch_here(*DATA, "yes=true")
    assert (tmp_path / "dataset/published/gre30k/gre_cot/photos.bin").read_bytes() == FILES["gre_cot/photos.bin"]
    assert [given for method, path, given in hub.asked if method == "GET" and path.endswith("photos.bin")] == [
        "", f"bytes={10 * 2**20}-"]


def test_a_model_without_pickles_after_a_typed_yes(reach, monkeypatch, capsys, tmp_path):
    files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle", "LICENSE": b"own",
             "chat_template.jinja": b"x", "assets/demo.mp4": b"video"}
    known = fetch.SOURCES["qwen2.5-vl-3b"]
    ours, theirs = pty.openpty()
    with serving(Hub(known.repo, "model", files, {"license": "other", "license_name": "qwen-research"})) as hub, open(
            theirs, encoding="utf-8") as terminal:
        reach(hub)
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(ours, b"no\n")
        assert refused("qwen2.5-vl-3b", f"revision={COMMIT}") == "nothing was fetched" and not fetched(hub)
        os.write(ours, b"yes\n")
        fetch_here("qwen2.5-vl-3b", f"revision={COMMIT}")
        assert "licence: qwen-research\n" in capsys.readouterr().out
        # The commit of the table, which the stand-in has not.
        assert f"{known.repo} has no commit {known.revision}" in refused("qwen2.5-vl-3b", "out=pinned", "yes=true")
    os.close(ours)
    assert sorted(path.name for path in (tmp_path / "models/qwen2.5-vl-3b").iterdir()) == [
        ".cache", "LICENSE", "chat_template.jinja", "config.json", "fetched.json", "model.safetensors"]


def test_what_the_hub_refuses(hub, reach, monkeypatch, capsys, tmp_path):
    reach(hub)
    said = refused("gre30k", "yes=true")
    assert f"Its newest is {COMMIT} today, last changed 2025-06-01" in said and f"write revision={COMMIT}" in said
    assert f"main is {COMMIT} today" in refused("gre30k", "revision=main", "yes=true")
    said = refused(*DATA, "repo=me/elsewhere", "yes=true")
    assert said.startswith("the Hub shows no dataset me/elsewhere: where it has moved")
    hub.gated = True
    assert f"accept them at {hub.url}/datasets/Anonymous0515/GRE30K" in refused(*DATA, "yes=true")
    assert "asks who fetches it to accept its terms" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set. Run the same command again" in refused(*DATA, "yes=true")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    assert "out=mine holds something else" in refused(*DATA, "out=mine", "yes=true")


def test_a_hub_that_is_away(reach, tmp_path):
    with serving(Hub("a/b", "dataset", {})) as hub:
        reach(hub)
    said = refused(*DATA, "yes=true")
    assert said.startswith(f"{hub.url} does not give Anonymous0515/GRE30K (ConnectError")
    assert "Without a network here, run it where there is one" in said and not (tmp_path / "dataset").exists()


def test_a_file_that_was_altered_on_its_way_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    assert fetch._compared(tmp_path, {"a.json": hashlib.sha1(b"blob 2\0[]").hexdigest()}) == {
        "a.json": hashlib.sha256(b"[]").hexdigest()}
    with pytest.raises(UserError, match="a.json is not what was published"):
        fetch._compared(tmp_path, {"a.json": hashlib.sha256(b"[1]").hexdigest()})
    with pytest.raises(UserError, match="b.json is missing"):
        fetch._compared(tmp_path, {"b.json": "0" * 40})


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path):
    files = [fetch.Listed("huge.bin", 2**60, "0" * 64)]
    with pytest.raises(UserError, match=r"1,073,741,824.0 GiB are missing and .* of that disk are free"):
        fetch.described(fetch.SOURCES["gre30k"], {"changed": "", "licence": ""}, files, tmp_path / "out")


@pytest.mark.parametrize("keys, why", [
    (["gre30"], "name is 'gre30': write one of gre30k, greval-bench"), (["gre30k", "repo=elsewhere"], "OWNER/NAME")])
def test_keys_that_are_refused(keys, why):
    with pytest.raises(UserError, match=why):
        load(fetch.Config, fetch.arguments(keys))


def test_the_table():
    assert all(one.revision == "" or len(one.revision) == 40 for one in fetch.SOURCES.values())
    config = load(fetch.Config, fetch.arguments(["Qwen2.5-VL-7B"]))
    assert config.source.repo == "Qwen/Qwen2.5-VL-7B-Instruct" and config.out == "models/qwen2.5-vl-7b"
    moved = load(fetch.Config, fetch.arguments(["qwen2.5-vl-7b", "repo=me/copy"])).source
    assert moved.repo == "me/copy" and moved.revision == ""  # another repository has other commits
