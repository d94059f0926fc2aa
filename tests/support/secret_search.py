"""Search for the values of secrets, also encoded; report where they are, never the values."""

import base64
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

# Generated values have at least 32 characters; a short value could occur by chance.
SHORTEST = 16

Place = tuple[str, bytes]
"""The name of a place, such as "log of the pod X", and its content."""


@dataclass(frozen=True)
class Secret:
    """A value that must not leak. A failure shows only its `name`."""

    name: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a value that could be found by chance."""
        assert len(self.value) >= SHORTEST, (
            f"{self.name} has less than {SHORTEST} characters: make it longer, or exclude it from "
            "the search if it is not a secret"
        )

    def spellings(self) -> dict[bytes, str]:
        """Return the forms in which the value and its secret parts can occur, with their names."""
        forms: dict[bytes, str] = {}
        for part in {self.value, *parts(self.value)}:
            value = part.encode()
            forms.setdefault(value, "as it is")
            forms.setdefault(json.dumps(part)[1:-1].encode(), "escaped for JSON")
            forms.setdefault(quote(part, safe="").encode(), "quoted for a URL")
            forms.setdefault(quote_plus(part).encode(), "quoted for a form")
            for before in range(3):
                encoded = in_base64(value, before)
                forms.setdefault(encoded, "in base64")
                forms.setdefault(encoded.translate(_FOR_URL), "in base64 for a URL")
        return forms


def parts(value: str) -> set[str]:
    """Return the parts that are secret: JSON strings, a URL's password, the text after a colon."""
    try:
        found = set(_strings(json.loads(value)))
    except ValueError:
        found = {urlsplit(value).password or "", value.partition(":")[2].removeprefix("//")}
    return {each for each in found if len(each) >= SHORTEST}


def in_base64(value: bytes, before: int) -> bytes:
    """Return the base64 text that depends on `value` alone, after `before` bytes (modulo 3)."""
    encoded = base64.b64encode(bytes(before) + value)
    return encoded[-(-8 * before // 6) : 8 * (before + len(value)) // 6]


def search(secrets: Iterable[Secret], places: Iterable[Place]) -> list[str]:
    """Return a line for each secret that a place contains: its name, its form and the place."""
    spelt = [(each.name, form, text) for each in secrets for text, form in each.spellings().items()]
    return sorted(
        {
            f"{name}, {form}, in {where}"
            for where, content in places
            for name, form, text in spelt
            if text in content
        }
    )


def files(*folders: Path, without: Iterable[str] = ()) -> Iterator[Place]:
    """Yield every file below `folders`, hidden ones too, except files and folders in `without`.

    The members of an archive, such as a plan of Terraform, are yielded one by one.
    """
    left_out = set(without)
    for folder in folders:
        for root, directories, names in os.walk(folder):
            directories[:] = sorted(set(directories) - left_out)
            for name in sorted(set(names) - left_out):
                path = Path(root) / name
                if zipfile.is_zipfile(path):
                    with zipfile.ZipFile(path) as parts:
                        for part in parts.namelist():
                            yield f"{part} of the file {path}", parts.read(part)
                elif path.is_file():
                    yield f"the file {path}", path.read_bytes()


_FOR_URL = bytes.maketrans(b"+/", b"-_")


def _strings(parsed: object) -> Iterator[str]:
    if isinstance(parsed, str):
        yield parsed
    elif isinstance(parsed, dict):
        for each in parsed.values():
            yield from _strings(each)
    elif isinstance(parsed, list):
        for each in parsed:
            yield from _strings(each)
