"""Review by people: what is settled and how far they agree, by hand; the server against others, and against kill -9."""
import http.client
import json
import random
import resource
import threading
from pathlib import Path

import pytest

from data_prep.inspect.__main__ import Data
from data_prep.review import __main__ as review
from data_prep.review import decisions, page, rows, settled
from data_prep.review.decisions import Decision, Journal
from gre.config import UserError, load
from gre.data.raw import BadRow
from gre.data.records import DataConfig, read_cot, read_judge, read_reason
from tests.helpers import judge_rows, reason_rows
from tests.helpers.reviewing import EVIL, Served, cot_row, write_cot


def judge_by(path: Path, name: str, said: dict[int, str], **fields) -> None:
    """Decisions of an annotator about rows, by their number."""
    _, items = rows.read(path, "")
    journal = Journal(decisions.path_of(path, name))
    for number, what in said.items():
        item = items[number - 1]
        journal.add(Decision(item.number, item.sha256, what, fields if what == "edit" else {}, f"{name} on {number}"))
    journal.close()


def test_kappa_by_hand():
    pairs = ([("accept", "accept")] * 5 + [("reject", "reject")] * 2 + [("accept", "reject")] * 2
             + [("reject", "accept")])
    # They agree on 0.7; chance would give 0.7 x 0.6 + 0.3 x 0.4 = 0.54; (0.7 - 0.54) / (1 - 0.54).
    assert settled.cohens_kappa(pairs) == pytest.approx(0.16 / 0.46)
    assert settled.cohens_kappa([("accept", "reject"), ("reject", "accept")]) == pytest.approx(-1)
    assert settled.cohens_kappa([("accept", "accept")] * 3) is None


@pytest.mark.parametrize("said, outcome", [
    ("", "undecided"), ("a", "accepted"), ("e", "edited"), ("r", "rejected"), ("ar", "disputed"), ("aar", "accepted"),
    ("arr", "rejected"), ("aer", "edited"), ("aerr", "disputed")])
def test_what_decisions_come_to(said, outcome):
    names = {"a": "accept", "e": "edit", "r": "reject"}
    assert settled.outcome([Decision(1, "0", names[letter]) for letter in said]) == outcome


def test_what_is_written(tmp_path, capsys):
    path = write_cot(tmp_path, 5)
    edit = "<think>Shorter.</think><answer>49.50, 2.0</answer>"
    judge_by(path, "anna", {1: "accept", 2: "edit", 3: "reject", 4: "accept"}, response=edit)
    judge_by(path, "ben", {1: "accept", 2: "accept", 3: "reject", 4: "reject"})
    review.run(review.Config(Data(str(path)), out=str(tmp_path / "kept.json")))
    card = capsys.readouterr().out
    kept = json.loads((tmp_path / "kept.json").read_text())
    changed = cot_row(1)
    changed["conversations"][1]["value"] = edit
    assert kept == [cot_row(0), changed]  # all other fields as they were, those that no format knows too
    assert [row.response for row in read_cot(DataConfig(str(tmp_path / "kept.json")))][1] == edit
    listed = [json.loads(line) for line in (tmp_path / "kept.rejected.jsonl").read_text().splitlines()]
    assert [(row["row"], row["image"], row["outcome"], row["said"]) for row in listed] == [
        (3, "images/2.jpg", "rejected", {"anna": "reject", "ben": "reject"}),
        (4, "images/3.jpg", "disputed", {"anna": "accept", "ben": "reject"})]
    assert listed[0]["why"] == {"anna": "anna on 3", "ben": "ben on 3"}
    data = json.loads((tmp_path / "kept.card.json").read_text())
    assert data["counts"] == {"accepted": 1, "edited": 1, "rejected": 1, "disputed": 1, "undecided": 1}
    # Both keep rows 1 and 2, both reject 3: 0.75; chance 0.75 x 0.5 + 0.25 x 0.5 = 0.5. Of three: 0.5, chance 0.375.
    (agreed,) = data["agreement"]
    assert agreed == {"names": ["anna", "ben"], "rows": 4, "agree": 0.75, "kappa": 0.5,
                      "kappa_of_three": pytest.approx((0.5 - 0.375) / (1 - 0.375))}
    assert "anna and ben" in card and "75.0%" in card and "5 rows, 2 kept." in card


def test_a_row_is_known_by_its_content(tmp_path, capsys):
    path = write_cot(tmp_path, 3)
    judge_by(path, "anna", {1: "reject", 3: "accept"})
    path.write_text(json.dumps([cot_row(2), cot_row(1)]))  # the first is gone, the third is now the first
    review.run(review.Config(Data(str(path)), out=str(tmp_path / "kept.jsonl")))
    assert [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()] == [cot_row(2)]
    assert "anna: 1 decisions are about rows that are not in this file" in capsys.readouterr().out


def test_judge_and_mp16_reason(tmp_path):
    judged = judge_rows.write_rows(tmp_path / "j", 2)
    judge_by(judged, "anna", {1: "edit", 2: "accept"}, label="False", answer="10, 20")
    review.run(review.Config(Data(str(judged)), out=str(tmp_path / "j/kept.json")))
    first, second = read_judge(DataConfig(str(tmp_path / "j/kept.json")))
    assert (first.label, first.answer, first.chain) == (False, "10, 20", "It is red.") and second.answer == "48.9, 2.3"
    reason = reason_rows.write_reason(tmp_path / "r", 2)
    judge_by(reason, "anna", {1: "edit", 2: "accept"}, reasoning="Blue roofs.",
             place="<country>Italy</country><city>Rome</city>")
    review.run(review.Config(Data(str(reason)), out=str(tmp_path / "r/kept.jsonl")))
    first, second = read_reason(DataConfig(str(tmp_path / "r/kept.jsonl")))
    assert (first.response, first.names) == ("Blue roofs.", ("Italy", "Rome"))
    assert first.entities == ("sign", "red tower")
    assert second.names == ("France", "Paris")


@pytest.mark.slow
def test_pages_of_all_kinds(tmp_path):
    def pages(path):
        _, items = rows.read(path, "")
        return [page.row(items, at, None, 0, "anna") for at in range(len(items))]
    first, second = pages(judge_rows.write_rows(tmp_path / "j", 2))
    assert "<dt>Label</dt><dd><b>True</b>" in first and "<dt>Label</dt><dd><b>False</b>" in second
    assert "name='label'" in first and "48.9, 2.3<br>" in first and "rel='next'" in first and "rel='prev'" in second
    first, _ = pages(reason_rows.write_reason(tmp_path / "r", 2))
    assert "Paris, France" in first and "<svg class=\"map\"" not in first and "name='place'" in first
    first, _ = pages(reason_rows.write_reason(tmp_path / "t", 2, gt_lat=48.86, gt_lon=2.35))
    assert "48.8600, 2.3500" in first and "class=\"truth none\"" in first and "class=\"answer" not in first
    image = {"gt_lat": 1.0, "gt_lon": 2.0}
    for name, row in (("seed", {"image": "imgs/0.png", "instructions": f"Where? {EVIL}"}),
                      ("bench", {"sample_id": 7, "image_path": "imgs/0.png", "gt_cot": f"Seen. {EVIL}"})):
        (tmp_path / "r" / f"{name}.jsonl").write_text(json.dumps(image | row) + "\n")
        (only,) = pages(tmp_path / "r" / f"{name}.jsonl")
        assert EVIL not in only and "&lt;script&gt;" in only and ("id=\"open\"" in only) == (name == "bench")


@pytest.mark.parametrize("fields, why", [
    ({"response": "<think>Gone.</think><answer>somewhere</answer>"}, "no answer can be read"),
    ({"response": " "}, "must be text"), ({"image": "/etc/passwd"}, "image cannot be edited")])
def test_edits_that_break_a_row_are_refused(tmp_path, fields, why):
    (item,) = rows.read(write_cot(tmp_path, 1), "")[1]
    with pytest.raises(BadRow, match=why):
        item.edited(fields)


def test_what_a_kill_cut_off_is_taken_off_and_damage_is_named(tmp_path):
    path = write_cot(tmp_path, 2)
    judge_by(path, "anna", {1: "accept"})
    file = decisions.path_of(path, "anna")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    journal = Journal(file)
    assert file.read_bytes() == whole and [one.row for one in journal.latest.values()] == [1]
    with pytest.raises(UserError, match="is open in another review"):
        Journal(file)
    journal.close()
    file.write_bytes(whole + b'{"row": 2}\n' + whole)
    with pytest.raises(UserError, match=r"rows.review.anna.jsonl, line 2: no decision"):
        Journal(file)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = write_cot(tmp_path, 2)
    judge_by(path, "anna", {1: "accept"})
    file = decisions.path_of(path, "anna")
    whole = file.read_bytes()
    journal, second = Journal(file), Decision(2, "f" * 64, "reject")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, old[1]))  # writing beyond it fails as a full disk does
    try:
        with pytest.raises(OSError):
            journal.add(second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert file.read_bytes() == whole and "f" * 64 not in journal.latest
    journal.add(second)
    journal.close()
    assert decisions.of_all(path)["anna"]["f" * 64] == second


@pytest.mark.parametrize("keys, why", [
    (["data.path=a.json"], "write one of name="), (["data.path=a.json", "name=a", "out=b.json"], "write one of name="),
    (["data.path=a.json", "name=../a"], "name is '../a'"), (["data.path=a.json", "out=a.json"], "name another"),
    (["data.path=a.json", "out=elsewhere/b.json"], "name another"),
    (["data.path=a.json", "out=b.csv"], "name another")])
def test_keys_that_are_refused(keys, why):
    with pytest.raises(UserError, match=why):
        load(review.Config, keys)


def test_files_that_are_refused(tmp_path):
    path = write_cot(tmp_path, 2)
    with pytest.raises(UserError, match="no row of .* was judged"):
        review.run(review.Config(Data(str(path)), out=str(tmp_path / "kept.json")))
    (tmp_path / "imgs/1.jpg").unlink()
    with pytest.raises(UserError, match=r"rows.json, row 2: field 'image': no file"):
        review.run(review.Config(Data(str(path)), name="anna", port=0))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    one = Served(write_cot(tmp_path_factory.mktemp("review"), 2), "anna")
    yield one
    one.kill()


def decision(number: int, what: str = "accept", **keys) -> dict:
    return {"sha256": item(number).sha256, "decision": what, **keys}


def item(number: int) -> rows.Item:
    return rows.Item("cot", number, cot_row(number - 1), None)


@pytest.mark.slow
def test_who_may_ask(served):
    assert served.ask("GET", "/rows/1")[0] == 200
    assert served.ask("GET", "/rows/1", Cookie=None)[0] == 403
    assert served.ask("GET", "/photos/1", Cookie=f"review{served.port}=guessed")[0] == 403
    assert served.ask("GET", "/?token=guessed", Cookie=None)[0] == 403
    status, headers, _ = served.ask("GET", f"/?token={served.token}", Cookie=None)
    assert (status, headers["location"]) == (303, "/") and "HttpOnly" in headers["set-cookie"]
    assert served.ask("GET", "/rows/1", Host="evil.example")[0] == 400  # a name that DNS was made to point here
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null", None):  # another page in the same browser
        assert served.ask("POST", "/rows/1", decision(1), Origin=origin)[0] == 403
    assert served.ask("POST", "/rows/1", decision(1), Cookie=None)[0] == 403
    assert served.ask("PUT", "/rows/1", decision(1))[0] == 405
    assert decisions.of_all(served.log.parent / "rows.json") == {"anna": {}}


@pytest.mark.slow
def test_what_is_answered(served):
    status, headers, said = served.ask("GET", "/rows/1")
    assert EVIL not in said and said.count("<script") == 1 and "&lt;script&gt;alert(1)" in said
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    assert "11.1 km" in said and "licence" not in said
    # The map is 40 degrees wide around 48 and 48.1 north, 2 east; the answer's dot is a ninetieth of it.
    assert 'viewBox="-18.00 -58.05 40.00 20.00"' in said
    assert '<circle class="answer near" cx="2.000" cy="-48.100" r="0.44"/>' in said
    for path, status in {"/rows/0": 404, "/rows/3": 404, "/rows/x": 404, "/photos/9": 404,
                         "/static/../app.py": 404, "/static/page.js": 200, "/static/report.css": 200}.items():
        assert served.ask("GET", path)[0] == status, path
    status, headers, _ = served.ask("GET", "/photos/2")
    assert (status, headers["content-type"], headers["x-content-type-options"]) == (200, "image/jpeg", "nosniff")
    for wrong, status in ((decision(2), 409), (decision(1, "burn"), 400), ({}, 400), ([], 400),
                          (decision(1, why=3), 400), (decision(1, "edit", fields={"response": 3}), 400),
                          (decision(1, "edit", fields={"image": "x"}), 422), (decision(1, "edit"), 422),
                          (decision(1, "edit", fields=item(1).fields), 422)):  # nothing is changed
        assert served.ask("POST", "/rows/1", wrong)[0] == status, wrong
    assert decisions.of_all(served.log.parent / "rows.json") == {"anna": {}}
    (served.log.parent / "imgs/1.jpg").write_bytes(b"<html>not found</html>")
    status, _, said = served.ask("GET", "/photos/2")
    assert status == 404 and "it is a web page, which a server sent instead of the photo" in said


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_confirmed(tmp_path):
    """Somebody decides as fast as the server answers, and it is killed in the middle, three times; each time it goes
    on at the first row that is undecided."""
    path, rng, confirmed = write_cot(tmp_path, 300, pictures=1), random.Random(0), []
    _, items = rows.read(path, "")
    for _ in range(3):
        served = Served(path, "anna")
        location = served.ask("GET", "/")[1]["location"]
        found = decisions.of_all(path)["anna"]
        assert set(confirmed) <= found.keys() and len(found) - len(confirmed) <= 1  # one may be unanswered
        at = int(location.removeprefix("/rows/")) - 1
        assert at == len(found) and items[at].sha256 not in found
        confirmed = list(found)
        last = at + rng.randrange(3, 20)
        try:
            for item in items[at:]:
                if item.number == last:
                    threading.Timer(rng.uniform(0, 0.02), served.process.kill).start()
                body = {"sha256": item.sha256, "decision": rng.choice(["accept", "reject"])}
                assert served.ask("POST", f"/rows/{item.number}", body)[0] == 200
                confirmed.append(item.sha256)
        except (http.client.HTTPException, OSError):
            pass
        served.process.wait()
    assert 9 <= len(confirmed) < len(items)
    assert set(confirmed) <= decisions.of_all(path)["anna"].keys()
