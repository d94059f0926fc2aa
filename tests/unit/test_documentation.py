"""Everything that the pages name exists: targets, commands, variables, files and messages."""

import ast
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from prefect_platform.reaper.concurrency_slots import SLOT_KEPT
from prefect_platform.run_identity.route_table import ALLOWED
from prefect_platform_cli.doctor.isolation import Origin, Target, allowed
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.main import app
from tests.support.documented import tables

README = REPOSITORY / "README.md"
INDEX = REPOSITORY / "docs" / "index.md"
PRODUCTION = REPOSITORY / "docs" / "operations" / "production.md"
MAKE = REPOSITORY / "docs" / "operations" / "make.md"
ISOLATION = REPOSITORY / "docs" / "operations" / "isolation.md"
AGENT = REPOSITORY / "network-policy-agent"
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), AGENT / "README.md"]
)
DECISIONS = sorted((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))
SUFFIXES = (".md", ".py", ".toml", ".txt", ".yaml", ".tpl", ".lock")
# load_orders is the flow that the page on templates creates.
PLACEHOLDER = re.compile(r"\b(NAME|FILE|FOLDER|FLOW)\b|load_orders")

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def spans(page: Path) -> list[str]:
    """Return the text in backticks in paragraphs and tables."""
    return _SPAN.findall(_FENCE.sub("", page.read_text()))


def code(page: Path) -> str:
    """Return all code of a page, whether it is fenced, indented or in backticks."""
    text = page.read_text()
    return "\n".join([*_FENCE.findall(text), *_INDENTED.findall(text), *spans(page)])


@cache
def targets() -> dict[str, str]:
    """Return the help text of each documented target of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):.*?## (.*)$", makefile, re.MULTILINE))


@cache
def accepted() -> dict[str, set[str]]:
    """Return the variables that the command of each target reads."""
    makefile = (REPOSITORY / "Makefile").read_text()
    recipes = re.findall(r"^([a-z-]+):.*\n\t(.*)$", makefile, re.MULTILINE)
    return {
        target: variables() | variables(found[1])
        if (found := re.fullmatch(r"\$\(PLATFORM\) ([\w-]+)", recipe))
        else set(re.findall(r"\$\((\w+)\)", recipe))
        for target, recipe in recipes
    }


@cache
def group() -> TyperGroup:
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    return found


def variables(command: str | None = None) -> set[str]:
    """Return the variables of `command`, or those that all commands share."""
    parameters = (group().commands[command] if command else group()).params
    return {str(parameter.envvar) for parameter in parameters if parameter.envvar}


def with_ellipses(text: str) -> str:
    """Return `text` with an ellipsis for each value that is filled in later."""
    return re.sub(r"…+", "…", re.sub(r"%[sd]", "…", text))


@cache
def sentences() -> list[str]:
    """Return every text in the code, with an ellipsis for each value that is filled in."""
    found: list[str] = []
    for folder in ("src", "flows", "network-policy-agent"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    shells = (REPOSITORY / "Makefile", REPOSITORY / "scripts" / "create-venv")
    templates = ("_settings.tpl", "_validation.tpl", "validatingadmissionpolicy.yaml")
    charts = [path for name in templates for path in (REPOSITORY / "helm").rglob(name)]
    for path in [*shells, *charts]:
        found += path.read_text().splitlines()
    return [with_ellipses(text) for text in found]


def says(sentence: str) -> bool:
    """Return whether a text in the code contains the parts of `sentence` in this order."""
    parts = [re.escape(part) for part in sentence.split("…") if part.strip()]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    return any(pattern.search(text) for text in sentences())


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """Return the target file and the anchor of each link within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text()))
    inside = [link.partition("#") for link in found if "://" not in link]
    return [((page.parent / path).resolve() if path else page, at) for path, _, at in inside]


@cache
def files() -> frozenset[str]:
    """Return the names of all files in the repository, except those in hidden folders."""
    found: set[str] = set()
    for _, folders, names in os.walk(REPOSITORY):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        found.update(names)
    return frozenset(found)


def missing_paths(page: Path) -> Iterator[str]:
    top = {path.name for path in REPOSITORY.iterdir()}
    for span in spans(page):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) or PLACEHOLDER.search(span):
            continue
        if "/" not in span:
            exists = span in files() or not span.endswith(SUFFIXES)
        else:
            ours = span.split("/")[0] in top or span.endswith(SUFFIXES)
            exists = (REPOSITORY / span).exists() or not ours
        if not exists:
            yield span


def test_the_readme_begins_with_the_two_commands() -> None:
    assert _INDENTED.findall(README.read_text())[:2] == ["make deploy-cluster", "make test"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) < 900


def test_the_index_has_one_line_for_each_page_of_the_docs() -> None:
    lines = re.findall(r"^- .*$", INDEX.read_text(), re.MULTILINE)
    listed = Counter(target for target, _ in links(INDEX))
    pages = set((REPOSITORY / "docs").rglob("*.md")) - {INDEX}

    assert sorted(map(name, pages - set(listed))) == []
    assert [name(page) for page in pages if listed[page] > 1] == []
    assert [line for line in lines if line.count("](") != 1] == []


def test_the_page_on_make_lists_exactly_the_targets_of_the_makefile_with_their_help() -> None:
    listed = {
        cells[0].removeprefix("`make ").rstrip("`"): cells[1] for cells in tables(MAKE, "target")
    }

    assert listed == targets()


def test_the_page_on_make_lists_exactly_the_variables_of_the_command_line() -> None:
    listed = {cells[0].strip("`") for cells in tables(MAKE, "variable")}
    every = variables().union(*map(variables, group().commands))

    assert listed == every


def test_make_accepts_the_variables_of_the_page_and_refuses_a_misspelt_one() -> None:
    own = [f"{cells[0].strip('`')}=1" for cells in tables(MAKE, "variable")]

    accepted, refused = (
        subprocess.run(
            ["make", "--dry-run", "--old-file=.venv/ready", "status", *given],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        for given in (own, ["ENVIROMENT=local"])
    )

    assert accepted.returncode == 0, accepted.stderr
    assert refused.returncode != 0
    assert "ENVIROMENT is not a variable of this Makefile" in refused.stderr


def test_the_page_on_make_gives_each_target_only_variables_that_its_command_reads() -> None:
    given = {
        cells[0].removeprefix("`make ").rstrip("`"): set(_SPAN.findall(cells[2]))
        for cells in tables(MAKE, "target")
    }

    assert [t for t, named in given.items() if not named <= accepted().get(t, set())] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_command_on_a_page_is_valid(page: Path) -> None:
    commands = re.findall(r"(?<![\w-])make ([a-z][a-z-]*)((?: [A-Z_]+=\S*)*)", code(page))
    unknown = [target for target, _ in commands if target not in targets()]
    unread = [
        f"{target} {variable}"
        for target, given in commands
        for variable in re.findall(r"([A-Z_]+)=", given)
        if variable not in accepted().get(target, set())
    ]

    assert unknown == []
    assert unread == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_platform_command_on_a_page_exists(page: Path) -> None:
    typed = re.findall(r"(?:^|bin/)prefect-platform ([a-z]+)", code(page), re.MULTILINE)

    assert set(typed) <= set(group().commands)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_variable_on_a_page_is_read_by_the_code(page: Path) -> None:
    named = {
        span.partition("=")[0] for span in spans(page) if re.match(r"[A-Z]+(_[A-Z]+)*(=|$)", span)
    }
    known = "\n".join(sentences())
    unread = [each for each in named if not re.search(rf"(?<![A-Z_]){each}(?![A-Z_])", known)]

    assert unread == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_link_on_a_page_is_broken(page: Path) -> None:
    broken = [
        f"{target}#{anchor}"
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]

    assert broken == []


def test_every_page_is_linked_from_another() -> None:
    linked = {target for page in PAGES for target, _ in links(page) if target != page}

    assert set(PAGES) - linked <= {README}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    assert list(missing_paths(page)) == []


@pytest.mark.parametrize(
    "page", ["docs/operations/deploy.md", "docs/operations/troubleshooting.md"]
)
def test_every_message_that_a_page_explains_is_printed_by_the_code(page: str) -> None:
    explained = [_SPAN.findall(cells[0])[0] for cells in tables(REPOSITORY / page, "It says")]

    assert explained
    assert [line for line in explained if not says(line)] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_every_decision_says_what_violates_it(page: Path) -> None:
    text = page.read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert headings == ["Context", "Decision", "Consequences"]
    assert "a change violates this when" in text.lower()


def test_the_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_page_on_isolation_names_exactly_the_rules_of_the_route_table() -> None:
    named = [rule for row in tables(ISOLATION, "rule") for rule in _SPAN.findall(row[0])]
    # The name of a rule that a function returns is that of the function.
    rules = {rule.__qualname__.partition(".")[0] for rule in ALLOWED.values()}

    assert sorted(named) == sorted(rules)


def test_the_page_on_isolation_shows_the_table_that_the_code_declares() -> None:
    assert f"| from | {' | '.join(Target)} |" in ISOLATION.read_text()
    assert tables(ISOLATION, "from") == [
        [source, *("yes" if allowed(source, target) else "" for target in Target)]
        for source in Origin
    ]


def test_the_page_on_production_lists_every_example_in_the_files_of_the_environment() -> None:
    example = re.compile(
        r"[\w./:-]*(?:example|198\.51\.100\.|123456789012)(?:[\w./:-]*\w)?", re.IGNORECASE
    )
    listed = {
        (file.strip("`"), value)
        for file, values in tables(PRODUCTION, "file")
        for value in _SPAN.findall(values)
    }
    found = {
        (name(file), value)
        for folder in ("k8s", "terraform")
        for file in (REPOSITORY / folder / "environments" / "production").rglob("*.*")
        if file.suffix in {".yaml", ".tf"}
        for line in file.read_text().splitlines()
        for value in example.findall(re.sub(r"(^|\s)#.*", "", line))
    }

    assert listed == found


@pytest.mark.parametrize(
    ("page", "sentence", "seconds", "value"),
    [
        ("concurrency", "The reaper renews it for another hour in every pass", 3600, None),
        ("housekeeping", "`submissionSeconds`, 5 minutes by default", 300, "submissionSeconds"),
        (
            "housekeeping",
            "`unstartableSeconds`, half an hour by default",
            1800,
            "unstartableSeconds",
        ),
        ("housekeeping", "`reaper.hookSeconds`, an hour by default", 3600, "hookSeconds"),
        ("alerts", "`reaper.silenceSeconds` of prefect-worker, 10 minutes", 600, "silenceSeconds"),
        # A node is not ready after 50 s, its pod should have ended 330 s later, a pass follows.
        ("housekeeping", "this is 16 to 20 minutes after", 600, "lostNodeSeconds"),
    ],
)
def test_the_pages_give_the_periods_of_the_reaper(
    page: str, sentence: str, seconds: int, value: str | None
) -> None:
    text = " ".join((REPOSITORY / "docs" / "operations" / f"{page}.md").read_text().split())
    values = yaml.safe_load((REPOSITORY / "helm" / "prefect-worker" / "values.yaml").read_text())

    assert sentence in text
    assert seconds == (values["reaper"][value] if value else SLOT_KEPT.total_seconds())
