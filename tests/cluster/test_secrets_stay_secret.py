"""No value of a Secret is anywhere but in Secrets: not printed, installed, logged or executed.

Searched for is every value of every Secret with the platform's label, which all have that deploy
makes, so a new one is covered by itself; keys that are public by their name, such as tls.crt, are
left out.
A failure names Secret, form and place, never the value.
"""

import datetime as dt
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import ObjectNotFound

from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory, state_directory
from tests.cluster import written_places
from tests.cluster.deployed import (
    CLUSTER,
    Platform,
    command,
    helm,
    restricted_pod,
)
from tests.support import executed_commands
from tests.support.secret_search import Secret, files, search

# Others' programs, made before there was a secret, and the containers' own file systems.
_NOT_OURS = {".git", ".venv", ".mypy_cache", ".ruff_cache", "programs", "docker"}
_WORKERS = (
    *("--namespace=prefect-workers", "get", "pods", "--output=json"),
    "--selector=app.kubernetes.io/component=worker",
)
_CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: planted}
data:
  url: https://{{ .Values.value }}:of@example.org
  encoded: {{ .Values.value | b64enc }}
"""
pytestmark = pytest.mark.alone  # all command lines of the machine are looked at
_needs_the_kernel = pytest.mark.skipif(
    not executed_commands.available(), reason="the kernel tells root alone what is executed"
)


@pytest.fixture
def values(platform: Platform) -> list[Secret]:
    """Return what must be nowhere else."""
    found = written_places.secret_values(platform.kubectl)
    assert {"prefect/prefect-encryption key", "data/object-store s3.json"} <= {
        each.name for each in found
    }
    return found


@dataclass(frozen=True)
class Later:
    """What later commands printed, by their names, and what was executed meanwhile."""

    printed: dict[str, str]
    executed: executed_commands.ExecutedCommands | None


@pytest.fixture(scope="module")
def later(platform: Platform) -> Later:
    """Run every command that tells something of the platform, a second deploy first."""
    printed = {"the first deploy": platform.printed}
    with executed_commands.recorded() if executed_commands.available() else nullcontext() as seen:
        for name in ("deploy", "status", "plan", "apply", "export", "logs"):
            ended = command(name, DATE="2013-06-06")
            assert ended.stdout, ended.stderr
            if name == "deploy":
                assert ended.returncode == 0, ended.stderr
            printed[name] = ended.stdout + ended.stderr
    return Later(printed, seen)


def test_no_command_prints_a_secret(later: Later, values: list[Secret]) -> None:
    texts = ((f"output of {name}", text.encode()) for name, text in later.printed.items())

    found = search(values, texts)

    assert not found


def test_no_release_of_helm_holds_a_secret(platform: Platform, values: list[Secret]) -> None:
    found = search(values, written_places.releases(platform.kubectl))

    assert not found


def test_no_object_but_its_own_holds_a_secret(platform: Platform, values: list[Secret]) -> None:
    found = search(values, written_places.objects(platform.kubectl))

    assert not found


def test_no_log_of_a_node_holds_a_secret(values: list[Secret]) -> None:
    found = search(values, written_places.logs_of_the_node())

    assert not found


def test_the_api_tells_no_secret(prefect: SyncPrefectClient, values: list[Secret]) -> None:
    found = search(values, written_places.answers(prefect))

    assert not found


@_needs_the_kernel
def test_no_command_line_holds_a_secret(
    platform: Platform,
    later: Later,
    values: list[Secret],
    record_property: Callable[[str, object], None],
) -> None:
    assert platform.executed is not None
    assert later.executed is not None

    both = (platform.executed, later.executed)
    assert [each.failure for each in both] == [None, None]
    executed, missed = (
        sum(getattr(each, count) for each in both) for count in ("executed", "missed")
    )
    record_property("commands that were executed", f"{executed}, {missed} ended before a look")
    assert missed < executed / 20

    seen = platform.executed.seen | later.executed.seen
    programs = {Path(where.rpartition(" ")[2]).name for where, _ in seen}
    assert {"helm", "kubectl", "postgres", "initdb", "pg_isready"} <= programs
    found = search(values, seen)

    assert not found


def test_no_file_holds_a_secret(values: list[Secret]) -> None:
    engine = Path("/var/lib/prefect-platform", CLUSTER)
    made = [state_directory(CLUSTER), cache_directory() / "images" / "logs", engine]
    assert (state_directory(CLUSTER) / "kind.log").exists()

    found = search(values, files(REPOSITORY, *made, without=_NOT_OURS))

    assert not found


def test_a_value_that_is_written_somewhere_is_found_there(
    platform: Platform, tmp_path: Path
) -> None:
    planted = Secret("planted", secrets.token_urlsafe(24))
    with _everywhere(planted.value, platform, tmp_path):
        with connected(platform.kubectl) as prefect:
            found = search([planted], written_places.answers(prefect))
        found += search(
            [planted],
            chain(
                written_places.releases(platform.kubectl),
                written_places.objects(platform.kubectl),
                written_places.logs_of_the_node(),
            ),
        )

    assert planted.value not in "".join(found)
    for place in (
        *("helm get values planted", "helm get manifest planted"),
        *("the record sh.helm.release.v1.planted.v1 in data", "the ConfigMap planted in data"),
        *("the Pod planted in data", "the log /var/log/pods/data_planted_"),
        *("what /variables/filter tells of planted", "what /logs/filter tells of test"),
    ):
        assert any(f"in {place}" in line for line in found), f"{place} is not in {found}"


@contextmanager
def _everywhere(value: str, platform: Platform, directory: Path) -> Iterator[None]:
    """Write `value` into a release, a ConfigMap, a pod, its log, a variable, the log of a run.

    The API is connected to anew each time: a way to it does not outlast a pause of this length.
    """
    chart = directory / "planted"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: planted, version: 0.0.1}")
    (chart / "templates" / "configmap.yaml").write_text(_CONFIG_MAP)
    workers = json.loads(platform.kubectl(*_WORKERS))["items"]
    image = workers[0]["spec"]["containers"][0]["image"]
    container = {"image": image, "command": ["python", "-c", f"print({value!r}, flush=True)"]}
    pod = json.dumps(restricted_pod("planted", "data", container))
    try:
        helm(platform.kubectl, "data", "install", "planted", str(chart), f"--set=value={value}")
        platform.kubectl("create", "--filename=-", stdin=pod)
        with connected(platform.kubectl) as prefect:
            run = prefect.read_flow_runs(limit=1)[0].id
            now = dt.datetime.now(dt.UTC).isoformat()
            line = {"name": "test", "level": 20, "message": value, "flow_run_id": str(run)}
            prefect.create_variable(VariableCreate(name="planted", value=value))
            prefect.create_logs([{**line, "timestamp": now}])
        ended = ("--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
        platform.kubectl("--namespace=data", "wait", "pod/planted", *ended)
        yield
    finally:
        with connected(platform.kubectl) as prefect, suppress(ObjectNotFound):
            prefect.delete_variable_by_name("planted")
        platform.kubectl(
            "--namespace=data", "delete", "pod", "planted", "--ignore-not-found", "--wait=false"
        )
        helm(platform.kubectl, "data", "uninstall", "planted", "--ignore-not-found", wait=False)
