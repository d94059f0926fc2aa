"""How the base image, pip's settings and the provenance labels are determined."""

import datetime as dt
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images import base, pip_settings, provenance
from prefect_platform_cli.images.pinned_base import pinned_base
from tests.unit.images.registry import registry


@contextmanager
def _registry(status: int) -> Iterator[str]:
    with registry(lambda *_: (status, {}, b"")) as host:
        yield f"http://{host}/v2/"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders of the Debian bases that a fake mmdebstrap has made."""
    bases: list[Path] = []

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "rootfs.tar").write_text("a system")
        (folder / "rootfs.sha256").write_text("0123456789abcdef")
        bases.append(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(base, "_build_debian", make)
    return bases


@pytest.mark.parametrize("status", [200, 401])
def test_the_dockerfiles_base_is_used_if_the_registry_answers(
    made: list[Path], status: int
) -> None:
    with _registry(status) as root:
        chosen = base.choose_base(registry=root)
    assert f"ARG BASE={chosen.reference}\n" in (REPOSITORY / "Dockerfile").read_text()
    assert chosen.rootfs is None
    assert made == []


def test_a_debian_base_is_made_once_if_the_registry_fails_or_is_unreachable(
    made: list[Path],
) -> None:
    with _registry(503) as root:
        broken = base.choose_base(registry=root)
    away = base.choose_base(registry=root)
    assert "503" in broken.reason
    assert "not reachable" in away.reason
    assert broken.reference == away.reference == "prefect-platform.local/base:0123456789ab"
    assert len(made) == 1


def test_a_base_is_named_in_labels_with_its_creation_time(made: list[Path]) -> None:
    with _registry(200) as root:
        pulled = base.choose_base(registry=root).labels()
    built = base.choose_base(registry=root)
    pinned = pinned_base()
    annotation = "org.opencontainers.image.base"

    assert pinned.created is not None
    assert pulled == {
        f"{annotation}.name": pinned.name,
        f"{annotation}.digest": pinned.digest,
        "prefect-platform/base-created": pinned.created.isoformat(),
    }
    assert built.labels() == {
        f"{annotation}.name": "prefect-platform.local/base:0123456789ab",
        "prefect-platform/base-created": _modified(made[0] / "rootfs.tar"),
    }


def test_the_same_debian_made_at_another_time_has_another_identity(made: list[Path]) -> None:
    with _registry(503) as root:
        first = base.choose_base(registry=root)
        os.utime(made[0] / "rootfs.tar", (0, 0))
        second = base.choose_base(registry=root)
    assert first.reference == second.reference
    assert first.identity != second.identity
    assert second.created == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _modified(file: Path) -> str:
    return dt.datetime.fromtimestamp(int(file.stat().st_mtime), dt.UTC).isoformat()


def test_a_base_of_unknown_age_has_only_a_name() -> None:
    labels = base.choose_base("example.org/python:3.11").labels()
    assert labels == {"org.opencontainers.image.base.name": "example.org/python:3.11"}


def test_a_forced_base_is_used_and_none_is_made(made: list[Path]) -> None:
    assert base.choose_base("example.org/python:3.11").reference == "example.org/python:3.11"
    assert made == []


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove pip's settings from the environment; return the path of its configuration file."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\ncert =\nindex-url = https://configured/%20/\n")
    return tmp_path / "pip.conf"


@pytest.mark.usefixtures("pip")
def test_the_environment_overrides_the_index_in_pips_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pip_settings.index_arguments() == {"PIP_INDEX_URL": "https://configured/%20/"}
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment/")
    assert pip_settings.index_arguments() == {"PIP_INDEX_URL": "https://environment/"}


def test_a_certificate_authority_is_used_only_if_its_file_exists(
    pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pip.parent / "ca.crt"))
    assert pip_settings.certificate_authority() is None
    (pip.parent / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    assert pip_settings.certificate_authority() == pip.parent / "ca.crt"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with one commit, of 2026-01-02, and credentials in its remote's URL."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
        monkeypatch.setenv(f"GIT_{role}_DATE", "2026-01-02T03:04:05Z")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "input").write_text("")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/platform.git")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def _git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_labels_contain_version_commit_time_and_source_without_credentials(
    repository: Path,
) -> None:
    assert provenance.build_arguments([repository / "input"], repository) == {
        "VERSION": "1.2.3",
        "REVISION": _git(repository, "rev-parse", "HEAD"),
        "CREATED": "2026-01-02T03:04:05+00:00",
        "SOURCE": "https://example.org/platform.git",
    }


def test_a_commit_that_changes_no_input_changes_no_label(repository: Path) -> None:
    before = provenance.build_arguments([repository / "input"], repository)
    (repository / "other").write_text("")
    _git(repository, "add", ".")
    _git(repository, "commit", "--quiet", "--message", "second")
    assert provenance.build_arguments([repository / "input"], repository) == before


def test_uncommitted_changes_to_inputs_are_marked_in_the_revision(repository: Path) -> None:
    (repository / "input").write_text("changed")
    labels = provenance.build_arguments([repository / "input"], repository)
    assert labels["REVISION"].endswith("-modified")


def test_source_date_epoch_sets_the_creation_time(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    labels = provenance.build_arguments([repository / "input"], repository)
    assert labels["CREATED"] == "1970-01-01T00:00:00+00:00"


def test_the_revision_and_source_are_unknown_without_git(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    labels = provenance.build_arguments([tmp_path], tmp_path)
    assert labels["VERSION"] == "1.2.3"
    assert labels["REVISION"] == labels["SOURCE"] == "unknown"
