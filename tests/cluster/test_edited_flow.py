"""An edited flow runs without a deploy, and only in the run that was asked for."""

from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient

from tests.cluster.deployed import CLUSTER, DEPLOYMENT, Platform
from tests.support.edited_repository import copy_repository, edit, start_in

_LOADED = "Load the edited flows into the nodes"
_WORD = "an edited line"


def test_an_edit_is_in_the_log_of_its_run_and_is_loaded_once(
    platform: Platform,  # noqa: ARG001 - the command needs it
    prefect: SyncPrefectClient,
    tmp_path: Path,
) -> None:
    repository = copy_repository(tmp_path)
    edit(repository, _WORD)

    first, again = run(repository), run(repository)

    assert _WORD in first
    assert _LOADED in first
    assert _WORD in again
    assert _LOADED not in again
    assert prefect.read_deployment_by_name(DEPLOYMENT).job_variables == {}


def run(repository: Path) -> str:
    """Run the daily ETL with the code of `repository` to its end; return what was printed."""
    parameters = ("--param", "date=2013-05-01")
    with start_in(repository, "run", DEPLOYMENT, *parameters, CLUSTER_NAME=CLUSTER) as command:
        printed, _ = command.communicate()
    assert command.returncode == 0, printed
    return printed
