"""Any valid file can be applied over any other one, and the next plan is then empty."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration import commands
from prefect_platform.configuration.core.context import Mounted
from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform.configuration.kinds import TYPES
from prefect_platform.configuration.platform_file import Files, load
from prefect_platform.configuration.reconcile.ledger import read_ledger
from prefect_platform.configuration.reconcile.plan import make_plan, read
from tests.support.servers import prefect_server
from tests.support.strategies_automations import Names, automations

_FLOW = "from prefect import flow\n\n@flow\ndef hello(name: str = 'you') -> None: ...\n"
_DEPLOYMENTS = """
pull: [{prefect.deployments.steps.set_working_directory: {directory: /opt/prefect}}]
deployments: [{name: daily, entrypoint: "hello.py:hello", work_pool: {name: default}}]
"""
# The resources that automations may name; each file declares all of them.
_NAMED = Names(
    deployments=["hello/daily"],
    notification_blocks=["slack-webhook/ops"],
    webhook_blocks=["webhook/hook"],
    work_pools=["default"],
    work_queues=["default/nightly"],
    automations=["named"],
)
_SECRET = {"secret": {"name": "alerts", "key": "url"}}
_NAME = st.text("abcxyz", min_size=1, max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abc Ä\n", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAME, inner, max_size=3),
    max_leaves=5,
)
_LIMIT = st.integers(0, 99)


def _file(**sections: Any) -> dict[str, Any]:  # noqa: ANN401
    sections["work_pools"]["default"] = {"queues": {"nightly": {}}}
    sections["automations"]["named"] = {"trigger": {}, "actions": [{"type": "do-nothing"}]}
    sections["blocks"] = {"slack-webhook/ops": {"url": _SECRET}, "webhook/hook": {"url": _SECRET}}
    return sections


_FILES = st.builds(
    _file,
    variables=st.dictionaries(
        _NAME, st.fixed_dictionaries({"value": _JSON}, optional={"tags": st.lists(_NAME)})
    ),
    concurrency_limits=st.dictionaries(
        _NAME,
        st.fixed_dictionaries(
            {"limit": _LIMIT},
            optional={"active": st.booleans(), "slot_decay_per_second": st.floats(0, 9)},
        ),
        max_size=3,
    ),
    tag_concurrency_limits=st.dictionaries(_NAME, _LIMIT, max_size=3),
    work_pools=st.dictionaries(
        _NAME,
        st.fixed_dictionaries(
            {"base_job_template": st.just("template.json"), "type": st.just("process")},
            optional={"concurrency_limit": _LIMIT, "paused": st.booleans(), "description": _NAME},
        ),
        max_size=3,
    ),
    automations=st.dictionaries(_NAME, automations(_NAMED), max_size=3),
    alerts=st.fixed_dictionaries({"enabled": st.booleans()}),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    # A generated automation may react to any event, so triggers are disabled.
    with (
        prefect_server(
            tmp_path_factory.mktemp("server"), PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED="false"
        ) as url,
        prefect_api(url, None) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "hello.py").write_text(_FLOW)
    (folder / "prefect.yaml").write_text(_DEPLOYMENTS)
    template = json.dumps({"job_configuration": {"command": "x"}, "variables": {"type": "object"}})
    (folder / "template.json").write_text(template)
    (folder / "templates").mkdir()
    (folder / "templates" / "default.json").write_text(template)
    (folder / "secrets" / "alerts").mkdir(parents=True)
    (folder / "secrets" / "alerts" / "url").write_text("https://hooks.slack.com/services/a/b/c")
    return folder


@settings(
    max_examples=8,
    deadline=None,  # a busy machine may be slow
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(file=_FILES)
def test_any_file_applies_over_the_previous_one_and_the_next_plan_is_empty(
    client: SyncPrefectClient, folder: Path, file: dict[str, Any]
) -> None:
    files = Files(folder / "platform.yaml", folder / "prefect.yaml")
    context = Mounted(folder / "secrets", folder / "templates", "a/a")
    files.platform.write_text(json.dumps(file))

    commands.apply(client, files, context, prune=True)

    next_plan = make_plan(
        load(files, context), read(client, TYPES), read_ledger(client), prune=True
    )
    assert next_plan.changes == []
