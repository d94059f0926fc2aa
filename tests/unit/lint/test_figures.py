"""The figures of docs/flows/lint.md are those of the benchmark."""

from pathlib import Path

from bench.lint import HEADER, counted
from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.documented import tables
from tests.unit.lint.test_upstream_flows import decorated, modules


def test_the_page_shows_what_is_found_by_each_rule(tmp_path: Path) -> None:
    rows = counted([path for path in modules(tmp_path) if decorated(path)])

    assert tables(REPOSITORY / "docs" / "flows" / "lint.md", HEADER[0]) == [*map(list, rows)]
