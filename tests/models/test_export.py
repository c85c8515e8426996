"""Exporting a stage: the card, scores that must be of this model, and a push to a stand-in for the Hub."""
import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gre import export, manifest
from gre.config import UserError
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


def write_scores(sha256: str, path: str = "scores.json") -> None:
    Path(path).write_text(json.dumps({
        "commit": "c" * 40, "n": 1000, "unparsed": {"predictions": 7}, "protocol": {"answer": "coordinates"},
        "files": {"predictions": {"from_scores": "preds/im2gps3k.jsonl", "made_with": {"model": {"sha256": sha256}}}},
        "all": {"predictions": {"within_25_km": {"value": .25, "low": .2, "high": .3},
                                "geoscore": {"value": 3210.4, "low": None, "high": None}}}}))


def test_the_card_says_what_it_was_made_of_and_is_for(workplace):
    sha256 = manifest.verify_parent("run/stage1", {"stage1"}).sha256
    write_scores(sha256)
    export.run(export.Config("run/stage1", "plain", scores="scores.json", licence="apache-2.0"))
    card = Path("plain/README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "- stage1, on no file" in card and "- from base base" in card
    assert "| within_25_km | 25.0% | 20.0% to 30.0% |" in card and "| geoscore | 3,210 | too few clusters |" in card
    assert "1,000 photos of `im2gps3k.jsonl`, 7 without an answer" in card
    budget = manifest.verify_parent("run/stage1", {"stage1"}).pixel_budget
    assert f"Its photos had {budget.min_pixels:,} to {budget.max_pixels:,} pixels" in card
    assert "## Not to be used" in card and str(workplace) not in card
    own = AutoModelForImageTextToText.from_pretrained("run/stage1/model").state_dict()
    plain = AutoModelForImageTextToText.from_pretrained("plain").state_dict()
    assert all(torch.equal(plain[name], own[name].to(torch.bfloat16)) for name in own)
    write_scores("f" * 64, "other.json")
    with pytest.raises(UserError, match="other.json holds the scores of another model"):
        export.run(export.Config("run/stage1", "again", scores="other.json"))
    with pytest.raises(UserError, match="holds no scores"):
        export.run(export.Config("run/stage1", "again", scores="run/stage1/manifest.json"))
    assert not Path("again").exists()


class Hub(BaseHTTPRequestHandler):
    """What the Hub answers to an upload of small files."""

    files: dict[str, bytes] = {}
    asked: list[tuple[str, str, dict]] = []

    def _answer(self, value: dict) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self._answer({"id": "me/plain", "sha": "0" * 40, "siblings": [], "private": True, "name": "me"})

    def do_POST(self):
        size, here = self.headers["Content-Length"], f"http://{self.headers['Host']}/me/plain"
        content = self.rfile.read(int(size)) if size else b"".join(iter(self._chunk, b""))
        if self.path.endswith("/commit/main"):
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._answer({"commitUrl": f"{here}/commit/{'1' * 40}", "commitOid": "1" * 40,
                                 "success": True, "hookOutput": ""})
        body = json.loads(content)
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        if "/preupload/" in self.path:
            return self._answer({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                           for one in body["files"]]})
        return self._answer({"url": here, "id": "me/plain", "errors": [], "warnings": []})

    def _chunk(self) -> bytes:
        content = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return content

    def log_message(self, *_):
        pass


def test_a_push_is_asked_for_and_goes_to_a_private_repository(workplace):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                   "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}

    def run(*keys: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "gre.export", "model=run/stage1", *keys], env=environment,
                              capture_output=True, text=True)
    try:
        assert run("out=kept").returncode == 0 and not Hub.asked and not Hub.files
        done = run("out=plain", "push=me/plain")
        assert done.returncode == 0, done.stderr
    finally:
        server.shutdown()
        server.server_close()
    made = [body for path, _, body in Hub.asked if path == "/api/repos/create"]
    assert len(made) == 1 and made[0]["visibility"] == "private" and made[0]["name"] == "plain"
    assert Hub.files == {path.name: path.read_bytes() for path in Path("plain").iterdir()}
    assert "hf_secret" not in done.stdout + done.stderr + Path("plain/README.md").read_text()
    gone = run("out=other", "push=me/plain")
    assert gone.returncode == 2 and "other is written, and me/plain took no upload" in gone.stderr
    assert "hf upload me/plain other" in gone.stderr and "Traceback" not in gone.stderr
