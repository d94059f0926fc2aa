"""The targets of the Makefile that people use between deploy-cluster and destroy-cluster."""

import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Completed, Running

from prefect_platform_cli.host.toolchain import tool
from tests.cluster.deployed import JOBS, POOL, Platform, eventually, on_node, restricted_pod
from tests.cluster.terminal import make, make_command, started
from tests.support.servers import free_ports

_LINES = 450  # a response of the API has at most 200


def test_make_ui_forwards_a_port_until_ctrl_c_and_shows_how_to_get_the_password(
    platform: Platform,
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with started(make_command("ui", PORT=str(port))) as opened:
        printed, command = until_the_login(opened)
        user, _, password = login(command).partition(":")
        with httpx.Client(base_url=url, trust_env=False, follow_redirects=True) as browser:
            page = browser.get("/")
            refused = browser.get("/api/admin/version")
            admitted = browser.get("/api/admin/version", auth=(user, password))
        second = make("ui", PORT=str(port))
        # kubectl starts again when the pod resets a connection.
        eventually("kubectl forwards the port", lambda: len(kubectls_of(opened.pid)) == 1)
        (lost,) = kubectls_of(opened.pid)
        os.kill(lost, signal.SIGKILL)
        eventually("kubectl starts again", lambda: bool(kubectls_of(opened.pid) - {lost}))
        eventually("the same port is forwarded again", lambda: listens(port))
        os.killpg(opened.pid, signal.SIGINT)
        printed += opened.communicate()[0]

    assert f"Prefect: {url}" in printed
    assert str(platform.kubectl.kubeconfig) in command
    assert password not in printed
    assert page.is_success
    assert "<title>Prefect" in page.text
    answers = (refused.status_code, admitted.status_code)
    assert answers == (httpx.codes.UNAUTHORIZED, httpx.codes.OK)
    assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert f"make ui PORT={port + 1}" in second.stderr
    assert "Traceback" not in printed
    eventually("the port is closed", lambda: not listens(port), within=30)


def test_make_image_restores_an_image_that_a_node_has_lost(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    template = prefect.read_work_pool(POOL).base_job_template
    image = str(template["variables"]["properties"]["image"]["default"])
    on_node("ctr", "--namespace=k8s.io", "images", "rm", "--sync", image)
    assert image not in images_of_the_node()

    made = make("image")

    assert made.returncode == 0, made.stderr
    archives = dict(line.split() for line in made.stdout.splitlines())
    assert Path(archives[image]).is_file()
    assert image in images_of_the_node()
    container = {"image": image, "imagePullPolicy": "Never", "command": ["python", "--version"]}
    pod = json.dumps(restricted_pod("has-its-image", JOBS, container))
    platform.kubectl("create", "--filename=-", stdin=pod)
    try:
        ended = ("wait", "pod/has-its-image", "--for=jsonpath={.status.phase}=Succeeded")
        platform.kubectl(f"--namespace={JOBS}", *ended, "--timeout=180s")
    finally:
        platform.kubectl("delete", "--filename=-", stdin=pod)


def test_make_logs_shows_the_whole_log_of_the_newest_or_of_a_named_run(
    prefect: SyncPrefectClient,
) -> None:
    older, newest = f"older-{uuid4().hex[:8]}", f"newest-{uuid4().hex[:8]}"
    lines = [f"line {number} of the older run" for number in range(_LINES)]
    ended_run(prefect, older, lines)
    ended_run(prefect, newest, ["the newest says this"])

    of_name = make("logs", RUN=older)
    of_newest = make("logs")
    of_unknown = make("logs", RUN="nobody-of-this-name")

    assert logged_lines(of_name) == [f"{older}: Completed", *lines]
    assert logged_lines(of_newest) == [f"{newest}: Completed", "the newest says this"]
    assert of_unknown.returncode != 0
    assert "no flow run called nobody-of-this-name has started" in of_unknown.stderr
    assert "Traceback" not in of_unknown.stderr


def until_the_login(opened: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the output up to the command that shows the login, and that command."""
    assert opened.stdout is not None
    printed = ""
    for line in opened.stdout:
        printed += line
        if line.lstrip().startswith("KUBECONFIG="):
            return printed, line.strip()
    raise AssertionError(f"make ui did not print the command that shows the login: {printed}")


def login(command: str) -> str:
    """Run the printed command in a shell that finds kubectl, and return its output."""
    path = f"{tool('kubectl').parent}{os.pathsep}{os.environ['PATH']}"
    shown = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.strip()


def kubectls_of(group: int) -> set[int]:
    """Return the IDs of the kubectl processes in a process group."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # processes end at any time
            name, pid = (process / "comm").read_text(), int(process.name)
            if name == "kubectl\n" and os.getpgid(pid) == group:
                found.add(pid)
    return found


def listens(port: int) -> bool:
    """Return whether this machine accepts connections at `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def images_of_the_node() -> list[str]:
    return on_node("ctr", "--namespace=k8s.io", "images", "ls", "--quiet").split()


@flow
def never_executed() -> None:
    """Give the runs a flow: they are not executed, and the test writes their logs."""


def ended_run(prefect: SyncPrefectClient, name: str, lines: list[str]) -> None:
    """Create a completed run that started after all others and has logged `lines`."""
    run = prefect.create_flow_run(never_executed, name=name, state=Running())
    begun = dt.datetime.now(dt.UTC)
    prefect.create_logs(
        {
            "name": "prefect.flow_runs",
            "level": 20,
            "message": line,
            "timestamp": (begun + dt.timedelta(milliseconds=number)).isoformat(),
            "flow_run_id": str(run.id),
        }
        for number, line in enumerate(lines)
    )
    prefect.set_flow_run_state(run.id, Completed())


def logged_lines(logs: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the printed lines without their timestamps."""
    assert logs.returncode == 0, logs.stderr
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in logs.stdout.splitlines()]
