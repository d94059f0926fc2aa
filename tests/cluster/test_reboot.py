"""After the machine has lost its power, deploy-cluster restores the whole platform."""

import re

import pytest

from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.cluster.engine.private import PrivateEngine
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import CLUSTER, JOBS, Platform, command, messages, run_etl
from tests.support import power

pytestmark = pytest.mark.whole

_COUNT = "SELECT count(*) FROM daily_delays WHERE day IN ('2013-01-01', '2013-08-08')"
_FIRST_RUN = re.compile(r"flow run\s+│ (\S+): Completed")


def test_after_a_power_loss_deploy_restores_the_platform_with_its_data_and_runs(
    platform: Platform,
) -> None:
    with connected(platform.kubectl) as prefect:
        before = run_etl(prefect, "2013-08-08")
        said = messages(prefect, before.id)
    rows = rows_of_the_warehouse(platform.kubectl)
    assert before.state_name == "Completed"
    # The pod ends after its run. A power loss in between would let the pod fail, as status says.
    ended = ("--for=condition=complete", f"--selector=prefect.io/flow-run-id={before.id}")
    platform.kubectl(f"--namespace={JOBS}", "wait", "jobs", *ended, "--timeout=60s")

    lose_power()
    down = command("status")
    again = command("deploy")
    up = command("status")

    assert "make deploy-cluster" in down.stdout or "stopped" in down.stdout
    assert again.returncode == 0, again.stderr
    assert _FIRST_RUN.findall(again.stdout) == _FIRST_RUN.findall(platform.printed)
    assert re.search(r"not ready\s+│ none", up.stdout), up.stdout
    assert rows_of_the_warehouse(platform.kubectl) == rows
    with connected(platform.kubectl) as prefect:
        after = prefect.read_flow_run(before.id)
        assert (after.state_name, after.start_time) == ("Completed", before.start_time)
        assert messages(prefect, before.id) == said
        assert run_etl(prefect, "2013-08-08").state_name == "Completed"


def lose_power() -> None:
    """Kill all processes of the cluster at once, and those of the whole engine if it is private."""
    engine = recorded_engine(CLUSTER)
    assert engine is not None
    if not isinstance(engine, PrivateEngine):
        run(
            [engine.docker, "kill", f"{CLUSTER}-control-plane"],
            failure="the node cannot be killed",
            next_step="docker ps",
            env=engine.environment(),
        )
        return
    power.lose_power(engine)


def rows_of_the_warehouse(kubectl: Kubectl) -> int:
    psql = ("psql", "--username=warehouse", "--dbname=warehouse", "-At")
    database = ("--namespace=data", "exec", "--stdin", "statefulset/warehouse", "--")
    return int(kubectl(*database, *psql, stdin=_COUNT))
