"""The program of the reaper's pod: its log, its exit code and its error messages."""

import json
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

from tests.integration.reaper.reaped_pool import BACKOFF, ReapedPool
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi
from tests.support.servers import clean_environment, free_ports

PERIODS = (
    *("--grace=0", "--submission=3600", "--unstartable=3600", "--silence=0", "--lost-node=3600"),
    *("--hooks=3600", "--succeeded-job-ttl=3600"),
)


def run_reaper(
    api_url: str, kubernetes: KubernetesApi, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run the program of the reaper's pod."""
    home = kubernetes.kubeconfig.parent
    return subprocess.run(
        [sys.executable, "-m", "prefect_platform.reaper.reaper", *PERIODS, *arguments],
        env=clean_environment(
            home,
            KUBECONFIG=str(kubernetes.kubeconfig),
            PREFECT_API_URL=api_url,
            PREFECT_SERVER_EPHEMERAL_ENABLED="false",
        ),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_line_of_the_log_counts_what_the_pass_did(reaped: ReapedPool) -> None:
    run = reaped.run(job="gone")
    pool = f"{reaped.pool.name}={NAMESPACE}"
    ended, dry, again = (
        run_reaper(reaped.api_url, reaped.kubernetes, pool, *more)
        for more in ((), ("--dry-run",), ())
    )

    assert (ended.returncode, dry.returncode, again.returncode) == (0, 0, 0), ended.stderr
    logged = ended.stderr.splitlines()
    assert f"{reaped.pool.name}: set the run " in logged[0]
    assert str(run) in logged[0]
    summary = json.loads(logged[-1])
    assert summary["pools"] == {
        reaped.pool.name: {"runs": 1, "jobs": 0, "counts": {"run_without_job": 1}}
    }
    assert (summary["dry_run"], summary["failed"]) == (False, [])
    assert json.loads(dry.stderr)["dry_run"] is True
    assert json.loads(again.stderr)["pools"][reaped.pool.name]["counts"] == {}


def test_a_pool_that_does_not_exist_yet_is_waited_for(reaped: ReapedPool) -> None:
    """As in the first minutes of a release, before its configuration is applied."""
    ended = run_reaper(reaped.api_url, reaped.kubernetes, f"missing={NAMESPACE}")

    assert ended.returncode == 0, ended.stderr
    said, summary = ended.stderr.splitlines()
    assert said.startswith("missing: waits for the work pool, which the API does not know; ")
    assert "configuration.platform" in said
    assert json.loads(summary)["pools"]["missing"]["counts"] == {"pool_missing": 1}


def test_a_failing_pool_does_not_keep_the_others_from_being_reconciled(reaped: ReapedPool) -> None:
    run = reaped.run(job="gone")
    left = reaped.job(run, "left", BACKOFF)["metadata"]["labels"]
    left["prefect.io/work-pool-id"] = "of a deleted pool"
    ended = run_reaper(
        reaped.api_url,
        reaped.kubernetes,
        f"missing={NAMESPACE}",
        f"{reaped.pool.name}={NAMESPACE}",
    )

    assert ended.returncode == 1
    assert "missing: The API does not know the work pool missing, so its Jobs" in ended.stderr
    assert "configuration.platform" in ended.stderr
    assert "`helm get notes`" in ended.stderr
    assert "The pass failed for 1 of 3 parts: missing\nNext: " in ended.stderr
    assert '"failed": ["missing"]' in ended.stderr
    assert "Traceback" not in ended.stderr
    assert reaped.state(run)[0] == "Crashed"


def test_an_unreachable_api_is_reported_in_one_sentence(kubernetes: KubernetesApi) -> None:
    (port,) = free_ports(1)
    api_url = f"http://127.0.0.1:{port}/api"
    ended = run_reaper(api_url, kubernetes, f"default={NAMESPACE}")

    assert ended.returncode == 1
    assert f"default: {api_url} does not answer" in ended.stderr
    assert "Next: check the API's pods" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_refusal_by_kubernetes_is_reported_in_one_sentence(reaped: ReapedPool) -> None:
    reaped.kubernetes.refuse("jobs", status=HTTPStatus.FORBIDDEN)
    ended = run_reaper(reaped.api_url, reaped.kubernetes, f"{reaped.pool.name}={NAMESPACE}")

    assert ended.returncode == 1
    assert f"Kubernetes refused to list Jobs in {NAMESPACE}: 403 Forbidden" in ended.stderr
    assert f"Next: kubectl --namespace {NAMESPACE} get rolebindings" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unreachable_kubernetes_api_is_reported_in_one_sentence(reaped: ReapedPool) -> None:
    kubeconfig: Path = reaped.kubernetes.kubeconfig
    (port,) = free_ports(1)
    server = next(line for line in kubeconfig.read_text().splitlines() if "server:" in line)
    away = f"{server.rpartition(':')[0]}:{port}"
    kubeconfig.write_text(kubeconfig.read_text().replace(server, away))
    ended = run_reaper(reaped.api_url, reaped.kubernetes, f"{reaped.pool.name}={NAMESPACE}")

    assert ended.returncode == 1
    assert "The Kubernetes API does not answer" in ended.stderr
    assert "Next: check the value networkPolicies.kubernetesApi of prefect-worker" in ended.stderr
    assert "Traceback" not in ended.stderr
