"""The README is checked against the tree: its commands run, its paths and links exist."""
import json
import re
import subprocess

import pytest
import yaml

from tests.helpers.paths import ROOT

PAGES = ["README.md", "docs/README.md", "CONTRIBUTING.md",
         "CHANGELOG.md", "configs/README.md", "docs/log.md", "docs/differences.md",
         "docs/rewards.md", "docs/evaluation.md", "docs/chain_quality.md", "docs/first_hour.md",
         "docs/rollouts.md", "docs/speed.md", "docs/data.md", "docs/use.md", "docs/responsible_use.md",
         "docs/tutorials.md", "docs/troubleshooting.md", "docs/models.md",
         "docs/gallery.md"]
MADE_BY_A_RUN = ("runs/", "OUT/", "imgs/", "dataset/", "model/", ".venv", "manifest.json", "results.json",
                 "report.html", "whole_photos.json", "card.", "ledger.json", "gre_")
PATH = re.compile(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:sh|md|py|html|json))`")


def commands(page: str) -> list[str]:
    """The lines of every bash block, comments cut off, continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_links_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
    for path in PATH.findall(text):
        if not path.startswith(MADE_BY_A_RUN):
            places = [ROOT, (ROOT / page).parent, ROOT / "stages"]
            assert any((place / path).exists() for place in places), f"{page} names {path}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/first_hour.md", "docs/tutorials.md"])
def test_scripts_in_commands_exist(page):
    for line in commands(page):
        for script in re.findall(r"bash (\S+\.sh)", line):
            assert (ROOT / script).exists(), f"{page}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in commands("README.md")
                                     if line.endswith(("--help", "--dry-run"))])
def test_commands_that_only_show_something_run(command):
    shown = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "output_dir" in shown.stdout, shown.stderr


def test_the_first_table_is_what_the_results_say():
    """A row a checkpoint, from the file that README names above the table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    file, table = re.search(r"<!-- results: (\S+) -->\n((?:\|.*\n)+)", text).groups()
    blocks = json.loads((ROOT / file).read_text(encoding="utf-8"))["checkpoints"]
    names = {"base": "the base", "stage1": "stage 1", "stage2": "stage 2", "stage3": "stage 3"}
    expected = [f"| {title} | {blocks[name]['mean_geoscore']:,.0f} | {blocks[name]['within_km']['25']:.1%} | "
                f"{blocks[name]['within_km']['750']:.1%} | {blocks[name]['unparsed']} |"
                for name, title in names.items()]
    assert table.splitlines()[2:] == [line.replace("%", " %") for line in expected]
    assert f"{blocks['stage3']['n']} test photos" in table


def test_the_benchmarks_are_counted():
    known = yaml.safe_load((ROOT / "eval/benchmarks/benchmarks.yaml").read_text(encoding="utf-8"))
    said = re.search(r"(\w+) benchmarks, ([\w-]+) among them", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(known) == 10 and said[1] == "ten" and said[2] in known


SHELL = [*sorted(ROOT.glob("scripts/**/*.sh")), *sorted(ROOT.glob("scripts/**/*.sbatch")), ROOT / "environment.sh",
         ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shell_files_parse_and_stop_at_errors(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text() or script.name == "stage.sh"  # that one is sourced


def test_the_two_commands_are_what_ci_runs_tests_last():
    run = (ROOT / ".ci" / "run").read_text()
    assert [line.split()[1] for line in run.splitlines() if line.startswith("bash ")] == [
        line.split()[1] for line in commands("README.md")[:2]] == ["scripts/quickstart.sh", "scripts/test.sh"]


def test_no_file_of_the_set_up_names_an_index():
    for path in [*ROOT.glob("constraints/*.txt"), ROOT / "environment.sh", ROOT / "setup.py", ROOT / "pyproject.toml"]:
        assert "://" not in path.read_text(), path
