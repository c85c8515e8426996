"""What several tests of the evaluation read."""
from pathlib import Path

import pytest

from tests.helpers.run_data import write_data


@pytest.fixture
def data(tmp_path) -> Path:
    """A data folder of 6 test pictures (3 places) and a few training rows."""
    return write_data(tmp_path / "data")
