"""What two processes did: one pair runs the jobs of all tests that were chosen."""
import pytest

from tests.helpers.paths import TWO_RANKS
from tests.helpers.two_ranks import run_jobs

JOBS = ["zero_ranks", "balance_ranks", "ranks_agree", "stopped_ranks", "photo_ranks"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "two_ranks" in getattr(item, "fixturenames", ()):
            assert item.location[0] in TWO_RANKS, f"tests.helpers.paths.TWO_RANKS lacks {item.location[0]}"
            item.add_marker(pytest.mark.timeout(1800))  # the first of them waits for the jobs of all


@pytest.fixture(scope="session")
def two_ranks(request, tmp_path_factory):
    """{job: its folder}; only of jobs whose fixture a chosen test asks for."""
    asked = {name for item in request.session.items for name in item.fixturenames}
    return run_jobs(tmp_path_factory.mktemp("two_ranks"), [job for job in JOBS if f"{job}_folder" in asked])


def folder_of(job: str):
    """The fixture JOB_folder."""
    return pytest.fixture(scope="session", name=f"{job}_folder")(lambda two_ranks: two_ranks[job])


zero, balance, agree, stopped, photo = map(folder_of, JOBS)
