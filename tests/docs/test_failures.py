"""docs/failures.md names real tests, one for every failure."""
import re

import pytest

from tests.helpers.paths import ROOT

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/failures.md").read_text())))


@pytest.mark.parametrize("file, name", NAMED)
def test_a_named_test_exists(file, name):
    if not (ROOT / file).exists():
        pytest.skip(f"{file} is not in this checkout")
    assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_failure_of_the_list_has_a_row():
    text = (ROOT / "docs/failures.md").read_text()
    table = [line.split("|") for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [int(number) for _, number, *_ in table] == list(range(1, 90))
    for _, number, *_, tests, _ in table:
        assert re.search(r"`tests/[\w/]+\.py", tests), f"failure {number} names no test"
