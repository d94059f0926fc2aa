"""Values of Secrets are only in Secrets: they are never printed, installed, logged or executed.

The tests search for every value of every Secret with the platform's label. Deploy sets the label on
all Secrets that it creates, so that new ones are covered automatically. Keys whose values are
public, such as tls.crt, are left out. A failure names Secret, encoding and place, never the value.
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

# Third-party programs, which are older than any secret, and the file systems of containers.
_NOT_SEARCHED = {".git", ".venv", ".mypy_cache", ".ruff_cache", "programs", "docker"}
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
_needs_the_kernel = pytest.mark.skipif(
    not executed_commands.available(), reason="the kernel reports executed commands only to root"
)


@pytest.fixture
def values(platform: Platform) -> list[Secret]:
    """Return all values that must be only in Secrets."""
    found = written_places.secret_values(platform.kubectl)
    assert {"prefect/prefect-encryption key", "data/object-store s3.json"} <= {
        each.name for each in found
    }
    return found


@dataclass(frozen=True)
class Later:
    """The output of later commands, by their names, and the commands executed meanwhile."""

    printed: dict[str, str]
    executed: executed_commands.ExecutedCommands | None


@pytest.fixture(scope="module")
def later(platform: Platform) -> Later:
    """Run a second deploy, then every command that prints something about the platform."""
    printed = {"the first deploy": platform.printed}
    with executed_commands.recorded() if executed_commands.available() else nullcontext() as seen:
        for name in ("deploy", "status", "plan", "apply", "export", "logs"):
            ended = command(name, DATE="2013-06-06")
            assert ended.stdout, ended.stderr
            if name == "deploy":
                assert ended.returncode == 0, ended.stderr
            printed[name] = ended.stdout + ended.stderr
    return Later(printed, seen)


@pytest.mark.alone  # records all command lines of the machine
def test_no_command_prints_a_secret(later: Later, values: list[Secret]) -> None:
    texts = ((f"output of {name}", text.encode()) for name, text in later.printed.items())

    found = search(values, texts)

    assert not found


def test_no_helm_release_contains_a_secret(platform: Platform, values: list[Secret]) -> None:
    found = search(values, written_places.releases(platform.kubectl))

    assert not found


def test_no_object_other_than_a_secret_contains_its_value(
    platform: Platform, values: list[Secret]
) -> None:
    found = search(values, written_places.objects(platform.kubectl))

    assert not found


def test_no_log_of_a_node_contains_a_secret(values: list[Secret]) -> None:
    found = search(values, written_places.logs_of_the_node())

    assert not found


def test_the_api_returns_no_secret(prefect: SyncPrefectClient, values: list[Secret]) -> None:
    found = search(values, written_places.answers(prefect))

    assert not found


@_needs_the_kernel
def test_no_command_line_contains_a_secret(
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
    record_property(
        "commands that were executed", f"{executed}, {missed} ended before they were read"
    )
    assert missed < executed / 20

    seen = platform.executed.seen | later.executed.seen
    programs = {Path(where.rpartition(" ")[2]).name for where, _ in seen}
    assert {"helm", "kubectl", "postgres", "initdb", "pg_isready"} <= programs
    found = search(values, seen)

    assert not found


@pytest.mark.alone  # files that other tests write would disappear
def test_no_file_contains_a_secret(values: list[Secret]) -> None:
    engine = Path("/var/lib/prefect-platform", CLUSTER)
    made = [state_directory(CLUSTER), cache_directory() / "images" / "logs", engine]
    assert (state_directory(CLUSTER) / "kind.log").exists()

    found = search(values, files(REPOSITORY, *made, without=_NOT_SEARCHED))

    assert not found


def test_a_planted_value_is_found_in_every_place(platform: Platform, tmp_path: Path) -> None:
    planted = Secret("planted", secrets.token_urlsafe(24))
    with _planted_everywhere(planted.value, platform, tmp_path):
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
        *("the response of /variables/filter on planted", "the response of /logs/filter on test"),
    ):
        assert any(f"in {place}" in line for line in found), f"{place} is not in {found}"


@contextmanager
def _planted_everywhere(value: str, platform: Platform, directory: Path) -> Iterator[None]:
    """Write `value` into a release, a ConfigMap, a pod, its log, a variable, the log of a run.

    Each step opens a new connection to the API, because a port-forward does not outlast the pauses.
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
