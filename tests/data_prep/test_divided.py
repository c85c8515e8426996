"""distil and verify shared out over processes by shard number: the files of a run that was not divided, nothing asked
twice, and no more spent."""
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
import yaml

from data_prep import asked, cot, distil, shards
from data_prep.shards import Work
from data_prep.teachers import Teacher
from gre.config import UserError
from tests.helpers.paths import ROOT
from tests.helpers.seeds import TeacherServer, chain, seeds, usual

PARTS = 3


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same bytes, work and photos aside."""
    files = [{path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} for folder in (one, other)]
    return files[0] == files[1] and "card.json" in files[0] and not (one / "work").exists()


def run(step: str, config: Path, *keys: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", f"data_prep.{step}", str(config), *keys], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def divided(step: str, keys: dict, out: Path) -> str:
    """Run all parts of a step at once, then the joining; returns what the last one printed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    config = out.parent / f"{step}.yaml"
    config.write_text(yaml.safe_dump({**keys, "out": str(out)}))
    parts = [run(step, config, f"shard={part}/{PARTS}") for part in range(PARTS)]
    said = [part.communicate() for part in parts]
    assert [part.returncode for part in parts] == [0] * PARTS, said
    assert all(shards.LEFT in out for out, _ in said)
    last = run(step, config)
    text, error = last.communicate()
    assert last.returncode == 0, error
    return text


@pytest.mark.slow
def test_parts_at_once_make_what_one_process_makes(tmp_path):
    """Ten photos in shards of two: five shards, of which the parts have 2, 2 and 1."""
    made = seeds(tmp_path, 10)

    def said(number: int, _: int):
        return (500, {}, "broken") if number == 6 else usual(
            chain(number) if number != 3 else json.dumps({"told": True, "seen": ["roof"], "unseen": []}))

    with TeacherServer(said) as server:
        teacher = {"url": server.url, "model": "m", "tries": 1, "price_in": 1.0, "price_out": 10.0}
        keys = {"seeds": str(made), "teachers": [teacher], "shard_rows": 2}
        divided("distil", keys, tmp_path / "parts" / "chains")
        assert server.asked == Counter({number: 1 for number in range(10)})
        whole = tmp_path / "whole" / "chains"
        config = tmp_path / "whole.yaml"
        config.write_text(yaml.safe_dump({**keys, "out": str(whole)}))
        done = run("distil", config)
        assert done.wait() == 0, done.communicate()
    assert same_files(tmp_path / "parts" / "chains", whole)

    cot.run(cot.Config(seeds=str(made), chains=[str(whole)], out=str(tmp_path / "cot")))
    with TeacherServer(lambda number, _: usual(json.dumps(
            {"told": number != 5, "seen": ["roof"], "unseen": []}))) as server:
        keys = {"cot": str(tmp_path / "cot"), "chains": [str(whole)], "shard_rows": 2,
                "looker": {"url": server.url, "model": "vlm", "tries": 1}}
        divided("verify", keys, tmp_path / "parts" / "out")
        once = Counter(server.asked)
        config.write_text(yaml.safe_dump({**keys, "out": str(tmp_path / "whole" / "out")}))
        done = run("verify", config)
        assert done.wait() == 0, done.communicate()
    assert same_files(tmp_path / "parts" / "out", tmp_path / "whole" / "out")
    # a chain about each photo but 3 and 6; where the place cannot be told, entities are not asked about
    assert once == Counter({number: 1 if number == 5 else 2 for number in (0, 1, 2, 4, 5, 7, 8, 9)})
    assert server.asked == once + once


def test_a_part_may_spend_its_share_of_the_ceiling_and_counts_its_own_shards_alone(tmp_path):
    work, one = Work(tmp_path / "work", {}), Teacher(model="m", price_in=1.0)
    for number, tokens in ((0, 1000), (1, 4000), (2, 16000)):
        spent = {"m": {"answers": 1, "prompt_tokens": tokens, "completion_tokens": 0, "uncounted": 0}}
        shards.save(work.path("asked", number), pyarrow.table({"x": [0]}).replace_schema_metadata(
            {"spent": json.dumps(spent)}))
    first, second, both = (asked.purse(work, "asked", [one], 0.08, mine) for mine in ((0, 2), (1, 2), (0, 1)))
    assert (first.ceiling, second.ceiling, both.ceiling) == (0.04, 0.04, 0.08)
    assert (first.spent, second.spent, both.spent) == pytest.approx((0.017, 0.004, 0.021))


def test_a_part_that_is_none_is_refused(tmp_path):
    made = seeds(tmp_path, 1)
    with pytest.raises(UserError, match="shard is '4/4': write i/n"):
        distil.run(distil.Config(seeds=str(made), out=str(tmp_path / "out"), shard="4/4",
                                 teachers=[Teacher(url="http://127.0.0.1:9/v1", model="m")]))
