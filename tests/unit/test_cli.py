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
    assert "error: CLUSTER=[/red] is not a cluster provider" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_upcoming_runs_are_shown_in_the_time_zone_of_their_schedule() -> None:
    shown = schedule("--next", "48h")

    assert shown.returncode == 0, shown.stderr
    runs = re.findall(
        r"06:00:00 -0[45]00 America/New_York\s+etl-daily/daily\s+every-m", shown.stdout
    )
    assert len(runs) == 2
    assert "2 runs until " in shown.stdout


def test_an_invalid_look_ahead_time_is_refused() -> None:
    refused = schedule("--next", "soon")

    assert refused.returncode == 1
    assert "error: --next: " in refused.stderr
    assert "prefect-platform schedule --next 30d" in refused.stderr


def schedule(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(Path(sys.executable).with_name("prefect-platform"), "schedule"),
            *("--environment", "local", *arguments),
        ],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_value_of_unenforced_policies_is_refused_before_anything_is_done(
    tmp_path: Path,
) -> None:
    refused = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "deploy"],
        env={**os.environ, "UNENFORCED_POLICIES": "yes", "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "error: UNENFORCED_POLICIES=yes is not valid: the only value is accept" in refused.stderr
    assert list(tmp_path.iterdir()) == []


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


def test_a_refusal_by_the_kubernetes_api_is_reported_in_one_sentence(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.01,))
        thread.start()
        kubeconfig.write_text(_KUBECONFIG % api.server_port)
        refused = subprocess.run(
            [Path(sys.executable).with_name("prefect-platform"), "status"],
            env={
                **os.environ,
                "CLUSTER": "current",
                "CONTEXT": "it",
                "KUBECONFIG": str(kubeconfig),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        api.shutdown()
        thread.join()
    assert refused.returncode == 1
    told = "error: the Kubernetes API refused the request or did not answer: Forbidden"
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


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
