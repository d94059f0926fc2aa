"""The figures of verdicts as a table."""

from collections.abc import Iterable

from tests.chaos.validators import Verdict


def table(verdicts: Iterable[Verdict]) -> str:
    """Return the figures as a Markdown table, the form of the track record."""
    return "\n".join(
        (
            "| fault | runs wanted | completed | doubled | lost | seconds to recover |",
            "|---|---|---|---|---|---|",
            *map(_row, verdicts),
        )
    )


def _row(verdict: Verdict) -> str:
    recovered = "never" if verdict.recovered is None else f"{verdict.recovered:.0f}"
    figures = (verdict.wanted, verdict.completed, verdict.doubled, verdict.lost, recovered)
    return f"| {verdict.fault} | {' | '.join(map(str, figures))} |"
