"""Every study starts by the script of its name, as the module it is: it may then use what other studies have."""
import pytest

from tests.helpers.paths import ROOT

STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("*.sh"))


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_started_as_a_module(study):
    assert (ROOT / "experiments" / f"{study}.py").is_file()
    last = (ROOT / "experiments" / f"{study}.sh").read_text(encoding="utf-8").splitlines()[-1]
    assert last == ('exec env PYTHONSAFEPATH=1 PYTHONPATH="$root" "$root/.venv/bin/python" '
                    f'-m experiments.{study} "$@"')
