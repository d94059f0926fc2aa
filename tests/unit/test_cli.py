"""The command line prints help without slow imports, and errors as plain sentences."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from prefect_platform.console import out
from prefect_platform_cli import main as cli

_PRINT_PACKAGES = """
import atexit, sys

def print_packages():
    packages = {module.partition(".")[0] for module in sys.modules}
    print(*packages - sys.stdlib_module_names, sep="\\n", file=sys.stderr)

atexit.register(print_packages)
"""
_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: "http://127.0.0.1:%s"}}]
contexts: [{name: it, context: {cluster: it, user: me}}]
users: [{name: me, user: {token: t}}]
"""


def test_brackets_in_an_error_are_printed_and_not_parsed_as_markup() -> None:
    refused = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "status"],
        env={**os.environ, "CLUSTER": "[/red]"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "error: CLUSTER=[/red] is not valid: it must be kind or current" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_upcoming_runs_are_shown_in_the_time_zone_of_their_schedule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("schedule", "--environment", "local", "--next", "48h")
    monkeypatch.setattr(sys, "argv", ["prefect-platform", *arguments])
    monkeypatch.setattr(out, "_width", 200)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    shown = capsys.readouterr().out
    runs = re.findall(r"06:00:00 -0[45]00 America/New_York\s+etl-daily/daily\s+every-m", shown)
    assert ended.value.code == 0
    assert len(runs) == 2
    assert "2 runs until " in shown


def test_an_invalid_look_ahead_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("schedule", "--environment", "local", "--next", "soon")
    monkeypatch.setattr(sys, "argv", ["prefect-platform", *arguments])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: --next: " in told
    assert "prefect-platform schedule --next 30d" in told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("CLUSTER=moon", "CLUSTER=moon is not valid: it must be kind or current"),
        ("CLUSTER_NAME=../a", "the cluster name '../a' is not valid"),
        ("CLUSTER=current", "CLUSTER=current needs the name of a context"),
        ("CLUSTER=current CONTEXT=b", "has no context b; it has it"),
        ("CLUSTER=current CONTEXT=it CLUSTER_NAME=../a", "the cluster name '../a' is not valid"),
        ("CLUSTER=current CONTEXT=it NODES=3", "NODES=3 has no effect with CLUSTER=current"),
        ("CONTEXT=it", "CONTEXT=it has no effect with CLUSTER=kind"),
        ("NODES=0", "(env var: 'NODES')"),
        ("ENGINE=steam", "ENGINE=steam is not valid: it must be existing or private"),
        ("NODE_IMAGE=tape", "NODE_IMAGE=tape is not valid: it must be registry or build"),
        ("BUILDER=hand", "BUILDER=hand is not valid: it must be docker or buildah"),
        ("CLIENTS=tape", "CLIENTS=tape is not valid: it must be path or build"),
        ("ENVIRONMENT=moon", "the environment moon has no images.yaml"),
        ("ENVIRONMENT=staging", "k8s/environments/staging/images.yaml names no images"),
        ("ENVIRONMENT=staging DATE=2013-02-01", "DATE has no effect with ENVIRONMENT=staging"),
        ("ENVIRONMENT=staging REGISTRY=a.test/b", "REGISTRY has no effect with ENVIRONMENT="),
        ("ENVIRONMENT=staging BUILDER=docker", "BUILDER has no effect with ENVIRONMENT=staging"),
        ("DATE=2014-01-01", "DATE=2014-01-01 is not between 2013-01-01 and 2013-12-31"),
        ("REGISTRY=ghcr.io", "REGISTRY=ghcr.io is not the address of a registry"),
        ("UNENFORCED_POLICIES=yes", "UNENFORCED_POLICIES=yes is not valid: it must be accept"),
    ],
)
def test_a_wrong_option_is_refused_before_a_deploy_touches_anything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    message: str,
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(_KUBECONFIG % 1)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Without programs on PATH, no engine and no builder can be asked or started.
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["prefect-platform", "deploy"])
    for pair in given.split():
        monkeypatch.setenv(*pair.split("="))

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [kubeconfig]


def _packages(program: str, *arguments: str) -> set[str]:
    """Return the third-party packages that a process has imported when it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", _PRINT_PACKAGES + program, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stderr.splitlines())


def test_help_imports_only_typer_and_its_dependencies() -> None:
    typer = _packages("import typer.rich_utils")
    ours = _packages("from prefect_platform_cli.main import main; main()", "--help")
    assert ours - typer == {"prefect_platform", "prefect_platform_cli"}


class _Refusing(BaseHTTPRequestHandler):
    """A Kubernetes API that returns its version and refuses everything else."""

    def do_GET(self) -> None:
        names = (
            *("major", "minor", "gitVersion", "gitCommit", "gitTreeState"),
            *("buildDate", "goVersion", "compiler", "platform"),
        )
        self.send_response(200 if self.path == "/version/" else 403)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(dict.fromkeys(names, "v1.36.3")).encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def test_a_refusal_by_the_kubernetes_api_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.setenv("CONTEXT", "it")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "argv", ["prefect-platform", "status"])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.01,))
        thread.start()
        kubeconfig.write_text(_KUBECONFIG % api.server_port)
        with pytest.raises(SystemExit) as refused:
            cli.main()
        api.shutdown()
        thread.join()
    assert refused.value.code == 1
    told = capsys.readouterr().err
    assert "error: the Kubernetes API refused the request or did not answer: Forbidden" in told
    assert "Traceback" not in told


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_ctrl_c_says_that_the_same_command_continues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = typer.Typer()

    @interrupted.command()
    def deploy() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    monkeypatch.setattr(sys, "argv", ["prefect-platform"])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 130
    assert "Run the same command again to continue from here" in capsys.readouterr().err
