"""The list of an image's packages is complete, keeps the rules of SPDX, and never varies."""

import datetime as dt
import json
import tarfile
from pathlib import Path

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.sbom import Package, packages, read_facts, sbom

STATUS = """Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-12
Version: 12.2.0-14+deb12u1
Description: GNU Standard C++ Library v3
 This package contains an additional runtime library.

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1

"""
REDIS = """Package: redis-server
Version: 5:7.0.15-1~deb12u5
Architecture: amd64
"""
WHEEL = """Metadata-Version: 2.4
Name: Typing_Extensions
Version: 4.15.0
License-Expression: PSF-2.0

# Typing Extensions
Version: not this one
"""
FACTS = {
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/status.d/redis-server_5%3a7.0.15-1~deb12u5_amd64": REDIS,
    "opt/venv/lib/python3.11/site-packages/typing_extensions-4.15.0.dist-info/METADATA": WHEEL,
}
CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
REFERENCE = "prefect-platform.local/redis:0123456789ab"
PULLED = Base(f"docker.io/library/python:3.11@sha256:{'0' * 64}", "", "", created=CREATED)
UNKNOWN = Base("prefect-platform.local/base:0123456789ab", "", "")


def test_debian_and_python_packages_are_listed_by_their_package_urls() -> None:
    assert [each.purl for each in packages(FACTS)] == [
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
        "pkg:deb/debian/redis-server@5%3A7.0.15-1~deb12u5?arch=amd64",
        "pkg:pypi/typing-extensions@4.15.0",
    ]


def test_a_license_is_listed_if_the_package_declares_one_of_spdx() -> None:
    assert [each.license for each in packages(FACTS)] == ["NOASSERTION", "NOASSERTION", "PSF-2.0"]


def test_copies_inside_of_a_package_belong_to_it() -> None:
    inside = "opt/venv/lib/python3.11/site-packages/setuptools/_vendor/a.dist-info/METADATA"
    assert packages({inside: WHEEL}) == []


def test_a_package_that_is_installed_twice_is_listed_once() -> None:
    once = "usr/lib/python3/site-packages/a.dist-info/METADATA"
    twice = "opt/venv/lib/python3.11/site-packages/a.dist-info/METADATA"
    assert packages({once: WHEEL, twice: WHEEL}) == [
        Package("pkg:pypi/typing-extensions", "typing-extensions", "4.15.0", "PSF-2.0")
    ]


@pytest.mark.parametrize("base", [PULLED, UNKNOWN], ids=["pulled", "of unknown age"])
def test_the_document_keeps_the_rules_of_spdx(tmp_path: Path, base: Base) -> None:
    file = tmp_path / "redis.spdx.json"
    file.write_text(sbom(REFERENCE, base, CREATED, FACTS))
    document = parse_file(str(file))
    assert validate_full_spdx_document(document) == []
    assert document.creation_info.spdx_version == "SPDX-2.3"


def test_the_document_names_the_image_and_its_base() -> None:
    image, base, *_ = json.loads(sbom(REFERENCE, PULLED, CREATED, FACTS))["packages"]
    assert (image["name"], image["versionInfo"]) == ("prefect-platform.local/redis", "0123456789ab")
    assert (base["name"], base["versionInfo"], base["builtDate"]) == (
        "docker.io/library/python:3.11",
        f"sha256:{'0' * 64}",
        "2026-01-02T03:04:05Z",
    )


def test_the_same_packages_give_the_same_bytes_in_whatever_order_they_are_read() -> None:
    reversed_facts = dict(reversed(FACTS.items()))
    assert sbom(REFERENCE, PULLED, CREATED, FACTS) == sbom(
        REFERENCE, PULLED, CREATED, reversed_facts
    )


def test_only_files_of_package_managers_are_read(tmp_path: Path) -> None:
    for path in (*FACTS, "var/lib/dpkg/status-old", "etc/passwd"):
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FACTS.get(path, "of something else"))
    with tarfile.open(tmp_path / "files.tar", "w") as packed:
        packed.add(tmp_path / "root", arcname=".")
    assert read_facts(tmp_path / "files.tar") == FACTS


def test_a_file_of_a_package_that_is_not_utf_8_is_listed_too(tmp_path: Path) -> None:
    """Python's packaging tools accept such a file, and old packages have one."""
    path = "opt/venv/lib/python3.11/site-packages/old-1.0.dist-info/METADATA"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes("Name: old\nVersion: 1.0\nAuthor: René\n".encode("latin-1"))
    with tarfile.open(tmp_path / "files.tar", "w") as packed:
        packed.add(tmp_path / "opt", arcname="opt")

    (found,) = packages(read_facts(tmp_path / "files.tar"))

    assert found.purl == "pkg:pypi/old@1.0"
