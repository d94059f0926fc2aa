"""A run of edited code: which deployment, which image, and its log, with a real Prefect server."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import LogCreate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed, Running

from prefect_platform.configuration.core import prefect_api, source
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.resource import Inventory
from prefect_platform.configuration.deployments import prefect_yaml
from prefect_platform.configuration.deployments.deployment_resources import Deployments
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.engine import Engine
from prefect_platform_cli.cluster.image_store import ImageStore
from prefect_platform_cli.deploy.edited_run import parse_parameters, start
from prefect_platform_cli.deploy.followed_run import follow
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.catalogue import fingerprints, recipes
from tests.integration.deploy import node_images
from tests.support.servers import prefect_server

_DEPLOYED = "prefect-platform.local/flows:0123456789ab"
_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"image": "{{ image }}"},
    "variables": {"properties": {"image": {"type": "string", "default": _DEPLOYED}}},
}
_FLOW = """
from prefect import flow

@flow
def NAME(day: int = 1) -> None:
    print(day)
"""
_DEPLOYMENTS = """
pull: []
deployments:
  - {name: daily, entrypoint: "flows/orders.py:orders", work_pool: {name: default}}
  - {name: weekly, entrypoint: "flows/refunds.py:refunds", work_pool: {name: default}}
  - {name: monthly, entrypoint: "flows/refunds.py:refunds", work_pool: {name: default}}
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """Yield a client of a server with the work pool."""
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        prefect_api.prefect_api(url, None) as client,
    ):
        client.create_work_pool(
            WorkPoolCreate(name="default", type="kubernetes", base_job_template=_TEMPLATE)
        )
        yield client


@pytest.fixture
def repository(tmp_path: Path, prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with three deployments, all of which the server has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("Dockerfile", ".dockerignore", "requirements", "src"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "flows").mkdir()
    for name in ("orders", "refunds"):
        (tmp_path / "flows" / f"{name}.py").write_text(_FLOW.replace("NAME", name))
    (tmp_path / "prefect.yaml").write_text(_DEPLOYMENTS)
    for declared in prefect_yaml.declare(source.read(tmp_path / "prefect.yaml"), Offline()):
        Deployments().create(prefect, Inventory(), declared)
    return tmp_path


@pytest.fixture
def node(tmp_path: Path, repository: Path) -> ImageStore:
    """Return a node that has the image of the repository as it is now."""
    images = tmp_path / "images"
    images.mkdir()
    (recipe,) = recipes(["flows"])
    labels = {
        f"prefect-platform/{label.lower()}": value
        for label, value in fingerprints(recipe, repository).items()
    }
    config = {
        "config": {"WorkingDir": "/opt/prefect", "Labels": labels},
        "rootfs": {"diff_ids": ["sha256:lower"]},
        "history": [],
    }
    manifest = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": node_images.put(images, json.dumps(config).encode())},
        "layers": [{"digest": "sha256:lower"}],
    }
    digest = node_images.put(images, json.dumps(manifest).encode())
    (images / "names").write_text(json.dumps({_DEPLOYED: digest}))
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nexec {sys.executable} {node_images.__file__} "$@"\n')
    docker.chmod(0o755)
    engine = SimpleNamespace(docker=docker, environment=lambda: {"IMAGES": str(images)})
    return ImageStore(cast("Engine", engine), "node")


def edit(repository: Path, number: int) -> None:
    """Edit a flow; another `number` is another edit."""
    file = repository / "flows" / "orders.py"
    file.write_text(file.read_text().replace("print(", f"print({number}, "))


def image_of(run: FlowRun) -> str:
    assert run.job_variables is not None
    return str(run.job_variables["image"])


def end(prefect: SyncPrefectClient, run: FlowRun, *states: State) -> None:
    for state in states:
        prefect.set_flow_run_state(run.id, state, force=True)


def test_unedited_code_runs_from_the_deployed_image(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    run = start(prefect, [node], "orders/daily", {"day": 3}, repository)

    assert image_of(run) == _DEPLOYED
    assert run.tags == []
    assert prefect.read_flow_run(run.id).parameters == {"day": 3}
    assert node.references() == [_DEPLOYED]


def test_only_the_run_gets_the_edited_code(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    edit(repository, 1)

    run = start(prefect, [node], "orders", {}, repository)

    assert image_of(run) in node.references()
    assert image_of(run).startswith(f"{_DEPLOYED}-")
    assert run.tags == ["edited"]
    assert prefect.read_deployment_by_name("orders/daily").job_variables == {}


def test_an_edit_removes_the_images_of_earlier_ones_when_their_runs_have_ended(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    runs = []
    for number in (101, 102, 103):  # no other test makes these edits
        edit(repository, number)
        runs.append(start(prefect, [node], "orders/daily", {}, repository))
        if number == 101:
            end(prefect, runs[0], Running(), Failed())

    waiting, newest = (image_of(run) for run in runs[1:])
    assert set(node.references()) == {_DEPLOYED, waiting, newest}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("order/daily", "no deployment order/daily; it has orders/daily, refunds/monthly, refunds"),
        ("", "no deployment is given; the server has orders/daily, refunds/monthly, refunds"),
        ("refunds", "the flow refunds has several deployments: refunds/monthly, refunds/weekly"),
    ],
)
def test_a_name_that_is_not_one_deployment_is_refused_with_the_known_ones(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path, name: str, message: str
) -> None:
    with pytest.raises(PlatformError, match=message):
        start(prefect, [node], name, {}, repository)


def test_a_flow_that_cannot_be_imported_is_refused_before_anything_is_loaded(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    file = repository / "flows" / "orders.py"
    file.write_text(f"import numpty\n{file.read_text()}")

    with pytest.raises(PlatformError, match=r"orders\.py cannot be loaded: .*numpty.*line 1"):
        start(prefect, [node], "orders/daily", {}, repository)

    assert node.references() == [_DEPLOYED]


def test_a_flow_that_cannot_be_imported_does_not_hinder_others(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    (repository / "flows" / "refunds.py").write_text("import numpty")

    assert image_of(start(prefect, [node], "orders/daily", {}, repository)) != _DEPLOYED


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("name: daily,", "name: daily, parameters: {day: 2},"), "other values for: parameters"),
        (("orders.py:orders", "refunds.py:refunds"), "declares no deployment orders/daily"),
    ],
)
def test_a_deployment_that_the_server_has_differently_is_refused(
    prefect: SyncPrefectClient,
    node: ImageStore,
    repository: Path,
    edit: tuple[str, str],
    message: str,
) -> None:
    file = repository / "prefect.yaml"
    file.write_text(file.read_text().replace(*edit, 1))

    with pytest.raises(PlatformError, match=message) as refused:
        start(prefect, [node], "orders/daily", {}, repository)

    assert refused.value.next_step.startswith("make deploy-cluster")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"night": 1}, "orders/daily has no parameter night"),
        ({"day": "Monday"}, "the server refuses the parameters .*'day'"),
    ],
)
def test_wrong_parameters_are_refused(
    prefect: SyncPrefectClient,
    node: ImageStore,
    repository: Path,
    parameters: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(PlatformError, match=message):
        start(prefect, [node], "orders/daily", parameters, repository)


def test_values_of_parameters_are_json_or_text() -> None:
    given = ["date=2013-01-01", "count=3", 'days=["a"]', "none=null", "equal=a=b"]
    assert parse_parameters(given) == {
        "date": "2013-01-01",
        "count": 3,
        "days": ["a"],
        "none": None,
        "equal": "a=b",
    }
    with pytest.raises(PlatformError, match="--param date has no value"):
        parse_parameters(["date"])


def log(prefect: SyncPrefectClient, run: FlowRun, *messages: str) -> None:
    line = {"name": "prefect.flow_runs", "level": 20, "flow_run_id": run.id}
    prefect.create_logs(
        [
            LogCreate(message=message, timestamp=f"2026-01-01T00:00:0{second}Z", **line)
            for second, message in enumerate(messages)
        ]
    )


def test_every_line_of_a_run_is_printed_once_and_its_end_decides(
    prefect: SyncPrefectClient,
    node: ImageStore,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start(prefect, [node], "orders/daily", {}, repository)
    log(prefect, run, *(f"line {number}" for number in range(3)))
    end(prefect, run, Running(), Completed())

    follow(prefect, run)

    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"00:00:0{n} line {n}" for n in range(3)]
    assert f"{run.name}: Completed" in printed.err


def test_following_a_run_that_fails_is_an_error_with_its_message(
    prefect: SyncPrefectClient, node: ImageStore, repository: Path
) -> None:
    run = start(prefect, [node], "orders/daily", {}, repository)
    end(prefect, run, Running(), Failed(message="no such day"))

    with pytest.raises(PlatformError, match="Failed: no such day") as failed:
        follow(prefect, run)

    assert failed.value.next_step == f"make logs RUN={run.name}"
