"""Packages are installed once, without services, or refused with a sentence."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import debian

_APT_GET = """\
echo "$@" >>log
if [ -x policy-rc.d ] && ! ./policy-rc.d; then echo services-held >>log; fi
case "$*" in
*update*) touch updated ;;
*) if [ -e offline ]; then echo 'E: Could not resolve' >&2; exit 100; fi
   if [ -e stale ] && [ ! -e updated ]; then echo 'E: Unable to locate' >&2; exit 100; fi ;;
esac
"""
_DPKG_QUERY = "printf 'tar installed\\nbuildah config-files\\n'"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian with tar; the files `offline` and `stale` change what its apt-get answers."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in {"dpkg-query": _DPKG_QUERY, "apt-get": _APT_GET}.items():
        (commands / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})
    return tmp_path


def _log(machine: Path) -> str:
    return (machine / "log").read_text() if (machine / "log").exists() else ""


def test_what_is_installed_is_left_alone(machine: Path) -> None:
    assert debian.ensure_packages("tar") == []
    assert _log(machine) == ""


def test_only_what_is_missing_is_installed_and_removed_packages_count_as_missing(
    machine: Path,
) -> None:
    assert debian.ensure_packages("tar", "buildah", "mmdebstrap") == ["buildah", "mmdebstrap"]
    assert "install --no-install-recommends buildah mmdebstrap\n" in _log(machine)


def test_services_are_held_while_it_installs_and_the_rule_is_gone_afterwards(
    machine: Path,
) -> None:
    debian.ensure_packages("buildah")
    assert "services-held" in _log(machine)
    assert not (machine / "policy-rc.d").exists()


def test_the_rule_of_an_administrator_stays(machine: Path) -> None:
    (machine / "policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    debian.ensure_packages("buildah")
    assert (machine / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


def test_stale_package_lists_are_renewed_once(machine: Path) -> None:
    (machine / "stale").touch()
    assert debian.ensure_packages("buildah") == ["buildah"]
    assert _log(machine).count("update\n") == 1


def test_a_failure_names_the_packages_and_the_cause_and_leaves_no_rule(machine: Path) -> None:
    (machine / "offline").touch()
    with pytest.raises(PlatformError, match=r"buildah cannot be installed.*Could not resolve"):
        debian.ensure_packages("buildah")
    assert not (machine / "policy-rc.d").exists()


def test_without_root_the_command_to_type_is_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PlatformError) as refusal:
        debian.ensure_packages("buildah")
    assert refusal.value.next_step == "sudo apt-get install --no-install-recommends buildah"
    assert _log(machine) == ""


def test_another_distribution_is_refused(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "fedora"})
    with pytest.raises(PlatformError, match="neither Debian nor Ubuntu"):
        debian.ensure_packages("buildah")
    assert _log(machine) == ""


def test_two_installations_at_once_keep_services_stopped_until_the_last_one_ends(
    machine: Path,
) -> None:
    apt_get = machine / "bin" / "apt-get"
    # The first one waits a moment for the second one to begin, which looks for a while.
    overlap = """\
look() { n=0; while "$@" && [ $n -lt 10 ]; do sleep 0.1; n=$((n + 1)); done; }
case "$*" in
*buildah*) look [ ! -e second ] ;;
*mmdebstrap*) touch second; look [ -x policy-rc.d ] ;;
esac
"""
    apt_get.write_text(apt_get.read_text().replace("if [ -x", f"{overlap}if [ -x"))

    with ThreadPoolExecutor() as both:
        assert list(both.map(debian.ensure_packages, ("buildah", "mmdebstrap")))

    assert _log(machine).count("services-held") == 2
    assert not (machine / "policy-rc.d").exists()
