"""Missing packages are installed without starting services, or the error says why not."""

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
    """Return a Debian machine with tar; files named `offline` and `stale` make apt-get fail."""
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


def test_installed_packages_are_left_alone(machine: Path) -> None:
    assert debian.ensure_packages("tar") == []
    assert _log(machine) == ""


def test_only_missing_and_removed_packages_are_installed(
    machine: Path,
) -> None:
    assert debian.ensure_packages("tar", "buildah", "mmdebstrap") == ["buildah", "mmdebstrap"]
    assert "install --no-install-recommends buildah mmdebstrap\n" in _log(machine)


def test_a_policy_stops_services_during_the_installation_and_is_then_removed(
    machine: Path,
) -> None:
    debian.ensure_packages("buildah")
    assert "services-held" in _log(machine)
    assert not (machine / "policy-rc.d").exists()


def test_an_administrators_policy_is_kept(machine: Path) -> None:
    (machine / "policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    debian.ensure_packages("buildah")
    assert (machine / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


def test_stale_package_lists_are_updated_once(machine: Path) -> None:
    (machine / "stale").touch()
    assert debian.ensure_packages("buildah") == ["buildah"]
    assert _log(machine).count("update\n") == 1


def test_a_failure_names_the_packages_and_the_cause_and_leaves_no_policy(machine: Path) -> None:
    (machine / "offline").touch()
    with pytest.raises(PlatformError, match=r"buildah cannot be installed.*Could not resolve"):
        debian.ensure_packages("buildah")
    assert not (machine / "policy-rc.d").exists()


def test_without_root_the_error_shows_the_command_to_run(
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


def test_concurrent_installations_keep_services_stopped_until_the_last_one_ends(
    machine: Path,
) -> None:
    apt_get = machine / "bin" / "apt-get"
    # The first installation waits until the second one starts. The second one then waits a while
    # for the policy to go away, which it must not.
    overlap = """\
wait_while() { n=0; while "$@" && [ $n -lt 10 ]; do sleep 0.1; n=$((n + 1)); done; }
case "$*" in
*buildah*) wait_while [ ! -e second ] ;;
*mmdebstrap*) touch second; wait_while [ -x policy-rc.d ] ;;
esac
"""
    apt_get.write_text(apt_get.read_text().replace("if [ -x", f"{overlap}if [ -x"))

    with ThreadPoolExecutor() as both:
        assert list(both.map(debian.ensure_packages, ("buildah", "mmdebstrap")))

    assert _log(machine).count("services-held") == 2
    assert not (machine / "policy-rc.d").exists()
