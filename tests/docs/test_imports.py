"""Imports point one way, and what needs no torch does not load it."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# gre's own order: a module imports only from its own line and from lines above it.
ORDER = ["errors", "leave", "config", "provenance", "http", "llm", "geo", "text", "data", "models", "manifest", "card",
         "export", "rollout", "answering", "locate", "rewards", "training", "judge", "check", "plan", "tiny"]
ABOVE_GRE = {"stages", "eval", "data_prep", "bench", "demo", "scripts", "experiments", "tests"}
# eval's: a room imports only from rooms before it.
ROOMS = ["predictions", "benchmarks", "answering", "scoring", "drawing", "chain", "predict", "score", "adopt",
         "compare", "quickstart"]
WITHOUT_TORCH = ["gre.errors", "gre.config", "gre.geo.point", "gre.geo.accuracy", "gre.geo.bootstrap", "gre.geo.places",
                 "gre.text.answers", "gre.text.prompts", "gre.text.instructions", "gre.data.records", "gre.data.cache",
                 "gre.data.photos", "gre.training.look", "gre", "gre.locate.__main__", "gre.geo.land",
                 "gre.rewards.format", "gre.rewards.gps", "gre.rewards.place", "gre.rewards.grounding",
                 "gre.provenance", "gre.models.shapes", "gre.plan.memory", "gre.plan.work", "eval.score",
                 "eval.benchmarks.reader", "eval.benchmarks.published", "eval.scoring.areas", "eval.scoring.named",
                 "eval.compare", "eval.drawing.cues", "eval.chain.questions", "gre.geo.median", "gre.text.named",
                 "gre.http", "gre.llm", "gre.data.annotations", "gre.data.exif", "gre.data.tables", "gre.data.near",
                 "data_prep.seeds.__main__", "data_prep.inspect.__main__", "data_prep.contamination",
                 "data_prep.split", "data_prep.distil", "data_prep.regions", "data_prep.judge", "data_prep.cot",
                 "data_prep.verify.__main__", "data_prep.recipe", "data_prep.reason", "data_prep.convert",
                 "data_prep.review.__main__", "data_prep.review.app", "data_prep.fetch"]


def imported(path: Path) -> set[str]:
    """Every module a file imports, as dotted names; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("gre"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_gre_imports_nothing_above_it(path):
    assert not {name.split(".")[0] for name in imported(path)} & ABOVE_GRE


@pytest.mark.parametrize("path", modules("gre"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_inside_gre_imports_follow_the_order(path):
    own = path.relative_to(ROOT / "gre").with_suffix("").parts[0]
    if own == "__init__":
        assert not {name for name in imported(path) if name.startswith("gre")}
        return
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("gre.")} - {"__version__"}
    assert parts <= set(ORDER[:ORDER.index(own) + 1])


@pytest.mark.parametrize("path", modules("eval"), ids=lambda path: str(path.relative_to(ROOT)))
def test_inside_eval_imports_follow_the_order(path):
    own = path.relative_to(ROOT / "eval").with_suffix("").parts[0]
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("eval.")}
    assert parts <= set(ROOMS[:ROOMS.index(own) + 1] if own in ROOMS else []), path


@pytest.mark.parametrize("folder", ["gre", "stages", "eval", "data_prep"])
def test_nothing_outside_it_imports_the_tiny_world(folder):
    for path in modules(folder):
        if not path.is_relative_to(ROOT / "gre" / "tiny"):
            assert not [name for name in imported(path) if name.startswith("gre.tiny")], path


def test_geo_text_data_and_rewards_load_no_torch():
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
