"""A list of what is in an image, as SPDX 2.3 in JSON, from what package managers left in its files.

The same image always gives the same bytes.
"""

import datetime as dt
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from prefect_platform_cli.images.base import Base

FACTS = ("var/lib/dpkg/status", "var/lib/dpkg/status.d/*", "*.dist-info/METADATA")
"""Patterns of the files of an image that say which packages it has."""
# Where packages of Python are. Copies inside of another package belong to that package.
_FOLDERS = {"site-packages", "share"}
_IMAGE, _BASE = "SPDXRef-image", "SPDXRef-base"
_UNKNOWN = "NOASSERTION"


@dataclass(frozen=True, order=True)
class Package:
    """A package in an image; `locator` is its package URL without the version and qualifiers."""

    locator: str
    name: str
    version: str
    license: str = _UNKNOWN
    qualifiers: str = ""

    @property
    def purl(self) -> str:
        """The package URL, by which scanners look for known vulnerabilities."""
        return f"{self.locator}@{quote(self.version, safe='')}{self.qualifiers}"


def read_facts(archive: Path) -> dict[str, str]:
    """Return the text of each file in a tar file that matches FACTS, by its path in the image."""
    facts = {}
    with tarfile.open(archive) as packed:
        for entry in packed:
            path = entry.name.removeprefix("./")
            content = packed.extractfile(entry) if _is_fact(path) else None
            if content is not None:
                # What is listed is ASCII; an author's name may be in any encoding.
                facts[path] = content.read().decode(errors="replace")
    return facts


def _is_fact(path: str) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in FACTS)


def packages(facts: Mapping[str, str]) -> list[Package]:
    """Return the packages that the files `facts` name, which match FACTS; each once."""
    found: set[Package] = set()
    for path, text in facts.items():
        if not path.endswith("/METADATA"):
            found.update(map(_debian, _installed(text)))
        elif PurePosixPath(path).parts[-3] in _FOLDERS:
            found.add(_python(HeaderParser().parsestr(text)))
    return sorted(found)


def sbom(reference: str, base: Base, created: dt.datetime, facts: Mapping[str, str]) -> str:
    """Return the document for the image `reference`, which was built on `base`.

    `created` is the time of the image's label, and `facts` are its files that match FACTS.
    """
    name, _, tag = reference.rpartition(":")
    base_name, _, digest = base.reference.partition("@")
    contents = {f"SPDXRef-package-{number}": each for number, each in enumerate(packages(facts))}
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": reference,
        "documentNamespace": f"https://{name}/{tag}/spdx",
        "creationInfo": {"created": _time(created), "creators": ["Tool: prefect-platform"]},
        "packages": [
            {**_package(_IMAGE, name, tag), "primaryPackagePurpose": "CONTAINER"},
            {
                **_package(_BASE, base_name, digest),
                "primaryPackagePurpose": "CONTAINER",
                **({"builtDate": _time(base.created)} if base.created else {}),
            },
            *(
                {
                    **_package(identifier, each.name, each.version, each.license),
                    "externalRefs": [
                        {
                            "referenceCategory": "PACKAGE-MANAGER",
                            "referenceType": "purl",
                            "referenceLocator": each.purl,
                        }
                    ],
                }
                for identifier, each in contents.items()
            ),
        ],
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE),
            _relationship(_IMAGE, "DESCENDANT_OF", _BASE),
            *(_relationship(_IMAGE, "CONTAINS", identifier) for identifier in contents),
        ],
    }
    return f"{json.dumps(document, indent=1)}\n"


def _installed(status: str) -> Iterator[Message]:
    """Yield the entries of dpkg's status; a file in status.d is one entry without a Status."""
    for entry in status.split("\n\n"):
        fields = HeaderParser().parsestr(entry.lstrip())
        if fields["Package"] and fields.get("Status", "installed").split()[-1] == "installed":
            yield fields


def _debian(fields: Message) -> Package:
    return Package(
        f"pkg:deb/debian/{quote(fields['Package'], safe='')}",
        fields["Package"],
        fields["Version"],
        qualifiers=f"?arch={fields['Architecture']}",
    )


def _python(fields: Message) -> Package:
    name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
    declared = fields["License-Expression"] or _UNKNOWN
    return Package(f"pkg:pypi/{name}", name, fields["Version"], declared)


def _package(identifier: str, name: str, version: str, declared: str = _UNKNOWN) -> dict[str, Any]:
    return {
        "SPDXID": identifier,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseDeclared": declared,
    }


def _relationship(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _time(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
