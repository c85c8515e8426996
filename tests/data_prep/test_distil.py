"""python -m data_prep.distil against a real HTTP server: nothing is lost, nothing is asked twice, nothing leaks."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from data_prep import distil, split, teachers
from data_prep.teachers import CeilingReached, Line, Purse, Spent, Teacher
from gre.config import ConfigError, UserError, load
from gre.llm import Reply
from tests.helpers.paths import ROOT
from tests.helpers.seeds import TeacherServer, chain, lines, seeds, usual

FILES = ("chains.jsonl", "outcomes.jsonl", "replies.jsonl", "ledger.json", "card.json", "card.txt", "card.html")


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Path:
    return seeds(tmp_path_factory.mktemp("eight"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


def config(eight: Path, out: Path, url: str, **keys) -> distil.Config:
    teacher = keys.pop("teacher", {})
    return distil.Config(**{"seeds": str(eight), "out": str(out), "teachers": [Teacher(
        url=url, model="m", **{"tries": 2, "timeout_s": 4.0, "price_in": 1.0, "price_out": 10.0, **teacher})], **keys})


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.mark.slow
def test_a_chain_a_photo_and_the_bill(eight, tmp_path):
    with TeacherServer(lambda number, _: usual(chain(number))) as server:
        distil.run(config(eight, tmp_path / "out", server.url, shard_rows=3))
    rows = lines(tmp_path / "out" / "chains.jsonl")
    assert [row["row"] for row in rows] == list(range(1, 9)) and rows[1]["response"] == chain(1)
    assert (rows[0]["gt_lat"], rows[0]["gt_lon"], rows[0]["teacher"], rows[0]["kind"]) == (
        48.8566, 2.3522, "m", "teacher")
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())["m"]
    assert (ledger["answers"], ledger["prompt_tokens"], ledger["completion_tokens"]) == (8, 8000, 800)
    assert ledger["cost"] == pytest.approx(8000 * 1e-6 + 800 * 10e-6)
    assert server.asked == Counter(range(8)) and not (tmp_path / "out" / "work").exists()
    content = server.bodies[0]["messages"][0]["content"]
    assert content[1]["text"].startswith("Find out where on Earth") and not any(map(str.isdigit, content[1]["text"]))
    sent = Image.open(BytesIO(b64decode(content[0]["image_url"]["url"].partition(",")[2])))
    assert not sent.getexif() and "exif" not in sent.info
    replies = lines(tmp_path / "out" / "replies.jsonl")
    assert len(replies) == 8 and all("base64" not in json.dumps(reply) for reply in replies)


@pytest.mark.slow
def test_two_teachers_are_asked_side_by_side_and_one_may_think_aloud(eight, tmp_path):
    """`loud` is behind a server that puts the chain beside the text, and counts no tokens."""
    def loud(number: int, _: int):
        think, _, answer = chain(number)[7:].partition("</think>")
        message = {"content": answer, "reasoning_content": think}
        return 200, {}, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})

    with TeacherServer(lambda number, _: usual(chain(number))) as first, TeacherServer(loud) as second:
        distil.run(distil.Config(seeds=str(eight), out=str(tmp_path / "out"), teachers=[
            Teacher(url=first.url, model="m"), Teacher(url=second.url, model="m", name="loud", price_in=5.0)]))
    rows = lines(tmp_path / "out" / "chains.jsonl")
    assert [(row["row"], row["teacher"]) for row in rows] == [(n, name) for n in range(1, 9) for name in ("m", "loud")]
    assert all(row["response"] == chain(row["row"] - 1) for row in rows)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert (ledger["loud"]["uncounted"], ledger["m"]["uncounted"], ledger["loud"]["cost"]) == (8, 0, 0)
    assert "loud did not say of 8 answers" in (tmp_path / "out" / "card.txt").read_text()


def bad(number: int, _: int):
    """An answer of every kind that teachers give on a bad day."""
    return [usual(chain(0)), (429, {"Retry-After": "0"}, "slow down"), (500, {}, "broken"), None,
            (200, {}, '{"choices": [{"message": {"con'), usual("blah " * 2_000_000),
            usual("Ich bin mir sicher: <think>Die Schilder sind spanisch.</think><answer>1.0, 2.0</answer>"),
            usual("", refusal="I cannot look at photos of people.")][number]


@pytest.mark.slow
def test_bad_days_end_with_all_their_rows_listed(eight, tmp_path):
    with TeacherServer(bad) as server:
        distil.run(config(eight, tmp_path / "out", server.url))
        asked = dict(server.asked)
    outcomes = {row["row"] - 1: row for row in lines(tmp_path / "out" / "outcomes.jsonl")}
    assert {number: row["outcome"] for number, row in outcomes.items()} == {
        0: "answered", 1: "no answer", 2: "no answer", 3: "no answer", 4: "no answer", 5: "too long", 6: "answered",
        7: "refused"}
    for number, why in {1: "HTTP 429", 2: "HTTP 500 broken", 3: "Timeout", 4: "cannot be read", 5: "10,000,000 char",
                        7: "I cannot look at photos"}.items():
        assert why in outcomes[number]["why"], outcomes[number]
    assert asked == {0: 1, 1: 2, 2: 2, 3: 2, 4: 2, 5: 1, 6: 1, 7: 1}
    assert [row["row"] - 1 for row in lines(tmp_path / "out" / "chains.jsonl")] == [0, 6]
    assert sum(len(row["reply"]["text"]) for row in lines(tmp_path / "out" / "replies.jsonl")) > 10_000_000
    card = (tmp_path / "out" / "card.txt").read_text()
    assert "8 questions, 2 chains" in card and "no answer  4" in card

    with TeacherServer(lambda number, _: usual(chain(number))) as server:  # a better day: what has no chain yet
        distil.run(config(eight, tmp_path / "rest", server.url, without=[str(tmp_path / "out")]))
        assert sorted(server.asked) == [1, 2, 3, 4, 5, 7]


@pytest.mark.slow
def test_a_teacher_that_is_away_or_refuses_the_key_stops_the_run(eight, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "AWAY", 5)
    with TeacherServer(lambda *_: (503, {}, "down")) as server, pytest.raises(
            UserError, match="m gave no answer to 5 questions in a row.*HTTP 503 down"):
        distil.run(config(eight, tmp_path / "out", server.url, teacher={"concurrency": 1}))
    with TeacherServer(lambda number, _: usual(chain(number)) if number < 3 else (401, {}, "no")) as server:
        with pytest.raises(UserError, match="refuses the request .HTTP 401 no"):
            distil.run(config(eight, tmp_path / "out", server.url, teacher={"concurrency": 1}))
        assert server.asked[0] == 1
        before = dict(server.asked)
    with TeacherServer(lambda number, _: usual(chain(number))) as server:
        distil.run(config(eight, tmp_path / "out", server.url))
        assert not {number for number in server.asked if number < 3} and sum(server.asked.values()) == 5
    assert sum(before.values()) >= 4


@pytest.mark.slow
def test_the_ceiling_stops_and_the_same_command_goes_on(eight, tmp_path):
    """An answer costs 1,000 tokens in at 1 and 100 out at 10 a million: 0.002; the most it may cost is 0.001 + 0.01."""
    with TeacherServer(lambda number, _: usual(chain(number))) as server:
        limited = {"teacher": {"decoding": {"max_tokens": 1000}}, "shard_rows": 3}
        with pytest.raises(CeilingReached, match="ceiling=0.015 is reached.*the same command again"):
            distil.run(config(eight, tmp_path / "out", server.url, ceiling=0.015, **limited))
        first = sum(server.asked.values())
        assert first == 3  # 0.006 are spent, and another may cost 0.011
        with pytest.raises(CeilingReached):
            distil.run(config(eight, tmp_path / "out", server.url, ceiling=0.015, **limited))
        assert sum(server.asked.values()) == first
        distil.run(config(eight, tmp_path / "out", server.url, **limited))
        distil.run(config(eight, tmp_path / "whole" / "out", server.url, **limited))
    assert server.asked == Counter({number: 2 for number in range(8)})
    assert contents(tmp_path / "out") == contents(tmp_path / "whole" / "out")
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["m"]["cost"] == pytest.approx(0.016)


def test_what_is_reserved_is_never_more_than_is_left():
    teacher = Teacher(model="m", decoding={"max_tokens": 1000}, price_in=1, price_out=10)
    purse = Purse(0.025, 0.0)
    first, second = purse.reserve(teacher), purse.reserve(teacher)
    assert first == second == pytest.approx(0.01)
    purse.settle(teacher, first, Reply("", "stop", prompt_tokens=2000, completion_tokens=300))
    assert purse.spent == pytest.approx(0.005) and purse.reserved == pytest.approx(0.01)
    purse.settle(teacher, second, None)
    assert purse.reserve(teacher) == pytest.approx(0.012)  # its photos take 2,000 tokens
    spent = Spent()
    spent.add(Reply("", None))
    assert (spent.answers, spent.uncounted) == (1, 1)


@pytest.mark.slow
def test_an_endpoint_that_counts_no_tokens_can_keep_no_ceiling(eight, tmp_path):
    with TeacherServer(lambda number, _: (200, {}, json.dumps({"choices": [{"message": {"content": "x"}}]}))) as server:
        with pytest.raises(UserError, match="does not say how many tokens.*ceiling=null"):
            distil.run(config(eight, tmp_path / "out", server.url, ceiling=1.0))


def test_photos_leave_the_machine_only_with_leave(eight, tmp_path):
    with pytest.raises(UserError, match="photos would be sent to api.example.com.*send_photos: true"):
        distil.run(config(eight, tmp_path / "out", "https://api.example.com/v1"))
    with pytest.raises(UserError, match="photos would be sent to 192.168.0.7"):
        teachers.check([Teacher(model="m", url="http://192.168.0.7:8000/v1")])
    with pytest.raises(UserError, match="without a key"):
        teachers.check([Teacher(model="m", url="https://me:secret@host/v1", send_photos=True)])
    with pytest.raises(UserError, match="called 'm', 'm': give each"):
        teachers.check([Teacher(model="m"), Teacher(model="m")])
    teachers.check([Teacher(model="m", url="https://api.example.com/v1", send_photos=True),
                    Teacher(model="n", url="http://localhost:8000/v1")])
    with pytest.raises(UserError, match="m has no url"):
        teachers.check([Teacher(model="m")])
    with pytest.raises(ConfigError, match="instruction holds digits"):
        load(distil.Config, ["seeds=s", "out=o", "teachers=[{model: m}]", "instruction=answer as 0.0, 0.0"])


@pytest.mark.slow
def test_the_key_is_written_nowhere(eight, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with TeacherServer(lambda number, _: usual(chain(number)) if number else (500, {}, "bad sk-secret")) as server:
        distil.run(config(eight, tmp_path / "out", server.url))
    written = b"".join(contents(tmp_path / "out").values()) + "".join(capsys.readouterr()).encode()
    assert b"secret" not in written and b"bad ***" in written


def test_requests_a_minute_are_kept(monkeypatch):
    slept = []
    monkeypatch.setattr(teachers.time, "sleep", slept.append)
    monkeypatch.setattr(teachers.time, "monotonic", lambda: 100.0)
    line = Line(Teacher(model="m", per_minute=120), Purse(None, 0))
    for _ in range(3):
        line._wait()
    assert slept == [0, 0.5, 1.0]


@pytest.mark.slow
def test_the_seed_part_is_not_asked_about(eight, tmp_path):
    split.run(split.Config(seeds=str(eight), out=str(tmp_path / "split")))
    with TeacherServer(lambda number, _: usual(chain(number))) as server:
        distil.run(config(eight, tmp_path / "out", server.url, split=str(tmp_path / "split")))
    seed = {json.loads(line)["image"] for line in (tmp_path / "split" / "gre_seed.jsonl").read_text().splitlines()}
    asked = {row["image"] for row in lines(tmp_path / "out" / "chains.jsonl")}
    assert seed and asked and not seed & asked and len(seed) + len(asked) == 8


@pytest.mark.slow
def test_killed_at_any_moment_it_asks_nothing_again_and_ends_the_same(eight, tmp_path):
    """The server notes what it has answered; an answer counts as known once its line is on disk."""
    def slowly(number: int, _: int):
        time.sleep(0.15)
        return usual(chain(number)) if number != 3 else (500, {}, "broken")

    rng = random.Random(int.from_bytes(os.urandom(2), "big"))
    with TeacherServer(slowly) as server:
        command = [sys.executable, "-m", "data_prep.distil", f"seeds={eight}", f"out={tmp_path / 'out'}",
                   "shard_rows=3", f"teachers=[{{model: m, url: '{server.url}', tries: 1, concurrency: 2, "
                   "price_in: 1.0, price_out: 10.0}]"]
        for _ in range(3):
            before, asked = known(tmp_path / "out"), dict(server.asked)
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 300
            while not server.asked.total() > sum(asked.values()) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            again = {number for number in server.asked if server.asked[number] > asked.get(number, 0)}
            assert not again & before
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        distil.run(config(eight, tmp_path / "whole" / "out", server.url, shard_rows=3, teacher={"tries": 1}))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole" / "out")


def known(out: Path) -> set[int]:
    """The photos whose answers are on disk in whole lines."""
    texts = [json.loads(line)["reply"]["text"] for path in out.glob("work/replies/*") for line in
             path.read_text().split("\n")[:-1]]
    return {number for number in range(8) if chain(number) in texts}
