"""A benchmark's page: ours beside the published, by country, photos side by side; seen by a real browser if one is."""
import csv
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from eval import compare, score
from eval.drawing import charts, heat, photos
from eval.predictions import Prediction
from gre.config import UserError
from gre.provenance import file_hash
from tests.helpers.browser import BROWSER, seen

EVIL = "<think><script>alert(1)</script>A red <b>tower</b> by the coast. " + "x" * 300
EVIL += "</think><answer>48.86, 2.35</answer>"
PLACES = [(48.86, 2.35), (43.70, 7.27), (-12.05, -77.04), (35.68, 139.69)]


def answers(kind: str) -> list[Prediction]:
    """`good` is right but for the last, which it does not answer; `paris` always says Paris."""
    said = [*PLACES[:3], None] if kind == "good" else [PLACES[0]] * 4
    return [Prediction(f"p:{at}", f"place {at}", f"{at}.png", *truth, EVIL, *(answer or (None, None)), True)
            for at, (truth, answer) in enumerate(zip(PLACES, said))]


@pytest.fixture
def scored(tmp_path, monkeypatch) -> Path:
    """Two models' predictions of four photos, with what eval.predict writes beside them, and their scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["eval.score"])  # the command is shown, and pytest's may name anything
    for kind in ("good", "paris"):
        own = {"indicators": [{"kind": "iconic building", "text": "red <b>tower"}]} if kind == "good" else {}
        Path(f"{kind}.jsonl").write_text("".join(json.dumps({**asdict(row), **own}) + "\n" for row in answers(kind)))
        Path(f"{kind}.json").write_text(json.dumps({"benchmark": {"name": "Im2GPS3k"}, "decoding": {
            "samples": 1, "temperature": 0.0}}))
        score.run(score.Config(f"{kind}.jsonl", out=f"{kind}_scores.json", draws=50))
    for at in range(len(PLACES)):
        Image.new("RGB", (60, 40), (60 * at, 90, 0)).save(f"{at}.png")
    return tmp_path


def made(scored: Path, **keys) -> str:
    compare.run(compare.Config(["good_scores.json", "paris_scores.json"], page="out.html",
                               **{"images": ".", "photos": 1, **keys}))
    return (scored / "out.html").read_text()


def test_ours_stands_beside_what_others_reported(scored, capsys):
    compare.run(compare.Config(["good_scores.json", "paris_scores.json"], "table.md"))
    table = Path("table.md").read_text()
    assert table == capsys.readouterr().out[-len(table):] and table.startswith("## Im2GPS3k\n")
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert lines[0] == ("| system | ≤ 1 km | ≤ 25 km | ≤ 200 km | ≤ 750 km | ≤ 2500 km | n | protocol | command or "
                        "source |")
    # Three of four within 1 km; the fourth is not answered.
    assert lines[2].startswith("| **ours: good** | 75.0 (no interval: 4.0 effective clusters) |")
    assert ("| 4 | coordinates, no geocoder; greedy; <= on a sphere of radius 6371.0088 km; unread answers are "
            "wrong: 1 (0 refused; 0 cut off) | `python -m eval.score") in lines[2]
    gre = next(line for line in lines if line.startswith("| GRE-7B |"))
    assert gre.startswith("| GRE-7B | 11.3 | 35.3 | 51.7 | 69.3 | 85.7 | – | the model answers with coordinates")
    assert gre.endswith("| arXiv 2505.18700; reported by GRE, table main results: its paper |")
    assert "retrained by GRE on 5 % of MP-16" in table and "GWS15k" not in table


@pytest.mark.parametrize("benchmark, sign", [
    ({"name": "Im2GPS3k", "expected_rows": 2997, "accepted_rows": 4}, "4 of 2,997 rows: not comparable"),
    ({"name": "GREval-Bench", "expected_rows": 3000, "accepted_rows": 4}, "4 of 3,000 rows: not comparable"),
    ({"name": "Im2GPS3k", "expected_rows": 2997, "accepted_rows": None}, "4 of 2,997 rows: not comparable"),
    ({"name": "OSV-5M", "expected_rows": None, "accepted_rows": 4},
     "4 rows, and how many the benchmark has is not known here")])
def test_an_incomplete_benchmark_is_marked_wherever_it_is_shown(scored, capsys, benchmark, sign):
    Path("good.json").write_text(json.dumps({"benchmark": benchmark}))
    score.run(score.Config("good.jsonl", out="good_scores.json", draws=50))
    assert f"counted as wrong; decoding not recorded; {sign}\n" in capsys.readouterr().out
    compare.run(compare.Config(["good_scores.json"], "table.md", page="out.html", images=""))
    assert f"| **ours: good** ({sign}) |" in Path("table.md").read_text()
    assert f"ours: good ({sign})</th>" in Path("out.html").read_text()


@pytest.mark.parametrize("benchmark", [{"name": "Im2GPS3k", "expected_rows": 4, "accepted_rows": None},
                                       {"name": "csv", "expected_rows": None, "accepted_rows": 4}, {}])
def test_a_complete_one_and_own_data_are_not_marked(scored, benchmark):
    Path("good.json").write_text(json.dumps({"benchmark": benchmark} if benchmark else {}))
    score.run(score.Config("good.jsonl", out="good_scores.json", draws=50))
    compare.run(compare.Config(["good_scores.json"], "table.md"))
    assert "| **ours: good** |" in Path("table.md").read_text()


@pytest.mark.parametrize("temperature, samples, fields, said", [
    (0.0, 1, {}, "greedy"), (0.0, 1, {"temperature": 1.0}, "1 sample at temperature 1"),
    (0.0, 1, {"temperature": None}, "1 sample at the endpoint's own temperature"),
    (0.0, 1, {"top_p": 0.9, "max_tokens": 9}, "greedy; sent with top_p=0.9, max_tokens=9"),
    (1.0, 8, {"temperature": 0.0}, "8 samples at temperature 0"), (0.7, 8, {}, "8 samples at temperature 0.7")])
def test_decoding_is_what_was_sent(scored, capsys, temperature, samples, fields, said):
    Path("good.json").write_text(json.dumps({
        "model": {"name": "m", "fields": fields}, "decoding": {"samples": samples, "temperature": temperature}}))
    score.run(score.Config("good.jsonl", out="good_scores.json", draws=50))
    assert f"counted as wrong; {said}\n" in capsys.readouterr().out
    compare.run(compare.Config(["good_scores.json"], "table.md"))
    assert f"| 4 | coordinates, no geocoder; {said}; <= on a sphere" in Path("table.md").read_text()


def test_tables_of_different_benchmarks_and_of_no_scores_are_refused(scored):
    other = json.loads(Path("paris_scores.json").read_text())
    other["files"]["predictions"]["made_with"]["benchmark"]["name"] = "GWS15k"
    Path("other.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="different benchmarks"):
        compare.run(compare.Config(["good_scores.json", "other.json"]))
    with pytest.raises(UserError, match="good.json holds no scores"):
        compare.run(compare.Config(["good.json"]))
    before = json.loads(Path("paris_scores.json").read_text())
    del before["all"]["predictions"]["within_1_km"]["effective_clusters"]
    Path("before.json").write_text(json.dumps(before))
    with pytest.raises(UserError, match="before.json holds no scores .*effective_clusters.*write it with eval.score"):
        compare.run(compare.Config(["before.json"]))


def test_countries_are_counted_by_their_nearest_city():
    heats = {one.country: one for one in heat.by_country(answers("good"))}
    assert {name: one.n for name, one in heats.items()} == {"France": 2, "Japan": 1, "Peru": 1}
    assert (heats["Japan"].median_km, heats["Japan"].geoscore) == (20015, 0)
    assert (heats["France"].median_km, heats["France"].geoscore) == (0, 5000)
    drawn = heat.figure("good", list(heats.values()))
    assert 'class="disc none"' in drawn and drawn.count('class="disc near"') == 2
    assert "Japan: 1 photos, median 20,015 km" in drawn and 'r="12.0"' in drawn and 'r="8.5"' in drawn  # 12 / sqrt 2


def test_a_table_of_some_countries_says_so():
    def heats(count: int) -> list[heat.Heat]:
        return [heat.Heat(f"C{at}", 1, 0, 0, 1, 5000) for at in range(count)]

    assert "12 of 117 countries, those with the most photos" in heat.table(heats(117))
    assert " of 12 countries" not in heat.table(heats(12))


def test_the_table_as_csv_and_as_latex(scored):
    for name in ("t.csv", "t.tex"):
        compare.run(compare.Config(["good_scores.json"], name))
    ours, gre, *_ = csv.DictReader(Path("t.csv").open())
    assert (ours["system"], ours["within_1_km"], ours["within_1_km_low"], ours["n"]) == ("good", "0.75", "", "4")
    assert (gre["system"], gre["reported_by"], gre["within_25_km"], gre["n"]) == ("GRE-7B", "GRE", "0.353", "")
    tex = Path("t.tex").read_text()
    assert tex.startswith("\\begin{tabular}{lrrrrrrrr}\n\\toprule\nsystem & $\\leq$ 1 km & ")
    assert "Qwen2.5-VL-7B & 3.2 & 16.6 & 28.0 & 42.1 & 53.0 & --" in tex  # 28.0 as published, not 28
    assert "retrained by GRE on 5 \\% of MP-16" in tex and "good\\_scores" not in tex.split("midrule")[0]
    with pytest.raises(UserError, match="name a .md, .csv or .tex file"):
        compare.run(compare.Config(["good_scores.json"], "t.doc"))


def test_accuracy_over_distance_is_drawn_by_hand():
    drawn = charts.accuracy("t", {"m": [1.0, None, 1.0, 20016.0], "<b>": [0.0]}, (1, 25))
    # From 46 to 408 across (0.1 to 20,016 km), from 190 up to 12. Within 1 km lie 2 of 4, at half the globe 3 of 4.
    across = 46 + 362 / (math.log10(20016) + 1)
    assert f'd="M46.0,190.0L{across:.1f},190.0L{across:.1f},101.0L408.0,101.0L408.0,56.5L408.0,56.5"' in drawn
    assert 'class="line s1" d="M46.0,190.0L46.0,190.0L46.0,12.0L408.0,12.0"' in drawn and "&lt;b&gt;" in drawn


def test_best_and_worst():
    assert photos.best_and_worst(answers("good"), 2) == ([0, 1], [3, 2])  # no answer is the worst
    assert photos.best_and_worst(answers("good"), 3) == ([0, 1, 2], [3])


def test_the_page_is_self_contained_and_shows_all_models_of_a_photo(scored):
    html = made(scored)
    assert "<script" not in html and "&lt;script&gt;" in html and "http" not in html and str(scored) not in html
    assert html.count("class='sample'") == 2 and html.count("<div class='said'>") == 2
    best = html.split("<h2>Best of good</h2>")[1].split("<h2>")[0]
    assert "good · 0 km off" in best and "paris · 0 km off" in best
    assert html.count("Photos within a distance") == 2  # title and label of the curves
    assert "good · no answer" in html.split("<h2>Worst of good</h2>")[1]
    # `good` ran on a file that has indicators, and only they are marked; the words of the list in what `paris` said.
    assert html.count(">red &lt;b&gt;tower</mark>") == 2 == html.count(">coast</mark>") == html.count(">tower</mark>")
    assert "Where no indicators are known: English words" in html
    assert html.count('class="map"') == 4 and "GRE-7B" in html and (
        "<td data-label='≤ 1 km'>75.0<small>no interval: 4.0 effective clusters</small></td>" in html)


def chain_scored(scored: Path, **made_with) -> None:
    """Chain quality of `good` as eval.chain writes it, with one cue in other words."""
    rows = scored / "good.chain.rows.jsonl"
    rows.write_text("".join(json.dumps({
        "id": f"p:{at}", "indicators": [], "naming": [{"kind": "climate", "text": "by the  coast."}]}) + "\n"
        for at in range(len(PLACES))))
    (scored / "good.chain.json").write_text(json.dumps({
        "commit": "0123456789abcdef", "n": 4, "empty_chains": 1,
        "files": {"predictions": {"sha256": file_hash("good.jsonl")},
                  "rows": {"path": rows.name, "sha256": file_hash(rows)}},
        "all": {"quality": {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4, "effective_clusters": 40}},
        "protocol": {"weights": "equal, ours"},
        "models": {"llm": {"name": "<L>"}, "clip": {"name": "C"}, "bert": {"name": "B"}},
        "published_not_comparable": [{"system": "GRE-7B", "cot_score": 59.5, "why": "other models"}]}))


def test_the_quality_of_chains_stands_in_the_scores_and_on_the_page(scored, capsys):
    chain_scored(scored)
    made_scores = score.run(score.Config("good.jsonl", out="good_scores.json", draws=50, chain="good.chain.json"))
    assert made_scores["chain"]["sha256"] == file_hash("good.chain.json")
    assert json.loads(Path("good_scores.json").read_text())["chain"]["models"]["llm"]["name"] == "<L>"
    printed = capsys.readouterr().out
    assert "chain quality, GRE's form (mean of three): 0.500 [0.250 to 0.750], n 4" in printed
    assert "BERT B raw; weights" in printed
    html = made(scored)
    assert "<td>0.500 [0.250 to 0.750] n 4</td>" in html and "LLM &lt;L&gt;, CLIP C, BERT B" in html
    assert "commit 0123456789ab, 1 of 4 chains empty (0)" in html and "not comparable: GRE-7B 59.5" in html
    assert html.count(">by the coast.</mark>") == 2 and ">red &lt;b&gt;tower</mark>" not in html

    with pytest.raises(UserError, match="good.chain.json scores the chains of another prediction file than paris"):
        score.run(score.Config("paris.jsonl", draws=50, chain="good.chain.json"))
    with pytest.raises(UserError, match="good.json is nothing that eval.chain wrote"):
        score.run(score.Config("good.jsonl", draws=50, chain="good.json"))
    Path("good.chain.rows.jsonl").write_text("")
    with pytest.raises(UserError, match="good.chain.rows.jsonl is gone or is not the file that was scored"):
        made(scored)


def test_greval_bench_without_chain_quality_says_what_was_left_out_and_which_key_gives_it(scored, capsys):
    for kind in ("good", "paris"):
        Path(f"{kind}.json").write_text(json.dumps({"benchmark": {"name": "GREval-Bench"}}))
        score.run(score.Config(f"{kind}.jsonl", out=f"{kind}_scores.json", draws=50))
    printed = capsys.readouterr().out
    for text in (printed, made(scored, images="")):
        assert "chain quality is left out: it needs a CLIP, a BERT and an LLM" in text and "chain.clip=DIR" in text
    assert "No photos: images= names the folder" in Path("out.html").read_text()


def test_the_page_is_made_from_any_folder(scored, tmp_path_factory, monkeypatch):
    """Predictions below the folder of the scores, beside it, and far away; scores and predictions may move together."""
    chain_scored(scored)
    score.run(score.Config("good.jsonl", out="deep/er/good.json", draws=50, chain="good.chain.json"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    score.run(score.Config(str(scored / "paris.jsonl"), out="paris.json", draws=50))
    monkeypatch.chdir("/")
    new = scored / "new"
    compare.run(compare.Config([str(scored / "deep/er/good.json"), str(elsewhere / "paris.json")], photos=1,
                               table=str(new / "table.md"), page=str(new / "page.html"), images=str(scored)))
    html = (scored / "new/page.html").read_text()  # in a folder that was not there
    assert html.count(">by the coast.</mark>") == 2 and "paris · 0 km off" in html
    assert (scored / "new/table.md").read_text().count("**ours: ") == 2
    moved = shutil.copytree(scored, elsewhere / "moved")
    (scored / "good.jsonl").unlink()
    compare.run(compare.Config([str(moved / "deep/er/good.json")], page=str(moved / "page.html"), images=str(moved)))


def test_a_place_may_be_null(scored):
    """As own programs write it where none is known."""
    lines = [json.loads(line) | {"place": None} for line in Path("good.jsonl").read_text().splitlines()]
    Path("good.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    score.run(score.Config("good.jsonl", out="good_scores.json", draws=50))
    compare.run(compare.Config(["good_scores.json"], page="out.html", images=".", photos=1))
    assert "<p class='soft'><br>48.86, 2.35</p>" in Path("out.html").read_text()


def test_predictions_altered_since_are_not_shown(scored):
    with open("good.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="good.jsonl is gone or is not the file that was scored"):
        made(scored)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_a_sideways_scroll(scored, width):
    """The real layout: nothing lies beyond the edge, in a box that scrolls or without, and no label on another."""
    shown = seen(made(scored), scored, width)
    assert shown["width"] == width >= shown["needs"] and not shown["outside"]
    assert not shown["scrolled"] and not shown["overlapping"]
    assert shown["pictures"] == shown["loaded"] == 2
    assert shown["marks"] == 10  # of two photos, 1 in what `good` said, 4 in what `paris` did
