"""The command `lint`, and the check of our own flows before they are deployed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefect_platform.console import err, out, step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.lint.findings import Severity
from prefect_platform_cli.lint.fixes import fix
from prefect_platform_cli.lint.formats import Format, render, summary
from prefect_platform_cli.lint.linter import Report, declared_limits, lint

_CLEAN, _FINDINGS, _UNREADABLE = 0, 1, 2
OURS = (REPOSITORY / "flows", REPOSITORY / "prefect.yaml")


def refuse_errors(paths: Sequence[Path] = OURS) -> None:
    """Raise PlatformError, after printing them, if there are errors in flows to be deployed."""
    with step("Lint the flows"):
        report = lint(paths)
        errors = [each for each in report.findings if each.rule.severity is Severity.MUST]
        if errors or report.unreadable:
            refused = replace(report, findings=errors)
            _print(refused, Format.TEXT)
            raise PlatformError(
                "the flows would fail or do harm in production: " + summary(refused),
                next_step="correct the lines above; `prefect-platform lint` checks them again",
            )


def parse_format(name: str) -> Format:
    """Return the format called `name`; raises PlatformError when there is none."""
    try:
        return Format(name)
    except ValueError as error:
        raise PlatformError(
            f"--format {name}: the formats are {', '.join(Format)}",
            next_step="prefect-platform lint --format text flows",
        ) from error


def run(
    paths: Sequence[Path], chosen: Format, platform: Path | None, *, correct: bool = False
) -> int:
    """Print what is found in `paths` and return the exit code.

    With `correct`, findings that have exactly one fix are fixed first.

    It is 0 for nothing, 1 for findings, and 2 if a path cannot be linted. `platform` declares the
    concurrency limits; by default those of every environment are known. Raises PlatformError for a
    platform.yaml that cannot be read.
    """
    environments = REPOSITORY.glob("k8s/environments/*/platform.yaml")
    limits = declared_limits([platform] if platform else environments)
    report = lint(paths, limits)
    if correct and (fixed := fix(report.findings, report.texts)):
        err.print(f"{fixed} fixed")
        report = lint(paths, limits)
    _print(report, chosen)
    err.print(summary(report), markup=False)
    if report.unreadable:
        return _UNREADABLE
    return _FINDINGS if report.findings else _CLEAN


def _print(report: Report, chosen: Format) -> None:
    if rendered := render(report, chosen):
        out.print(rendered, markup=False)
    for each in report.unreadable:
        err.print(f"error: {each}", markup=False)
