"""Red line of secrets: none is written in a file. A finding never shows the value."""

import ast
import re
from collections.abc import Iterator

from prefect_platform_cli.host.secret_forms import PLACEHOLDER, kind_of_secret
from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module

HARDCODED = Rule("PF005", Severity.MUST, "A hardcoded secret")
RULES = (HARDCODED,)

_FIX = "load it from a Secret block, or from a variable that the pod gets from a Secret"
_PASSWORD = re.compile(r"(^|[^a-z])(password|passwd|passphrase)$")
_KEY = re.compile(
    r"(^|[^a-z])(secret|(auth|access|api|bearer|bot|refresh)_?token|token|auth_?string"
    r"|(api|access|secret|private|encryption|account|subscription)_?key)$"
)
_CURSOR = re.compile(r"(next|page|continuation|start|csrf|pad|eos|bos|unk|mask)_?\w*token$")
_BEARER = re.compile(r"(Bearer|Basic|Token) ([A-Za-z0-9._~+/=-]{8,})")
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
        return match is not None and not PLACEHOLDER.fullmatch(match[2])
    if PLACEHOLDER.fullmatch(value) or _REFERENCE.fullmatch(value) or re.search(r"\s", value):
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


def _kind(value: object) -> str | None:
    """Return what kind of secret the literal `value` contains."""
    return kind_of_secret(value) if isinstance(value, str) else None
