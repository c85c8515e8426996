"""python -m eval.chain: hand-worked numbers, and the order of chains whose order is known, on real components.

The encoders are real CLIP and BERT folders, small and made on the spot; the LLM is a local HTTP server that answers
from what is true of the tiny planet.
"""
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval import compare, predictions, score
from eval.benchmarks.reader import GREVAL
from eval.chain import __main__ as command
from eval.chain import measures, scoring
from eval.chain.bert import Bert, baseline_file
from eval.predictions import Prediction
from gre.config import UserError, load
from gre.geo.point import LatLon
from gre.llm import LLMConfig
from gre.models.clip import Clip
from gre.tiny.encoders import OTHERWISE, SAID, values
from gre.tiny.picture import draw, random_scene, scene_of
from gre.tiny.places import TREES, places
from gre.tiny.teacher import reasoning
from tests.helpers.chains import TAXONOMY, paraphrase, photos, write
from tests.helpers.llm_endpoint import Endpoint
from tests.helpers.planet_reader import reader


@pytest.fixture(scope="module")
def planet(tmp_path_factory):
    """(folder with a benchmark of eight pictures, chains by name). No two neighbours share a cue but the sun."""
    folder = tmp_path_factory.mktemp("bench")
    chosen, shown = photos()
    write(folder, {}, chosen, shown)
    rows = [row.row for row in scoring.read(str(folder / "GREval-Bench.json"), "")]
    annotated = [row.chain for row in rows]
    every = " ".join(f"Here is {name}." for names in values().values() for name in names)
    chains = {"annotated": annotated, "paraphrase": list(map(paraphrase, shown, chosen)),
              "another": annotated[1:] + annotated[:1], "empty": [""] * 8, "taxonomy": [TAXONOMY] * 8,
              "padded": [f"{chain} {TAXONOMY}" for chain in annotated], "everything": [every] * 8,
              "wrong": [reasoning(scene, other) for scene, other in zip(shown, chosen[1:] + chosen[:1])],
              "right": list(map(paraphrase, shown, chosen))}
    answers = {"wrong": [place.centre for place in chosen[1:] + chosen[:1]],
               "right": [place.centre for place in chosen]}
    for name, texts in chains.items():
        predictions.append(folder / f"{name}.jsonl", [
            Prediction(row.id, f"place {row.id}", f"imgs/{row.image.name}", *row.truth, f"<think>{text}</think>",
                       *(point or (None, None)), True)
            for row, text, point in zip(rows, texts, answers.get(name, [None] * 8))])
    return folder


def config(folder, name: str, encoders, url: str = "", **keys) -> command.Config:
    return command.Config(**{
        "predictions": str(folder / f"{name}.jsonl"), "data": str(folder / "GREval-Bench.json"),
        "clip": str(encoders / "clip"), "bert": str(encoders / "bert"), "bert_layer": 2, "bert_baseline": "none",
        "llm": LLMConfig(url=url, model="planet"), "cache": str(folder / "llm.jsonl"),
        "out": str(folder / f"{name}.chain.json"), "draws": 200, **keys})


@pytest.fixture(scope="module")
def scores(planet, tiny_encoders):
    """Name of the chains → what eval.chain writes."""
    with Endpoint(reader) as endpoint:
        return {name: command.run(config(planet, name, tiny_encoders, endpoint.url)) for name in (
            "annotated", "paraphrase", "another", "empty", "taxonomy", "padded", "everything", "wrong", "right")}


def mean(scores: dict, name: str, measure: str = "quality") -> float:
    return scores[name]["all"][measure]["mean"]


def test_chains_come_in_the_order_of_their_worth(planet, scores):
    assert mean(scores, "annotated") > mean(scores, "paraphrase") > mean(scores, "another") > mean(scores, "empty") == 0
    each = [[json.loads(line)["quality"] for line in (planet / f"{name}.chain.rows.jsonl").read_text().splitlines()]
            for name in ("annotated", "paraphrase", "another", "empty")]
    assert all(own > reworded > foreign > nothing == 0 for own, reworded, foreign, nothing in zip(*each))  # 8 pictures
    for measure in ("caption", "inference"):  # the stand-in encoders know words: paraphrases are last of the three here
        assert mean(scores, "annotated", measure) > mean(scores, "another", measure) > 0
        assert mean(scores, "empty", measure) == 0
    for measure in ("background", "judge_f1"):  # in other words, the same
        assert mean(scores, "annotated", measure) == mean(scores, "paraphrase", measure) == 1
        assert mean(scores, "another", measure) < 0.5
    assert mean(scores, "annotated", "inference") == pytest.approx(1, abs=1e-5)  # BERTScore of a text with itself
    assert scores["empty"]["empty_chains"] == 8
    assert scores["empty"]["all"]["quality"]["high"] == pytest.approx(1 - 0.025 ** (1 / 8), rel=0.1)  # 8 photos: 37 %


def test_the_right_cues_with_the_wrong_country_lose_to_a_correct_paraphrase(planet, scores):
    """By GRE's three parts alone they win: nothing in them knows where the photo was taken."""
    assert mean(scores, "wrong") > mean(scores, "right") == mean(scores, "paraphrase")
    wrong, right = ([json.loads(line) for line in (planet / f"{name}.chain.rows.jsonl").read_text().splitlines()]
                    for name in ("wrong", "right"))
    assert all(one["conclusion"] == 1 > other["conclusion"] for one, other in zip(right, wrong))
    assert mean(scores, "right", "grounded") > mean(scores, "wrong", "grounded")
    parts = [2 * wrong[0]["background"] * wrong[0]["background_precision"] / (
        wrong[0]["background"] + wrong[0]["background_precision"]), *(wrong[0][name] for name in (
            "caption", "inference", "conclusion", "judge_f1"))]
    assert wrong[0]["grounded"] == pytest.approx(sum(parts) / 5)
    assert mean(scores, "padded", "grounded") < mean(scores, "annotated", "grounded")  # precision counts here
    assert mean(scores, "empty", "grounded") == 0


def test_reciting_does_not_pay(scores):
    assert mean(scores, "taxonomy") == 0  # all eight kinds named, and none of the indicators
    assert mean(scores, "everything") < mean(scores, "annotated") / 2 + 0.2
    assert mean(scores, "everything", "background") == 1 and mean(scores, "everything", "inference") == 0
    assert mean(scores, "everything", "background_precision") < 0.1 > mean(scores, "everything", "judge_precision")
    # Behind the annotated chain it is not seen by the recall, but by what stands beside it: 2 of 10 statements and 6 of
    # 14 steps are the annotation's.
    assert mean(scores, "padded") <= mean(scores, "annotated")
    assert mean(scores, "padded", "background_precision") == pytest.approx(0.2)
    assert mean(scores, "padded", "judge_precision") == pytest.approx(6 / 14)
    assert mean(scores, "padded", "step_count") == 14


def test_the_cache_alone_reproduces_the_score(planet, scores, tiny_encoders):
    before = (planet / "paraphrase.chain.json").read_text(), (planet / "paraphrase.chain.rows.jsonl").read_text()
    again = command.run(config(planet, "paraphrase", tiny_encoders))
    after = (planet / "paraphrase.chain.json").read_text(), (planet / "paraphrase.chain.rows.jsonl").read_text()
    assert again["all"] == scores["paraphrase"]["all"] and before[1] == after[1]
    with pytest.raises(UserError, match="does not hold planet's reply"):
        command.run(config(planet, "paraphrase", tiny_encoders, cache=str(planet / "none.jsonl")))


def test_what_is_written(planet, scores):
    written = json.loads((planet / "annotated.chain.json").read_text())
    assert written == json.loads(json.dumps(scores["annotated"]))
    assert written["protocol"]["derived_from_gt_cot"] == {"indicators": 8, "steps": 8, "scene": 8}
    assert written["protocol"]["weights"] == "equal, ours"
    assert written["models"]["bert"]["layer"] == 2 and "L2_no-idf" in written["models"]["bert"]["name"]
    assert [row["cot_score"] for row in written["published_not_comparable"]] == [59.5, 50.4]
    rows = [json.loads(line) for line in (planet / "annotated.chain.rows.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"s{number}" for number in range(8)]
    first = rows[0]
    assert first["steps"] == first["annotated_steps"] and first["named"] == first["indicators"]
    assert [step["kind"] for step in first["steps"]] == ["background"] * 2 + ["caption"] * 3 + ["inference"]
    assert first["quality"] == pytest.approx((first["background"] + first["caption"] + first["inference"]) / 3)


def test_it_stands_in_the_scores_and_the_cues_it_found_are_marked(planet, scores, monkeypatch):
    monkeypatch.chdir(planet.parent)
    made = score.run(score.Config(f"{planet.name}/paraphrase.jsonl", out="scores.json", draws=50,
                                  chain=f"{planet.name}/paraphrase.chain.json"))
    assert made["chain"]["all"] == scores["paraphrase"]["all"]
    compare.run(compare.Config(["scores.json"], page="out.html", images=planet.name, photos=2))
    html = (planet.parent / "out.html").read_text()
    quality = scores["paraphrase"]["all"]["quality"]
    assert (f"<td>{quality['mean']:.3f} [{quality['low']:.3f} to {quality['high']:.3f}, few: 8.0 effective clusters] "
            "n 8</td>") in html
    assert "LLM planet, CLIP clip, BERT bert_L2" in html
    rows = [json.loads(line) for line in (planet / "paraphrase.chain.rows.jsonl").read_text().splitlines()]
    shown = [row for row in rows if row["id"] in ("s0", "s1", "s7", "s6")]  # none is answered: the first and the last
    marks = [indicator["text"] for row in shown for indicator in row["indicators"]]
    assert html.count("<mark class='explicit' title='") == len(marks) == 8
    assert all(f"'>{text}</mark>" in html for text in marks)
    assert [one["text"].startswith(("The building over", "A banner")) for one in rows[0]["naming"]] == [True, True]


def test_own_fields_win_over_derived_ones_and_are_checked(planet, scores, tiny_encoders, tmp_path):
    rows = json.loads((planet / "GREval-Bench.json").read_text())
    for row in rows:
        row |= {"indicators": [{"kind": "climate", "text": "palm"}], "scene": "natural",
                "steps": [{"kind": "background", "text": "Palms: palm."}, {"kind": "caption", "text": "A palm."}]}
    data = tmp_path / "bench.json"
    data.write_text(json.dumps(rows))
    keys = {"data": str(data), "image_root": str(planet), "out": str(tmp_path / "out.json")}
    with Endpoint(reader) as endpoint:
        made = command.run(config(planet, "annotated", tiny_encoders, endpoint.url, **keys))
    assert made["protocol"]["derived_from_gt_cot"] == {"indicators": 0, "steps": 0, "scene": 0}
    assert "inference" not in made["all"]  # no annotated inference: scored for no one
    assert made["all"]["background"]["mean"] == 0 and set(made["scenes"]) == {"natural"}

    for name, value, fault in (("indicators", [{"kind": "weather", "text": "x"}], "kind is one of nature landmark"),
                               ("steps", [], "at least one step"), ("scene", "beach", "expected one of natural")):
        data.write_text(json.dumps([rows[0], rows[1] | {name: value}]))
        with pytest.raises(UserError, match=f"bench.json, row 2: field '{name}': .*{fault}.*Repair the field"):
            scoring.read(str(data), str(planet))


def test_predictions_must_be_the_benchmarks_rows(planet, tiny_encoders, tmp_path):
    lines = (planet / "annotated.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="1 of 8 rows have no prediction"):
        command.run(config(planet, "annotated", tiny_encoders, predictions=str(tmp_path / "short.jsonl")))


def test_ref_clip_score_by_hand():
    picture = torch.tensor([1.0, 0.0, 0.0])
    captions = torch.tensor([[0.3, 0.4, 0.75 ** 0.5], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    references = torch.tensor([[0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    # 1: seen 2.5 * 0.3 = 0.75, said max(0.4, 0.18 + 0.32 = 0.5): 2 * 0.375 / 1.25 = 0.6
    # 2: seen 0; 3: seen 0, though a reference says the same; 4: seen 1.5, said 1: 3 / 2.5 = 1.2, over 1 as published
    assert measures.ref_clip_scores(captions, picture, references).tolist() == pytest.approx([0.6, 0, 0, 1.2])


def test_recall_precision_and_f1_by_hand():
    named = [frozenset({0, 2}), frozenset(), frozenset({2})]
    assert measures.indicator_recall(named) == pytest.approx(2 / 3)
    assert measures.statement_precision(named, "abcd") == 0.5 and measures.statement_precision([frozenset()], "") == 0
    assert measures.statement_precision(named, ["a", "b", "a", "b"]) == 0.25  # the third says the first again
    assert measures.f1(0.5, 0.25) == pytest.approx(1 / 3) and measures.f1(0, 0) == 0


def test_bert_score_is_what_its_paper_says(tiny_encoders):
    from transformers import AutoModel, AutoTokenizer

    folder = str(tiny_encoders / "bert")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def vectors(text):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[1][0]
        return torch.nn.functional.normalize(hidden, dim=-1)

    pairs = [("So Tokyo, Japan.", "So Kyoto, Japan."), ("A red tower.", "I can see bus here, and a red tower.")]
    for (said, wanted), value in zip(pairs, Bert(folder, 1, "none").f1(*zip(*pairs))):
        cosines = vectors(said) @ vectors(wanted).T  # [CLS] and [SEP] may be the best match of a word and do not count
        precision, recall = (best.values[1:-1].mean().item() for best in (cosines.max(1), cosines.max(0)))
        assert value == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)


def test_the_stand_in_clip_sees_a_little(tiny_encoders):
    """By four sentences it told the climate of 67 % of 256 new pictures; chance is 25 %."""
    clip, rng, trees = Clip(tiny_encoders / "clip"), random.Random(1000), values()["tree"]
    scenes = [random_scene(rng) for _ in range(256)]
    pictures = clip.pictures([draw(scene, rng) for scene in scenes])
    wanted = torch.tensor([list(TREES).index(scene.climate) for scene in scenes])
    right = [((pictures @ clip.texts([form.format(tree) for tree in trees]).T).argmax(1) == wanted).float().mean()
             for form in (SAID["tree"], *OTHERWISE)]
    assert 0.5 < sum(right) / len(right) < 0.9


def test_cosines_are_the_ones_clip_is_trained_with(tiny_encoders):
    clip, rng = Clip(tiny_encoders / "clip"), random.Random(3)
    images = [draw(scene_of(place, rng, 0.0), rng) for place in places()[:3]]
    texts = ["Plants: palm, tropical.", "A photo with oak, temperate."]
    with torch.no_grad():
        inputs = clip.processor(text=texts, images=images, return_tensors="pt", padding=True)
        expected = clip.model(**inputs).logits_per_image / clip.model.logit_scale.exp()
    assert (clip.pictures(images) @ clip.texts(texts).T - expected).abs().max() < 1e-5
    assert clip.texts([]).shape == (0, 64)
    assert clip.too_long("oak " * 76) and not clip.too_long("oak " * 75)  # 77 with the two that mark start and end


def test_rescaling_uses_the_layers_line_and_never_goes_below_zero(tiny_encoders, tmp_path):
    baseline = tmp_path / "base.tsv"
    baseline.write_text("LAYER,P,R,F\n0,0,0,0\n1,0.5,0.5,0.5\n2,0.9,0.9,0.9\n")
    pair = (["So Tokyo, Japan."], ["So Kyoto, Japan."])
    folder = str(tiny_encoders / "bert")
    (raw,), (rescaled,) = Bert(folder, 1, "none").f1(*pair), Bert(folder, 1, str(baseline)).f1(*pair)
    assert rescaled == pytest.approx((raw - 0.5) / 0.5, abs=1e-5)
    assert "custom-rescaled" in Bert(folder, 2, str(baseline)).name


def test_scores_are_rescaled_by_default_with_the_encoders_own_baseline(tiny_encoders, tmp_path):
    import bert_score

    shipped = Path(bert_score.__file__).parent / "rescale_baseline" / "en"
    assert baseline_file("", "/models/roberta-large") == shipped / "roberta-large.tsv" == baseline_file(
        "roberta-large", "/models/snapshots/1a2b")
    assert baseline_file("microsoft/deberta-base", "x") == shipped / "microsoft" / "deberta-base.tsv"
    assert baseline_file("none", "/models/roberta-large") is None
    with pytest.raises(UserError, match="none of bert-score's own baselines is called bert. Name that of the encoder "
                                        "\\(albert-base-v1, .*roberta-large, .*or write bert_baseline=none for raw"):
        Bert(str(tiny_encoders / "bert"), 2, "")
    short = tmp_path / "short.tsv"
    short.write_text("LAYER,P,R,F\n0,0,0,0\n1,0.5,0.5,0.5\n")
    with pytest.raises(UserError, match="short.tsv: its layers are 0 to 1, and bert_layer is 2"):
        Bert(str(tiny_encoders / "bert"), 2, str(short))


def test_models_that_are_none_are_refused(tiny_encoders, tmp_path):
    with pytest.raises(UserError, match="no model folder .*clip-vit-large"):
        Clip(tmp_path)
    with pytest.raises(UserError, match="cannot be read as a CLIP model|does not hold the weights"):
        Clip(tiny_encoders / "bert")
    with pytest.raises(UserError, match="no model folder .*bert_layer=17"):
        Bert(str(tmp_path), 1, "none")
    with pytest.raises(UserError, match="bert_layer=3: .* has layers 1 to 2"):
        Bert(str(tiny_encoders / "bert"), 3, "none")
    with pytest.raises(UserError, match="takes a path with t5 in it for a T5"):
        link = tmp_path / "my-t5-bert"
        link.symlink_to(tiny_encoders / "bert")
        Bert(str(link), 1, "none")


def test_an_annotation_with_nothing_to_score_is_refused(planet):
    row = scoring.read(str(planet / "GREval-Bench.json"), "")[0]
    bare = replace(row, indicators=(), scene="natural", steps=(scoring.Step("background", "Somewhere."),))

    class Silent:
        def answers(self, questions, title):
            assert not questions
            return []

    with pytest.raises(UserError, match="sample s0: its chain has no indicator, no caption and no inference"):
        scoring.derive([bare], Silent())


def test_help_and_dry_run(capsys):
    with pytest.raises(SystemExit):
        load(command.Config, ["--help"], description=command.__doc__)
    assert "llm.key_env" in capsys.readouterr().out
    assert GREVAL in command.__doc__ and LatLon(0, 1)
