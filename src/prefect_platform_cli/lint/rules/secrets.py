"""Red line of secrets: none is written in a file. A finding never shows the value."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

HARDCODED = Rule("PF005", Severity.MUST, "A hardcoded secret")
RULES = (HARDCODED,)

_FIX = "load it from a Secret block, or from a variable that the pod gets from a Secret"
_PREFECT_KEY = re.compile(r"\bpn[ub]_[A-Za-z0-9]{30,}\b")
_ADDRESS = re.compile(r"://[^/\s:@{}]*:([^/\s@{}]+)@")
_SHORTEST_KEY, _LONGEST_TEXT = 16, 20_000
_PASSWORD = re.compile(r"(^|[^a-z])(password|passwd|passphrase)$")
_KEY = re.compile(
    r"(^|[^a-z])(secret|(auth|access|api|bearer|bot|refresh)_?token|token|auth_?string"
    r"|(api|access|secret|private|encryption|account|subscription)_?key)$"
)
_CURSOR = re.compile(r"(next|page|continuation|start|csrf|pad|eos|bos|unk|mask)_?\w*token$")
_BEARER = re.compile(r"(Bearer|Basic|Token) ([A-Za-z0-9._~+/=-]{8,})")
# What documentation writes in place of a value, and templates.
_PLACEHOLDER = re.compile(
    r"(?i:.*[{<%].*|(.)\1*|[x*.-]+|.*(example|change[-_]?me|placeholder|dummy|redacted|your[-_ ]).*"
    r"|passw(or)?d|pass|pwd|s[3e]cr[3e]t|token|user(name)?|test|none|null|true|false|str(ing)?|key)"
)
# The name of a variable, a file, an address without a password, or the name of a Secret.
_REFERENCE = re.compile(
    r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|[./~$].*|\w+://[^@]*|[\w.-]*[-_.](password|secret|token|key)s?"
)


class Secrets:
    """Finds literals that are secrets by their form, or by the name they are given to."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of this rule in `module`."""
        reported: set[int] = set()
        # Texts that are statements of their own are documentation, and show examples.
        documentation = {id(n.value) for n in module.source.nodes if isinstance(n, ast.Expr)}
        for node in module.source.nodes:
            for name, text, value in _named(node):
                if id(value) not in reported and _is_secret(name, text):
                    reported.add(id(value))
                    message = f"the value of {name} is written here: {_FIX}"
                    yield finding(HARDCODED, module, value, message)
        for node in module.source.nodes:
            known = id(node) in reported or id(node) in documentation
            if isinstance(node, ast.Constant) and not known and (kind := _kind(node.value)):
                message = f"this text contains a secret ({kind}): {_FIX}"
                yield finding(HARDCODED, module, node, message)


def _named(node: ast.AST) -> Iterator[tuple[str, str, ast.expr]]:
    """Yield the texts to which `node` gives a name: the name, the text and its place."""
    pairs: list[tuple[str | None, ast.expr | None]] = []
    match node:
        case ast.Assign():
            pairs = [(_name(target), node.value) for target in node.targets]
        case ast.AnnAssign():
            pairs = [(_name(node.target), node.value)]
        case ast.keyword():
            pairs = [(node.arg, node.value)]
        case ast.Dict():
            pairs = [(_text(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        case ast.arguments():
            positional = [*node.posonlyargs, *node.args]
            named = positional[len(positional) - len(node.defaults) :]
            pairs += [(each.arg, value) for each, value in zip(named, node.defaults, strict=True)]
            pairs += zip((each.arg for each in node.kwonlyargs), node.kw_defaults, strict=True)
        case ast.Call(func=ast.Attribute(attr="get" | "getenv" | "setdefault"), args=[key, value]):
            pairs = [(_text(key), value)]
    for name, given in pairs:
        if name and given is not None and (text := _text(given)):
            yield name, text, given


def _name(target: ast.expr) -> str | None:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=key):
            return _text(key)
    return None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_secret(name: str, value: str) -> bool:
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").lower()
    if spelled == "authorization":
        match = _BEARER.fullmatch(value)
        return match is not None and not _PLACEHOLDER.fullmatch(match[2])
    if _PLACEHOLDER.fullmatch(value) or _REFERENCE.fullmatch(value) or re.search(r"\s", value):
        return False
    if _PASSWORD.search(spelled):
        return len(value) >= 4  # noqa: PLR2004 - "1234" is a password
    if _KEY.search(spelled) and not _CURSOR.search(spelled):
        # Names of Secrets and blocks are words; keys mix letters with digits.
        return (
            len(value) >= 8  # noqa: PLR2004 - shorter values are words and versions
            and re.search(r"[0-9]", value) is not None
            and re.search(r"[A-Za-z]", value) is not None
            and not re.fullmatch(r"[a-z]+([-_][a-z0-9]+)+", value)
        )
    return False


@cache
def _detectors() -> "list[BasePlugin]":
    """Return those detectors that know the exact form of a key. The others guess by entropy."""
    from detect_secrets.plugins import (  # noqa: PLC0415 - loads an HTTP client, so only if needed
        aws,
        azure_storage_key,
        discord,
        github_token,
        gitlab_token,
        jwt,
        mailchimp,
        npm,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    return [
        aws.AWSKeyDetector(),
        azure_storage_key.AzureStorageKeyDetector(),
        discord.DiscordBotTokenDetector(),
        github_token.GitHubTokenDetector(),
        gitlab_token.GitLabTokenDetector(),
        jwt.JwtTokenDetector(),
        mailchimp.MailchimpDetector(),
        npm.NpmDetector(),
        openai.OpenAIDetector(),
        private_key.PrivateKeyDetector(),
        pypi_token.PypiTokenDetector(),
        sendgrid.SendGridDetector(),
        slack.SlackDetector(),
        square_oauth.SquareOAuthDetector(),
        stripe.StripeDetector(),
        telegram_token.TelegramBotTokenDetector(),
        twilio.TwilioKeyDetector(),
    ]


@cache
def _kind(value: object) -> str | None:
    """Return what kind of secret the literal `value` contains."""
    if not isinstance(value, str) or not _SHORTEST_KEY <= len(value) <= _LONGEST_TEXT:
        return None
    if _PREFECT_KEY.search(value):
        return "API key of Prefect"
    if (address := _ADDRESS.search(value)) and not _PLACEHOLDER.fullmatch(address[1]):
        return "password in an address"
    for detector in _detectors():
        for secret in detector.analyze_string(value):
            if not _PLACEHOLDER.fullmatch(secret):
                return str(detector.secret_type)
    return None
