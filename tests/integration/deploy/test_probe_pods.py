"""A check of a cluster removes its own probe pods and those that earlier checks left behind."""

from pathlib import Path

from prefect_platform_cli.doctor.probe_pods import ProbePods
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.kubernetes_api import fake_kubernetes

PODS = {
    "ours": ({"prefect-platform/probe": "this-look"}, "Running"),
    "left-behind": ({"prefect-platform/probe": "an-earlier-look"}, "Failed"),
    "of-a-look-under-way": ({"prefect-platform/probe": "another-look"}, "Running"),
    "no-probe": ({"app": "theirs"}, "Failed"),
}


def test_own_and_abandoned_probe_pods_are_removed_and_all_others_are_kept(
    tmp_path: Path,
) -> None:
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        for name, (labels, phase) in PODS.items():
            api.put(
                "pods",
                {
                    "metadata": {"name": name, "labels": labels},
                    "spec": {"containers": [{"name": "probe"}]},
                    "status": {"phase": phase},
                },
            )

        ProbePods(Kubectl(api.kubeconfig), "this-look").remove()

        assert set(api.objects["pods"]) == {"of-a-look-under-way", "no-probe"}
