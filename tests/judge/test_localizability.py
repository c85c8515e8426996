"""R_loc: the judge's own number for another question; its gate, its guard, and what a failure does not become."""
import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gre.config import UserError, load
from gre.data.records import DataConfig, JudgeRow, read_reason
from gre.judge import localizability, quality
from gre.judge.localizability import UnlocalizableGuard, check_gate, judge_row, numbers, p_yes_rewards
from gre.judge.model import LOCALIZABLE, RIGHT, Judge, ServedJudge, judge_group, judge_prompt, verdict_tokens
from gre.models.attention import shared_prefix
from gre.rewards.answers import Answers
from gre.rewards.localizability import localizability_rewards
from gre.rollout.vllm.client import Server
from gre.text.prompts import LOCALIZABILITY_INSTRUCTION
from gre.training.watching.metrics import Meter
from stages import globe
from stages import localizability as stage
from tests.helpers.judge_rows import BLUE, RED, picture
from tests.helpers.paths import ROOT
from tests.helpers.reason_rows import even, write_reason

RESPONSES = ("Reasoning", "It is red.")


@pytest.fixture(scope="module")
def vlm():
    """(model, processor) whose tokenizer says yes, no, True and False in one token; not trained in place."""
    from gre.tiny.model import build

    corpus = ["yes", "no", "Yes", "True", "False", "It is red. Reasoning:"] * 200
    model, processor = build(corpus, hidden=64, layers=2, vocabulary=400)
    shared_prefix.install(model)
    return model, processor


@dataclass
class Row:
    image: Path
    localizable: bool | None = None


def test_every_case_of_a_word_counts_once(vlm):
    yes = verdict_tokens(vlm[1].tokenizer, True, LOCALIZABLE).tolist()
    words = [vlm[1].tokenizer.decode(token) for token in yes]
    assert words[0] == "yes" and {"yes", "Yes"} <= {word.strip() for word in words} and len(set(yes)) == len(yes)
    assert not set(yes) & set(verdict_tokens(vlm[1].tokenizer, False, LOCALIZABLE).tolist())


def test_one_template(vlm):
    processor = vlm[1]
    prompt = judge_prompt(processor, picture(), LOCALIZABLE)
    group = judge_group(processor, prompt, [LOCALIZABLE.text("<think>It is red.</think>")], [False], LOCALIZABLE)
    assert processor.tokenizer.decode(prompt.input_ids).endswith(LOCALIZABILITY_INSTRUCTION)
    assert processor.tokenizer.decode(group.completions[0]) == (
        "\nReasoning: It is red.<|im_end|>\n<|im_start|>assistant\nno")


def test_the_reward_is_the_stock_models_p_yes(vlm, tmp_path):
    stock = copy.deepcopy(vlm[0]).eval()
    stock.set_attn_implementation("sdpa")
    images = [tmp_path / "red.png", tmp_path / "blue.png"]
    for image, colour in zip(images, (RED, BLUE)):
        picture(colour).save(image)
    texts = ["<think>It is red.</think><answer>country: Peru</answer>", "<think>It is blue.", "no chain",
             "<think> </think>"]
    rewards = p_yes_rewards(Judge(*vlm, LOCALIZABLE), 8, [Answers(Row(image), texts, [True] * 4) for image in images])
    for image, paid in zip(images, rewards):
        for chain, reward in zip(("It is red.", "It is blue."), paid):
            prompt = judge_prompt(vlm[1], picture(RED if image == images[0] else BLUE), LOCALIZABLE)
            end = judge_group(vlm[1], prompt, [f"\nReasoning: {chain}"], question=LOCALIZABLE).completions[0][:-1]
            ids = torch.cat([prompt.input_ids, end])[None]
            kinds = torch.zeros_like(ids)
            kinds[0, :len(prompt.input_ids)] = prompt.mm_token_type_ids
            with torch.no_grad():
                p = stock(input_ids=ids, mm_token_type_ids=kinds, pixel_values=prompt.pixel_values,
                          image_grid_thw=prompt.image_grid_thw).logits[0, -1].softmax(-1)
            yes, no = (p[verdict_tokens(vlm[1].tokenizer, word, LOCALIZABLE)].sum() for word in (True, False))
            assert reward == pytest.approx((yes / (yes + no)).item(), abs=1e-5)
        assert paid[2:] == [0.0, 0.0]  # nothing was reasoned
    assert rewards[0][0] != rewards[1][0]


def test_served_and_in_process_ask_the_same_and_read_the_same(vlm, tmp_path):
    """A server that answers with the model's own log-probabilities gives the number that the process gives."""
    own = Judge(*vlm, LOCALIZABLE)
    served = ServedJudge(Server("http://127.0.0.1:9", 1.0), vlm[1], LOCALIZABLE)

    def answers(asked, at_once):
        choices = []
        for one in asked:
            group = judge_group(vlm[1], one.prompt, [""], question=LOCALIZABLE)
            group.completions[0], group.scored[0] = group.completions[0][-1:], group.scored[0][-1:]
            from gre.models.scoring import packed_logits

            with torch.no_grad():
                log_probs = packed_logits(vlm[0].eval(), [group])[0].log_softmax(-1)
            choices.append([{"logprobs": {"content": [{"top_logprobs": [
                {"token_id": word, "logprob": log_probs[word].item()} for word in one.params["logprob_token_ids"]]}]}}])
        return choices

    served.server.answers = answers
    picture().save(tmp_path / "a.png")
    groups = [Answers(Row(tmp_path / "a.png"), ["<think>It is red.</think>", "<think>Reasoning</think>"], [True] * 2)]
    assert p_yes_rewards(served, 8, groups)[0] == pytest.approx(p_yes_rewards(own, 8, groups)[0], abs=1e-5)


def test_a_reward_model_that_dies_stops_the_run_and_no_zero_is_recorded(vlm, tmp_path, monkeypatch):
    """GLOBE's released code scores 0.0 and goes on."""
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    picture().save(tmp_path / "a.png")
    groups = [Answers(Row(tmp_path / "a.png"), ["<think>It is red.</think>"], [True])]
    with pytest.raises(UserError, match="127.0.0.1:9"):
        p_yes_rewards(ServedJudge(Server("http://127.0.0.1:9", 1.0), vlm[1], LOCALIZABLE), 8, groups)
    with pytest.raises(RuntimeError, match="gone"):
        localizability_rewards(lambda asked: (_ for _ in ()).throw(RuntimeError("gone")), groups)


@pytest.mark.parametrize("said", [[], [0.5, 0.5]])
def test_every_question_has_one_answer(said):
    groups = [Answers(Row(Path("a.png")), ["<think>x</think>"], [True])]
    with pytest.raises(ValueError, match=f"about 1 chains and gave {len(said)} numbers"):
        localizability_rewards(lambda asked: said, groups)


def test_the_gate_looks_at_auc_and_calibration():
    good = {"auc": 0.9, "calibration_error": 0.1}
    check_gate(good, 0.85)
    for change, why in (({"auc": 0.8}, "AUC on held-out rows is 0.800, below judge.min_auc=0.85"),
                        ({"calibration_error": 0.2}, "calibration error on held-out rows is 0.200, above 0.15"),
                        ({"auc": math.nan}, "nan"), ({"calibration_error": math.nan}, "nan"),
                        ({"auc": None}, "auc was not measured")):
        with pytest.raises(UserError, match=why):
            check_gate({**good, **change}, 0.85)
    with pytest.raises(UserError, match="calibration_error was not measured"):
        check_gate({"auc": 0.9}, 0.85)


def watched(guard: UnlocalizableGuard, steps: range, risen: float) -> None:
    """Steps as GLOBE's stage hands them on, at the rate of configs/tiny/globe_three.yaml, whose 40 steps of 36 prompts
    meet 43 pictures in fog (3 %), in 27 steps: here 1, 2 and no such picture in turn, so 40 in 27 steps. R_loc on them
    is 0.3 on average, and `risen` from step 24 on, with the 25th; beside them is one picture that is localizable."""
    for step in steps:
        level, pictures = 0.3 if step < 24 else risen, (1, 2, 0)[step % 3]
        groups = [Answers(Row(Path("a"), False), ["x"] * 2, [True] * 2)
                  for _ in range(pictures)]
        groups.append(Answers(Row(Path("b"), True), ["x"] * 2, [True] * 2))
        r_loc = torch.tensor([[level - 0.1, level + 0.1]] * pictures + [[1.0, 1.0]])
        globe.on_rollout(guard, step, groups, {"localizability": r_loc}, Meter())


def test_a_rise_on_unlocalizable_pictures_stops_the_run(tmp_path):
    """Step 31 brings the 32nd and the 33rd. The last 16 are then the 18th to the 24th and 9 of the risen ones:
    (7 x 0.3 + 9 x 0.6) / 16 = 0.469."""
    shipped = load(globe.Config, [str(ROOT / "configs/tiny/globe_three.yaml")])
    assert (shipped.train.max_steps, shipped.train.per_device_batch_size, shipped.judge.max_rise) == (40, 36, 0.1)
    guard = UnlocalizableGuard(0.1, tmp_path / "alarms.jsonl")
    watched(guard, range(31), 0.6)
    again = UnlocalizableGuard(0.1, tmp_path / "alarms.jsonl")  # resumed there
    again.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    with pytest.raises(UserError, match="step 31: R_loc has a mean of 0.469 on the last 16 unlocalizable pictures, "
                                        "after 0.300 on the first 16, a rise above judge.max_rise=0.1"):
        watched(again, range(31, 40), 0.6)
    assert json.loads((tmp_path / "alarms.jsonl").read_text())["name"] == "reward/localizability"


@pytest.mark.parametrize("risen", [0.3, 0.39, 0.1])
def test_a_mean_that_rises_by_less_than_it_may_stops_nothing(tmp_path, risen):
    guard = UnlocalizableGuard(0.1, tmp_path / "alarms.jsonl")
    watched(guard, range(40), risen)
    assert guard.last == pytest.approx([risen] * 16) and guard.first == pytest.approx([0.3] * 16)
    assert not (tmp_path / "alarms.jsonl").exists()


def test_numbers_by_hand():
    groups = [Answers(Row(Path(name), marked), ["x"] * 3, [True] * 3)
              for name, marked in (("a", False), ("b", True), ("c", None))]
    r_loc = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7], [0.5, 0.5, 0.5]])
    right = torch.tensor([[0.0, 0.2, 1.0], [1.0, 0.2, 0.0], [1.0, 0.0, 0.0]])
    found = numbers(groups, r_loc, right)
    assert found == {"localizability/unlocalizable": pytest.approx(0.2), "localizability/unlocalizable_pictures": 1,
                     "localizability/with_place_groups": 2,
                     "localizability/with_place": pytest.approx(0.0)}  # 1 and -1; the third has no spread
    assert numbers(groups[2:], r_loc[2:], right[2:]) == {}


def test_rows_are_teachers_verdicts(tmp_path):
    rows = read_reason(DataConfig(str(write_reason(tmp_path, 4))))
    assert [judge_row(row).label for row in rows] == [True, False, True, False]
    assert judge_row(rows[0]) == JudgeRow("reason:1", tmp_path / "imgs/0.png", LOCALIZABILITY_INSTRUCTION, "It is red.",
                                          "", True, None)
    for field, why in (("localizability", "has no localizability"), ("response", "has no response")):
        (row,) = read_reason(DataConfig(str(write_reason(tmp_path / field, 1, **{field: None}))))
        with pytest.raises(UserError, match=f"{why}.*localizability.jsonl that scripts/data/mp16_reason.sh makes"):
            judge_row(row)


@pytest.mark.parametrize("word, said", [("high", "yes"), ("low", "no")])
def test_rows_of_one_label_are_refused_by_what_makes_the_other(tmp_path, word, said):
    """As data_prep.verify leaves them: more of the same would help nobody."""
    path = str(write_reason(tmp_path, 4, localizability=word))
    config = load(stage.Config, ["output_dir=o", f"model_name_or_path={ROOT / 'gre/tiny/base'}", f"data.path={path}"])
    with pytest.raises(UserError, match=f"all 4 rows say {said} of localizability.*scripts/data/mp16_reason.sh makes"):
        stage.read(config)


def test_it_is_measured_by_the_text_it_is_trained_on_and_asked(vlm, tmp_path):
    rows = [judge_row(row) for row in read_reason(DataConfig(str(write_reason(
        tmp_path, 8, says=lambda i: RESPONSES[i % 3 == 0]))))]
    judge = Judge(*vlm, LOCALIZABLE)
    p_yes = quality.ask(judge, [(row.image, LOCALIZABLE.text(row.chain)) for row in rows]).p_true.numpy()
    expected = quality.calibration_error(p_yes, np.array([row.label for row in rows]))
    assert localizability.metrics_of(judge, rows, 0, 8)["calibration_error"] == pytest.approx(expected, abs=1e-6)


def every_second_pair(i: int) -> bool:
    """It says nothing of a row's label."""
    return i // 2 % 2 == 0


@pytest.mark.slow
@pytest.mark.parametrize(("shows", "tells", "least", "most"), [(even, every_second_pair, 0, 0.75),
                                                               (every_second_pair, even, 0.95, 1)],
                         ids=["only_the_picture_tells", "only_the_response_tells"])
def test_it_is_trained_by_the_judges_machinery(vlm, tmp_path, monkeypatch, capsys, shows, tells, least, most):
    """Pictures and responses both differ, and one of them tells the label: a model that has learned it from the
    responses does as well where it sees no picture, and one that has learned it from the pictures does not."""
    monkeypatch.chdir(tmp_path)
    for part in vlm:
        part.save_pretrained("base")
    config = stage.Config(output_dir="run/localizability", model_name_or_path="base", held_out_share=0.25)
    config.data.path = str(write_reason(tmp_path / "data", 80, shows, lambda i: RESPONSES[tells(i)]))
    config.train.learning_rate, config.train.lr_scheduler_type = 6e-3, "constant"
    config.train.max_steps, config.train.per_device_batch_size = 20, 8
    stage.run(config)
    made = json.loads(Path("run/localizability/manifest.json").read_text())
    metrics = made["metrics"]
    assert made["stage"] == "localizability" and metrics["n"] == 20
    assert made["instructions"]["texts"] == [{"text": LOCALIZABILITY_INSTRUCTION, "rows": 60}]
    assert metrics["auc"] > 0.95 and least <= metrics["auc_text_only"] <= most
    out = capsys.readouterr().out
    assert f"auc_text_only {metrics['auc_text_only']:.3f}" in out
    assert ("warning: the reward model tells as well without pictures" in out) is (least > 0)
    assert Path("run/localizability/photos.json").exists()


@pytest.mark.parametrize(("auc", "text_only", "blind"), [(1.0, 0.62, False), (0.9, 0.84, False), (0.9, 0.87, True),
                                                          (0.86, 0.9, True)])
def test_a_model_that_needs_no_picture_is_told_of_and_not_refused(monkeypatch, capsys, auc, text_only, blind):
    measured = {"auc": auc, "auc_text_only": text_only, "calibration_error": 0.1, "n": 40}
    monkeypatch.setattr(localizability, "judge_parent", lambda *_: SimpleNamespace(manifest={"metrics": measured}))
    monkeypatch.setattr(localizability, "load_judge", lambda *_: None)
    setup = SimpleNamespace(stage=SimpleNamespace(config=None))
    assert localizability.check(localizability.LocalizabilityConfig(), setup).measured == measured
    assert (f"AUC {text_only:.3f} on grey ones, {auc:.3f} on the photos" in capsys.readouterr().out) is blind


def test_the_judge_asks_as_ever():
    assert RIGHT.words == ("True", "False") and RIGHT.text("<think>a</think>", "b") == "\nReasoning: a\nAnswer: b"
    assert quality.MIN_AUC == 0.7 and localizability.STAGE == "localizability"


@pytest.mark.parametrize("name", ["tiny/globe_three", "globe7b/globe_three", "globe7b/globe_three_readme"])
def test_what_its_stage_warns_of_is_what_rl_refuses(name, monkeypatch, capsys):
    """A model of AUC 0.80, between the judge's bound and its own."""
    wanted = load(globe.Config, [str(ROOT / f"configs/{name}.yaml")]).judge.min_auc
    assert wanted == 0.85
    found = {"auc": 0.8, "auc_text_only": 0.5, "calibration_error": 0.1}
    for one in ("Judge", "load_processor"):
        monkeypatch.setattr(stage, one, lambda *_: None)
    monkeypatch.setattr(stage, "metrics_of", lambda *_: found)
    trained = SimpleNamespace(folder=Path("run"), load_frozen=lambda folder: None)
    stage.measure(SimpleNamespace(seed=0), trained, [])
    assert "RL would refuse this model as it is: the reward model's AUC on held-out rows is 0.800, below " in (
        capsys.readouterr().out)
    with pytest.raises(UserError, match="below judge.min_auc=0.85"):
        check_gate(found, wanted)
    found["auc"] = 0.86
    stage.measure(SimpleNamespace(seed=0), trained, [])
    assert "RL would refuse" not in capsys.readouterr().out
