"""demo/infer.ipynb runs from its first cell to its last."""
import nbformat
import pytest
from nbclient import NotebookClient

from gre import Locator
from gre.locate import worldmap
from tests.helpers.paths import ROOT


def test_it_is_kept_without_outputs():
    for cell in nbformat.read(ROOT / "demo/infer.ipynb", as_version=4).cells:
        assert cell.cell_type == "markdown" or cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
def test_every_cell_runs_on_a_taught_stage(taught, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "demo/infer.ipynb", as_version=4)
    (names,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names.source = ('MODEL, PHOTOS = "run/stage3", "imgs"\n'  # and auto is vLLM, as on CUDA where that is installed
                    'from gre.answering import engines\nchoose = engines.choose\n'
                    'engines.choose = lambda engine, url: "vllm" if engine == "auto" else choose(engine, url)')
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(taught)}}).execute()
    said = {cell.id: "".join(one.get("text", "") + str(one.get("data", "")) for one in cell.outputs
                             if one.get("name") != "stderr")
            for cell in notebook.cells if cell.cell_type == "code"}
    assert "Where is this?" in said["load"] and "A photo of nowhere.png." in said["stream"]
    assert "None, None, 'None'" in said["answer"] and "map.html" in said["folder"]
    monkeypatch.chdir(taught)  # the same answers as everywhere else, to the letter
    assert (taught / "map.html").read_text() == worldmap.page(Locator("run/stage3", max_new_tokens=256).locate("imgs"))
    assert said["samples"].count("\n") == 9
