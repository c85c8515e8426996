"""The benches: FLOPs by hand, sides that agree, ratios that are refused, at shapes of a few thousand weights."""
import json
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch

from bench import balance, data, judge, measure, scaling, sft, step, step_sides, update
from bench.sides import SIDES, Job, Plain, same
from bench.stopwatch import PARTS, Stopwatch
from bench.workload import Workload, packed_flops, padded_flops
from gre.config import UserError
from gre.models.shapes import PUBLISHED, Shape

TINY = Shape(96, 192, 2, 2, 1, 1000, True, 96, 48, 2, 1)
WORK = Workload(TINY, (8, 12), 10, 12, 4)


def by_hand(tokens: int, pairs: int, scored: int, pictures: int) -> int:
    """FLOPs of a forward pass of TINY: 96 patches and 24 visual tokens a picture."""
    layer = (96 * 96 + 96) + 2 * (96 * 48 + 48) + 96 * 96 + 3 * 96 * 192 + 2 * 96
    block = 3 * 48 * 48 + 3 * 48 + 48 * 48 + 48 + 3 * 48 * 96 + 2 * 96 + 48 + 2 * 48
    merger = 192 * 192 + 192 * 96
    patches = 1176 * 48 + 2 * block + (48 + 192 + 96)  # the merger's norm and biases are counted here
    seen = 96 * (64 + 96)  # a window of 64 patches, then the whole picture
    vision = 2 * 96 * patches + 2 * merger * 24 + 4 * 48 * seen
    return pictures * vision + 2 * 2 * layer * tokens + 4 * 2 * 96 * pairs + 2 * 1000 * 96 * scored


def test_flops_by_hand():
    """A group of two completions of 3 and 5 tokens behind a prompt of 10: shared, 9 + 8 tokens; padded, 2 x 15."""
    shared = by_hand(9 + 3 + 5, 9 * 10 // 2 + (3 * 9 + 6) + (5 * 9 + 15), 8, 1)
    assert packed_flops(TINY, 96, 10, [[3, 5]]) == shared
    assert packed_flops(TINY, 96, 10, [[3, 5]], 1) == shared - 2 * 1000 * 96 * 6
    padded = by_hand(2 * 15, 2 * 15 * 16 // 2, 2 * 5, 2)
    assert padded_flops(TINY, 96, 10, [[3, 5]]) == padded
    assert padded_flops(TINY, 96, 10, [[3, 5], [5, 5]]) == 2 * padded
    assert padded_flops(TINY, 96, 10, [[3, 5]], 1) == padded - 2 * 1000 * 96 * 8


@pytest.mark.slow
def test_the_three_sides_compute_the_same_step(tmp_path):
    pytest.importorskip("trl")
    job, outcomes = Job(WORK, "cpu", tmp_path), {}
    for name, make in SIDES.items():
        side = make(job)
        side.select()
        outcomes[name] = side.step(learn=False)
        for setting in side.SETTINGS if name == "plain" else ():
            side.setting = setting
            same({"ours": outcomes["ours"], setting: side.step(learn=False)})
    same(outcomes)
    assert len(outcomes["ours"].old) == sum(map(sum, WORK.lengths())) and outcomes["ours"].grad_norm > 0.1
    assert (outcomes["ours"].old - outcomes["ours"].reference).abs().max() > 1e-3  # the KL counts
    ours = outcomes["ours"]
    for wrong in (replace(ours, loss=ours.loss + 2e-4), replace(ours, loss=float("nan")),
                  replace(ours, grad_norm=ours.grad_norm * 1.001), replace(ours, old=ours.old + 2e-4),
                  replace(ours, reference=ours.reference.roll(1))):
        with pytest.raises(UserError, match="no ratio is given"):
            same({"ours": ours, "wrong": wrong})


@pytest.mark.slow
def test_in_bfloat16_the_sides_agree_as_far_as_it_can_and_a_wrong_one_is_refused(tmp_path):
    """What a GPU computes in, here by a CPU's autocast."""
    pytest.importorskip("trl")
    job, outcomes = Job(WORK, "cpu", tmp_path, bf16=True), {}
    for name, make in SIDES.items():
        side = make(job)
        side.select()
        outcomes[name] = side.step(learn=False)
    same(outcomes, bf16=True)
    ours = outcomes["ours"]
    with pytest.raises(UserError, match="further apart than 0.0001"):
        same(outcomes)
    for wrong in (replace(ours, loss=ours.loss + 0.03), replace(ours, old=ours.reference),
                  replace(ours, grad_norm=ours.grad_norm * 1.03)):
        with pytest.raises(UserError, match="further apart than 0.02"):
            same({"ours": ours, "wrong": wrong}, bf16=True)


@pytest.mark.slow
def test_on_cuda_a_round_in_float32_comes_first():
    asked = []
    assert measure.compared("cuda", 5, lambda *asks: asked.append(asks) or {"n": len(asked)}) == {"n": 2}
    assert measure.compared("cpu", 5, lambda *asks: asked.append(asks) or {"n": len(asked)}) == {"n": 3}
    assert asked == [(False, 1), (True, 5), (False, 5)]
    with pytest.raises(UserError, match="device is tpu: write cpu or cuda"):
        measure.compared("tpu", 5, None)


@pytest.mark.slow
def test_every_round_starts_from_the_same_weights_and_a_wrong_side_ends_it(monkeypatch):
    monkeypatch.setitem(update.workloads("cpu"), "tiny", WORK)
    config = update.Config(shapes=["tiny"], sides=["ours", "plain"], rounds=3, memory=False)
    result = update.compare(config, "tiny")  # compares the sides in every round
    assert [len(seconds) for seconds in result["seconds"].values()] == [3, 3]
    assert result["limit"] == pytest.approx(
        padded_flops(TINY, 96, 34, WORK.lengths()) / packed_flops(TINY, 96, 34, WORK.lengths()), abs=1e-3)
    right = Plain.backward
    monkeypatch.setattr(Plain, "backward", lambda *inputs: right(*inputs) + 2e-4)
    with pytest.raises(UserError, match="the loss of ours.*no ratio is given"):
        update.compare(config, "tiny")


def test_what_a_deal_costs_by_hand():
    """Two micro-batches on two processes: the slowest of each are 5 and 4; in sum the processes have 6 and 7."""
    dealt, costs = [[[0], [1]], [[2], [3]]], [5.0, 3.0, 1.0, 4.0]
    assert (balance.by_pass(dealt, costs), balance.by_step(dealt, costs)) == (9, 7)
    alike = {"left_over_dealt": 1.0, "limit": 1.0}
    assert balance.lasting([7, 7], [2.0, 2.0], 4, [1, 2]) == {"zero": alike, "ddp": alike}
    unlike = balance.lasting([1, 9], [1.0, 9.0], 4, [2, 2])
    assert all(1.1 < kind["left_over_dealt"] <= kind["limit"] for kind in unlike.values())


def test_ratios_are_medians_of_pairs():
    assert measure.ratio([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_a_cost_that_grows_with_p_plus_gl_is_told_from_one_that_repeats_prompts():
    """2 us a visual token, 4 us a text token and 10 ms, with each prompt once."""
    found = scaling.fits({work: 2e-6 * work.groups * work.visual + 0.01
                          + 4e-6 * (work.groups * work.text + sum(map(sum, work.lengths()))) for work in scaling.WORKS})
    assert found["shared"] == pytest.approx({"a_visual_e-6": 2, "b_text_e-6": 4, "c": 0.01, "vision_weight": -0.5,
                                             "unexplained": 0})
    assert found["repeated"]["unexplained"] > 0.01


def test_the_formula_by_hand():
    """7B's tower does 0.42 of a text token's work for a visual one; V = 4, T = 6, L = 10 and G = 2 by that."""
    weight = scaling.vision_weight(PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"], 4000)
    assert weight == pytest.approx(0.42, abs=0.02)
    work = Workload(TINY, (4, 4), 6, 10, 2)
    more = 4 * scaling.vision_weight(TINY, 16)
    assert scaling.formula(work) == pytest.approx((10 + 10 + more) / (10 + (10 + more) / 2))


def test_scaling_measures_and_plots():
    work = replace(WORK, grid=(4, 4), generations=2)
    (found,) = scaling.measured_seconds([work], 2, measure.clock("cpu", 1)).values()
    assert {name: len(seconds) for name, seconds in found.items()} == {"ours": 2, "plain": 2}
    cost = {work: float(work.generations) for work in scaling.WORKS}
    root = ElementTree.fromstring(scaling.plot({"seconds": cost, "mib": cost}))
    assert len(root.findall(".//{*}circle")) == 2 * 16 and len(root.findall(".//{*}path")) == 2 * 4 * 3


@pytest.mark.slow
def test_a_kept_picture_is_decoded_and_processed_once_a_run(tmp_path):
    config = data.Config(photos=2, prompts=1, generations=2, visual=4, width=120)
    photos = data.write_photos(config, tmp_path)
    fresh, kept = (data.train_ours(config, photos, tmp_path / str(gib), gib) for gib in (0.0, 0.1))
    assert [(epoch["decoded"], epoch["processed"]) for epoch in fresh] == [(2, 2), (2, 2)]
    assert [(epoch["decoded"], epoch["processed"]) for epoch in kept] == [(2, 2), (0, 0)]
    assert fresh[0]["seconds"] > 0


def test_turns_alternate():
    order = []
    sides = {name: lambda name=name: order.append(name) for name in ("a", "b", "c")}
    seconds = measure.interleave(sides, 3, iter(range(100)).__next__)
    assert order == list("abcbcacab") and seconds == {name: [1, 1, 1] for name in "abc"}
    clock = iter([0, 9, 9, 11, 11, 14]).__next__  # the first round is cold
    assert measure.interleave({"a": list}, 2, clock, cold=1) == {"a": [2, 3]}


@pytest.mark.slow
def test_the_judges_sides_agree_and_a_wrong_one_is_refused(monkeypatch):
    config = judge.Config(generations=3, side=56, words=8, rounds=2)
    result = judge.compare(config, TINY)
    assert result["visual"] == 4 and result["limit"] > 1 and len(result["plain_settings_seconds_a_picture"]) == 2
    assert judge._compare(config, TINY, True, 1)["limit"] == result["limit"]  # in bfloat16, to 0.02
    monkeypatch.setattr(judge.Rows, "p_true", lambda rows: torch.zeros(6))
    with pytest.raises(UserError, match=r"P\(True\).*no ratio is given"):
        judge.compare(config, TINY)


@pytest.mark.slow
def test_stage_1s_sides_agree_in_every_setting_and_a_wrong_one_is_refused(monkeypatch):
    chains = sft.Chains(TINY, (4, 4), 6, 40, generations=1, groups=4)
    config = sft.Config(rounds=2)
    for setting in sft.Padded.SETTINGS:
        monkeypatch.setattr(sft, "best_setting", lambda padded, _, setting=setting: setattr(padded, "setting", setting))
        result = sft.compare(config, chains, 2)  # compares losses and gradients in every round
        assert result["setting"] == setting and result["limit"] > 1 and len(result["seconds"]["ours"]) == 2
    (a,), (b,), (c,), (d,) = chains.lengths()
    tokens = 4 * 10 + a + b + c + d
    assert result["padding"] == pytest.approx((abs(a - b) + abs(c - d)) / tokens, abs=1e-3)
    assert len(sft._compare(config, chains, 2, True, 1)["seconds"]["ours"]) == 1  # in bfloat16, to 0.02
    right = sft.Padded.loss
    monkeypatch.setattr(sft.Padded, "loss", lambda *inputs: right(*inputs) + 1e-4)
    with pytest.raises(UserError, match="the loss.*no ratio is given"):
        sft.compare(config, chains, 2)


@pytest.mark.slow
def test_a_whole_step_of_both_trainers_is_the_same_and_a_wrong_one_is_refused(monkeypatch):
    pytest.importorskip("trl")
    config = step.Config(sides=["ours", "trl"], rounds=1)
    work = step_sides.Work(None, 2, 1, {3: 1, 5: 2}, generations=3)
    result = step.compare(config, work)  # compares losses and gradients in both rounds
    assert {name: len(seconds) for name, seconds in result["seconds"].items()} == {"ours": 1, "trl": 1}
    assert sorted(sum(work.drawn, [])) == [3, 3, 5, 5, 5, 5] and result["sampled_tokens"] == 5
    for name, parts in result["parts"].items():
        assert sum(parts.values()) == pytest.approx(result["seconds"][name][0], rel=0.05)
        assert all(parts[part] > 0 for part in ("preparation", "rollout", "passes", "update")) and parts["sync"] == 0
    assert step.table(result["parts"]).count("\n") == 3
    assert len(step._compare(config, work, lambda result: None, True, 1)["seconds"]["trl"]) == 1  # in bfloat16, to 0.02
    monkeypatch.setattr(step_sides.Job, "check_length", lambda *_: None)
    monkeypatch.setattr(step_sides.TRL, "_replay", lambda side: None)  # it learns from what it drew itself
    with pytest.raises(UserError, match="no ratio is given"):
        step.compare(config, work)


def test_a_part_inside_another_is_not_counted_to_it():
    watch = Stopwatch(iter([0, 1, 3, 7]).__next__)
    with watch.part("update"), watch.part("passes"):
        pass
    assert watch.take() == {**dict.fromkeys(PARTS, 0.0), "update": 1 + 4, "passes": 2}


def test_the_file_may_be_named_by_a_flag(monkeypatch):
    given = []
    for argv in (["--json", "a b.json", "rounds=2"], ["rounds=2", "json=a b.json"]):
        monkeypatch.setattr(sys, "argv", ["bench", *argv])
        measure.main(given.append, judge.Config, "")
    assert given[0] == given[1] and given[0].json == "a b.json" and given[0].rounds == 2


@pytest.mark.slow
def test_peak_memory_is_of_a_fresh_process():
    code = "import json, bench.measure as m; w = m.Peak('cpu'); w.reset(); a = bytearray(50 * 2**20); " \
           "a[::4096] = bytes(len(a[::4096])); print(json.dumps(w.peak() - w.start))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 49 < json.loads(result.stdout.splitlines()[-1]) < 60
