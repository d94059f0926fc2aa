"""The CNI plugin closes the address of a new pod, and refuses the pod if it cannot close it."""

import json
import os
import subprocess
from typing import Any

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.integration.network_policy.network import NODE, OUTSIDE, Network

_PLUGIN = REPOSITORY / "network-policy-agent" / "network_policy" / "cni_plugin.py"
_RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "198.18.1.10/32", "interface": 0}]}


def _run(net: Network, place: str, command: str, **config: object) -> tuple[int, dict[str, Any]]:
    """Run the plugin in the network of a place; return its exit status and its output."""
    ended = subprocess.run(
        ["ip", "netns", "exec", net.places[place].namespace, _PLUGIN],
        env={
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=home;K8S_POD_UID=server",
        },
        input=json.dumps({"cniVersion": "1.0.0", "name": "pods", **config}),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or "{}")


def test_a_new_pod_with_a_reused_address_is_closed_until_the_agent_knows_it(
    net: Network,
) -> None:
    net.enforce()
    assert net.reachable_from("server")

    added = _run(net, NODE, "ADD", prevResult=_RESULT)

    assert added == (0, _RESULT)
    assert net.reachable_from("server") == set()


def test_a_pod_is_refused_when_its_address_cannot_be_closed(net: Network) -> None:
    status, printed = _run(net, OUTSIDE, "ADD", prevResult=_RESULT)

    assert status == 1
    assert printed["msg"].startswith("the pod's address 198.18.1.10 cannot be closed: Error")


@pytest.mark.parametrize("command", ["DEL", "CHECK"])
def test_the_commands_del_and_check_do_nothing_and_succeed(net: Network, command: str) -> None:
    assert _run(net, OUTSIDE, command) == (0, {})


def test_the_supported_cni_versions_are_reported(net: Network) -> None:
    status, printed = _run(net, NODE, "VERSION")

    assert status == 0
    assert "1.0.0" in printed["supportedVersions"]
