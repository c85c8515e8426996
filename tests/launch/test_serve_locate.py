"""A trained stage served to anybody who speaks OpenAI's protocol: docs/use.md's own clients get what `Locator` says."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gre import Locator
from gre.config import UserError
from scripts import serve
from tests.helpers.paths import ROOT

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


@pytest.fixture(scope="module")
def url(taught):
    """Where a server of the taught stage answers."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
    with open(taught / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/scripts/serve.py", "locate", "model=run/stage3", f"url={url}",
             "max_new_tokens=300"], cwd=taught, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    try:
        end = time.monotonic() + START_S
        while not _listens(url):
            assert process.poll() is None and time.monotonic() < end, (taught / "server.log").read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(url: str) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) == 0


def test_the_documented_clients_get_the_answers_of_the_locator(taught, url):
    client, schema = documented("Server")
    own = Locator(taught / "run/stage3", max_new_tokens=300)
    for photo in sorted(Path(taught / "imgs").iterdir()):
        ready = client.replace("http://127.0.0.1:8000", url).replace("photo.jpg", str(photo)).replace(
            "image/jpeg", "image/png").replace("Where was this photo taken?", "Where is this?")
        scope: dict = {}
        exec(ready, scope)
        assert scope["answer"].choices[0].message.content == own.locate(photo).raw
    exec(schema.replace("2000", "80"), scope)
    said = json.loads(scope["answer"].choices[0].message.content)
    assert set(said) == {"reasoning", "latitude", "longitude"} and -90 <= said["latitude"] <= 90
