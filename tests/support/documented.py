"""Commands and manifests as our pages show them, for tests that do what a reader does."""

from pathlib import Path

from prefect_platform_cli.host.paths import REPOSITORY


def block(page: str, heading: str, language: str) -> str:
    """Return the first block in `language` below `heading`, which has its #, of a page of docs/."""
    text = (REPOSITORY / "docs" / page).read_text()
    _, found, section = text.partition(f"\n{heading}\n")
    _, begun, rest = section.partition(f"```{language}\n")
    assert found, f"docs/{page} has no {heading}"
    assert begun, f"docs/{page} has no {language} below {heading}"
    return rest.partition("```")[0]


def tables(page: Path, header: str) -> list[list[str]]:
    """Return the rows, as cells, of every table whose first column is called `header`."""
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
