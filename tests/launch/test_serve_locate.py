"""A trained stage served to anybody who speaks OpenAI's protocol: docs/use.md's own clients get what `Locator` says."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from gre import Locator
from gre.config import UserError
from scripts import serve
from tests.helpers.paths import ROOT
from tests.helpers.stages import pictures, run1, write_cot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a server starts
START_S = 900


def documented(heading: str) -> list[str]:
    """The Python blocks of a section of docs/use.md."""
    section = (ROOT / "docs/use.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def option(line: list[str], name: str) -> str:
    return line[line.index(name) + 1]


def test_the_command(taught, monkeypatch, capsys):
    monkeypatch.chdir(taught)
    line = serve.locate_command(["model=run/stage3", "url=http://127.0.0.1:8123"])
    assert "http://127.0.0.1:8123/v1: Where is this?" in capsys.readouterr().out
    assert (option(line, "--served-model-name"), option(line, "--port")) == ("locate", "8123")
    assert option(line, "--model") == str(taught / "run/stage3/model")
    assert json.loads(option(line, "--additional-config"))["banned"]
    with pytest.raises(UserError, match="no manifest that says what it is asked"):
        serve.locate_command(["model=base"])
    with pytest.raises(UserError, match=f"there is no model folder {taught}/quickstart/stage3: "):
        serve.locate_command(["model=quickstart/stage3"])


@contextmanager
def serving(folder: Path, model: str):
    """The address of a server of a stage in `folder`."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/scripts/serve.py", "locate", f"model={model}", f"url={url}",
             "max_new_tokens=300"], cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    try:
        end = time.monotonic() + START_S
        while not _listens(url):
            assert process.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def url(taught):
    """Where a server of the taught stage answers."""
    with serving(taught, "run/stage3") as url:
        yield url


def _listens(url: str) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) == 0


def ask(url: str, photo: Path, question: str, model: str = "locate") -> dict:
    """The variables of docs/use.md's plain client after it has asked about a photo."""
    ready = documented("Server")[0].replace("http://127.0.0.1:8000", url).replace("photo.jpg", str(photo)).replace(
        "image/jpeg", "image/png").replace("Where was this photo taken?", question).replace(
        'model="locate"', f'model="{model}"')
    scope: dict = {}
    exec(ready, scope)
    return scope


def said(scope: dict) -> str:
    return scope["answer"].choices[0].message.content


def test_the_documented_clients_get_the_answers_of_the_locator(taught, url):
    own = Locator(taught / "run/stage3", max_new_tokens=300)
    for photo in sorted(Path(taught / "imgs").iterdir()):
        assert said(scope := ask(url, photo, "Where is this?")) == own.locate(photo).raw
    exec(documented("Server")[1].replace("2000", "80"), scope)
    made = json.loads(said(scope))
    assert set(made) == {"reasoning", "latitude", "longitude"} and -90 <= made["latitude"] <= 90


def test_a_stage_that_is_an_adapter_is_served_beside_its_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "gre/tiny/base", "base")
    write_cot(pictures(2))
    run1("data.path=cot/cot.json", "model.lora.r=4", "model.lora.alpha=16", "train.max_steps=60",
         "train.learning_rate=1e-2")
    photo = tmp_path / "cot/imgs/1.png"
    own = Locator("run/stage1", max_new_tokens=60).locate(photo).raw
    base = Locator("run/stage1/model/base", max_new_tokens=60, prompt="Where is this?", min_pixels=784,
                   max_pixels=12544).locate(photo).raw
    assert own.startswith("<think>The sign") and own != base  # the adapter has learned something
    with serving(tmp_path, "run/stage1") as url:
        assert said(ask(url, photo, "Where is this?")) == own
        assert said(ask(url, photo, "Where is this?", "locate-base")) == base
