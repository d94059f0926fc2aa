"""Files that use the same servers run in the same worker."""

import pytest

from tests.support.scheduling import LoadFolderScheduling


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/integration/results/test_locks.py::test_x[a/b]", "tests/integration/results"),
        ("tests/unit/test_values.py::test_x", "tests/unit/test_values.py"),
    ],
)
def test_the_files_of_a_folder_with_a_conftest_stay_together(test: str, unit: str) -> None:
    scheduling = LoadFolderScheduling.__new__(LoadFolderScheduling)  # without workers

    assert scheduling._split_scope(test) == unit
