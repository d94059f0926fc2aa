"""Read code blocks and tables from our pages, for tests that follow the documentation."""

import re
from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY


def block(page: str, heading: str, language: str) -> str:
    """Return the first code block in `language` below `heading` on a page of docs/.

    `heading` includes its leading # characters.
    """
    text = (REPOSITORY / "docs" / page).read_text()
    _, found, section = text.partition(f"\n{heading}\n")
    _, begun, rest = section.partition(f"```{language}\n")
    assert found, f"docs/{page} has no heading {heading!r}"
    assert begun, f"docs/{page} has no {language} block below {heading!r}"
    return rest.partition("```")[0]


def blocks(page: str, language: str) -> list[str]:
    """Return all code blocks in `language` on a page of docs/, in their order."""
    text = (REPOSITORY / "docs" / page).read_text()
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def tables(page: Path, header: str) -> list[list[str]]:
    """Return the rows, as lists of cells, of every table whose first column is `header`."""
    rows: list[list[str]] = []
    wanted = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            wanted = False
        elif cells[0] == header:
            wanted = True
        elif wanted and not set(cells[0]) <= {"-"}:
            rows.append(cells)
    return rows
