"""Comments that accept a finding: `# prefect-lint: ignore[PF001] the reason`."""

import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform_cli.lint.findings import Edit, Finding, Rule, Severity

NO_REASON = Rule("PF901", Severity.MUST, "An ignore without a reason")
NO_EFFECT = Rule("PF902", Severity.SHOULD, "An ignore without effect", fixable=True)
RULES = (NO_REASON, NO_EFFECT)

_MARK = "prefect-lint:"
_COMMENT = re.compile(r"#\s*prefect-lint:\s*ignore(?:\[([^\]]*)\])?[:\s]*(.*)")


@dataclass(frozen=True)
class Ignore:
    """A comment at `line`, which accepts the findings of `rules` on the line `accepts`.

    `text` is the whole line of Python with the comment; it is empty in YAML.
    """

    line: int
    column: int
    accepts: int
    rules: tuple[str, ...]
    reason: str
    text: str = ""

    def without(self, rules: Sequence[str]) -> tuple[Edit, ...]:
        """Return the edit that removes `rules`, and the comment if it has no others.

        There is none if the comment may go on: on the next line, or behind another `#`.
        """
        before = self.text[: self.column - 1]
        kept = [each for each in self.rules if each not in rules]
        if kept and self.text:
            first, last = (self.text.find(each, self.column) + 1 for each in "[]")
            return (Edit((self.line, first + 1), (self.line, last), ", ".join(kept)),)
        if not self.text or "#" in self.reason or self.accepts > self.line + 1:
            return ()
        if not before.strip():
            return (Edit((self.line, 1), (self.line + 1, 1), ""),)
        end = (self.line, len(self.text) + 1)
        return (Edit((self.line, len(before.rstrip()) + 1), end, ""),)


def ignores(text: str, *, python: bool) -> list[Ignore]:
    """Return the comments of a file of Python or YAML; one on its own line is for the next line."""
    if _MARK not in text:
        return []
    lines = text.split("\n")
    found = []
    for line, column, comment in _python(text) if python else _yaml(lines):
        match = _COMMENT.match(comment)
        if match is None:
            continue
        accepts = line
        while accepts < len(lines) and lines[accepts - 1].lstrip().startswith("#"):
            accepts += 1
        rules = tuple(each.strip() for each in (match[1] or "").split(",") if each.strip())
        whole = lines[line - 1] if python else ""
        found.append(Ignore(line, column + 1, accepts, rules, match[2].strip(), whole))
    return found


def _python(text: str) -> Iterator[tuple[int, int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield *token.start, token.string


def _yaml(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    for number, line in enumerate(lines, 1):
        column = line.find(f"# {_MARK}")
        if column >= 0:
            yield number, column, line[column:]


def without_ignored(
    path: Path, found: Iterable[Finding], comments: Iterable[Ignore]
) -> Iterator[Finding]:
    """Yield the findings of the file `path` that no comment accepts, and those of the comments."""
    accepted = {(each.accepts, rule): False for each in comments for rule in each.rules}
    for finding in found:
        key = (finding.line, finding.rule.id)
        if key in accepted:
            accepted[key] = True
        else:
            yield finding
    for comment in comments:
        if not comment.reason:
            message = "this ignore gives no reason: write one after the bracket"
            yield Finding(path, comment.line, comment.column, NO_REASON, message)
        unused = [rule for rule in comment.rules if not accepted[comment.accepts, rule]]
        if unused or not comment.rules:
            which = f"nothing here breaks {', '.join(unused)}" if unused else "it names no rule"
            message = f"this ignore has no effect, because {which}: remove it"
            yield Finding(
                path, comment.line, comment.column, NO_EFFECT, message, comment.without(unused)
            )
